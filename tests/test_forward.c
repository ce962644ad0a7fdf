// Passes over the embedded model: equal to independent software within float error, and equal to
// themselves bit for bit however rows are grouped, split, ordered, or which level computes them.
#include "forward_fixture.h"

#include <jansson.h>
#include <math.h>

#include "core/alloc.h"

#define TINY_MODEL GG_SOURCE_DIR "/models/tiny/tiny.gguf"

static void open_model(void)
{
    open_model_at(TINY_MODEL);
}

TestSuite(forward, .init = open_model, .fini = close_model);

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
    static const size_t chunks[] = {1, 2, 3, 7, 16, 33, 64, 65, N_TEXT};
    check_threads_and_levels(chunks, sizeof chunks / sizeof chunks[0]);
}

Test(forward, the_reference_path_is_row_invariant_too)
{
    check_reference_path();
}

Test(forward, a_row_of_a_tree_equals_its_path_decoded_alone)
{
    check_rows_of_trees();
}

Test(forward, fork_and_truncate_keep_the_past)
{
    check_fork_and_truncate();
}

Test(forward, an_early_exit_and_its_continuation_equal_the_whole)
{
    check_ranges();
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
