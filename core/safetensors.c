// safetensors: u64 length of the header, a JSON object {name: {dtype, shape, data_offsets}}, then
// the data, which the tensors cover without gap or overlap.
// Format: huggingface/safetensors, README.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/json.h"
#include "tensor_entry.h"

#define METADATA "__metadata__"

typedef struct reader {
    gg_tensor_file *file;
    const gg_container *c;
    const uint8_t *data; // behind the header
    uint64_t bytes;
    char label[200]; // "<file>: header"
    gorgon_error *err;
} reader;

static gorgon_status reject(const reader *r, const char *name, const char *expected)
{
    return gg_fail(r->err, GORGON_ERROR_FORMAT, "%s: tensor '%.80s': expected %s", r->label, name,
                   expected);
}

// A JSON integer of 0 or more.
static bool whole(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static gorgon_status read_shape(const reader *r, const char *name, const json_t *shape,
                                gg_named_tensor *t)
{
    if (!json_is_array(shape) || json_array_size(shape) > GG_MAX_RANK)
        return reject(r, name, "\"shape\": a list of at most 6 sizes");
    t->n_dims = json_array_size(shape);
    for (size_t i = 0; i < t->n_dims; i++) {
        if (!whole(json_array_get(shape, i), &t->dims[i]))
            return reject(r, name, "\"shape\": whole numbers of 0 or more");
    }
    return GORGON_OK;
}

static gorgon_status read_span(const reader *r, const char *name, const json_t *offsets,
                               gg_tensor_entry *e)
{
    uint64_t begin, end;
    const size_t size = gg_element_bytes(e->tensor.element);
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !whole(json_array_get(offsets, 0), &begin) || !whole(json_array_get(offsets, 1), &end))
        return reject(r, name, "\"data_offsets\": two whole numbers");
    if (begin > end || end > r->bytes)
        return gg_fail(r->err, GORGON_ERROR_FORMAT,
                       "%s: tensor '%.80s': expected data inside the %" PRIu64
                       " bytes behind the header, got %" PRIu64 " to %" PRIu64,
                       r->label, name, r->bytes, begin, end);
    uint64_t n = 1;
    for (size_t i = 0; i < e->tensor.n_dims; i++) {
        if (e->tensor.dims[i] && n > UINT64_MAX / size / e->tensor.dims[i])
            return reject(r, name, "a shape whose size does not overflow");
        n *= e->tensor.dims[i];
    }
    if (n * size != end - begin)
        return gg_fail(r->err, GORGON_ERROR_FORMAT,
                       "%s: tensor '%.80s': its shape asks for %" PRIu64
                       " bytes, its data_offsets give %" PRIu64,
                       r->label, name, n * size, end - begin);
    e->storage = r->data + begin;
    e->n_storage = n;
    return GORGON_OK;
}

static gorgon_status read_tensor(const reader *r, const char *name, const json_t *value)
{
    gg_tensor_entry e = {0};
    const char *type = json_string_value(json_object_get(value, "dtype"));
    if (!json_is_object(value) || !type)
        return reject(r, name, "an object with \"dtype\", \"shape\" and \"data_offsets\"");
    if (!gg_element_find(type, &e.tensor.element))
        return gg_fail(r->err, GORGON_ERROR_UNSUPPORTED,
                       "%s: tensor '%.80s' has dtype '%.20s', which is none that gorgon knows",
                       r->label, name, type);
    gorgon_status status = read_shape(r, name, json_object_get(value, "shape"), &e.tensor);
    if (status == GORGON_OK)
        status = read_span(r, name, json_object_get(value, "data_offsets"), &e);
    if (status != GORGON_OK)
        return status;
    gg_tensor_entry_dense(&e);
    return gg_tensor_file_add(r->file, &e, name, strlen(name), r->label, r->err);
}

static int by_place(const void *a, const void *b)
{
    const gg_tensor_entry *x = *(const gg_tensor_entry *const *)a;
    const gg_tensor_entry *y = *(const gg_tensor_entry *const *)b;
    if (x->storage != y->storage)
        return x->storage < y->storage ? -1 : 1;
    return x->tensor.bytes < y->tensor.bytes ? -1 : x->tensor.bytes > y->tensor.bytes;
}

// Every byte behind the header belongs to one tensor.
static gorgon_status check_cover(const reader *r, size_t first)
{
    const size_t n = r->file->n - first;
    const gg_tensor_entry **order = gg_alloc(n, sizeof *order);
    if (!order)
        return gg_fail(r->err, GORGON_ERROR_MEMORY, "%s: out of memory", r->label);
    for (size_t i = 0; i < n; i++)
        order[i] = &r->file->entries[first + i];
    qsort(order, n, sizeof *order, by_place);
    gorgon_status status = GORGON_OK;
    uint64_t end = 0;
    for (size_t i = 0; status == GORGON_OK && i < n; i++) {
        const uint64_t begin = (uint64_t)(order[i]->storage - r->data);
        if (begin != end)
            status = gg_fail(r->err, GORGON_ERROR_FORMAT,
                             "%s: tensor '%.80s': expected its data at %" PRIu64
                             ", where those before end, got %" PRIu64,
                             r->label, order[i]->name, end, begin);
        end = begin + order[i]->tensor.bytes;
    }
    gg_free(order);
    if (status == GORGON_OK && end != r->bytes)
        status =
            gg_fail(r->err, GORGON_ERROR_FORMAT,
                    "%s: expected tensors to cover the %" PRIu64 " bytes behind it, got %" PRIu64,
                    r->label, r->bytes, end);
    return status;
}

// Texts by name, of which none is needed.
static gorgon_status check_metadata(const reader *r, json_t *metadata)
{
    const char *key;
    json_t *value;
    bool good = !metadata || json_is_null(metadata) || json_is_object(metadata);
    json_object_foreach(metadata, key, value) good = good && json_is_string(value);
    return good ? GORGON_OK
                : gg_fail(r->err, GORGON_ERROR_FORMAT,
                          "%s: " METADATA ": expected an object of texts", r->label);
}

static gorgon_status read_header(const reader *r, json_t *header)
{
    const size_t first = r->file->n;
    if (!json_is_object(header))
        return gg_fail(r->err, GORGON_ERROR_FORMAT, "%s: expected a JSON object", r->label);
    gorgon_status status = check_metadata(r, json_object_get(header, METADATA));
    for (void *i = json_object_iter(header); i && status == GORGON_OK;
         i = json_object_iter_next(header, i)) {
        if (strcmp(json_object_iter_key(i), METADATA) != 0)
            status = read_tensor(r, json_object_iter_key(i), json_object_iter_value(i));
    }
    return status == GORGON_OK ? check_cover(r, first) : status;
}

gorgon_status gg_safetensors_read(gg_tensor_file *file, gorgon_error *err)
{
    const gg_container *c = &file->containers[file->n_containers - 1];
    gg_cursor cursor = {.base = c->data, .size = c->size, .label = c->label, .err = err};
    const uint64_t length = gg_read_u64(&cursor, "length of the header");
    const size_t left = gg_cursor_left(&cursor);
    if (cursor.status != GORGON_OK)
        return cursor.status;
    if (length > left || length > GG_MAX_JSON)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: length of the header at byte 0: expected at most %zu (of %zu bytes "
                       "that follow), got %" PRIu64,
                       c->label, left < GG_MAX_JSON ? left : (size_t)GG_MAX_JSON, left, length);
    reader r = {.file = file, .c = c, .err = err};
    r.data = c->data + 8 + length;
    r.bytes = left - length;
    snprintf(r.label, sizeof r.label, "%s: header", c->label);
    json_t *header = NULL;
    gorgon_status status = gg_json_parse(c->data + 8, (size_t)length, r.label, &header, err);
    if (status == GORGON_OK)
        status = read_header(&r, header);
    json_decref(header);
    return status;
}
