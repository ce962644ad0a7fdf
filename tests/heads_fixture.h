// Random head sets for the embedded model, and a scratch file to write them to.
#ifndef HEADS_FIXTURE_H
#define HEADS_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/sampling.h"
#include "heads_reference.h"

#define TINY_MODEL GG_SOURCE_DIR "/models/tiny/tiny.gguf"

typedef struct heads_spec {
    size_t n_heads, n_blocks, n_draft; // n_draft 0: the whole vocabulary
    bool root;
    gg_dtype type;
    uint64_t seed;
    float scale; // of weights; 0 = 1
    gg_head_kind kind;
    size_t rank;
    size_t n_attention, n_ffn, window; // of a decoder layer
} heads_spec;

// A set and the memory that it points to.
typedef struct heads_fixture {
    gg_head_set_source source;
    gg_head_part parts[GG_MAX_HEAD_PARTS];
    size_t n_parts;
    size_t at[GG_MAX_HEAD_PARTS]; // where each begins in the values
    float *values;
    double *doubles;        // the values
    const float **pointers; // of the parts
    uint32_t *ids;
} heads_fixture;

static inline float fixture_random(uint64_t seed, uint64_t i)
{
    return (float)(2.0 * gg_random_uniform(seed, 77, i, 0) - 1.0);
}

// Weights of about 1 / sqrt(d), so that blocks neither vanish nor explode.
static inline heads_fixture heads_fixture_create(size_t d, size_t n_vocab, const heads_spec *spec)
{
    const gg_head_shape shape = {.kind = spec->kind,
                                 .n_heads = spec->n_heads,
                                 .n_blocks = spec->n_blocks,
                                 .d_model = d,
                                 .n_draft = spec->n_draft,
                                 .rank = spec->rank,
                                 .n_attention = spec->n_attention,
                                 .n_ffn = spec->n_ffn,
                                 .window = spec->window,
                                 .root_embedding = spec->root};
    heads_fixture f = {.n_parts = 0};
    size_t n_values = 0;
    f.n_parts = gg_head_parts(&shape, n_vocab, f.parts);
    for (size_t i = 0; i < f.n_parts; i++) {
        f.at[i] = n_values;
        n_values += f.parts[i].n_out * (f.parts[i].n_in ? f.parts[i].n_in : 1);
    }
    f.values = gg_alloc(n_values, sizeof *f.values);
    f.doubles = gg_alloc(n_values, sizeof *f.doubles);
    f.pointers = gg_alloc(f.n_parts, sizeof *f.pointers);
    f.ids = gg_alloc(spec->n_draft, sizeof *f.ids);
    cr_assert(f.values && f.doubles && f.pointers && f.ids);
    float scale = (spec->scale != 0.0f ? spec->scale : 1.0f) * 1.7f;
    for (size_t root = 1; root * root <= d; root++) {
        if ((root + 1) * (root + 1) > d)
            scale /= (float)root;
    }
    for (size_t i = 0; i < n_values; i++) {
        f.values[i] = scale * fixture_random(spec->seed, i);
        f.doubles[i] = (double)f.values[i];
    }
    for (size_t i = 0; i < spec->n_draft; i++) // every stride-th id, from an odd start
        f.ids[i] =
            (uint32_t)(i * (n_vocab / spec->n_draft) + spec->seed % (n_vocab / spec->n_draft));
    for (size_t i = 0; i < f.n_parts; i++)
        f.pointers[i] = f.values + f.at[i];
    f.source = (gg_head_set_source){
        .shape = shape, .weight_type = spec->type, .draft_ids = f.ids, .data = f.pointers};
    return f;
}

// The values of a part of the source.
static inline const float *fixture_part(const gg_head_set_source *source, gg_head_role role,
                                        size_t head, size_t block)
{
    gg_head_part parts[GG_MAX_HEAD_PARTS];
    const size_t n = gg_head_parts(&source->shape, 0, parts);
    for (size_t i = 0; i < n; i++) {
        if (parts[i].role == role && parts[i].head == head && parts[i].block == block)
            return source->data[i];
    }
    return NULL;
}

static inline reference_heads heads_fixture_reference(const heads_fixture *f)
{
    return (reference_heads){&f->source.shape, f->parts, f->n_parts, f->doubles, f->at};
}

static inline void heads_fixture_free(heads_fixture *f)
{
    gg_free(f->values);
    gg_free(f->doubles);
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
