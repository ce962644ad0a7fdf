// See core/safetensors.h.
#include "core/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"

enum { ALIGNMENT = 8 }; // of the data, by spaces behind the header

typedef struct span {
    const void *data;
    size_t bytes;
} span;

struct gg_safetensors_writer {
    json_t *header;
    span *spans; // [capacity], `n` of them in use
    size_t n, capacity;
    uint64_t end; // of the data so far
};

gorgon_status gg_safetensors_create(gg_safetensors_writer **out, gorgon_error *err)
{
    gg_safetensors_writer *w = *out = gg_alloc(1, sizeof *w);
    if (w)
        w->header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    if (w && w->header)
        return GORGON_OK;
    gg_safetensors_free(w);
    *out = NULL;
    return gg_fail(err, GORGON_ERROR_MEMORY, "cannot write safetensors: out of memory");
}

void gg_safetensors_free(gg_safetensors_writer *w)
{
    if (!w)
        return;
    json_decref(w->header);
    gg_free(w->spans);
    gg_free(w);
}

static gorgon_status fail_memory(const char *name, gorgon_error *err)
{
    return gg_fail(err, GORGON_ERROR_MEMORY, "tensor '%.80s': out of memory", name);
}

static bool grow(gg_safetensors_writer *w)
{
    const size_t capacity = w->capacity ? 2 * w->capacity : 32;
    span *grown = gg_realloc(w->spans, w->capacity, capacity, sizeof *grown);
    if (!grown)
        return false;
    w->spans = grown;
    w->capacity = capacity;
    return true;
}

gorgon_status gg_safetensors_put(gg_safetensors_writer *w, const char *name, gg_element element,
                                 const uint64_t *dims, size_t n_dims, const void *data,
                                 gorgon_error *err)
{
    size_t bytes = gg_element_bytes(element);
    if (json_object_get(w->header, name))
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "tensor '%.80s' was put before", name);
    json_t *shape = json_array();
    bool good = shape && (w->n < w->capacity || grow(w));
    for (size_t i = 0; good && i < n_dims; i++) {
        good = gg_mul(bytes, (size_t)dims[i], &bytes) &&
               json_array_append_new(shape, json_integer((json_int_t)dims[i])) == 0;
    }
    json_t *entry =
        good ? json_pack("{s:s,s:O,s:[I,I]}", "dtype", gg_element_name(element), "shape", shape,
                         "data_offsets", (json_int_t)w->end, (json_int_t)(w->end + bytes))
             : NULL;
    json_decref(shape);
    if (!entry || json_object_set_new(w->header, name, entry) != 0)
        return fail_memory(name, err);
    w->spans[w->n++] = (span){data, bytes};
    w->end += bytes;
    return GORGON_OK;
}

gorgon_status gg_safetensors_write(const gg_safetensors_writer *w, gorgon_output *out,
                                   gorgon_error *err)
{
    static const char spaces[] = "        ";
    uint8_t length[8];
    char *header = json_dumps(w->header, JSON_COMPACT);
    if (!header)
        return gg_fail(err, GORGON_ERROR_MEMORY, "cannot write safetensors: out of memory");
    const size_t n = strlen(header), padding = (ALIGNMENT - n % ALIGNMENT) % ALIGNMENT;
    for (size_t i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)(n + padding) >> (8 * i));
    gorgon_status status = gorgon_output_write(out, length, sizeof length, err);
    if (status == GORGON_OK)
        status = gorgon_output_write(out, header, n, err);
    if (status == GORGON_OK)
        status = gorgon_output_write(out, spaces, padding, err);
    for (size_t i = 0; i < w->n && status == GORGON_OK; i++)
        status = gorgon_output_write(out, w->spans[i].data, w->spans[i].bytes, err);
    free(header);
    return status;
}
