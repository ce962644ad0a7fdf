// Writing heads files: a trainer's sets as a new file, and another calibration for a set of an
// existing one. Both go through the GGUF writer: temporary file, flush, rename.
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "heads_format.h"
#include "successors.h"

// One set being written.
typedef struct source {
    gg_gguf_writer *w;
    size_t index;
    const gg_head_set_source *set;
    gorgon_error *err;
} source;

static gorgon_status put_size(const source *s, const char *field, size_t value)
{
    gg_heads_name key;
    gg_heads_key(key, s->index, field);
    return gg_gguf_put_u32(s->w, key, (uint32_t)value, s->err);
}

static gorgon_status put_flag(const source *s, const char *field, bool value)
{
    gg_heads_name key;
    gg_heads_key(key, s->index, field);
    return gg_gguf_put_bool(s->w, key, value, s->err);
}

static gorgon_status put_text(const source *s, const char *field, const char *text)
{
    gg_heads_name key;
    if (!text)
        return GORGON_OK;
    gg_heads_key(key, s->index, field);
    return gg_gguf_put_string(s->w, key, text, s->err);
}

static gorgon_status check_range(const source *s, const char *field, size_t value, size_t min,
                                 size_t max)
{
    if (value >= min && value <= max)
        return GORGON_OK;
    return gg_fail(s->err, GORGON_ERROR_ARGUMENT, "set %zu: %s is %zu, expected %zu to %zu",
                   s->index, field, value, min, max);
}

static gorgon_status check_calibration(size_t set, const float *values, size_t n, gorgon_error *err)
{
    if (n > GG_MAX_CALIBRATION)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "set %zu: %zu calibration values, expected at most %d", set, n,
                       GG_MAX_CALIBRATION);
    if (n && !gg_heads_finite(GG_F32, (const uint8_t *)values, n * sizeof *values))
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "set %zu: a calibration value is infinite or not a number", set);
    return GORGON_OK;
}

static gorgon_status check_shape(const source *s, const gorgon_fingerprint *base)
{
    const gg_head_shape *shape = &s->set->shape;
    gorgon_status status = check_range(s, "n_heads", shape->n_heads, 1, GG_MAX_DRAFT_HEADS);
    if (status == GORGON_OK)
        status = check_range(s, "n_blocks", shape->n_blocks, 1, GG_MAX_HEAD_BLOCKS);
    if (status == GORGON_OK)
        status = check_range(s, "d_model", shape->d_model, base->d_model, base->d_model);
    if (status == GORGON_OK)
        status = check_range(s, "n_draft", shape->n_draft, 0,
                             base->n_vocab ? base->n_vocab : GG_MAX_VOCAB);
    if (status == GORGON_OK)
        status = check_range(s, "rank", shape->rank, 0, GG_HEADS_MAX_RANK);
    if (status == GORGON_OK)
        status = check_range(s, "n_ffn", shape->n_ffn, 0, GG_HEADS_MAX_FFN);
    if (status == GORGON_OK)
        status = check_range(s, "window", shape->window, 0, GG_HEADS_MAX_WINDOW);
    const char *fault = status == GORGON_OK ? gg_head_shape_fault(shape) : NULL;
    return fault ? gg_fail(s->err, GORGON_ERROR_ARGUMENT, "set %zu: %s", s->index, fault) : status;
}

static gorgon_status check_source(const source *s, const gorgon_fingerprint *base)
{
    const gg_head_set_source *set = s->set;
    gorgon_status status = check_shape(s, base);
    if (status != GORGON_OK)
        return status;
    if (!gg_heads_weight_type(set->weight_type) || (set->weight_type == GG_BF16 && !set->stored))
        return gg_fail(s->err, GORGON_ERROR_ARGUMENT,
                       "set %zu: weight type %d, expected F32, F16 or Q8_0", s->index,
                       (int)set->weight_type);
    size_t bad;
    status = gg_heads_check_ids(set->draft_ids, set->shape.n_draft, base->n_vocab, &bad, s->err);
    if (status != GORGON_OK)
        return status;
    if (bad < set->shape.n_draft)
        return gg_fail(s->err, GORGON_ERROR_ARGUMENT,
                       "set %zu: draft id %zu is %u, expected different ids below %u", s->index,
                       bad, (unsigned)set->draft_ids[bad], (unsigned)base->n_vocab);
    return check_calibration(s->index, set->calibration, set->n_calibration, s->err);
}

static gorgon_status put_layer(const source *s)
{
    const gg_head_shape *shape = &s->set->shape;
    if (gg_head_traits_of(shape->kind)->layer == GG_LAYER_NONE)
        return GORGON_OK;
    gorgon_status status = put_size(s, "n_attention", shape->n_attention);
    if (status == GORGON_OK)
        status = put_size(s, "n_ffn", shape->n_ffn);
    return status == GORGON_OK ? put_size(s, "window", shape->window) : status;
}

static bool flag_of(const gg_head_shape *shape, size_t i)
{
    return *(const bool *)(const void *)((const char *)shape + gg_heads_flags[i].offset);
}

// The lowest version that can say all of it.
static uint32_t version_of(const gorgon_fingerprint *base, const gg_head_set_source *sets,
                           size_t n_sets)
{
    bool newer = base->n_layers == 0 || base->n_vocab == 0;
    for (size_t i = 0; i < n_sets; i++) {
        const gg_head_set_source *s = &sets[i];
        const size_t n = s->shape.n_draft;
        newer = newer || s->weight_type == GG_BF16 ||
                gg_heads_bad_id(s->draft_ids, n, GG_MAX_VOCAB) < n ||
                (s->shape.own_output && gg_head_traits_of(s->shape.kind)->follows);
        for (size_t k = 0; k < GG_HEADS_FLAGS; k++)
            newer = newer || flag_of(&s->shape, k);
    }
    return newer ? GG_HEADS_LAST_VERSION : GG_HEADS_VERSION;
}

static gorgon_status put_keys(const source *s)
{
    const gg_head_set_source *set = s->set;
    const gg_head_shape *shape = &set->shape;
    gg_heads_name key;
    gg_heads_key(key, s->index, "kind");
    gorgon_status status =
        gg_gguf_put_string(s->w, key, gg_head_traits_of(shape->kind)->name, s->err);
    if (status == GORGON_OK)
        status = put_size(s, "n_heads", shape->n_heads);
    if (status == GORGON_OK)
        status = put_size(s, "n_blocks", shape->n_blocks);
    if (status == GORGON_OK)
        status = put_size(s, "n_draft", shape->n_draft);
    if (status == GORGON_OK && shape->rank > 0)
        status = put_size(s, "rank", shape->rank);
    if (status == GORGON_OK)
        status = put_layer(s);
    if (status == GORGON_OK)
        status = put_flag(s, "root_embedding", shape->root_embedding);
    if (status == GORGON_OK)
        status = put_flag(s, "own_output", shape->own_output);
    for (size_t i = 0; status == GORGON_OK && i < GG_HEADS_FLAGS; i++) {
        if (flag_of(shape, i))
            status = put_flag(s, gg_heads_flags[i].field, true);
    }
    if (status == GORGON_OK)
        status = put_text(s, "training", set->training_json);
    if (status == GORGON_OK)
        status = put_text(s, "accuracy", set->accuracy_json);
    if (status != GORGON_OK || set->n_calibration == 0)
        return status;
    gg_heads_key(key, s->index, "calibration");
    return gg_gguf_put_array_f32(s->w, key, set->calibration, set->n_calibration, s->err);
}

// Rows as the set's weight type stores them.
static gorgon_status put_stored(const source *s, const char *name, const gg_head_part *p,
                                const void *rows)
{
    const gg_dtype type = s->set->weight_type;
    const uint64_t dims[] = {p->n_in, p->n_out};
    return gg_gguf_put_tensor(s->w, name, type, dims, 2, rows,
                              p->n_out * gg_dtype_row_bytes(type, p->n_in), s->err);
}

// x[n_out, n_in] in the set's weight type.
static gorgon_status put_matrix(const source *s, const char *name, const gg_head_part *p,
                                const float *x)
{
    const gg_dtype type = s->set->weight_type;
    const size_t row_bytes = gg_dtype_row_bytes(type, p->n_in), bytes = p->n_out * row_bytes;
    if (row_bytes == 0)
        return gg_fail(s->err, GORGON_ERROR_ARGUMENT,
                       "tensor '%s': %s cannot hold rows of %zu values, expected a multiple of %d",
                       name, gg_dtype_name(type), p->n_in, GG_BLOCK);
    uint8_t *rows = gg_alloc(p->n_out, row_bytes);
    if (!rows)
        return gg_fail(s->err, GORGON_ERROR_MEMORY, "tensor '%s': out of memory", name);
    for (size_t i = 0; i < p->n_out; i++)
        gg_quantize_row(type, x + i * p->n_in, p->n_in, rows + i * row_bytes);
    gorgon_status status;
    if (!gg_heads_finite(GG_F32, (const uint8_t *)x, p->n_out * p->n_in * sizeof *x) ||
        !gg_heads_finite(type, rows, bytes))
        status = gg_fail(s->err, GORGON_ERROR_ARGUMENT,
                         "tensor '%s' holds a value that is not finite or does not fit into %s",
                         name, gg_dtype_name(type));
    else
        status = put_stored(s, name, p, rows);
    gg_free(rows);
    return status;
}

static gorgon_status put_vector(const source *s, const char *name, size_t n, const float *x)
{
    const uint64_t dims[] = {n};
    const size_t bytes = n * sizeof *x;
    if (!gg_heads_finite(GG_F32, (const uint8_t *)x, bytes))
        return gg_fail(s->err, GORGON_ERROR_ARGUMENT,
                       "tensor '%s' holds a value that is not finite", name);
    return gg_gguf_put_tensor(s->w, name, GG_F32, dims, 1, x, bytes, s->err);
}

static gorgon_status put_tensors(const source *s, size_t n_vocab)
{
    const gg_head_set_source *set = s->set;
    gg_head_part parts[GG_MAX_HEAD_PARTS];
    gg_heads_name name;
    gorgon_status status = GORGON_OK;
    if (set->shape.n_draft) {
        const uint64_t dims[] = {set->shape.n_draft};
        gg_heads_ids_name(name, s->index);
        status = gg_gguf_put_tensor(s->w, name, GG_I32, dims, 1, set->draft_ids,
                                    set->shape.n_draft * sizeof *set->draft_ids, s->err);
    }
    const size_t n = gg_head_parts(&set->shape, n_vocab, parts);
    for (size_t i = 0; status == GORGON_OK && i < n; i++) {
        gg_heads_part_name(name, s->index, &parts[i]);
        if (parts[i].n_in == 0)
            status =
                put_vector(s, name, parts[i].n_out, set->stored ? set->stored[i] : set->data[i]);
        else if (set->stored)
            status = put_stored(s, name, &parts[i], set->stored[i]);
        else
            status = put_matrix(s, name, &parts[i], set->data[i]);
    }
    return status;
}

static gorgon_status put_header(gg_gguf_writer *w, const char *base_name,
                                const gorgon_fingerprint *base, uint32_t version, size_t n_sets,
                                gorgon_error *err)
{
    gorgon_status status =
        gg_gguf_put_string(w, "general.architecture", GG_HEADS_ARCHITECTURE, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_u32(w, "gorgon.heads.version", version, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_u32(w, "gorgon.heads.sets", (uint32_t)n_sets, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_string(w, "gorgon.base.name", base_name, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_u64(w, "gorgon.base.vocabulary", base->vocabulary, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_u64(w, "gorgon.base.tensors", base->tensors, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_u32(w, "gorgon.base.n_layers", base->n_layers, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_u32(w, "gorgon.base.d_model", base->d_model, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_u32(w, "gorgon.base.n_vocab", base->n_vocab, err);
    return status;
}

gorgon_status gg_heads_write_for(const char *path, const char *base_name,
                                 const gorgon_fingerprint *base, const gg_head_set_source *sets,
                                 size_t n_sets, gorgon_error *err)
{
    if (n_sets == 0 || n_sets > GG_MAX_HEAD_SETS)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "%.160s: %zu sets of heads, expected 1 to %d",
                       path, n_sets, GG_MAX_HEAD_SETS);
    gg_gguf_writer *w;
    gorgon_status status = gg_gguf_writer_create(&w, err);
    if (status != GORGON_OK)
        return status;
    status = put_header(w, base_name, base, version_of(base, sets, n_sets), n_sets, err);
    for (size_t i = 0; status == GORGON_OK && i < n_sets; i++) {
        source s = {.w = w, .index = i, .set = &sets[i], .err = err};
        status = check_source(&s, base);
        if (status == GORGON_OK)
            status = put_keys(&s);
        if (status == GORGON_OK)
            status = put_tensors(&s, base->n_vocab);
        if (status == GORGON_OK && sets[i].successors)
            status = gg_successors_put(w, i, base->n_vocab, sets[i].successors, err);
    }
    if (status == GORGON_OK)
        status = gg_gguf_write(w, path, err);
    gg_gguf_writer_free(w);
    return status;
}

gorgon_status gg_heads_write(const char *path, const gorgon_model *model,
                             const gg_head_set_source *sets, size_t n_sets, gorgon_error *err)
{
    gorgon_model_info info;
    gorgon_model_describe(model, &info);
    const gorgon_fingerprint base = gorgon_model_fingerprint(model);
    return gg_heads_write_for(path, info.name, &base, sets, n_sets, err);
}

static gorgon_status copy_integer(gg_gguf_writer *w, const gg_gguf *file, const char *key,
                                  gg_gguf_kind kind, gorgon_error *err)
{
    uint64_t value;
    gorgon_status status = gg_gguf_get_u64(file, key, &value, err);
    if (status != GORGON_OK)
        return status;
    return kind == GG_GGUF_U32 ? gg_gguf_put_u32(w, key, (uint32_t)value, err)
                               : gg_gguf_put_u64(w, key, value, err);
}

static gorgon_status copy_text(gg_gguf_writer *w, const gg_gguf *file, const char *key,
                               gorgon_error *err)
{
    const char *text;
    size_t length;
    gorgon_status status = gg_gguf_get_string(file, key, &text, &length, err);
    if (status == GORGON_OK && strlen(text) != length)
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED, "%.160s: key '%s' holds a NUL byte",
                       gg_gguf_path(file), key);
    return status == GORGON_OK ? gg_gguf_put_string(w, key, text, err) : status;
}

static gorgon_status copy_array(gg_gguf_writer *w, const gg_gguf *file, const char *key,
                                gorgon_error *err)
{
    gg_gguf_kind kind;
    size_t n;
    gorgon_status status = gg_gguf_get_array(file, key, &kind, &n, err);
    if (status != GORGON_OK)
        return status;
    if (kind != GG_GGUF_F32)
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "%.160s: key '%s' is an array of %s, expected f32", gg_gguf_path(file), key,
                       gg_gguf_kind_name(kind));
    float *values = gg_alloc(n, sizeof *values);
    if (!values)
        return gg_fail(err, GORGON_ERROR_MEMORY, "key '%s': out of memory", key);
    status = gg_gguf_array_f32(file, key, values, n, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_array_f32(w, key, values, n, err);
    gg_free(values);
    return status;
}

// Keys of the kinds that heads files use; the layout of the file itself is the writer's business.
static gorgon_status copy_key(gg_gguf_writer *w, const gg_gguf *file, const char *key,
                              gg_gguf_kind kind, gorgon_error *err)
{
    if (strcmp(key, "general.alignment") == 0)
        return GORGON_OK;
    switch (kind) {
    case GG_GGUF_U32:
    case GG_GGUF_U64:
        return copy_integer(w, file, key, kind, err);
    case GG_GGUF_STRING:
        return copy_text(w, file, key, err);
    case GG_GGUF_ARRAY:
        return copy_array(w, file, key, err);
    case GG_GGUF_BOOL: {
        bool flag;
        gorgon_status status = gg_gguf_get_bool(file, key, &flag, err);
        return status == GORGON_OK ? gg_gguf_put_bool(w, key, flag, err) : status;
    }
    case GG_GGUF_F32: {
        float value;
        gorgon_status status = gg_gguf_get_f32(file, key, &value, err);
        return status == GORGON_OK ? gg_gguf_put_f32(w, key, value, err) : status;
    }
    default:
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "%.160s: key '%s' has kind %s, which heads files do not use",
                       gg_gguf_path(file), key, gg_gguf_kind_name(kind));
    }
}

// Everything but the two keys that are about to be replaced.
static gorgon_status copy_file(gg_gguf_writer *w, const gg_gguf *file, const char *skip_a,
                               const char *skip_b, gorgon_error *err)
{
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; status == GORGON_OK && i < gg_gguf_key_count(file); i++) {
        gg_gguf_kind kind;
        const char *key = gg_gguf_key_at(file, i, &kind);
        if (strcmp(key, skip_a) != 0 && strcmp(key, skip_b) != 0)
            status = copy_key(w, file, key, kind, err);
    }
    for (size_t i = 0; status == GORGON_OK && i < gg_gguf_tensor_count(file); i++) {
        const gg_tensor *t = gg_gguf_tensor_at(file, i);
        status =
            gg_gguf_put_tensor(w, t->name, t->type, t->dims, t->n_dims, t->data, t->bytes, err);
    }
    return status;
}

gorgon_status gg_heads_check_side_car(const gorgon_heads *heads, gorgon_error *err)
{
    const char *container = gorgon_heads_container(heads);
    if (strcmp(container, "GGUF") == 0)
        return GORGON_OK;
    return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                   "%.160s: a %s holds no calibration; make a side-car of it first: gorgon convert "
                   "IN OUT --to gguf",
                   gorgon_heads_path(heads), container);
}

// Refuses what gorgon_heads_open would refuse, and a set that is not there.
static gorgon_status check_file(const char *path, size_t set, gorgon_error *err)
{
    gorgon_heads *heads;
    gorgon_head_set_info info;
    gorgon_status status = gorgon_heads_open(path, &heads, err);
    if (status != GORGON_OK)
        return status;
    status = gorgon_heads_describe(heads, set, &info, err);
    if (status == GORGON_OK)
        status = gg_heads_check_side_car(heads, err);
    gorgon_heads_free(heads);
    return status;
}

gorgon_status gg_heads_set_calibration(const char *path, size_t set, const float *calibration,
                                       size_t n, const char *accuracy_json, gorgon_error *err)
{
    gg_heads_name calibration_key, accuracy_key;
    gg_heads_key(calibration_key, set, "calibration");
    gg_heads_key(accuracy_key, set, "accuracy");
    gorgon_status status = check_calibration(set, calibration, n, err);
    if (status == GORGON_OK)
        status = check_file(path, set, err);
    if (status != GORGON_OK)
        return status;
    gg_gguf *file;
    gg_gguf_writer *w;
    status = gg_gguf_open(path, &file, err);
    if (status != GORGON_OK)
        return status;
    status = gg_gguf_writer_create(&w, err);
    if (status != GORGON_OK) {
        gg_gguf_close(file);
        return status;
    }
    status = copy_file(w, file, calibration_key, accuracy_json ? accuracy_key : "", err);
    if (status == GORGON_OK && accuracy_json)
        status = gg_gguf_put_string(w, accuracy_key, accuracy_json, err);
    if (status == GORGON_OK && n)
        status = gg_gguf_put_array_f32(w, calibration_key, calibration, n, err);
    if (status == GORGON_OK)
        status = gg_gguf_write(w, path, err);
    gg_gguf_writer_free(w);
    gg_gguf_close(file);
    return status;
}
