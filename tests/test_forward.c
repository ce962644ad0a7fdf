// Passes over the embedded model: equal to independent software within float error, and equal to
// themselves bit for bit however rows are grouped, split, ordered, or which level computes them.
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/engine.h"
#include "core/model.h"
#include "core/sampling.h"

#define TINY_MODEL GG_SOURCE_DIR "/models/tiny/tiny.gguf"
#define N_TEXT     150 // more than two KV pages

static gorgon_model *model;
static gorgon_token text[N_TEXT];

static void open_model(void)
{
    gorgon_error err = {0};
    cr_assert_eq(gorgon_model_open(TINY_MODEL, 1, &model, &err), GORGON_OK, "%s", err.message);
    for (uint64_t i = 0; i < N_TEXT; i++)
        text[i] = (gorgon_token)(gg_random_bits(5, i, 0, 0) % 645);
}

static void close_model(void)
{
    gorgon_model_free(model);
}

TestSuite(forward, .init = open_model, .fini = close_model);

static gorgon_engine *make_engine(size_t threads, const char *level, gorgon_activations act)
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

static gorgon_sequence *make_sequence(gorgon_engine *engine)
{
    gorgon_sequence *s = NULL;
    cr_assert_eq(gorgon_sequence_create(engine, &s, NULL), GORGON_OK);
    return s;
}

// Logits of every position of text[0, n), rows per pass given. [n][645], caller frees.
static float *logits_by_chunks(gorgon_engine *engine, size_t n, size_t chunk)
{
    gorgon_error err = {0};
    gorgon_row rows[N_TEXT];
    uint32_t path[N_TEXT];
    float *out = malloc(n * 645 * sizeof *out);
    gorgon_sequence *s = make_sequence(engine);
    for (size_t begin = 0; begin < n; begin += chunk) {
        size_t m = n - begin < chunk ? n - begin : chunk;
        for (size_t i = 0; i < m; i++) {
            rows[i] = (gorgon_row){s, text[begin + i], (int32_t)i - 1, GORGON_WANT_LOGITS};
            path[i] = (uint32_t)i;
        }
        cr_assert_eq(gorgon_engine_pass(engine, rows, m, &err), GORGON_OK, "%s", err.message);
        for (size_t i = 0; i < m; i++)
            memcpy(out + (begin + i) * 645, gorgon_engine_logits(engine, i), 645 * sizeof *out);
        cr_assert_eq(gorgon_engine_commit(engine, s, path, m, &err), GORGON_OK, "%s", err.message);
    }
    gorgon_sequence_free(s);
    return out;
}

Test(forward, equals_independent_software)
{
    json_t *golden = json_load_file(GG_TEST_DATA "/tiny/golden.json", 0, NULL);
    cr_assert_not_null(golden);
    gorgon_engine *engine = make_engine(2, NULL, GORGON_ACTIVATIONS_F32);
    size_t q, k, h, checked = 0;
    json_t *sequence, *position, *value;
    json_array_foreach(json_object_get(golden, "sequences"), q, sequence)
    {
        const json_t *ids = json_object_get(sequence, "ids");
        size_t n = json_array_size(ids);
        gorgon_sequence *s = make_sequence(engine);
        gorgon_row rows[128];
        cr_assert_leq(n, 128);
        for (size_t i = 0; i < n; i++)
            rows[i] = (gorgon_row){s, (gorgon_token)json_integer_value(json_array_get(ids, i)),
                                   (int32_t)i - 1, GORGON_WANT_LOGITS};
        cr_assert_eq(gorgon_engine_pass(engine, rows, n, NULL), GORGON_OK);
        json_array_foreach(json_object_get(sequence, "positions"), k, position)
        {
            size_t p = (size_t)json_integer_value(json_object_get(position, "position"));
            const float *logits = gorgon_engine_logits(engine, p);
            const float *hidden = gorgon_engine_hidden(engine, p);
            double lse = json_number_value(json_object_get(position, "logsumexp"));
            cr_expect_float_eq(gorgon_engine_log_sum_exp(engine, logits), lse, 1e-3);
            cr_expect_eq(gorgon_engine_argmax(engine, logits),
                         json_integer_value(json_object_get(position, "argmax")));
            json_array_foreach(json_object_get(position, "top"), h, value)
            {
                size_t id = (size_t)json_integer_value(json_array_get(value, 0));
                cr_expect_float_eq(logits[id], json_number_value(json_array_get(value, 1)), 1e-3);
            }
            json_array_foreach(json_object_get(position, "hidden"), h, value)
                cr_expect_float_eq(hidden[h], json_number_value(value), 1e-3);
            checked++;
        }
        gorgon_sequence_free(s);
    }
    cr_expect_gt(checked, 20);
    gorgon_engine_free(engine);
    json_decref(golden);
}

Test(forward, logits_asked_for_later_have_the_same_bits)
{
    static const gorgon_activations modes[] = {GORGON_ACTIVATIONS_INT8, GORGON_ACTIVATIONS_F32};
    static const uint32_t first[] = {7, 2, 11}, second[] = {0, 7, 12};
    const gorgon_token tokens[] = {3, 644, 17, 16, 15};
    for (size_t m = 0; m < 2; m++) {
        gorgon_engine *engine = make_engine(3, NULL, modes[m]);
        float *expected = logits_by_chunks(engine, 13, 13);
        gorgon_sequence *s = make_sequence(engine);
        gorgon_row rows[13];
        for (size_t i = 0; i < 13; i++)
            rows[i] = (gorgon_row){s, text[i], (int32_t)i - 1, i == 11 ? GORGON_WANT_LOGITS : 0};
        cr_assert_eq(gorgon_engine_pass(engine, rows, 13, NULL), GORGON_OK);
        float one[5];
        gg_engine_token_logits(engine, 9, tokens, 5, one);
        for (size_t i = 0; i < 5; i++)
            cr_expect_eq(one[i], expected[9 * 645 + (size_t)tokens[i]]);
        cr_expect_null(gorgon_engine_logits(engine, 7));
        cr_assert_eq(gg_engine_add_logits(engine, first, 3, NULL), GORGON_OK);
        cr_assert_eq(gg_engine_add_logits(engine, second, 3, NULL), GORGON_OK);
        for (size_t i = 0; i < 13; i++) {
            const float *got = gorgon_engine_logits(engine, i);
            bool asked = i == 0 || i == 2 || i == 7 || i == 11 || i == 12;
            cr_assert_eq(got != NULL, asked);
            if (got)
                cr_expect_eq(memcmp(got, expected + i * 645, 645 * sizeof *got), 0, "row %zu", i);
        }
        free(expected);
        gorgon_sequence_free(s);
        gorgon_engine_free(engine);
    }
}

Test(forward, chunks_threads_and_levels_do_not_change_a_bit)
{
    gorgon_engine *reference = make_engine(1, "scalar", GORGON_ACTIVATIONS_INT8);
    float *expected = logits_by_chunks(reference, N_TEXT, 1);
    gorgon_engine_free(reference);
    static const size_t chunks[] = {1, 2, 3, 7, 16, 33, 64, 65, N_TEXT};
    for (int level = 0; level < GG_LEVEL_COUNT; level++) {
        const gg_kernels *kernels = gg_kernels_get((gg_level)level);
        for (size_t threads = 1; kernels && threads <= 3; threads++) {
            gorgon_engine *engine = make_engine(threads, kernels->name, GORGON_ACTIVATIONS_INT8);
            for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
                float *got = logits_by_chunks(engine, N_TEXT, chunks[c]);
                cr_expect_eq(memcmp(got, expected, N_TEXT * 645 * sizeof *got), 0,
                             "%s, %zu threads, chunks of %zu", kernels->name, threads, chunks[c]);
                free(got);
            }
            gorgon_engine_free(engine);
        }
    }
    free(expected);
}

Test(forward, the_reference_path_is_row_invariant_too)
{
    gorgon_engine *engine = make_engine(2, NULL, GORGON_ACTIVATIONS_F32);
    float *expected = logits_by_chunks(engine, N_TEXT, 1);
    float *got = logits_by_chunks(engine, N_TEXT, 48);
    cr_expect_eq(memcmp(got, expected, N_TEXT * 645 * sizeof *got), 0);
    free(got);
    free(expected);
    gorgon_engine_free(engine);
}

// Random trees on two sequences in one pass: every row equals the same path decoded alone.
Test(forward, a_row_of_a_tree_equals_its_path_decoded_alone)
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
        rows[i] = (gorgon_row){s[which], (gorgon_token)(gg_random_bits(8, i, 2, 0) % 645), parent,
                               GORGON_WANT_LOGITS};
    }
    cr_assert_eq(gorgon_engine_pass(engine, rows, NODES, NULL), GORGON_OK);
    float *tree = malloc(NODES * 645 * sizeof *tree);
    for (size_t i = 0; i < NODES; i++)
        memcpy(tree + i * 645, gorgon_engine_logits(engine, i), 645 * sizeof *tree);
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
            memcmp(gorgon_engine_logits(engine, n - 1), tree + i * 645, 645 * sizeof *tree), 0,
            "row %zu", i);
    }
    free(tree);
    gorgon_sequence_free(s[0]);
    gorgon_sequence_free(s[1]);
    gorgon_engine_free(engine);
}

static void expect_next_logits(gorgon_engine *engine, gorgon_sequence *s, const float *expected,
                               const char *what)
{
    size_t at = gorgon_sequence_length(s);
    gorgon_row row = {s, text[at], GORGON_ROW_ROOT, GORGON_WANT_LOGITS};
    cr_assert_eq(gorgon_engine_pass(engine, &row, 1, NULL), GORGON_OK);
    cr_expect_eq(
        memcmp(gorgon_engine_logits(engine, 0), expected + at * 645, 645 * sizeof *expected), 0,
        "%s at %zu", what, at);
}

Test(forward, fork_and_truncate_keep_the_past)
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

Test(forward, an_early_exit_and_its_continuation_equal_the_whole)
{
    gorgon_engine *engine = make_engine(2, NULL, GORGON_ACTIVATIONS_INT8);
    gorgon_sequence *s = make_sequence(engine);
    gorgon_row rows[8];
    float whole[645], residual[8 * 128];
    for (size_t i = 0; i < 8; i++)
        rows[i] = (gorgon_row){s, text[i], (int32_t)i - 1, GORGON_WANT_LOGITS};
    cr_assert_eq(gorgon_engine_pass(engine, rows, 8, NULL), GORGON_OK);
    memcpy(whole, gorgon_engine_logits(engine, 7), sizeof whole);
    for (size_t i = 0; i < 8; i++)
        gg_model_embed(model, text[i], residual + i * 128);
    gg_pass from_embedding = {rows, 8, 0, 3, residual};
    cr_assert_eq(gg_engine_pass_range(engine, &from_embedding, NULL), GORGON_OK);
    cr_expect_eq(memcmp(whole, gorgon_engine_logits(engine, 7), sizeof whole), 0);
    gg_pass early = {rows, 8, 0, 2, NULL};
    cr_assert_eq(gg_engine_pass_range(engine, &early, NULL), GORGON_OK);
    cr_expect_neq(memcmp(whole, gorgon_engine_logits(engine, 7), sizeof whole), 0);
    gorgon_sequence_free(s);
    gorgon_engine_free(engine);
}

static void count_tap(void *context, size_t layer, const char *tensor, const float *data,
                      size_t rows, size_t width, size_t ld)
{
    (void)layer;
    cr_expect_eq(rows, 3);
    cr_expect(ld >= width && data != NULL && tensor != NULL);
    ++*(size_t *)context;
}

Test(forward, a_tap_sees_every_tensor_and_changes_nothing)
{
    gorgon_engine *engine = make_engine(2, NULL, GORGON_ACTIVATIONS_INT8);
    gorgon_sequence *s = make_sequence(engine);
    gorgon_row rows[3];
    float without[645];
    size_t seen = 0;
    for (size_t i = 0; i < 3; i++)
        rows[i] = (gorgon_row){s, text[i], (int32_t)i - 1, GORGON_WANT_LOGITS};
    cr_assert_eq(gorgon_engine_pass(engine, rows, 3, NULL), GORGON_OK);
    memcpy(without, gorgon_engine_logits(engine, 2), sizeof without);
    gorgon_engine_set_tap(engine, count_tap, &seen);
    cr_assert_eq(gorgon_engine_pass(engine, rows, 3, NULL), GORGON_OK);
    cr_expect_eq(memcmp(without, gorgon_engine_logits(engine, 2), sizeof without), 0);
    cr_expect_eq(seen, 2 + 3 * 9, "%zu tensors", seen);
    gorgon_sequence_free(s);
    gorgon_engine_free(engine);
}

Test(forward, bad_rows_are_refused_with_the_reason)
{
    gorgon_engine *engine = make_engine(1, NULL, GORGON_ACTIVATIONS_INT8);
    gorgon_sequence *s = make_sequence(engine), *t = make_sequence(engine);
    const struct {
        gorgon_row rows[2];
        const char *words;
    } cases[] = {
        {{{s, 645, -1, 0}, {s, 1, 0, 0}}, "token id 645, expected 0 to 644"},
        {{{s, -1, -1, 0}, {s, 1, 0, 0}}, "token id -1"},
        {{{s, 1, 0, 0}, {s, 1, 0, 0}}, "row 0: parent 0"},
        {{{s, 1, -1, 0}, {t, 1, 0, 0}}, "row 1: parent 0 is not an earlier row of its sequence"},
        {{{s, 1, -1, 0}, {s, 1, -2, 0}}, "row 1: parent -2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gorgon_error err = {0};
        cr_expect_eq(gorgon_engine_pass(engine, cases[i].rows, 2, &err), GORGON_ERROR_ARGUMENT);
        cr_expect_not_null(strstr(err.message, cases[i].words), "'%s'", err.message);
    }
    gorgon_error err = {0};
    gorgon_row ok = {s, 1, GORGON_ROW_ROOT, 0};
    cr_expect_eq(gorgon_engine_pass(engine, &ok, 0, &err), GORGON_ERROR_ARGUMENT);
    cr_expect_eq(gorgon_engine_pass(engine, &ok, 1, NULL), GORGON_OK);
    uint32_t path[2] = {0, 1};
    cr_expect_eq(gorgon_engine_commit(engine, s, path, 2, NULL), GORGON_ERROR_ARGUMENT);
    cr_expect_eq(gorgon_engine_commit(engine, t, path, 1, NULL), GORGON_ERROR_ARGUMENT);
    cr_expect_eq(gorgon_engine_commit(engine, s, path, 1, NULL), GORGON_OK);
    cr_expect_eq(gorgon_engine_commit(engine, s, path, 1, NULL), GORGON_ERROR_ARGUMENT);
    gorgon_sequence_free(s);
    gorgon_sequence_free(t);
    gorgon_engine_free(engine);
}

Test(forward, a_full_context_is_an_error_and_keeps_what_is_there)
{
    gorgon_engine *engine = make_engine(1, NULL, GORGON_ACTIVATIONS_INT8);
    gorgon_sequence *s = make_sequence(engine);
    gorgon_error err = {0};
    size_t last;
    gorgon_token many[257] = {0};
    cr_expect_eq(gorgon_engine_prefill(engine, s, many, 257, &last, &err), GORGON_ERROR_LIMIT);
    cr_expect_not_null(strstr(err.message, "context of 256"), "'%s'", err.message);
    cr_expect_eq(gorgon_sequence_length(s), 256);
    gorgon_sequence_free(s);
    gorgon_engine_free(engine);
}

Test(forward, a_pass_allocates_nothing)
{
    gorgon_engine *engine = make_engine(1, NULL, GORGON_ACTIVATIONS_INT8);
    gorgon_sequence *s = make_sequence(engine);
    size_t last;
    gg_alloc_fail_at(0);
    cr_assert_eq(gorgon_engine_prefill(engine, s, text, N_TEXT, &last, NULL), GORGON_OK);
    cr_expect_eq(gg_alloc_fail_at(0), 0);
    gorgon_sequence_free(s);
    gorgon_engine_free(engine);
}

Test(forward, every_failing_allocation_of_an_engine_is_survived)
{
    gorgon_engine_options options;
    gorgon_engine_options_init(&options);
    options.threads = 1;
    options.context = 64;
    for (size_t n = 1;; n++) {
        gorgon_engine *engine = NULL;
        gg_alloc_fail_at(n);
        gorgon_status status = gorgon_engine_create(model, &options, &engine, NULL);
        gg_alloc_fail_at(0);
        gorgon_engine_free(engine);
        if (status == GORGON_OK)
            break;
        cr_assert_eq(status, GORGON_ERROR_MEMORY);
        cr_assert(n < 200);
    }
}
