// Random head sets for the embedded model, and a scratch file to write them to.
#ifndef HEADS_FIXTURE_H
#define HEADS_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/sampling.h"
#include "heads/head_set.h"

#define TINY_MODEL GG_SOURCE_DIR "/models/tiny/tiny.gguf"

typedef struct heads_spec {
    size_t n_heads, n_blocks, n_draft; // n_draft 0: the whole vocabulary
    bool root;
    gg_dtype type;
    uint64_t seed;
    float scale; // of weights; 0 = 1
    bool recurrent;
} heads_spec;

// A set and the memory that it points to.
typedef struct heads_fixture {
    gg_head_set_source source;
    float *values;
    const float **pointers; // weight, bias, root
    uint32_t *ids;
} heads_fixture;

static inline float fixture_random(uint64_t seed, uint64_t i)
{
    return (float)(2.0 * gg_random_uniform(seed, 77, i, 0) - 1.0);
}

// Weights of about 1 / sqrt(d), so that blocks neither vanish nor explode.
static inline heads_fixture heads_fixture_create(size_t d, size_t n_vocab, const heads_spec *spec)
{
    const size_t cells = gg_head_cells(spec->recurrent, spec->n_heads);
    const size_t n = cells * spec->n_blocks, roots = spec->root ? cells : 0;
    const size_t n_values = n * (d * d + d) + roots * d * d;
    heads_fixture f = {.values = gg_alloc(n_values, sizeof *f.values),
                       .pointers = gg_alloc(2 * n + roots, sizeof *f.pointers),
                       .ids = gg_alloc(spec->n_draft, sizeof *f.ids)};
    cr_assert(f.values && f.pointers && f.ids);
    float scale = (spec->scale != 0.0f ? spec->scale : 1.0f) * 1.7f;
    for (size_t root = 1; root * root <= d; root++) {
        if ((root + 1) * (root + 1) > d)
            scale /= (float)root;
    }
    for (size_t i = 0; i < n_values; i++)
        f.values[i] = scale * fixture_random(spec->seed, i);
    for (size_t i = 0; i < spec->n_draft; i++) // every stride-th id, from an odd start
        f.ids[i] =
            (uint32_t)(i * (n_vocab / spec->n_draft) + spec->seed % (n_vocab / spec->n_draft));
    for (size_t i = 0; i < n; i++) {
        f.pointers[i] = f.values + i * d * d;
        f.pointers[n + i] = f.values + n * d * d + i * d;
    }
    for (size_t i = 0; i < roots; i++)
        f.pointers[2 * n + i] = f.values + n * (d * d + d) + i * d * d;
    f.source = (gg_head_set_source){
        .recurrent = spec->recurrent,
        .n_heads = spec->n_heads,
        .n_blocks = spec->n_blocks,
        .d_model = d,
        .n_draft = spec->n_draft,
        .root_embedding = spec->root,
        .weight_type = spec->type,
        .draft_ids = f.ids,
        .weight = f.pointers,
        .bias = f.pointers + n,
        .root = spec->root ? f.pointers + 2 * n : NULL,
    };
    return f;
}

static inline void heads_fixture_free(heads_fixture *f)
{
    gg_free(f->values);
    gg_free(f->pointers);
    gg_free(f->ids);
}

static inline gorgon_model *open_tiny(void)
{
    gorgon_model *model = NULL;
    gorgon_error err = {0};
    cr_assert_eq(gorgon_model_open(TINY_MODEL, 1, &model, &err), GORGON_OK, "%s", err.message);
    return model;
}

typedef struct scratch {
    char directory[64];
    char path[96];
} scratch;

static inline scratch scratch_create(void)
{
    scratch s = {.directory = "/tmp/gorgon-test-XXXXXX"};
    cr_assert_not_null(mkdtemp(s.directory));
    snprintf(s.path, sizeof s.path, "%s/heads.gguf", s.directory);
    return s;
}

// Fails when something besides the written file was left behind.
static inline void scratch_remove(const scratch *s)
{
    unlink(s->path);
    cr_assert_eq(rmdir(s->directory), 0);
}

// Writes one set for the model to s->path and opens it.
static inline gorgon_heads *write_and_open(const scratch *s, const gorgon_model *model,
                                           const gg_head_set_source *source)
{
    gorgon_heads *heads = NULL;
    gorgon_error err = {0};
    cr_assert_eq(gg_heads_write(s->path, model, source, 1, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(gorgon_heads_open(s->path, &heads, &err), GORGON_OK, "%s", err.message);
    return heads;
}

#endif
