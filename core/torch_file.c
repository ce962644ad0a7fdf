// Torch archives (torch.save since 1.6): a zip with "<prefix>/data.pkl", a pickle that names
// tensors, and their storages, "<prefix>/data/<key>".
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "pickle.h"
#include "tensor_entry.h"

enum { MAX_KEY = 64 };

typedef struct archive {
    gg_tensor_file *file;
    const gg_container *c;
    char prefix[GG_MAX_NAME + 1]; // with its slash
    char label[200];              // "<file>: <prefix>data.pkl"
} archive;

// The one entry "<prefix>/data.pkl".
static gorgon_status find_pickle(archive *a, const gg_zip_entry **out, gorgon_error *err)
{
    static const char name[] = "data.pkl";
    const size_t n = sizeof name - 1;
    *out = NULL;
    for (size_t i = 0; i < gg_zip_count(a->c->zip); i++) {
        const gg_zip_entry *e = gg_zip_at(a->c->zip, i);
        if (e->length <= n || e->name[e->length - n - 1] != '/' ||
            memcmp(e->name + e->length - n, name, n) != 0)
            continue;
        if (*out)
            return gg_fail(err, GORGON_ERROR_FORMAT, "%s: expected one entry data.pkl, got several",
                           a->c->label);
        *out = e;
        memcpy(a->prefix, e->name, e->length - n);
    }
    if (!*out)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: expected a torch archive, got a zip of %zu entries without data.pkl",
                       a->c->label, gg_zip_count(a->c->zip));
    return GORGON_OK;
}

// NULL if the archive has no such entry.
static const gg_zip_entry *find_entry(const archive *a, const char *name)
{
    char full[GG_MAX_NAME + MAX_KEY + 16];
    snprintf(full, sizeof full, "%s%s", a->prefix, name);
    return gg_zip_find(a->c->zip, full);
}

static gorgon_status check_order(const archive *a, gorgon_error *err)
{
    const gg_zip_entry *e = find_entry(a, "byteorder");
    const uint8_t *text;
    if (!e)
        return GORGON_OK; // older versions wrote none, and the order of their machine
    gorgon_status status = gg_zip_contents(a->c->zip, gg_zip_index(a->c->zip, e), &text, err);
    if (status == GORGON_OK && (e->bytes != 6 || memcmp(text, "little", 6) != 0))
        status = gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                         "%s: entry byteorder: expected 'little', got '%.*s'", a->c->label,
                         (int)(e->bytes < 16 ? e->bytes : 16), (const char *)text);
    return status;
}

static gorgon_status take_tensor(void *context, const gg_pickled_tensor *t, gorgon_error *err)
{
    archive *a = context;
    char name[MAX_KEY + 8] = "data/";
    if (t->key_length == 0 || t->key_length > MAX_KEY || memchr(t->key, 0, t->key_length))
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: tensor '%.*s': expected a storage key of 1 to %d bytes", a->label,
                       (int)(t->length < 80 ? t->length : 80), t->name, MAX_KEY);
    memcpy(name + 5, t->key, t->key_length);
    const gg_zip_entry *e = find_entry(a, name);
    if (!e)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: tensor '%.*s': expected its storage as entry '%s', got none", a->label,
                       (int)(t->length < 80 ? t->length : 80), t->name, name);
    const size_t size = gg_element_bytes(t->element);
    if (t->n_storage > UINT64_MAX / size || e->bytes != t->n_storage * size)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: tensor '%.*s': expected a storage of %" PRIu64
                       " elements of %zu bytes, got %" PRIu64 " bytes in '%s'",
                       a->label, (int)(t->length < 80 ? t->length : 80), t->name, t->n_storage,
                       size, e->bytes, name);
    gg_tensor_entry entry = {.tensor = {.element = t->element, .n_dims = t->n_dims},
                             .packed = gg_zip_index(a->c->zip, e),
                             .n_storage = t->n_storage,
                             .first = t->first};
    memcpy(entry.tensor.dims, t->dims, sizeof t->dims);
    memcpy(entry.strides, t->strides, sizeof t->strides);
    return gg_tensor_file_add(a->file, &entry, t->name, t->length, a->label, err);
}

static gorgon_status read_pickle(archive *a, const gg_zip_entry *e, gorgon_error *err)
{
    snprintf(a->label, sizeof a->label, "%s: data.pkl", a->c->label);
    if (e->bytes > GG_MAX_PICKLE)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: expected at most %d bytes, got %" PRIu64,
                       a->label, GG_MAX_PICKLE, e->bytes);
    const uint8_t *bytes;
    gorgon_status status = gg_zip_contents(a->c->zip, gg_zip_index(a->c->zip, e), &bytes, err);
    return status == GORGON_OK
               ? gg_pickle_read(bytes, (size_t)e->bytes, a->label, take_tensor, a, err)
               : status;
}

gorgon_status gg_torch_read(gg_tensor_file *file, gorgon_error *err)
{
    gg_container *c = &file->containers[file->n_containers - 1];
    archive a = {.file = file, .c = c};
    const gg_zip_entry *pickle = NULL;
    gorgon_status status = gg_zip_open(c->data, c->size, c->label, &c->zip, err);
    if (status == GORGON_OK)
        status = find_pickle(&a, &pickle, err);
    if (status == GORGON_OK)
        status = check_order(&a, err);
    return status == GORGON_OK ? read_pickle(&a, pickle, err) : status;
}
