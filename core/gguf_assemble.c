// A view whose keys come from a writer and whose tensors lie elsewhere.
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "gguf_types.h"
#include "gguf_view.h"

size_t gg_tensor_rows(const gg_tensor *t)
{
    size_t rows = 1;
    for (size_t i = 1; i < t->n_dims; i++)
        rows *= (size_t)t->dims[i];
    return rows;
}

const uint8_t *gg_tensor_row(const gg_tensor *t, size_t row)
{
    if (t->head_rows > 0) {
        const size_t within = row % t->head_rows;
        row += within % 2 * (t->head_rows / 2) + within / 2 - within;
    }
    return t->data + row * (t->bytes / gg_tensor_rows(t));
}

static gorgon_status set_tensors(gg_gguf *view, const gg_tensor *tensors, size_t n,
                                 gorgon_error *err)
{
    view->tensors = gg_alloc(n, sizeof *view->tensors);
    view->names = gg_alloc(n, sizeof *view->names);
    if (!view->tensors || !view->names)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", view->label);
    view->n_tensors = n;
    for (size_t i = 0; i < n; i++) {
        const gg_gguf_type *type = gg_gguf_type_get((uint32_t)tensors[i].type);
        view->tensors[i] = tensors[i];
        view->tensors[i].type_name = type ? type->name : "?";
        view->names[i] =
            (gg_gguf_ref){.name = tensors[i].name, .length = strlen(tensors[i].name), .item = i};
        view->size += tensors[i].bytes;
    }
    qsort(view->names, n, sizeof *view->names, gg_gguf_ref_compare);
    for (size_t i = 1; i < n; i++) {
        if (gg_gguf_ref_compare(&view->names[i - 1], &view->names[i]) == 0)
            return gg_fail(err, GORGON_ERROR_ARGUMENT, "%s: tensor '%s' occurs twice", view->label,
                           view->names[i].name);
    }
    return GORGON_OK;
}

gorgon_status gg_gguf_assemble(const gg_gguf_writer *w, const char *label, const gg_tensor *tensors,
                               size_t n, void (*release)(void *kept), void *kept, gg_gguf **out,
                               gorgon_error *err)
{
    size_t size = 0;
    gg_gguf *view = NULL;
    uint8_t *data = gg_gguf_keys_in_memory(w, &size);
    *out = NULL;
    if (!data)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", label);
    gorgon_status status = gg_gguf_open_memory(data, size, label, &view, err);
    if (status != GORGON_OK) {
        gg_free(data);
        return status;
    }
    gg_free(view->tensors);
    gg_free(view->names);
    view->tensors = NULL;
    view->names = NULL;
    view->owned = data;
    status = set_tensors(view, tensors, n, err);
    if (status != GORGON_OK) {
        gg_gguf_close(view);
        return status;
    }
    view->release = release;
    view->kept = kept;
    *out = view;
    return GORGON_OK;
}
