// Opening a heads file: every key and tensor of every set is checked against core/limits.h, the
// base's geometry and the tensors' shapes before it is used. Weights stay in the mapping.
#include <inttypes.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "heads_format.h"
#include "successors.h"

struct gorgon_heads {
    gg_gguf *file;
    gorgon_fingerprint base;
    const char *base_name; // owned by file
    size_t n_sets;
    gg_head_set *sets; // [n_sets]
};

// One set being read.
typedef struct reader {
    const gg_gguf *file;
    const gorgon_fingerprint *base;
    size_t index;
    gg_head_set *set;
    gorgon_error *err;
} reader;

// The end of the path: the part that a line of 500 bytes has room for.
static const char *label(const gg_gguf *file)
{
    enum { SHOWN = 160 };
    const char *path = gg_gguf_path(file);
    const size_t n = strlen(path);
    return n > SHOWN ? path + n - SHOWN : path;
}

static gorgon_status read_size(const gg_gguf *file, const char *key, size_t min, size_t max,
                               size_t *out, gorgon_error *err)
{
    uint64_t value;
    gorgon_status status = gg_gguf_get_u64(file, key, &value, err);
    if (status != GORGON_OK)
        return status;
    if (value < min || value > max)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: key '%s' is %" PRIu64 ", expected %zu to %zu",
                       label(file), key, value, min, max);
    *out = (size_t)value;
    return GORGON_OK;
}

static gorgon_status read_field(const reader *r, const char *field, size_t min, size_t max,
                                size_t *out)
{
    gg_heads_name key;
    gg_heads_key(key, r->index, field);
    return read_size(r->file, key, min, max, out, r->err);
}

static gorgon_status read_flag(const reader *r, const char *field, bool *out)
{
    gg_heads_name key;
    gg_heads_key(key, r->index, field);
    return gg_gguf_get_bool(r->file, key, out, r->err);
}

// "" if absent.
static gorgon_status read_text(const reader *r, const char *field, const char **out)
{
    gg_heads_name key;
    gg_heads_key(key, r->index, field);
    *out = "";
    return gg_gguf_has(r->file, key) ? gg_gguf_get_string(r->file, key, out, NULL, r->err)
                                     : GORGON_OK;
}

static gorgon_status read_kind(const reader *r)
{
    gg_heads_name key;
    const char *kind;
    gg_heads_key(key, r->index, "kind");
    gorgon_status status = gg_gguf_get_string(r->file, key, &kind, NULL, r->err);
    if (status != GORGON_OK)
        return status;
    if (gg_head_kind_find(kind, &r->set->shape.kind))
        return GORGON_OK;
    char list[120] = "";
    for (size_t i = 0; i < GG_HEAD_KINDS; i++)
        gg_list_append(list, sizeof list, gg_head_traits_of((gg_head_kind)i)->name);
    return gg_fail(r->err, GORGON_ERROR_UNSUPPORTED, "%s: key '%s' is '%.40s', expected one of: %s",
                   label(r->file), key, kind, list);
}

static gorgon_status read_calibration(const reader *r)
{
    gg_heads_name key;
    gg_gguf_kind kind;
    size_t n;
    gg_heads_key(key, r->index, "calibration");
    if (!gg_gguf_has(r->file, key))
        return GORGON_OK;
    gorgon_status status = gg_gguf_get_array(r->file, key, &kind, &n, r->err);
    if (status != GORGON_OK)
        return status;
    if (kind != GG_GGUF_F32 || n == 0 || n > GG_MAX_CALIBRATION)
        return gg_fail(r->err, GORGON_ERROR_FORMAT,
                       "%s: key '%s' holds %zu values of kind %s, expected 1 to %d of kind f32",
                       label(r->file), key, n, gg_gguf_kind_name(kind), GG_MAX_CALIBRATION);
    float *values = r->set->calibration = gg_alloc(n, sizeof *values);
    if (!values)
        return gg_fail(r->err, GORGON_ERROR_MEMORY, "%s: key '%s': out of memory", label(r->file),
                       key);
    r->set->n_calibration = n;
    status = gg_gguf_array_f32(r->file, key, values, n, r->err);
    if (status != GORGON_OK)
        return status;
    if (!gg_heads_finite(GG_F32, (const uint8_t *)values, n * sizeof *values))
        return gg_fail(r->err, GORGON_ERROR_FORMAT,
                       "%s: key '%s' holds a value that is infinite or not a number",
                       label(r->file), key);
    return GORGON_OK;
}

static gorgon_status read_layer(const reader *r)
{
    gg_head_shape *shape = &r->set->shape;
    if (gg_head_traits_of(shape->kind)->layer == GG_LAYER_NONE)
        return GORGON_OK;
    gorgon_status status = read_field(r, "n_attention", 1, shape->d_model, &shape->n_attention);
    if (status == GORGON_OK)
        status = read_field(r, "n_ffn", 1, GG_HEADS_MAX_FFN, &shape->n_ffn);
    if (status == GORGON_OK)
        status = read_field(r, "window", 1, GG_HEADS_MAX_WINDOW, &shape->window);
    return status;
}

static gorgon_status read_keys(const reader *r)
{
    gg_head_set *set = r->set;
    gg_head_shape *shape = &set->shape;
    shape->d_model = r->base->d_model;
    set->training_json = set->accuracy_json = "";
    gorgon_status status = read_kind(r);
    if (status == GORGON_OK)
        status = read_field(r, "n_heads", 1, GG_MAX_DRAFT_HEADS, &shape->n_heads);
    if (status == GORGON_OK)
        status = read_field(r, "n_blocks", 1, GG_MAX_HEAD_BLOCKS, &shape->n_blocks);
    if (status == GORGON_OK)
        status = read_field(r, "n_draft", 0, r->base->n_vocab, &shape->n_draft);
    if (status == GORGON_OK && gg_head_traits_of(shape->kind)->has_rank)
        status = read_field(r, "rank", 1, GG_HEADS_MAX_RANK, &shape->rank);
    if (status == GORGON_OK)
        status = read_layer(r);
    if (status == GORGON_OK)
        status = read_flag(r, "root_embedding", &shape->root_embedding);
    if (status == GORGON_OK)
        status = read_flag(r, "own_output", &shape->own_output);
    const char *fault = status == GORGON_OK ? gg_head_shape_fault(shape) : NULL;
    if (fault)
        return gg_fail(r->err, GORGON_ERROR_FORMAT, "%s: set %zu: %s", label(r->file), r->index,
                       fault);
    if (status == GORGON_OK)
        status = read_text(r, "training", &set->training_json);
    if (status == GORGON_OK)
        status = read_text(r, "accuracy", &set->accuracy_json);
    return status == GORGON_OK ? read_calibration(r) : status;
}

// A tensor of exactly this type and shape; n_out == 0 asks for one dimension.
static gorgon_status find_tensor(const reader *r, const char *name, gg_dtype type, size_t n_in,
                                 size_t n_out, const gg_tensor **out)
{
    const gg_tensor *t = NULL;
    gorgon_status status = gg_gguf_require(r->file, name, &t, r->err);
    if (status != GORGON_OK)
        return status;
    const size_t n_dims = n_out ? 2 : 1;
    if (t->n_dims != n_dims || t->dims[0] != n_in || (n_out && t->dims[1] != n_out))
        return gg_fail(r->err, GORGON_ERROR_FORMAT,
                       "%s: tensor '%s' has %zu dimensions, %" PRIu64 " x %" PRIu64
                       ", expected %zu, %zu x %zu",
                       label(r->file), name, t->n_dims, t->dims[0], t->dims[1], n_dims, n_in,
                       n_out ? n_out : 1);
    if (t->type != type)
        return gg_fail(r->err, GORGON_ERROR_FORMAT, "%s: tensor '%s' has type %s, expected %s",
                       label(r->file), name, gg_dtype_name(t->type), gg_dtype_name(type));
    if (type != GG_I32 && !gg_heads_finite(type, t->data, t->bytes))
        return gg_fail(r->err, GORGON_ERROR_FORMAT,
                       "%s: tensor '%s' holds a value that is infinite or not a number",
                       label(r->file), name);
    *out = t;
    return GORGON_OK;
}

// The type of the first block's weight is that of all weights of the set.
static gorgon_status read_weight_type(const reader *r)
{
    gg_heads_name name;
    const gg_tensor *t = NULL;
    const gg_head_part first = {.role = GG_PART_WEIGHT};
    gg_heads_part_name(name, r->index, &first);
    gorgon_status status = gg_gguf_require(r->file, name, &t, r->err);
    if (status == GORGON_OK && !gg_heads_weight_type(t->type))
        return gg_fail(r->err, GORGON_ERROR_UNSUPPORTED,
                       "%s: tensor '%s' has type %s, expected F32, F16 or Q8_0", label(r->file),
                       name, gg_dtype_name(t->type));
    if (status == GORGON_OK)
        r->set->weight_type = t->type;
    return status;
}

static gorgon_status read_draft_ids(const reader *r)
{
    gg_head_set *set = r->set;
    const size_t n = set->shape.n_draft;
    gg_heads_name name;
    const gg_tensor *t = NULL;
    if (n == 0)
        return GORGON_OK;
    gg_heads_ids_name(name, r->index);
    gorgon_status status = find_tensor(r, name, GG_I32, n, 0, &t);
    if (status != GORGON_OK)
        return status;
    set->draft_ids = gg_alloc(n, sizeof *set->draft_ids);
    if (!set->draft_ids)
        return gg_fail(r->err, GORGON_ERROR_MEMORY, "%s: tensor '%s': out of memory",
                       label(r->file), name);
    memcpy(set->draft_ids, t->data, t->bytes); // a negative id becomes one above n_vocab
    const size_t bad = gg_heads_bad_id(set->draft_ids, n, r->base->n_vocab);
    if (bad < n)
        return gg_fail(
            r->err, GORGON_ERROR_FORMAT,
            "%s: tensor '%s': id %zu is %" PRId32 ", expected ascending ids from 0 to %" PRIu32,
            label(r->file), name, bad, (int32_t)set->draft_ids[bad], r->base->n_vocab - 1);
    return GORGON_OK;
}

static gorgon_status alloc_parts(const reader *r)
{
    gg_head_part parts[GG_MAX_HEAD_PARTS];
    gg_head_set *set = r->set;
    const size_t n = gg_head_parts(&set->shape, r->base->n_vocab, parts);
    size_t n_values = 0;
    for (size_t i = 0; i < n; i++)
        n_values += parts[i].n_in == 0 ? parts[i].n_out : 0;
    set->parts = gg_alloc(n, sizeof *set->parts);
    set->data = gg_alloc(n, sizeof *set->data);
    set->vectors = gg_alloc(n_values, sizeof *set->vectors);
    if (!set->parts || !set->data || !set->vectors)
        return gg_fail(r->err, GORGON_ERROR_MEMORY, "%s: set %zu: out of memory", label(r->file),
                       r->index);
    set->n_parts = n;
    memcpy(set->parts, parts, n * sizeof *parts);
    return GORGON_OK;
}

// Vectors are copied out of the mapping, where floats need not be aligned.
static gorgon_status read_parts(const reader *r)
{
    gg_head_set *set = r->set;
    float *vector = set->vectors;
    for (size_t i = 0; i < set->n_parts; i++) {
        const gg_head_part *p = &set->parts[i];
        gg_heads_name name;
        const gg_tensor *t = NULL;
        gg_heads_part_name(name, r->index, p);
        gorgon_status status = p->n_in == 0
                                   ? find_tensor(r, name, GG_F32, p->n_out, 0, &t)
                                   : find_tensor(r, name, set->weight_type, p->n_in, p->n_out, &t);
        if (status != GORGON_OK)
            return status;
        set->data[i] = t->data;
        if (p->n_in == 0) {
            memcpy(vector, t->data, t->bytes);
            set->data[i] = vector;
            vector += p->n_out;
        }
    }
    return GORGON_OK;
}

static gorgon_status read_set(const reader *r)
{
    gorgon_status status = read_keys(r);
    if (status == GORGON_OK)
        status = read_weight_type(r);
    if (status == GORGON_OK)
        status = read_draft_ids(r);
    if (status == GORGON_OK)
        status = alloc_parts(r);
    if (status == GORGON_OK)
        status = read_parts(r);
    if (status != GORGON_OK)
        return status;
    return gg_successors_read(r->file, label(r->file), r->index, r->base->n_vocab,
                              &r->set->successors, r->err);
}

static gorgon_status read_u32(const gg_gguf *file, const char *key, size_t max, uint32_t *out,
                              gorgon_error *err)
{
    size_t value = 0;
    gorgon_status status = read_size(file, key, 1, max, &value, err);
    *out = (uint32_t)value;
    return status;
}

static gorgon_status read_base(gorgon_heads *h, gorgon_error *err)
{
    gorgon_fingerprint *base = &h->base;
    gorgon_status status =
        gg_gguf_get_string(h->file, "gorgon.base.name", &h->base_name, NULL, err);
    if (status == GORGON_OK)
        status = gg_gguf_get_u64(h->file, "gorgon.base.vocabulary", &base->vocabulary, err);
    if (status == GORGON_OK)
        status = gg_gguf_get_u64(h->file, "gorgon.base.tensors", &base->tensors, err);
    if (status == GORGON_OK)
        status = read_u32(h->file, "gorgon.base.n_layers", GG_MAX_LAYERS, &base->n_layers, err);
    if (status == GORGON_OK)
        status = read_u32(h->file, "gorgon.base.d_model", GG_MAX_WIDTH, &base->d_model, err);
    if (status == GORGON_OK)
        status = read_u32(h->file, "gorgon.base.n_vocab", GG_MAX_VOCAB, &base->n_vocab, err);
    return status;
}

static gorgon_status read_header(const gg_gguf *file, size_t *n_sets, gorgon_error *err)
{
    const char *architecture;
    uint64_t version;
    gorgon_status status =
        gg_gguf_get_string(file, "general.architecture", &architecture, NULL, err);
    if (status != GORGON_OK)
        return status;
    if (strcmp(architecture, GG_HEADS_ARCHITECTURE) != 0)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: not a heads file: general.architecture is '%.40s', expected "
                       "'" GG_HEADS_ARCHITECTURE "'",
                       label(file), architecture);
    status = gg_gguf_get_u64(file, "gorgon.heads.version", &version, err);
    if (status == GORGON_OK && version != GG_HEADS_VERSION)
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "%s: key 'gorgon.heads.version' is %" PRIu64 ", expected %d", label(file),
                       version, GG_HEADS_VERSION);
    if (status != GORGON_OK)
        return status;
    return read_size(file, "gorgon.heads.sets", 1, GG_MAX_HEAD_SETS, n_sets, err);
}

static gorgon_status read_sets(gorgon_heads *h, size_t n_sets, gorgon_error *err)
{
    h->sets = gg_alloc(n_sets, sizeof *h->sets);
    if (!h->sets)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", label(h->file));
    h->n_sets = n_sets;
    size_t n_tensors = 0;
    for (size_t i = 0; i < n_sets; i++) {
        const reader r = {h->file, &h->base, i, &h->sets[i], err};
        gorgon_status status = read_set(&r);
        if (status != GORGON_OK)
            return status;
        n_tensors += h->sets[i].n_parts + (h->sets[i].shape.n_draft > 0) +
                     (h->sets[i].successors.n > 0 ? GG_SUCCESSORS_TENSORS : 0);
    }
    if (n_tensors != gg_gguf_tensor_count(h->file))
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: holds %zu tensors, expected %zu for its %zu sets", label(h->file),
                       gg_gguf_tensor_count(h->file), n_tensors, n_sets);
    return GORGON_OK;
}

// Takes the file, also on failure.
static gorgon_status open_file(gg_gguf *file, gorgon_heads **out, gorgon_error *err)
{
    gorgon_heads *h = gg_alloc(1, sizeof *h);
    if (!h) {
        gorgon_status status = gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", label(file));
        gg_gguf_close(file);
        return status;
    }
    h->file = file;
    size_t n_sets = 0;
    gorgon_status status = read_header(file, &n_sets, err);
    if (status == GORGON_OK)
        status = read_base(h, err);
    if (status == GORGON_OK)
        status = read_sets(h, n_sets, err);
    if (status != GORGON_OK) {
        gorgon_heads_free(h);
        return status;
    }
    *out = h;
    return GORGON_OK;
}

gorgon_status gorgon_heads_open(const char *path, gorgon_heads **out, gorgon_error *err)
{
    gg_gguf *file;
    *out = NULL;
    gorgon_status status = gg_gguf_open(path, &file, err);
    return status == GORGON_OK ? open_file(file, out, err) : status;
}

gorgon_status gg_heads_open_memory(const void *data, size_t size, const char *name,
                                   gorgon_heads **out, gorgon_error *err)
{
    gg_gguf *file;
    *out = NULL;
    gorgon_status status = gg_gguf_open_memory(data, size, name, &file, err);
    return status == GORGON_OK ? open_file(file, out, err) : status;
}

static void free_set(gg_head_set *set)
{
    gg_free(set->draft_ids);
    gg_free(set->parts);
    gg_free(set->data);
    gg_free(set->vectors);
    gg_free(set->calibration);
    gg_successors_clear(&set->successors);
}

void gorgon_heads_free(gorgon_heads *heads)
{
    if (!heads)
        return;
    for (size_t i = 0; i < heads->n_sets; i++)
        free_set(&heads->sets[i]);
    gg_free(heads->sets);
    gg_gguf_close(heads->file);
    gg_free(heads);
}

size_t gorgon_heads_count(const gorgon_heads *heads)
{
    return heads->n_sets;
}

const gg_head_set *gg_heads_set(const gorgon_heads *heads, size_t set)
{
    return set < heads->n_sets ? &heads->sets[set] : NULL;
}

const char *gorgon_heads_path(const gorgon_heads *heads)
{
    return gg_gguf_path(heads->file);
}

const char *gorgon_heads_base_name(const gorgon_heads *heads)
{
    return heads->base_name;
}

uint64_t gorgon_heads_file_bytes(const gorgon_heads *heads)
{
    return gg_gguf_size(heads->file);
}

gorgon_fingerprint gorgon_heads_fingerprint(const gorgon_heads *heads)
{
    return heads->base;
}

static uint64_t parameters(const gg_head_set *s)
{
    uint64_t n = 0;
    for (size_t i = 0; i < s->n_parts; i++)
        n += (uint64_t)s->parts[i].n_out * (s->parts[i].n_in ? s->parts[i].n_in : 1);
    return n;
}

gorgon_status gorgon_heads_describe(const gorgon_heads *heads, size_t set,
                                    gorgon_head_set_info *info, gorgon_error *err)
{
    const gg_head_set *s = gg_heads_set(heads, set);
    if (!s)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "%s: no set %zu, expected 0 to %zu",
                       label(heads->file), set, heads->n_sets - 1);
    *info = (gorgon_head_set_info){
        .kind = gg_head_traits_of(s->shape.kind)->name,
        .n_heads = s->shape.n_heads,
        .n_blocks = s->shape.n_blocks,
        .d_model = s->shape.d_model,
        .n_draft = s->shape.n_draft,
        .rank = s->shape.rank,
        .n_attention = s->shape.n_attention,
        .n_ffn = s->shape.n_ffn,
        .window = s->shape.window,
        .root_embedding = s->shape.root_embedding,
        .own_output = s->shape.own_output,
        .n_parameters = parameters(s),
        .weight_type = gg_dtype_name(s->weight_type),
        .training_json = s->training_json,
        .accuracy_json = s->accuracy_json,
        .calibrated = s->n_calibration > 0,
    };
    return GORGON_OK;
}

static gorgon_status compare(const gorgon_heads *heads, const char *what, uint32_t expected,
                             uint32_t got, gorgon_error *err)
{
    if (expected == got)
        return GORGON_OK;
    return gg_fail(err, GORGON_ERROR_MISMATCH,
                   "%s: heads of another base ('%.60s'): %s: expected %" PRIu32
                   ", the model has %" PRIu32,
                   label(heads->file), heads->base_name, what, expected, got);
}

gorgon_status gorgon_heads_check(const gorgon_heads *heads, const gorgon_model *model,
                                 bool *warning, gorgon_error *err)
{
    const gorgon_fingerprint *h = &heads->base;
    const gorgon_fingerprint m = gorgon_model_fingerprint(model);
    gorgon_status status = compare(heads, "n_layers", h->n_layers, m.n_layers, err);
    if (status == GORGON_OK)
        status = compare(heads, "d_model", h->d_model, m.d_model, err);
    if (status == GORGON_OK)
        status = compare(heads, "n_vocab", h->n_vocab, m.n_vocab, err);
    if (status == GORGON_OK && h->vocabulary != m.vocabulary)
        status =
            gg_fail(err, GORGON_ERROR_MISMATCH,
                    "%s: heads of another base ('%.60s'): vocabulary hash: expected %016" PRIx64
                    ", the model has %016" PRIx64,
                    label(heads->file), heads->base_name, h->vocabulary, m.vocabulary);
    if (status == GORGON_OK && warning)
        *warning = h->tensors != m.tensors;
    return status;
}

bool gorgon_heads_probe(const char *path)
{
    gg_gguf *file = NULL;
    const char *architecture = "";
    size_t length = 0;
    bool heads = gg_gguf_open(path, &file, NULL) == GORGON_OK &&
                 gg_gguf_get_string(file, "general.architecture", &architecture, &length, NULL) ==
                     GORGON_OK &&
                 strcmp(architecture, GG_HEADS_ARCHITECTURE) == 0;
    gg_gguf_close(file);
    return heads;
}
