// From tensors in their places to a set of heads: shape, draft vocabulary, and the parts, which are
// borrowed from the file where it stores them as a set does.
#include <inttypes.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "heads_format.h"
#include "layout.h"

typedef struct builder {
    gorgon_heads *h;
    const gg_layout_grid *g;
    gg_head_set *set;
    const uint32_t *rows; // [n_draft] rows of the outputs, NULL: all in order
    gorgon_error *err;
} builder;

// Where the values of a part lie.
typedef struct source {
    const gg_named_tensor *t;
    size_t width, column; // of a row of t; the part's first one
    const uint32_t *rows; // NULL: all in order
    float scale;          // of all values
} source;

static gorgon_status reject(const builder *b, const gg_named_tensor *t, const char *expected)
{
    return gg_fail(b->err, GORGON_ERROR_FORMAT,
                   "%s: tensor '%.80s' is %s of %zu dimensions, %" PRIu64 " x %" PRIu64
                   ", expected %s",
                   b->h->label, t->name, gg_element_name(t->element), t->n_dims,
                   t->n_dims > 0 ? t->dims[0] : 1, t->n_dims > 1 ? t->dims[1] : 1, expected);
}

static bool is_float(const gg_named_tensor *t)
{
    return t->element == GG_ELEMENT_F32 || t->element == GG_ELEMENT_F16 ||
           t->element == GG_ELEMENT_BF16;
}

// Floats of this shape; n_in 0: a vector.
static gorgon_status check_tensor(const builder *b, const gg_named_tensor *t, size_t n_out,
                                  size_t n_in)
{
    if (!t || (is_float(t) && t->n_dims == (n_in ? 2 : 1) && t->dims[0] == n_out &&
               (!n_in || t->dims[1] == n_in)))
        return GORGON_OK;
    return gg_fail(b->err, GORGON_ERROR_FORMAT,
                   "%s: tensor '%.80s' is %s of %zu dimensions, %" PRIu64 " x %" PRIu64
                   ", expected F32, F16 or BF16 of %zu x %zu",
                   b->h->label, t->name, gg_element_name(t->element), t->n_dims,
                   t->n_dims > 0 ? t->dims[0] : 1, t->n_dims > 1 ? t->dims[1] : 1, n_out,
                   n_in ? n_in : 1);
}

// The width, and what block 0 of each head sees: nothing but the hidden state, or one embedding
// more at every head.
static gorgon_status count_inputs(builder *b)
{
    const gg_layout_grid *g = b->g;
    gg_head_shape *s = &b->set->shape;
    const gg_named_tensor *first = g->weight[0][0];
    bool medusa = true, hydra = true;
    if (first->n_dims != 2 || first->dims[0] == 0 || first->dims[0] > GG_MAX_WIDTH)
        return reject(b, first, "a matrix of at most 131072 outputs");
    s->d_model = (size_t)first->dims[0];
    for (size_t k = 0; k < g->n_heads; k++) {
        const gg_named_tensor *t = g->weight[k][0];
        if (t->n_dims != 2)
            return reject(b, t, "a matrix");
        medusa = medusa && t->dims[1] == s->d_model;
        hydra = hydra && t->dims[1] == (k + 2) * s->d_model;
    }
    if (!medusa && !hydra)
        return gg_fail(b->err, GORGON_ERROR_UNSUPPORTED,
                       "%s: expected first blocks of width %zu, or of %zu more at every head, got "
                       "%" PRIu64 " at head 0",
                       b->h->label, s->d_model, s->d_model, first->dims[1]);
    s->kind = hydra ? GG_HEADS_HYDRA : GG_HEADS_MEDUSA;
    s->root_embedding = s->raw_embedding = hydra;
    s->residual = g->residual[0] != NULL;
    return GORGON_OK;
}

static gorgon_status check_blocks(const builder *b)
{
    const gg_layout_grid *g = b->g;
    const gg_head_shape *s = &b->set->shape;
    const size_t d = s->d_model;
    gorgon_status status = GORGON_OK;
    for (size_t k = 0; k < g->n_heads && status == GORGON_OK; k++) {
        const size_t n_in = (1 + gg_head_tokens(s, k)) * d;
        status = check_tensor(b, g->residual[k], d, n_in);
        if (status == GORGON_OK)
            status = check_tensor(b, g->residual_bias[k], d, 0);
        for (size_t j = 0; j < g->n_blocks && status == GORGON_OK; j++) {
            status = check_tensor(b, g->weight[k][j], d, j ? d : n_in);
            if (status == GORGON_OK)
                status = check_tensor(b, g->bias[k][j], d, 0);
        }
    }
    return status;
}

// Element i of a tensor of integers, whose data are given.
static int64_t integer_at(const gg_named_tensor *t, const uint8_t *data, size_t i)
{
    const size_t size = gg_element_bytes(t->element);
    uint64_t value = 0;
    for (size_t k = size; k-- > 0;)
        value = value << 8 | data[i * size + k];
    return size == 4 ? (int32_t)(uint32_t)value : (int64_t)value;
}

static gorgon_status read_map(builder *b)
{
    gg_head_set *set = b->set;
    const bool offsets = b->g->token_offsets != NULL;
    const gg_named_tensor *t = offsets ? b->g->token_offsets : b->g->token_map;
    const uint8_t *data;
    if (!t)
        return GORGON_OK;
    if (offsets && b->g->token_map)
        return reject(b, t, "no token map and offsets at once");
    if ((t->element != GG_ELEMENT_I64 && t->element != GG_ELEMENT_I32) || t->n_dims != 1 ||
        t->n == 0 || t->n > GG_MAX_VOCAB)
        return reject(b, t, "1 to 1048576 token ids, I64 or I32");
    gorgon_status status = gg_tensor_file_data(b->h->tensors, t, &data, b->err);
    if (status != GORGON_OK)
        return status;
    set->shape.n_draft = t->n;
    set->draft_ids = gg_alloc(t->n, sizeof *set->draft_ids);
    if (!set->draft_ids)
        return gg_fail(b->err, GORGON_ERROR_MEMORY, "%s: out of memory", b->h->label);
    for (size_t i = 0; i < t->n; i++) {
        const int64_t value = integer_at(t, data, i), first = offsets ? (int64_t)i : 0;
        const bool good = value >= -first && value < (int64_t)GG_MAX_VOCAB;
        set->draft_ids[i] = good ? (uint32_t)(value + first) : UINT32_MAX;
    }
    return GORGON_OK;
}

static gorgon_status check_map(const builder *b)
{
    const gg_head_set *set = b->set;
    const size_t n = set->shape.n_draft, n_vocab = b->h->base.n_vocab;
    size_t bad = n;
    gorgon_status status = gg_heads_check_ids(set->draft_ids, n, n_vocab, &bad, b->err);
    if (status == GORGON_OK && bad < n)
        status =
            gg_fail(b->err, GORGON_ERROR_FORMAT,
                    "%s: token map: id %zu is %" PRId32 ", expected different ids from 0 to %zu",
                    b->h->label, bad, (int32_t)set->draft_ids[bad],
                    (n_vocab ? n_vocab : (size_t)GG_MAX_VOCAB) - 1);
    return status;
}

// Of outputs stored for the whole vocabulary, the draft vocabulary's rows are taken.
static gorgon_status count_outputs(builder *b)
{
    const gg_layout_grid *g = b->g;
    gg_head_shape *s = &b->set->shape;
    const gg_named_tensor *first = g->output[0];
    uint32_t *n_vocab = &b->h->base.n_vocab;
    s->own_output = first != NULL;
    s->shared_output = first && g->n_heads > 1 && !g->output[1];
    s->output_bias = g->output_bias[0] != NULL;
    if (g->embedding && g->embedding->n_dims == 2 && g->embedding->dims[0] <= GG_MAX_VOCAB)
        *n_vocab = (uint32_t)g->embedding->dims[0];
    if (!first)
        return GORGON_OK;
    if (first->n_dims != 2 || first->dims[0] == 0 || first->dims[0] > GG_MAX_VOCAB ||
        first->dims[0] < s->n_draft)
        return reject(b, first,
                      "a matrix of a row for every token, all or those of the token map, "
                      "at most 1048576");
    const size_t rows = (size_t)first->dims[0];
    if (rows != s->n_draft && *n_vocab && *n_vocab != rows)
        return reject(b, g->embedding, "as many rows as outputs have");
    if (rows != s->n_draft)
        *n_vocab = (uint32_t)rows;
    gorgon_status status = GORGON_OK;
    for (size_t k = 0; k < g->n_heads && status == GORGON_OK; k++) {
        status = check_tensor(b, g->output[k], rows, s->d_model);
        if (status == GORGON_OK)
            status = check_tensor(b, g->output_bias[k], rows, 0);
    }
    return status;
}

static source source_of(const builder *b, const gg_head_part *p)
{
    const gg_layout_grid *g = b->g;
    const size_t d = b->set->shape.d_model, k = p->head;
    switch (p->role) {
    case GG_PART_WEIGHT:
        return (source){g->weight[k][p->block], (size_t)g->weight[k][p->block]->dims[1], 0, NULL,
                        1};
    case GG_PART_ROOT:
        return (source){g->weight[k][0], (size_t)g->weight[k][0]->dims[1], d, NULL, 1};
    case GG_PART_BIAS:
        return (source){g->bias[k][p->block], 1, 0, NULL, 1};
    case GG_PART_RESIDUAL:
        return (source){g->residual[k], p->n_in, 0, NULL, 1};
    case GG_PART_RESIDUAL_BIAS:
        return (source){g->residual_bias[k], 1, 0, NULL, 1};
    case GG_PART_OUTPUT:
        return (source){g->output[k], d, 0, b->rows, g->output_scale};
    case GG_PART_OUTPUT_BIAS:
        return (source){g->output_bias[k], 1, 0, b->rows, g->output_scale};
    default: // heads of these layouts have no other part
        return (source){0};
    }
}

static gg_dtype dtype_of(gg_element element)
{
    return element == GG_ELEMENT_F16 ? GG_F16 : element == GG_ELEMENT_BF16 ? GG_BF16 : GG_F32;
}

// The type of all matrices; F32 if they differ or some are scaled.
static gg_dtype common_type(const builder *b)
{
    const gg_element first = source_of(b, &b->set->parts[0]).t->element;
    for (size_t i = 0; i < b->set->n_parts; i++) {
        const gg_head_part *p = &b->set->parts[i];
        const source from = source_of(b, p);
        if (p->n_in && (from.t->element != first || from.scale != 1.0f))
            return GG_F32;
    }
    return dtype_of(first);
}

// n values from `first` on, scaled.
static void read_floats(const source *from, const uint8_t *data, size_t first, size_t n, float *to)
{
    gg_element_floats(from->t->element, data, first, n, to);
    for (size_t i = 0; i < n && from->scale != 1.0f; i++)
        to[i] *= from->scale;
}

// True if rows of a part stand in the file as a set of this type has them.
static bool stored_so(const source *from, gg_dtype type)
{
    return dtype_of(from->t->element) == type && from->scale == 1.0f;
}

// Rows of a part, out of the tensor's, as the set stores them: its type, or floats.
static void copy_rows(const source *from, const uint8_t *data, gg_dtype type, size_t n_out,
                      size_t n_in, uint8_t *to)
{
    const bool same = stored_so(from, type);
    const size_t size = gg_element_bytes(from->t->element), bytes = gg_dtype_row_bytes(type, n_in);
    for (size_t o = 0; o < n_out; o++) {
        const size_t row = from->rows ? from->rows[o] : o;
        const size_t first = row * from->width + from->column;
        if (same)
            memcpy(to + o * bytes, data + first * size, bytes);
        else // into F32; rows of floats are aligned
            read_floats(from, data, first, n_in, (float *)(void *)(to + o * bytes));
    }
}

static gorgon_status not_finite(const builder *b, const source *from)
{
    return gg_fail(b->err, GORGON_ERROR_FORMAT,
                   "%s: tensor '%.80s' holds a value that is infinite or not a number", b->h->label,
                   from->t->name);
}

static gorgon_status fill_matrix(const builder *b, size_t i, const source *from,
                                 const uint8_t *data)
{
    gg_head_set *set = b->set;
    const gg_head_part *p = &set->parts[i];
    const size_t bytes = gg_dtype_row_bytes(set->weight_type, p->n_in);
    set->data[i] = data;
    if (from->rows || from->width != p->n_in || !stored_so(from, set->weight_type)) {
        uint8_t *copy = set->copies[i] = gg_alloc_uninit(p->n_out, bytes);
        if (!copy)
            return gg_fail(b->err, GORGON_ERROR_MEMORY, "%s: tensor '%.80s': out of memory",
                           b->h->label, from->t->name);
        copy_rows(from, data, set->weight_type, p->n_out, p->n_in, copy);
        set->data[i] = copy;
    }
    return gg_heads_finite(set->weight_type, set->data[i], p->n_out * bytes) ? GORGON_OK
                                                                             : not_finite(b, from);
}

static gorgon_status fill_parts(const builder *b)
{
    gg_head_set *set = b->set;
    float *vector = set->vectors;
    for (size_t i = 0; i < set->n_parts; i++) {
        const gg_head_part *p = &set->parts[i];
        const source from = source_of(b, p);
        const uint8_t *data;
        gorgon_status status = gg_tensor_file_data(b->h->tensors, from.t, &data, b->err);
        if (status == GORGON_OK && p->n_in)
            status = fill_matrix(b, i, &from, data);
        if (status != GORGON_OK)
            return status;
        if (p->n_in)
            continue;
        for (size_t o = 0; o < p->n_out; o++)
            read_floats(&from, data, from.rows ? from.rows[o] : o, 1, vector + o);
        set->data[i] = vector;
        if (!gg_heads_finite(GG_F32, (const uint8_t *)vector, p->n_out * sizeof *vector))
            return not_finite(b, &from);
        vector += p->n_out;
    }
    return GORGON_OK;
}

gorgon_status gg_layout_make_set(gorgon_heads *h, const gg_layout_grid *g, gorgon_error *err)
{
    gorgon_status status = gg_heads_alloc_sets(h, 1, err);
    if (status != GORGON_OK)
        return status;
    builder b = {.h = h, .g = g, .set = &h->sets[0], .err = err};
    gg_head_shape *s = &b.set->shape;
    s->n_heads = g->n_heads;
    s->n_blocks = g->n_blocks;
    s->bias_free = g->bias[0][0] == NULL;
    status = count_inputs(&b);
    if (status == GORGON_OK)
        status = check_blocks(&b);
    if (status == GORGON_OK)
        status = read_map(&b);
    if (status == GORGON_OK)
        status = count_outputs(&b);
    if (status == GORGON_OK)
        status = check_map(&b);
    h->base.d_model = (uint32_t)s->d_model;
    return status;
}

gorgon_status gg_layout_fill_set(gorgon_heads *h, const gg_layout_grid *g, gorgon_error *err)
{
    builder b = {.h = h, .g = g, .set = &h->sets[0], .err = err};
    const gg_head_shape *s = &b.set->shape;
    if (s->n_draft && s->own_output && g->output[0]->dims[0] > s->n_draft)
        b.rows = b.set->draft_ids;
    gorgon_status status = gg_heads_alloc_parts(h, 0, err);
    if (status != GORGON_OK)
        return status;
    b.set->weight_type = common_type(&b);
    return fill_parts(&b);
}
