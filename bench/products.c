// The quantised product alone: every level of this machine over 1 to 64 rows, one thread, against
// that level's multiply-adds on registers. Levels alternate, each figure is the best of several.
//   products [MEGABYTES] [N_IN] [TYPE]
// Weights of 1 MB stay in the cache and show the instructions; 40 MB or more show memory as well.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/kernels.h"
#include "core/system.h"

enum { MAX_ROWS = 64, ROUNDS = 7, PEAK_STEPS = 100000 };

static uint32_t draw(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

// One packed row repeated: the time does not depend on the values.
static bool fill(gg_matrix *w, gg_dtype type, size_t n_out, size_t n_in)
{
    uint32_t state = 1;
    const size_t bytes = gg_dtype_row_bytes(type, n_in);
    uint8_t *row = gg_alloc(bytes, 1);
    bool made = row && gg_matrix_create(type, n_out, n_in, w, NULL) == GORGON_OK;
    for (size_t i = 0; made && i < bytes; i++)
        row[i] = draw(&state) & 0x3f; // no scale is infinite or NaN
    for (size_t o = 0; made && o < n_out; o++)
        gg_matrix_pack_row(w, o, row);
    gg_free(row);
    return made;
}

typedef struct workspace {
    gg_matrix w;
    gg_qrows rows;
    float *x, *y;
} workspace;

static bool prepare(workspace *s, gg_dtype type, size_t megabytes, size_t n_in)
{
    size_t tile_row = gg_dtype_row_bytes(type, n_in);
    size_t n_out = megabytes * 1000000 / tile_row / GG_TILE * GG_TILE;
    size_t blocks = MAX_ROWS * (n_in / GG_BLOCK);
    uint32_t state = 2;
    s->x = gg_alloc(MAX_ROWS * n_in, sizeof *s->x);
    s->y = gg_alloc(MAX_ROWS * n_out, sizeof *s->y);
    s->rows = (gg_qrows){n_in,
                         gg_alloc(MAX_ROWS * n_in, 1),
                         gg_alloc(blocks, sizeof(float)),
                         gg_alloc(blocks, sizeof(float)),
                         gg_alloc(blocks, sizeof(int32_t)),
                         gg_alloc(blocks, sizeof(int32_t))};
    if (!s->x || !s->y || !s->rows.q || !s->rows.d || !s->rows.s || !s->rows.sum || !s->rows.half ||
        n_out == 0)
        return false;
    for (size_t i = 0; i < MAX_ROWS * n_in; i++)
        s->x[i] = (float)draw(&state) * 0x1p-24f - 0.5f;
    return fill(&s->w, type, n_out, n_in);
}

static double peak_of(const gg_kernels *k)
{
    uint32_t seed = 5;
    size_t steps = k->level == GG_LEVEL_SCALAR ? PEAK_STEPS * 10 : PEAK_STEPS;
    double begin = gg_now();
    size_t done = k->multiply_adds(steps, &seed) + (seed & 1);
    return (double)done / (gg_now() - begin);
}

static void measure(workspace *s, size_t rows)
{
    double best[GG_LEVEL_COUNT], peak[GG_LEVEL_COUNT] = {0};
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t l = GG_LEVEL_AVX2; l < GG_LEVEL_COUNT; l++) {
            const gg_kernels *k = gg_kernels_get((gg_level)l);
            if (!k)
                continue;
            double rate = peak_of(k), begin = gg_now();
            k->matmul_q(&s->w, 0, s->w.n_out / GG_TILE, &s->rows, rows, s->y, s->w.n_out);
            double took = gg_now() - begin;
            best[l] = round == 0 || took < best[l] ? took : best[l];
            peak[l] = rate > peak[l] ? rate : peak[l];
        }
    }
    double work = (double)rows * (double)s->w.n_out * (double)s->w.n_in;
    double bytes = (double)(s->w.n_out / GG_TILE) * (double)s->w.tile_bytes;
    for (size_t l = GG_LEVEL_AVX2; l < GG_LEVEL_COUNT; l++) {
        if (gg_kernels_get((gg_level)l))
            printf("%5zu  %-7s %9.3f %9.1f %10.0f %10.0f %8.2f\n", rows,
                   gg_kernels_get((gg_level)l)->name, 1e3 * best[l], bytes / best[l] / 1e9,
                   work / best[l] / 1e9, peak[l] / 1e9, best[l] * peak[l] / work);
    }
}

static gg_dtype find_type(const char *name)
{
    for (int t = 0; t < 64; t++) {
        const char *known = gg_dtype_name((gg_dtype)t);
        if (known && strcmp(known, name) == 0)
            return (gg_dtype)t;
    }
    return GG_F32;
}

int main(int argc, char **argv)
{
    size_t megabytes = argc > 1 ? strtoul(argv[1], NULL, 10) : 40;
    size_t n_in = argc > 2 ? strtoul(argv[2], NULL, 10) : 576;
    const char *name = argc > 3 ? argv[3] : "Q4_1";
    gg_dtype type = find_type(name);
    workspace s = {0};
    if (!gg_dtype_is_quantized(type) || n_in == 0 || gg_dtype_row_bytes(type, n_in) == 0 ||
        megabytes == 0 || megabytes > 1000 || !prepare(&s, type, megabytes, n_in)) {
        fprintf(stderr, "usage: products [MEGABYTES up to 1000] [N_IN, whole blocks of the type] "
                        "[a quantised type, as Q4_1 or Q6_K]\n");
        return 2;
    }
    gg_kernels_get(gg_cpu_level())->quantize(s.x, n_in, MAX_ROWS, &s.rows);
    printf("%s, %zu MB, %zu inputs, one thread\n%5s  %-7s %9s %9s %10s %10s %8s\n", name, megabytes,
           n_in, "rows", "level", "ms", "GB/s", "G madd/s", "peak", "x peak");
    static const size_t rows[] = {1, 2, 4, 8, 12, 16, 24, 32, 64};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        measure(&s, rows[i]);
    gg_matrix_clear(&s.w);
    void *const blocks[] = {s.x, s.y, s.rows.q, s.rows.d, s.rows.s, s.rows.sum, s.rows.half};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        gg_free(blocks[i]);
    return 0;
}
