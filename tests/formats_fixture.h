// Heads of other trainers under tests/data/heads, the base that they were made for, and what they
// must compute: golden.safetensors beside each, made with the trainers' own modules.
#ifndef FORMATS_FIXTURE_H
#define FORMATS_FIXTURE_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/model.h"
#include "core/tensor_file.h"
#include "heads/head_set.h"

#define FORMATS      GG_TEST_DATA "/heads"
#define FORMATS_BASE GG_TEST_DATA "/types/llama.f16.gguf"

static const char *const format_names[] = {
    "medusa_3x1",     "medusa_5x2_shared_storage",
    "medusa_f16_2x1", "medusa_v2_4x1",
    "vllm_full",      "vllm_original_lm_head_nobias",
    "vllm_truncated", "vllm_truncated_full_heads",
    "hydra_2x3",      "hydra_4x1",
};
enum { N_FORMATS = sizeof format_names / sizeof format_names[0] };

typedef struct base {
    gorgon_model *model;
    gorgon_engine *engine;
} base;

static inline base base_open(gorgon_activations activations)
{
    base b = {0};
    gorgon_engine_options options;
    gorgon_error err = {0};
    gorgon_engine_options_init(&options);
    options.threads = 1;
    options.activations = activations;
    options.context = 64;
    cr_assert_eq(gorgon_model_open(FORMATS_BASE, 1, &b.model, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(gorgon_engine_create(b.model, &options, &b.engine, &err), GORGON_OK, "%s",
                 err.message);
    return b;
}

static inline void base_close(base *b)
{
    gorgon_engine_free(b->engine);
    gorgon_model_free(b->model);
}

static inline gorgon_heads *open_format(const char *path)
{
    gorgon_heads *heads = NULL;
    gorgon_error err = {0};
    cr_assert(gorgon_heads_probe(path), "%s", path);
    cr_assert_eq(gorgon_heads_open(path, &heads, &err), GORGON_OK, "%s", err.message);
    return heads;
}

// The elements of one of the golden tensors, the caller's; NULL if there is none.
static inline void *golden_data(gg_tensor_file *f, const char *name, gg_element element)
{
    const uint8_t *data = NULL;
    const gg_named_tensor *t = gg_tensor_file_find(f, name);
    if (!t)
        return NULL;
    cr_assert_eq(t->element, element);
    cr_assert_eq(gg_tensor_file_data(f, t, &data, NULL), GORGON_OK);
    void *copy = gg_alloc(t->bytes, 1); // aligned
    memcpy(copy, data, t->bytes);
    return copy;
}

// Compares the logits of the heads with those of a golden file; returns the largest difference.
static inline float check_golden(const base *b, const gorgon_heads *heads, const char *name,
                                 float tolerance)
{
    char path[256];
    gg_tensor_file *f;
    gorgon_head_set_info info;
    gorgon_error err = {0};
    snprintf(path, sizeof path, FORMATS "/%s/golden.safetensors", name);
    cr_assert_eq(gg_tensor_file_open(path, &f, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(gorgon_heads_describe(heads, 0, &info, &err), GORGON_OK);
    const gg_named_tensor *shape = gg_tensor_file_find(f, "logits");
    cr_assert_eq(shape->dims[0], info.n_heads, "%s", name);
    const size_t n_heads = info.n_heads, n_rows = (size_t)shape->dims[1];
    const size_t n = (size_t)shape->dims[2], d = info.d_model;
    cr_assert_eq(n, info.n_draft ? info.n_draft : gg_model_geometry(b->model)->n_vocab);
    float *hidden = golden_data(f, "hidden", GG_ELEMENT_F32);
    float *expected = golden_data(f, "logits", GG_ELEMENT_F32);
    int32_t *tokens = golden_data(f, "tokens", GG_ELEMENT_I32);
    int64_t *map = golden_data(f, "token_map", GG_ELEMENT_I64);
    float *logits = gg_alloc(n_heads * n, sizeof *logits), worst = 0;
    gorgon_token *ids = gg_alloc(n, sizeof *ids);
    for (size_t r = 0; r < n_rows; r++) {
        cr_assert_eq(gorgon_heads_logits(b->engine, heads, 0, hidden + r * d,
                                         tokens ? (gorgon_token)tokens[r * n_heads] : 0, logits,
                                         ids, &err),
                     GORGON_OK, "%s", err.message);
        for (size_t k = 0; k < n_heads; k++) {
            for (size_t i = 0; i < n; i++) {
                const float off = fabsf(logits[k * n + i] - expected[(k * n_rows + r) * n + i]);
                cr_assert(off <= tolerance, "%s: head %zu, row %zu, logit %zu: %g", name, k, r, i,
                          (double)off);
                cr_assert_eq(ids[i], (gorgon_token)(map ? map[i] : (int64_t)i));
                worst = off > worst ? off : worst;
            }
        }
    }
    void *const made[] = {logits, ids, hidden, expected, tokens, map};
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++)
        gg_free(made[i]);
    gg_tensor_file_close(f);
    return worst;
}

#endif
