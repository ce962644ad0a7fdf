// safetensors files made of pseudo-random tensors: the values depend on the seed of a tensor, not
// on its name, so that files of several layouts can hold the same heads.
#ifndef SAFETENSORS_FIXTURE_H
#define SAFETENSORS_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/sampling.h"

typedef struct made_tensor {
    char name[96];
    size_t rows, columns; // columns 0: a vector
    uint64_t seed;        // 0: ids, descending from `rows` * 2 in steps of 2
    bool half;            // BF16, else F32
} made_tensor;

typedef struct made_file {
    made_tensor tensors[64];
    size_t n;
} made_file;

static inline void make_tensor(made_file *f, size_t rows, size_t columns, uint64_t seed,
                               const char *name)
{
    made_tensor *t = &f->tensors[f->n++];
    *t = (made_tensor){.rows = rows, .columns = columns, .seed = seed};
    snprintf(t->name, sizeof t->name, "%s", name);
}

// Values that BF16 holds.
static inline uint16_t made_value(uint64_t seed, size_t i)
{
    const float x = (float)(0.5 * gg_random_uniform(seed, 3, i, 0) - 0.25);
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static inline size_t made_bytes(const made_tensor *t)
{
    const size_t n = t->rows * (t->columns ? t->columns : 1);
    return t->seed == 0 ? 8 * n : t->half ? 2 * n : 4 * n;
}

static inline void write_elements(const made_tensor *t, FILE *stream)
{
    const size_t n = t->rows * (t->columns ? t->columns : 1);
    for (size_t i = 0; i < n; i++) {
        const uint16_t half = made_value(t->seed, i);
        const uint32_t whole = (uint32_t)half << 16;
        const int64_t id = (int64_t)(2 * (n - i));
        if (t->seed == 0)
            fwrite(&id, sizeof id, 1, stream);
        else if (t->half)
            fwrite(&half, sizeof half, 1, stream);
        else
            fwrite(&whole, sizeof whole, 1, stream);
    }
}

// Tensors first .. last - 1 of the file.
static inline void write_made(const made_file *f, size_t first, size_t last, const char *path)
{
    static char header[1 << 14];
    size_t n = 0, at = 0;
    for (size_t i = first; i < last; i++) {
        const made_tensor *t = &f->tensors[i];
        char shape[64];
        snprintf(shape, sizeof shape, t->columns ? "%zu,%zu" : "%zu", t->rows, t->columns);
        n += (size_t)snprintf(
            header + n, sizeof header - n,
            "%c\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
            i == first ? '{' : ',', t->name,
            t->seed == 0 ? "I64"
            : t->half    ? "BF16"
                         : "F32",
            shape, at, at + made_bytes(t));
        at += made_bytes(t);
    }
    header[n++] = '}';
    FILE *stream = fopen(path, "wb");
    cr_assert_not_null(stream);
    const uint64_t length = n;
    fwrite(&length, sizeof length, 1, stream);
    fwrite(header, 1, n, stream);
    for (size_t i = first; i < last; i++)
        write_elements(&f->tensors[i], stream);
    cr_assert_eq(fclose(stream), 0);
}

#endif
