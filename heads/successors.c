// See successors.h.
#include "successors.h"

#include <inttypes.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "heads_format.h"

static const struct {
    const char *field;
    gg_dtype type;
    size_t columns;
} tensors[GG_SUCCESSORS_TENSORS] = {
    {"contexts", GG_I32, 2}, {"next", GG_I32, GG_SUCCESSORS}, {"log_share", GG_F16, GG_SUCCESSORS}};

static bool is_id(int32_t id, int32_t least, size_t n_vocab)
{
    return id >= least && (id < 0 || (size_t)id < n_vocab);
}

// Tokens, likeliest first, then -1 to the end.
static bool row_is_sound(const gg_successors *s, size_t row, size_t n_vocab)
{
    const int32_t *context = s->contexts + 2 * row, *next = s->next + row * GG_SUCCESSORS;
    const uint16_t *share = s->log_share + row * GG_SUCCESSORS;
    if (!is_id(context[0], -1, n_vocab) || !is_id(context[1], 0, n_vocab) || next[0] < 0)
        return false;
    for (size_t i = 0; i < GG_SUCCESSORS; i++) {
        const float x = gg_f16_to_f32(share[i]);
        if (!is_id(next[i], -1, n_vocab) || !(x <= 0.0f && x > -1e5f) ||
            (i > 0 && next[i] >= 0 && next[i - 1] < 0))
            return false;
    }
    return true;
}

// The first row that is not sound or not above the one before it; n if there is none.
static size_t bad_row(const gg_successors *s, size_t n_vocab)
{
    for (size_t i = 0; i < s->n; i++) {
        const int32_t *a = s->contexts + 2 * i;
        if (!row_is_sound(s, i, n_vocab) ||
            (i > 0 && (a[0] < a[-2] || (a[0] == a[-2] && a[1] <= a[-1]))))
            return i;
    }
    return s->n;
}

static gorgon_status find(const gg_gguf *file, const char *label, size_t set, size_t which,
                          uint64_t n, const gg_tensor **out, gorgon_error *err)
{
    gg_heads_name name;
    gg_heads_successors_name(name, set, tensors[which].field);
    gorgon_status status = gg_gguf_require(file, name, out, err);
    if (status != GORGON_OK)
        return status;
    const gg_tensor *t = *out;
    if (t->type != tensors[which].type || t->n_dims != 2 || t->dims[0] != tensors[which].columns ||
        t->dims[1] != n)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: tensor '%s' has type %s, %zu dimensions, %" PRIu64 " x %" PRIu64
                       ", expected %s, 2, %zu x %" PRIu64,
                       label, name, gg_dtype_name(t->type), t->n_dims, t->dims[0], t->dims[1],
                       gg_dtype_name(tensors[which].type), tensors[which].columns, n);
    return GORGON_OK;
}

gorgon_status gg_successors_create(size_t n, gg_successors *out, gorgon_error *err)
{
    out->n = n;
    out->contexts = gg_alloc(n, 2 * sizeof *out->contexts);
    out->next = gg_alloc(n, GG_SUCCESSORS * sizeof *out->next);
    out->log_share = gg_alloc(n, GG_SUCCESSORS * sizeof *out->log_share);
    if (!out->contexts || !out->next || !out->log_share)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for %zu successors", n);
    return GORGON_OK;
}

gorgon_status gg_successors_read(const gg_gguf *file, const char *label, size_t set, size_t n_vocab,
                                 gg_successors *out, gorgon_error *err)
{
    gg_heads_name name;
    const gg_tensor *found[GG_SUCCESSORS_TENSORS];
    *out = (gg_successors){0};
    gg_heads_successors_name(name, set, tensors[0].field);
    const gg_tensor *contexts = gg_gguf_find(file, name);
    if (!contexts)
        return GORGON_OK;
    const uint64_t n = contexts->n_dims == 2 ? contexts->dims[1] : 0;
    if (n == 0 || n > GG_HEADS_MAX_CONTEXTS)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: tensor '%s' has %" PRIu64 " rows, expected 1 to %d", label, name, n,
                       GG_HEADS_MAX_CONTEXTS);
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < GG_SUCCESSORS_TENSORS && status == GORGON_OK; i++)
        status = find(file, label, set, i, n, &found[i], err);
    if (status != GORGON_OK)
        return status;
    status = gg_successors_create((size_t)n, out, err);
    if (status != GORGON_OK)
        return status;
    // Copied out of the mapping, where numbers need not be aligned.
    memcpy(out->contexts, found[0]->data, found[0]->bytes);
    memcpy(out->next, found[1]->data, found[1]->bytes);
    memcpy(out->log_share, found[2]->data, found[2]->bytes);
    const size_t bad = bad_row(out, n_vocab);
    if (bad < out->n)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: tensor '%s': row %zu is out of order, or its ids are none of 0 to %zu, "
                       "or its shares no logarithms",
                       label, name, bad, n_vocab - 1);
    return GORGON_OK;
}

void gg_successors_clear(gg_successors *s)
{
    gg_free(s->contexts);
    gg_free(s->next);
    gg_free(s->log_share);
    *s = (gg_successors){0};
}

gorgon_status gg_successors_put(gg_gguf_writer *w, size_t set, size_t n_vocab,
                                const gg_successors *s, gorgon_error *err)
{
    const void *const data[] = {s->contexts, s->next, s->log_share};
    const size_t bad = s->n <= GG_HEADS_MAX_CONTEXTS ? bad_row(s, n_vocab) : 0;
    gorgon_status status = GORGON_OK;
    if (s->n == 0)
        return GORGON_OK;
    if (bad < s->n)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "set %zu: successors: row %zu of %zu is not sound, or they are more than %d",
                       set, bad, s->n, GG_HEADS_MAX_CONTEXTS);
    for (size_t i = 0; i < GG_SUCCESSORS_TENSORS && status == GORGON_OK; i++) {
        gg_heads_name name;
        const uint64_t dims[] = {tensors[i].columns, s->n};
        const size_t bytes = s->n * tensors[i].columns * (tensors[i].type == GG_I32 ? 4 : 2);
        gg_heads_successors_name(name, set, tensors[i].field);
        status = gg_gguf_put_tensor(w, name, tensors[i].type, dims, 2, data[i], bytes, err);
    }
    return status;
}
