// Opens bytes as a file of named tensors and walks all of it, for fuzz targets.
#ifndef TENSOR_WALK_H
#define TENSOR_WALK_H

#include <stdlib.h>
#include <string.h>

#include "core/tensor_file.h"

static inline void require(bool holds)
{
    if (!holds)
        abort();
}

static inline unsigned walk_tensor(gg_tensor_file *file, const gg_named_tensor *t)
{
    const uint8_t *data = NULL;
    unsigned sum = 0;
    size_t n = 1;
    require(gg_tensor_file_find(file, t->name) == t && t->n_dims <= GG_MAX_RANK);
    require(t->element < GG_ELEMENTS && t->bytes == t->n * gg_element_bytes(t->element));
    for (size_t i = 0; i < t->n_dims; i++)
        n *= (size_t)t->dims[i];
    require(n == t->n);
    if (t->bytes > 1 << 20 || gg_tensor_file_data(file, t, &data, NULL) != GORGON_OK)
        return 0; // compressed data may turn out to be broken
    for (size_t i = 0; i < t->bytes; i++)
        sum += data[i];
    return sum;
}

static inline void walk_tensors(const uint8_t *bytes, size_t size)
{
    gg_tensor_file *file;
    gorgon_error err = {0};
    gorgon_status status = gg_tensor_file_open_memory(bytes, size, "input", &file, &err);
    require(status == err.status && (status == GORGON_OK) == (file != NULL));
    require(status == GORGON_OK || err.message[0] != '\0');
    if (status != GORGON_OK)
        return;
    volatile unsigned sink = 0;
    for (size_t i = 0; i < gg_tensor_file_count(file); i++)
        sink += walk_tensor(file, gg_tensor_file_at(file, i));
    (void)sink;
    gg_tensor_file_close(file);
}

#endif
