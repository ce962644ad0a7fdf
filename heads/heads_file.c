// Reading a side-car: every key and tensor of every set is checked against core/limits.h, the
// base's geometry and the tensors' shapes before it is used. Weights stay in the mapping.
#include <inttypes.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"
#include "heads_format.h"
#include "heads_impl.h"
#include "successors.h"

// One set being read.
typedef struct reader {
    const gg_gguf *file;
    const gorgon_fingerprint *base;
    uint64_t version;
    size_t index;
    gg_head_set *set;
    gorgon_error *err;
} reader;

static const char *label(const gg_gguf *file)
{
    return gg_path_end(gg_gguf_path(file));
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

// What version 2 brought; absent ones are false.
static gorgon_status read_flags(const reader *r)
{
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; status == GORGON_OK && r->version > 1 && i < GG_HEADS_FLAGS; i++) {
        gg_heads_name key;
        gg_heads_key(key, r->index, gg_heads_flags[i].field);
        bool *flag = (bool *)(void *)((char *)&r->set->shape + gg_heads_flags[i].offset);
        if (gg_gguf_has(r->file, key))
            status = gg_gguf_get_bool(r->file, key, flag, r->err);
    }
    return status;
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
    gorgon_status status = read_kind(r);
    if (status == GORGON_OK)
        status = read_field(r, "n_heads", 1, GG_MAX_DRAFT_HEADS, &shape->n_heads);
    if (status == GORGON_OK)
        status = read_field(r, "n_blocks", 1, GG_MAX_HEAD_BLOCKS, &shape->n_blocks);
    if (status == GORGON_OK)
        status = read_field(r, "n_draft", 0, r->base->n_vocab ? r->base->n_vocab : GG_MAX_VOCAB,
                            &shape->n_draft);
    if (status == GORGON_OK && gg_head_traits_of(shape->kind)->has_rank)
        status = read_field(r, "rank", 1, GG_HEADS_MAX_RANK, &shape->rank);
    if (status == GORGON_OK)
        status = read_layer(r);
    if (status == GORGON_OK)
        status = read_flag(r, "root_embedding", &shape->root_embedding);
    if (status == GORGON_OK)
        status = read_flag(r, "own_output", &shape->own_output);
    if (status == GORGON_OK)
        status = read_flags(r);
    const char *fault = status == GORGON_OK ? gg_head_shape_fault(shape) : NULL;
    if (fault)
        return gg_fail(r->err, GORGON_ERROR_FORMAT, "%s: set %zu: %s", label(r->file), r->index,
                       fault);
    if (status == GORGON_OK && shape->own_output && shape->n_draft == 0 && r->base->n_vocab == 0)
        return gg_fail(r->err, GORGON_ERROR_FORMAT,
                       "%s: set %zu: own_output needs n_draft where the base's n_vocab is unknown",
                       label(r->file), r->index);
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
    if (status == GORGON_OK &&
        !(gg_heads_weight_type(t->type) && (t->type != GG_BF16 || r->version > 1)))
        return gg_fail(r->err, GORGON_ERROR_UNSUPPORTED,
                       "%s: tensor '%s' has type %s, expected F32, F16 or Q8_0%s", label(r->file),
                       name, gg_dtype_name(t->type), r->version > 1 ? ", or BF16" : "");
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
    size_t bad = gg_heads_bad_id(set->draft_ids, n, r->base->n_vocab);
    if (r->version > 1)
        status = gg_heads_check_ids(set->draft_ids, n, r->base->n_vocab, &bad, r->err);
    if (status == GORGON_OK && bad < n)
        return gg_fail(r->err, GORGON_ERROR_FORMAT,
                       "%s: tensor '%s': id %zu is %" PRId32 ", expected %s ids from 0 to %zu",
                       label(r->file), name, bad, (int32_t)set->draft_ids[bad],
                       r->version > 1 ? "different" : "ascending",
                       (r->base->n_vocab ? r->base->n_vocab : (size_t)GG_MAX_VOCAB) - 1);
    return status;
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

static gorgon_status read_set(const gorgon_heads *h, const reader *r)
{
    gorgon_status status = read_keys(r);
    if (status == GORGON_OK)
        status = read_weight_type(r);
    if (status == GORGON_OK)
        status = read_draft_ids(r);
    if (status == GORGON_OK)
        status = gg_heads_alloc_parts(h, r->index, r->err);
    if (status == GORGON_OK)
        status = read_parts(r);
    if (status != GORGON_OK)
        return status;
    return gg_successors_read(r->file, label(r->file), r->index, r->base->n_vocab,
                              &r->set->successors, r->err);
}

static gorgon_status read_u32(const gg_gguf *file, const char *key, size_t min, size_t max,
                              uint32_t *out, gorgon_error *err)
{
    size_t value = 0;
    gorgon_status status = read_size(file, key, min, max, &value, err);
    *out = (uint32_t)value;
    return status;
}

// From version 2 on what is unknown is 0; the width is not.
static gorgon_status read_base(gorgon_heads *h, uint64_t version, gorgon_error *err)
{
    gorgon_fingerprint *base = &h->base;
    const gg_gguf *f = h->file;
    const char *name;
    const size_t min = version > 1 ? 0 : 1;
    gorgon_status status = gg_gguf_get_string(f, "gorgon.base.name", &name, NULL, err);
    if (status == GORGON_OK)
        status = gg_gguf_get_u64(f, "gorgon.base.vocabulary", &base->vocabulary, err);
    if (status == GORGON_OK)
        status = gg_gguf_get_u64(f, "gorgon.base.tensors", &base->tensors, err);
    if (status == GORGON_OK)
        status = read_u32(f, "gorgon.base.n_layers", min, GG_MAX_LAYERS, &base->n_layers, err);
    if (status == GORGON_OK)
        status = read_u32(f, "gorgon.base.d_model", 1, GG_MAX_WIDTH, &base->d_model, err);
    if (status == GORGON_OK)
        status = read_u32(f, "gorgon.base.n_vocab", min, GG_MAX_VOCAB, &base->n_vocab, err);
    if (status != GORGON_OK)
        return status;
    h->base_name = gg_strdup(name);
    return h->base_name ? GORGON_OK
                        : gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", label(f));
}

static gorgon_status read_header(const gg_gguf *file, uint64_t *version, size_t *n_sets,
                                 gorgon_error *err)
{
    const char *architecture;
    gorgon_status status =
        gg_gguf_get_string(file, "general.architecture", &architecture, NULL, err);
    if (status != GORGON_OK)
        return status;
    if (strcmp(architecture, GG_HEADS_ARCHITECTURE) != 0)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: not a heads file: general.architecture is '%.40s', expected "
                       "'" GG_HEADS_ARCHITECTURE "'",
                       label(file), architecture);
    status = gg_gguf_get_u64(file, "gorgon.heads.version", version, err);
    if (status == GORGON_OK && (*version < GG_HEADS_VERSION || *version > GG_HEADS_LAST_VERSION))
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "%s: key 'gorgon.heads.version' is %" PRIu64 ", expected %d or %d",
                       label(file), *version, GG_HEADS_VERSION, GG_HEADS_LAST_VERSION);
    if (status != GORGON_OK)
        return status;
    return read_size(file, "gorgon.heads.sets", 1, GG_MAX_HEAD_SETS, n_sets, err);
}

static gorgon_status read_sets(gorgon_heads *h, uint64_t version, size_t n_sets, gorgon_error *err)
{
    gorgon_status status = gg_heads_alloc_sets(h, n_sets, err);
    size_t n_tensors = 0;
    for (size_t i = 0; status == GORGON_OK && i < n_sets; i++) {
        const reader r = {h->file, &h->base, version, i, &h->sets[i], err};
        status = read_set(h, &r);
        n_tensors += h->sets[i].n_parts + (h->sets[i].shape.n_draft > 0) +
                     (h->sets[i].successors.n > 0 ? GG_SUCCESSORS_TENSORS : 0);
    }
    if (status == GORGON_OK && n_tensors != gg_gguf_tensor_count(h->file))
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: holds %zu tensors, expected %zu for its %zu sets", label(h->file),
                       gg_gguf_tensor_count(h->file), n_tensors, n_sets);
    return status;
}

gorgon_status gg_heads_read_gguf(gorgon_heads *h, gg_gguf *file, gorgon_error *err)
{
    uint64_t version = 0;
    size_t n_sets = 0;
    h->file = file;
    h->format = "gorgon side-car";
    gorgon_status status = read_header(file, &version, &n_sets, err);
    if (status == GORGON_OK)
        status = read_base(h, version, err);
    return status == GORGON_OK ? read_sets(h, version, n_sets, err) : status;
}
