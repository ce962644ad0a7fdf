// GGUF writer: keys and tensor descriptions are serialised as they are put, tensor data are copied;
// gg_gguf_write lays them out, 32-aligned, in the order of the calls.
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"
#include "core/gguf.h"
#include "core/limits.h"
#include "gguf_types.h"
#include "gguf_view.h"
#include "utf8.h"

enum { ALIGNMENT = 32, VERSION = 3 };

typedef struct buffer {
    uint8_t *data;
    size_t used, capacity;
} buffer;

typedef struct name_list {
    char **names;
    size_t n, capacity;
} name_list;

// Data of a tensor: a copy, or rows of a view.
typedef struct blob {
    uint8_t *data;
    const gg_tensor *view;
    size_t bytes;
} blob;

struct gg_gguf_writer {
    name_list keys, tensors;
    buffer entries, directory;
    blob *blobs;       // [tensors.capacity]
    size_t data_bytes; // of all tensors, each padded
};

static size_t padding(size_t n)
{
    return (ALIGNMENT - n % ALIGNMENT) % ALIGNMENT;
}

static gorgon_status fail_memory(const char *name, gorgon_error *err)
{
    return gg_fail(err, GORGON_ERROR_MEMORY, "cannot add '%s' to a GGUF file: out of memory", name);
}

// Makes room for n more bytes, so that the appends that follow cannot fail.
static bool reserve(buffer *b, size_t n)
{
    size_t needed;
    if (!gg_add(b->used, n, &needed))
        return false;
    if (needed <= b->capacity)
        return true;
    size_t capacity = b->capacity ? b->capacity : 256;
    while (capacity < needed) {
        if (!gg_mul(capacity, 2, &capacity))
            return false;
    }
    uint8_t *grown = gg_realloc(b->data, b->capacity, capacity, 1);
    if (!grown)
        return false;
    b->data = grown;
    b->capacity = capacity;
    return true;
}

static void append_bytes(buffer *b, const void *data, size_t n)
{
    if (n)
        memcpy(b->data + b->used, data, n);
    b->used += n;
}

static void append(buffer *b, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++)
        b->data[b->used++] = (uint8_t)(value >> (8 * i));
}

static void append_text(buffer *b, const char *text)
{
    size_t n = strlen(text);
    append(b, n, 8);
    append_bytes(b, text, n);
}

static bool grow_names(name_list *list, size_t capacity)
{
    char **grown = gg_realloc(list->names, list->capacity, capacity, sizeof *grown);
    if (!grown)
        return false;
    list->names = grown;
    list->capacity = capacity;
    return true;
}

static gorgon_status check_name(const name_list *list, const char *name, size_t cap,
                                gorgon_error *err)
{
    size_t length = strlen(name);
    if (length == 0 || length > GG_MAX_NAME)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "GGUF name '%.80s': expected 1 to %d bytes, got %zu", name, GG_MAX_NAME,
                       length);
    if (!gg_utf8_printable(name, length))
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "GGUF name '%s': expected UTF-8 without control characters", name);
    if (strcmp(name, "general.alignment") == 0)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "GGUF key '%s' is set by the writer alone",
                       name);
    for (size_t i = 0; i < list->n; i++) {
        if (strcmp(list->names[i], name) == 0)
            return gg_fail(err, GORGON_ERROR_ARGUMENT, "GGUF name '%s' was put before", name);
    }
    if (list->n >= cap)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "GGUF name '%s': expected at most %zu names",
                       name, cap);
    return GORGON_OK;
}

// Starts the entry of `key` and makes room for `bytes` of value; the caller appends exactly those.
static gorgon_status begin_entry(gg_gguf_writer *w, const char *key, gg_gguf_kind kind,
                                 size_t bytes, gorgon_error *err)
{
    name_list *keys = &w->keys;
    gorgon_status status = check_name(keys, key, GG_MAX_METADATA, err);
    if (status != GORGON_OK)
        return status;
    if (keys->n == keys->capacity && !grow_names(keys, keys->capacity ? 2 * keys->capacity : 32))
        return fail_memory(key, err);
    if (!gg_add(bytes, 8 + strlen(key) + 4, &bytes) || !reserve(&w->entries, bytes))
        return fail_memory(key, err);
    char *copy = gg_strdup(key);
    if (!copy)
        return fail_memory(key, err);
    keys->names[keys->n++] = copy;
    append_text(&w->entries, key);
    append(&w->entries, kind, 4);
    return GORGON_OK;
}

static gorgon_status put_scalar(gg_gguf_writer *w, const char *key, gg_gguf_kind kind,
                                uint64_t bits, size_t bytes, gorgon_error *err)
{
    gorgon_status status = begin_entry(w, key, kind, bytes, err);
    if (status == GORGON_OK)
        append(&w->entries, bits, bytes);
    return status;
}

static uint32_t float_bits(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

gorgon_status gg_gguf_put_u32(gg_gguf_writer *w, const char *key, uint32_t v, gorgon_error *err)
{
    return put_scalar(w, key, GG_GGUF_U32, v, 4, err);
}

gorgon_status gg_gguf_put_u64(gg_gguf_writer *w, const char *key, uint64_t v, gorgon_error *err)
{
    return put_scalar(w, key, GG_GGUF_U64, v, 8, err);
}

gorgon_status gg_gguf_put_f32(gg_gguf_writer *w, const char *key, float v, gorgon_error *err)
{
    return put_scalar(w, key, GG_GGUF_F32, float_bits(v), 4, err);
}

gorgon_status gg_gguf_put_bool(gg_gguf_writer *w, const char *key, bool v, gorgon_error *err)
{
    return put_scalar(w, key, GG_GGUF_BOOL, v ? 1 : 0, 1, err);
}

static gorgon_status check_text(const char *key, const char *text, gorgon_error *err)
{
    size_t n = strlen(text);
    if (n > GG_MAX_STRING)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "GGUF key '%s': expected a string of at most %u bytes, got %zu", key,
                       GG_MAX_STRING, n);
    return GORGON_OK;
}

gorgon_status gg_gguf_put_string(gg_gguf_writer *w, const char *key, const char *v,
                                 gorgon_error *err)
{
    gorgon_status status = check_text(key, v, err);
    if (status == GORGON_OK)
        status = begin_entry(w, key, GG_GGUF_STRING, 8 + strlen(v), err);
    if (status == GORGON_OK)
        append_text(&w->entries, v);
    return status;
}

// Starts an array whose elements take `bytes` in all.
static gorgon_status begin_array(gg_gguf_writer *w, const char *key, gg_gguf_kind kind, size_t n,
                                 size_t bytes, gorgon_error *err)
{
    if (!gg_add(bytes, 4 + 8, &bytes))
        return fail_memory(key, err);
    gorgon_status status = begin_entry(w, key, GG_GGUF_ARRAY, bytes, err);
    if (status == GORGON_OK) {
        append(&w->entries, kind, 4);
        append(&w->entries, n, 8);
    }
    return status;
}

gorgon_status gg_gguf_put_array_f32(gg_gguf_writer *w, const char *key, const float *v, size_t n,
                                    gorgon_error *err)
{
    size_t bytes;
    if (!gg_mul(n, 4, &bytes))
        return fail_memory(key, err);
    gorgon_status status = begin_array(w, key, GG_GGUF_F32, n, bytes, err);
    for (size_t i = 0; status == GORGON_OK && i < n; i++)
        append(&w->entries, float_bits(v[i]), 4);
    return status;
}

gorgon_status gg_gguf_put_array_u32(gg_gguf_writer *w, const char *key, const uint32_t *v, size_t n,
                                    gorgon_error *err)
{
    size_t bytes;
    if (!gg_mul(n, 4, &bytes))
        return fail_memory(key, err);
    gorgon_status status = begin_array(w, key, GG_GGUF_U32, n, bytes, err);
    for (size_t i = 0; status == GORGON_OK && i < n; i++)
        append(&w->entries, v[i], 4);
    return status;
}

gorgon_status gg_gguf_put_array_u8(gg_gguf_writer *w, const char *key, const uint8_t *v, size_t n,
                                   gorgon_error *err)
{
    gorgon_status status = begin_array(w, key, GG_GGUF_U8, n, n, err);
    for (size_t i = 0; status == GORGON_OK && i < n; i++)
        append(&w->entries, v[i], 1);
    return status;
}

gorgon_status gg_gguf_put_array_string(gg_gguf_writer *w, const char *key, const char *const *v,
                                       size_t n, gorgon_error *err)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        gorgon_status status = check_text(key, v[i], err);
        if (status != GORGON_OK)
            return status;
        if (!gg_add(bytes, 8 + strlen(v[i]), &bytes))
            return fail_memory(key, err);
    }
    gorgon_status status = begin_array(w, key, GG_GGUF_STRING, n, bytes, err);
    for (size_t i = 0; status == GORGON_OK && i < n; i++)
        append_text(&w->entries, v[i]);
    return status;
}

static gorgon_status check_tensor(const gg_gguf_writer *w, const char *name, gg_dtype type,
                                  const uint64_t *dims, size_t n_dims, size_t bytes,
                                  gorgon_error *err)
{
    gorgon_status status = check_name(&w->tensors, name, GG_MAX_TENSORS, err);
    if (status != GORGON_OK)
        return status;
    const gg_gguf_type *known = gg_gguf_type_get((uint32_t)type);
    if (!known)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "GGUF tensor '%s': unknown type %d", name,
                       (int)type);
    if (n_dims == 0 || n_dims > GG_MAX_DIMS)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "GGUF tensor '%s': expected 1 to %d dimensions, got %zu", name, GG_MAX_DIMS,
                       n_dims);
    size_t expected = 0;
    const char *problem = gg_gguf_type_span(known, dims, n_dims, &expected);
    if (problem)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "GGUF tensor '%s' of type %s: %s", name,
                       known->name, problem);
    if (bytes != expected)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "GGUF tensor '%s' of type %s: expected %zu bytes, got %zu", name,
                       known->name, expected, bytes);
    return GORGON_OK;
}

static bool grow_tensors(gg_gguf_writer *w)
{
    name_list *list = &w->tensors;
    if (list->n < list->capacity)
        return true;
    size_t capacity = list->capacity ? 2 * list->capacity : 32;
    blob *grown = gg_realloc(w->blobs, list->capacity, capacity, sizeof *grown);
    if (!grown)
        return false;
    w->blobs = grown;
    return grow_names(list, capacity);
}

// Takes over content.data on success.
static gorgon_status add_tensor(gg_gguf_writer *w, const char *name, gg_dtype type,
                                const uint64_t *dims, size_t n_dims, blob content,
                                gorgon_error *err)
{
    size_t end;
    if (!gg_add(w->data_bytes, content.bytes, &end) || !gg_add(end, padding(end), &end) ||
        !grow_tensors(w) || !reserve(&w->directory, 8 + strlen(name) + 4 + 8 * GG_MAX_DIMS + 4 + 8))
        return fail_memory(name, err);
    char *copy = gg_strdup(name);
    if (!copy)
        return fail_memory(name, err);
    append_text(&w->directory, name);
    append(&w->directory, n_dims, 4);
    for (size_t i = 0; i < n_dims; i++)
        append(&w->directory, dims[i], 8);
    append(&w->directory, (uint64_t)type, 4);
    append(&w->directory, w->data_bytes, 8);
    w->blobs[w->tensors.n] = content;
    w->tensors.names[w->tensors.n++] = copy;
    w->data_bytes = end;
    return GORGON_OK;
}

gorgon_status gg_gguf_put_tensor(gg_gguf_writer *w, const char *name, gg_dtype type,
                                 const uint64_t *dims, size_t n_dims, const void *data,
                                 size_t bytes, gorgon_error *err)
{
    gorgon_status status = check_tensor(w, name, type, dims, n_dims, bytes, err);
    if (status != GORGON_OK)
        return status;
    blob content = {.data = gg_alloc(bytes, 1), .bytes = bytes};
    if (!content.data)
        return fail_memory(name, err);
    memcpy(content.data, data, bytes);
    status = add_tensor(w, name, type, dims, n_dims, content, err);
    if (status != GORGON_OK)
        gg_free(content.data);
    return status;
}

gorgon_status gg_gguf_put_view(gg_gguf_writer *w, const gg_tensor *tensor, gorgon_error *err)
{
    const gg_tensor *t = tensor;
    gorgon_status status = check_tensor(w, t->name, t->type, t->dims, t->n_dims, t->bytes, err);
    return status == GORGON_OK ? add_tensor(w, t->name, t->type, t->dims, t->n_dims,
                                            (blob){.view = t, .bytes = t->bytes}, err)
                               : status;
}

gorgon_status gg_gguf_writer_create(gg_gguf_writer **out, gorgon_error *err)
{
    *out = gg_alloc(1, sizeof **out);
    if (!*out)
        return gg_fail(err, GORGON_ERROR_MEMORY, "cannot create a GGUF writer: out of memory");
    return GORGON_OK;
}

static void free_names(name_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        gg_free(list->names[i]);
    gg_free(list->names);
}

void gg_gguf_writer_free(gg_gguf_writer *writer)
{
    if (!writer)
        return;
    for (size_t i = 0; i < writer->tensors.n; i++)
        gg_free(writer->blobs[i].data);
    gg_free(writer->blobs);
    free_names(&writer->keys);
    free_names(&writer->tensors);
    gg_free(writer->entries.data);
    gg_free(writer->directory.data);
    gg_free(writer);
}

// Writes n bytes and the zeros that bring them up to the alignment.
static gorgon_status write_padded(gorgon_output *out, const void *data, size_t n, size_t pad,
                                  gorgon_error *err)
{
    static const uint8_t zeros[ALIGNMENT];
    gorgon_status status = gorgon_output_write(out, data, n, err);
    return status == GORGON_OK ? gorgon_output_write(out, zeros, pad, err) : status;
}

static gorgon_status write_blob(const blob *b, gorgon_output *out, gorgon_error *err)
{
    const gg_tensor *t = b->view;
    if (!t || t->head_rows == 0)
        return write_padded(out, t ? t->data : b->data, b->bytes, padding(b->bytes), err);
    const size_t rows = gg_tensor_rows(t);
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < rows && status == GORGON_OK; i++)
        status = gorgon_output_write(out, gg_tensor_row(t, i), t->bytes / rows, err);
    return status == GORGON_OK ? write_padded(out, NULL, 0, padding(b->bytes), err) : status;
}

enum { HEADER_BYTES = 24 };

static buffer header_of(uint8_t bytes[HEADER_BYTES], size_t n_tensors, size_t n_keys)
{
    buffer header = {.data = bytes, .capacity = HEADER_BYTES};
    append_bytes(&header, "GGUF", 4);
    append(&header, VERSION, 4);
    append(&header, n_tensors, 8);
    append(&header, n_keys, 8);
    return header;
}

static gorgon_status write_content(const gg_gguf_writer *w, gorgon_output *out, gorgon_error *err)
{
    uint8_t bytes[HEADER_BYTES];
    const buffer header = header_of(bytes, w->tensors.n, w->keys.n);
    gorgon_status status = gorgon_output_write(out, bytes, header.used, err);
    if (status == GORGON_OK)
        status = gorgon_output_write(out, w->entries.data, w->entries.used, err);
    if (status == GORGON_OK)
        status = write_padded(out, w->directory.data, w->directory.used,
                              padding(header.used + w->entries.used + w->directory.used), err);
    for (size_t i = 0; status == GORGON_OK && i < w->tensors.n; i++)
        status = write_blob(&w->blobs[i], out, err);
    return status;
}

gorgon_status gg_gguf_write(const gg_gguf_writer *w, const char *path, gorgon_error *err)
{
    gorgon_output *out;
    gorgon_status status = gorgon_output_create(path, &out, err);
    if (status != GORGON_OK)
        return status;
    status = write_content(w, out, err);
    if (status != GORGON_OK) {
        gorgon_output_discard(out);
        return status;
    }
    return gorgon_output_commit(out, err);
}

uint8_t *gg_gguf_keys_in_memory(const gg_gguf_writer *w, size_t *size)
{
    const size_t content = HEADER_BYTES + w->entries.used;
    uint8_t *data = gg_alloc(content + padding(content), 1);
    if (!data)
        return NULL;
    header_of(data, 0, w->keys.n);
    if (w->entries.used)
        memcpy(data + HEADER_BYTES, w->entries.data, w->entries.used);
    *size = content + padding(content);
    return data;
}
