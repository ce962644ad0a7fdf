// Passes over a model, and what must hold of every model: its rows have the same bits however they
// are grouped, split, ordered, committed, forked, or which level computes them.
#ifndef FORWARD_FIXTURE_H
#define FORWARD_FIXTURE_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine.h"
#include "core/model.h"
#include "core/sampling.h"

#define N_TEXT 150 // more than two KV pages

static gorgon_model *model;
static gorgon_token text[N_TEXT];
static size_t n_vocab;

static inline void open_model_at(const char *path)
{
    gorgon_error err = {0};
    cr_assert_eq(gorgon_model_open(path, 1, &model, &err), GORGON_OK, "%s", err.message);
    n_vocab = gg_model_geometry(model)->n_vocab;
    for (uint64_t i = 0; i < N_TEXT; i++)
        text[i] = (gorgon_token)(gg_random_bits(5, i, 0, 0) % n_vocab);
}

static inline void close_model(void)
{
    gorgon_model_free(model);
}

static inline gorgon_engine *make_engine(size_t threads, const char *level, gorgon_activations act)
{
    gorgon_engine *engine = NULL;
    gorgon_error err = {0};
    gorgon_engine_options options;
    gorgon_engine_options_init(&options);
    options.threads = threads;
    options.cpu_level = level;
    options.activations = act;
    options.context = 256;
    options.max_sequences = 4;
    options.kv_positions = 1024;
    options.max_logit_rows = 256;
    cr_assert_eq(gorgon_engine_create(model, &options, &engine, &err), GORGON_OK, "%s",
                 err.message);
    return engine;
}

static inline gorgon_sequence *make_sequence(gorgon_engine *engine)
{
    gorgon_sequence *s = NULL;
    cr_assert_eq(gorgon_sequence_create(engine, &s, NULL), GORGON_OK);
    return s;
}

// Logits of every position of text[0, n), rows per pass given. [n][n_vocab], caller frees.
static inline float *logits_by_chunks(gorgon_engine *engine, size_t n, size_t chunk)
{
    gorgon_error err = {0};
    gorgon_row rows[N_TEXT];
    uint32_t path[N_TEXT];
    float *out = malloc(n * n_vocab * sizeof *out);
    gorgon_sequence *s = make_sequence(engine);
    for (size_t begin = 0; begin < n; begin += chunk) {
        size_t m = n - begin < chunk ? n - begin : chunk;
        for (size_t i = 0; i < m; i++) {
            rows[i] = (gorgon_row){s, text[begin + i], (int32_t)i - 1, GORGON_WANT_LOGITS};
            path[i] = (uint32_t)i;
        }
        cr_assert_eq(gorgon_engine_pass(engine, rows, m, &err), GORGON_OK, "%s", err.message);
        for (size_t i = 0; i < m; i++)
            memcpy(out + (begin + i) * n_vocab, gorgon_engine_logits(engine, i),
                   n_vocab * sizeof *out);
        cr_assert_eq(gorgon_engine_commit(engine, s, path, m, &err), GORGON_OK, "%s", err.message);
    }
    gorgon_sequence_free(s);
    return out;
}

static inline void check_threads_and_levels(const size_t *chunks, size_t n_chunks)
{
    gorgon_engine *reference = make_engine(1, "scalar", GORGON_ACTIVATIONS_INT8);
    float *expected = logits_by_chunks(reference, N_TEXT, 1);
    gorgon_engine_free(reference);
    for (int level = 0; level < GG_LEVEL_COUNT; level++) {
        const gg_kernels *kernels = gg_kernels_get((gg_level)level);
        for (size_t threads = 1; kernels && threads <= 3; threads++) {
            gorgon_engine *engine = make_engine(threads, kernels->name, GORGON_ACTIVATIONS_INT8);
            for (size_t c = 0; c < n_chunks; c++) {
                float *got = logits_by_chunks(engine, N_TEXT, chunks[c]);
                cr_expect_eq(memcmp(got, expected, N_TEXT * n_vocab * sizeof *got), 0,
                             "%s, %zu threads, chunks of %zu", kernels->name, threads, chunks[c]);
                free(got);
            }
            gorgon_engine_free(engine);
        }
    }
    free(expected);
}

static inline void check_reference_path(void)
{
    gorgon_engine *engine = make_engine(2, NULL, GORGON_ACTIVATIONS_F32);
    float *expected = logits_by_chunks(engine, N_TEXT, 1);
    float *got = logits_by_chunks(engine, N_TEXT, 48);
    cr_expect_eq(memcmp(got, expected, N_TEXT * n_vocab * sizeof *got), 0);
    free(got);
    free(expected);
    gorgon_engine_free(engine);
}

// Random trees on two sequences in one pass: every row equals the same path decoded alone.
static inline void check_rows_of_trees(void)
{
    enum { NODES = 40, PREFIX = 70 };
    gorgon_engine *engine = make_engine(2, NULL, GORGON_ACTIVATIONS_INT8);
    gorgon_sequence *s[2] = {make_sequence(engine), make_sequence(engine)};
    size_t last;
    cr_assert_eq(gorgon_engine_prefill(engine, s[0], text, PREFIX, &last, NULL), GORGON_OK);
    cr_assert_eq(gorgon_engine_prefill(engine, s[1], text + 9, 5, &last, NULL), GORGON_OK);
    gorgon_row rows[NODES];
    for (size_t i = 0; i < NODES; i++) {
        int32_t parent = GORGON_ROW_ROOT;
        size_t which = gg_random_bits(8, i, 0, 0) % 2;
        for (size_t tries = 0; tries < 4 && i > 0; tries++) {
            size_t p = gg_random_bits(8, i, 1, tries) % i;
            if (rows[p].sequence == s[which])
                parent = (int32_t)p;
        }
        rows[i] = (gorgon_row){s[which], (gorgon_token)(gg_random_bits(8, i, 2, 0) % n_vocab),
                               parent, GORGON_WANT_LOGITS};
    }
    cr_assert_eq(gorgon_engine_pass(engine, rows, NODES, NULL), GORGON_OK);
    float *tree = malloc(NODES * n_vocab * sizeof *tree);
    for (size_t i = 0; i < NODES; i++)
        memcpy(tree + i * n_vocab, gorgon_engine_logits(engine, i), n_vocab * sizeof *tree);
    for (size_t i = 0; i < NODES; i++) {
        gorgon_row path[NODES];
        size_t n = 0;
        for (int32_t at = (int32_t)i; at >= 0; at = rows[at].parent)
            path[n++] = rows[at];
        for (size_t k = 0; k < n / 2; k++) {
            gorgon_row swap = path[k];
            path[k] = path[n - 1 - k];
            path[n - 1 - k] = swap;
        }
        for (size_t k = 0; k < n; k++)
            path[k].parent = (int32_t)k - 1;
        cr_assert_eq(gorgon_engine_pass(engine, path, n, NULL), GORGON_OK);
        cr_expect_eq(
            memcmp(gorgon_engine_logits(engine, n - 1), tree + i * n_vocab, n_vocab * sizeof *tree),
            0, "row %zu", i);
    }
    free(tree);
    gorgon_sequence_free(s[0]);
    gorgon_sequence_free(s[1]);
    gorgon_engine_free(engine);
}

static inline void expect_next_logits(gorgon_engine *engine, gorgon_sequence *s,
                                      const float *expected, const char *what)
{
    size_t at = gorgon_sequence_length(s);
    gorgon_row row = {s, text[at], GORGON_ROW_ROOT, GORGON_WANT_LOGITS};
    cr_assert_eq(gorgon_engine_pass(engine, &row, 1, NULL), GORGON_OK);
    cr_expect_eq(memcmp(gorgon_engine_logits(engine, 0), expected + at * n_vocab,
                        n_vocab * sizeof *expected),
                 0, "%s at %zu", what, at);
}

static inline void check_fork_and_truncate(void)
{
    gorgon_engine *engine = make_engine(2, NULL, GORGON_ACTIVATIONS_INT8);
    float *expected = logits_by_chunks(engine, N_TEXT, 64);
    gorgon_sequence *a = make_sequence(engine), *b = NULL;
    size_t last;
    cr_assert_eq(gorgon_engine_prefill(engine, a, text, 100, &last, NULL), GORGON_OK);
    cr_assert_eq(gorgon_sequence_fork(a, &b, NULL), GORGON_OK);
    gorgon_token other[30] = {3}; // a goes another way inside the shared page
    cr_assert_eq(gorgon_engine_prefill(engine, a, other, 30, &last, NULL), GORGON_OK);
    expect_next_logits(engine, b, expected, "fork");
    cr_assert_eq(gorgon_engine_prefill(engine, b, text + 100, 30, &last, NULL), GORGON_OK);
    expect_next_logits(engine, b, expected, "fork, continued");
    cr_assert_eq(gorgon_sequence_truncate(a, 90, NULL), GORGON_OK);
    expect_next_logits(engine, a, expected, "truncated");
    cr_expect_eq(gorgon_sequence_truncate(a, 91, NULL), GORGON_ERROR_ARGUMENT);
    gorgon_sequence_free(a);
    expect_next_logits(engine, b, expected, "after the other was freed");
    gorgon_sequence_free(b);
    gorgon_engine_free(engine);
    free(expected);
}

// An input of embeddings is the same as tokens; an early exit is not the whole.
static inline void check_ranges(void)
{
    const gg_geometry *g = gg_model_geometry(model);
    const size_t d = g->d_model;
    gorgon_engine *engine = make_engine(2, NULL, GORGON_ACTIVATIONS_INT8);
    gorgon_sequence *s = make_sequence(engine);
    gorgon_row rows[8];
    float *whole = malloc(n_vocab * sizeof *whole), *residual = malloc(8 * d * sizeof *residual);
    for (size_t i = 0; i < 8; i++)
        rows[i] = (gorgon_row){s, text[i], (int32_t)i - 1, GORGON_WANT_LOGITS};
    cr_assert_eq(gorgon_engine_pass(engine, rows, 8, NULL), GORGON_OK);
    memcpy(whole, gorgon_engine_logits(engine, 7), n_vocab * sizeof *whole);
    for (size_t i = 0; i < 8; i++)
        gg_model_embed(model, text[i], residual + i * d);
    gg_pass from_embedding = {rows, 8, 0, g->n_layers, residual};
    cr_assert_eq(gg_engine_pass_range(engine, &from_embedding, NULL), GORGON_OK);
    cr_expect_eq(memcmp(whole, gorgon_engine_logits(engine, 7), n_vocab * sizeof *whole), 0);
    gg_pass early = {rows, 8, 0, g->n_layers - 1, NULL};
    cr_assert_eq(gg_engine_pass_range(engine, &early, NULL), GORGON_OK);
    cr_expect_neq(memcmp(whole, gorgon_engine_logits(engine, 7), n_vocab * sizeof *whole), 0);
    free(whole);
    free(residual);
    gorgon_sequence_free(s);
    gorgon_engine_free(engine);
}

#endif
