// gorgon_train on a small cache with a rule to learn: accuracy, resume bit for bit, recomputed
// hidden states, the order of the data, refusals.
#define _XOPEN_SOURCE 700 // mkdtemp
#include <math.h>

#include "heads/head_set.h"
#include "train_fixture.h"
#include "trainers/train_data.h"

TestSuite(train, .init = set_up, .fini = tear_down);

// Number after the n-th `"top":[` of an accuracy table: that head's top-1 share.
static double top_1(const char *json, size_t head)
{
    const char *at = json;
    for (size_t i = 0; i <= head; i++) {
        at = strstr(at, "\"top\":[");
        cr_assert(at, "%s", json);
        at += 7;
    }
    return strtod(at, NULL);
}

// Every token alone and every pair of the walk, with what the rule says comes next.
static void check_successors(const gg_successors *s)
{
    size_t singles = 0;
    for (size_t i = 0; i < s->n; i++) {
        const int32_t before = s->contexts[2 * i], token = s->contexts[2 * i + 1];
        const int32_t *next = s->next + i * GG_SUCCESSORS;
        singles += before < 0;
        cr_assert_eq(next[0], (3 * (token - 50) + 1) % IDS + 50);
        cr_assert(before < 0 || (3 * (before - 50) + 1) % IDS + 50 == token);
        cr_assert(i == 0 || before > s->contexts[2 * i - 2] ||
                  (before == s->contexts[2 * i - 2] && token > s->contexts[2 * i - 1]));
        for (size_t k = 0; k < GG_SUCCESSORS; k++)
            cr_assert_geq(next[k], 0);
    }
    cr_assert_eq(singles, IDS);
    cr_assert_geq(s->n, 2 * IDS);
}

Test(train, learns_the_rule)
{
    char out[128];
    make_cache(true, true);
    gorgon_train_options options = options_for("a.gguf", out);
    watch seen = {0};
    options.epochs = 20.0;
    options.progress = on_progress;
    options.context = &seen;
    train(engine, &options);
    cr_assert_eq(seen.calls, seen.total + 1);
    cr_assert(strstr(seen.line, "held-out"), "%s", seen.line);
    gorgon_heads *heads;
    gorgon_head_set_info info;
    gorgon_error err = {0};
    cr_assert_eq(gorgon_heads_open(out, &heads, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(gorgon_heads_check(heads, model, NULL, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(gorgon_heads_describe(heads, 0, &info, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(info.n_heads, 3);
    cr_assert_eq(info.n_draft, 48);
    cr_assert(info.root_embedding);
    for (size_t k = 0; k < 3; k++)
        cr_assert(top_1(info.accuracy_json, k) > 0.9, "%s", info.accuracy_json);
    cr_assert(strstr(info.training_json, "\"draft_vocab_coverage\":1.0"), "%s", info.training_json);
    cr_assert(strstr(info.training_json, "\"loss_curve\":[{\"step\":"), "%s", info.training_json);
    cr_assert_null(strstr(info.training_json, directory));
    const gg_head_set *set = gg_heads_set(heads, 0);
    for (uint32_t i = 0; i < IDS; i++) // all generated ids are in, ties filled with the lowest
        cr_assert_eq(set->draft_ids[8 + i], 50 + i);
    cr_assert_eq(set->draft_ids[7], 7);
    check_successors(&set->successors);
    gorgon_heads_free(heads);
}

// Stopped twice, once between checkpoints, then finished with other threads: the same file.
Test(train, resume_is_bit_equal)
{
    char a[128], b[128];
    make_cache(true, true);
    gorgon_train_options options = options_for("a.gguf", a);
    train(engine, &options);
    cr_assert_eq(gg_cache_remove(cache_path, NULL), GORGON_OK);
    make_cache(true, true);
    options = options_for("b.gguf", b);
    gorgon_engine *two = make_engine(2);
    watch seen = {.stop_at = 10};
    options.progress = on_progress;
    options.context = &seen;
    gorgon_error err = {0};
    cr_assert_eq(gorgon_train(engine, &options, &err), GORGON_ERROR_CANCELLED);
    cr_assert(strstr(err.message, "after step 10 of"), "%s", err.message);
    cr_assert_neq(access(b, F_OK), 0);
    seen.stop_at = 31;
    cr_assert_eq(gorgon_train(two, &options, NULL), GORGON_ERROR_CANCELLED);
    seen.stop_at = 0;
    train(two, &options);
    check_same_files(a, b);
    unlink(b); // everything is done: only the file is written again
    seen.calls = 0;
    train(engine, &options);
    cr_assert_eq(seen.calls, 1);
    check_same_files(a, b);
    gorgon_engine_free(two);
}

Test(train, other_options_start_over)
{
    char a[128], b[128];
    make_cache(true, true);
    gorgon_train_options options = options_for("a.gguf", a);
    watch seen = {.stop_at = 5};
    options.progress = on_progress;
    options.context = &seen;
    options.learning_rate = 1e-3;
    cr_assert_eq(gorgon_train(engine, &options, NULL), GORGON_ERROR_CANCELLED);
    options.learning_rate = 3e-3;
    seen = (watch){0};
    train(engine, &options);
    cr_assert_eq(seen.calls, seen.total + 1, "the other run's state was used");
    char state[128];
    options = options_for("b.gguf", b);
    snprintf(state, sizeof state, "%s/state", directory);
    options.state = state;
    train(engine, &options);
    check_same_files(a, b);
    size_t size;
    uint8_t *data = read_out(state, &size);
    data[size / 2] ^= 4;
    FILE *f = fopen(state, "wb");
    cr_assert(f && fwrite(data, 1, size, f) == size);
    fclose(f);
    gg_free(data);
    gorgon_error err = {0};
    cr_assert_eq(gorgon_train(engine, &options, &err), GORGON_ERROR_FORMAT);
    cr_assert(strstr(err.message, "damaged"), "%s", err.message);
}

static uint16_t *take_all(gg_train_data *data, uint64_t epoch, uint64_t *n)
{
    *n = gg_train_data_positions(data);
    uint16_t *first = gg_alloc(*n, sizeof *first * 2);
    for (uint64_t at = 0; at < *n;) {
        const gg_feature_store *store;
        const uint32_t *records;
        size_t got;
        cr_assert_eq(gg_train_data_take(data, epoch * *n + at, 50, &store, &records, &got, NULL),
                     GORGON_OK);
        cr_assert(got >= 1 && got <= 50);
        for (size_t i = 0; i < got; i++, at++) {
            first[2 * at] = store->hidden[records[i] * store->d];
            first[2 * at + 1] = store->hidden[records[i] * store->d + 1];
        }
    }
    return first;
}

static int by_value(const void *a, const void *b)
{
    return memcmp(a, b, 2 * sizeof(uint16_t));
}

static gg_train_data *open_data(const gg_cache *cache, uint64_t budget, size_t piece)
{
    gg_train_data *data;
    gg_train_source source = {.engine = engine,
                              .cache = cache,
                              .n_heads = 3,
                              .held_out = 0.15,
                              .seed = 9,
                              .budget_bytes = budget,
                              .piece = piece};
    gorgon_error err = {0};
    cr_assert_eq(gg_train_data_open(&source, &data, &err), GORGON_OK, "%s", err.message);
    return data;
}

// A group is pieces of neighbours in any order: each begins at a multiple of the piece's length,
// counted in usable records, and goes on for that length, the last one to the end.
static void check_pieces(const gg_feature_store *store, const uint32_t *records, size_t n,
                         size_t piece)
{
    uint32_t *number = gg_alloc(store->n, sizeof *number);
    size_t usable = 0;
    for (size_t i = 0; i < store->n; i++) {
        number[i] = (uint32_t)usable;
        usable += store->run[i] > 0;
    }
    cr_assert_eq(usable, n);
    for (size_t at = 0, length; at < n; at += length) {
        const size_t first = number[records[at]];
        cr_assert_eq(first % piece, 0);
        length = n - first < piece ? n - first : piece;
        for (size_t i = 0; i < length; i++)
            cr_assert(store->run[records[at + i]] > 0 && number[records[at + i]] == first + i);
    }
    gg_free(number);
}

Test(train, pieces_stay_together)
{
    gg_cache *cache;
    static const uint64_t budgets[] = {UINT64_C(1) << 30, 200000, 1};
    make_cache(true, true);
    cr_assert_eq(gg_cache_open_existing(cache_path, gorgon_model_fingerprint(model), &cache, NULL),
                 GORGON_OK);
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        gg_train_data *data = open_data(cache, budgets[i], 16);
        const uint64_t n = gg_train_data_positions(data);
        size_t groups = 0, got;
        for (uint64_t at = 0; at < 2 * n; at += got, groups++) {
            const gg_feature_store *store;
            const uint32_t *records;
            cr_assert_eq(gg_train_data_take(data, at, (size_t)n, &store, &records, &got, NULL),
                         GORGON_OK);
            check_pieces(store, records, got, 16);
        }
        cr_assert(i == 0 ? groups == 2 : groups > 4);
        gg_train_data_free(data);
    }
    gg_cache_free(cache);
}

// Whether all records fit or chunks take turns, singly or in pieces: an epoch holds every position
// once, epochs differ in order, and the order does not depend on where reading began.
Test(train, every_epoch_holds_every_position_once)
{
    gg_cache *cache;
    make_cache(true, true);
    cr_assert_eq(gg_cache_open_existing(cache_path, gorgon_model_fingerprint(model), &cache, NULL),
                 GORGON_OK);
    uint64_t n, m;
    gg_train_data *all = open_data(cache, UINT64_C(1) << 30, 1);
    uint16_t *expected = take_all(all, 0, &n);
    cr_assert(n > 0 && n < gg_train_data_records(all));
    qsort(expected, n, 4, by_value);
    static const uint64_t budgets[] = {UINT64_C(1) << 30, 200000, 1};
    for (size_t i = 0; i < 2 * sizeof budgets / sizeof *budgets; i++) {
        const size_t piece = i % 2 == 0 ? 1 : 7;
        gg_train_data *data = open_data(cache, budgets[i / 2], piece);
        gg_train_data *again = open_data(cache, budgets[i / 2], piece);
        uint16_t *zero = take_all(data, 0, &m), *one = take_all(data, 1, &m);
        uint16_t *fresh = take_all(again, 1, &m);
        cr_assert_eq(n, m);
        cr_assert_eq(memcmp(one, fresh, n * 4), 0);
        cr_assert_neq(memcmp(zero, one, n * 4), 0);
        qsort(zero, n, 4, by_value);
        qsort(one, n, 4, by_value);
        cr_assert_eq(memcmp(zero, expected, n * 4), 0);
        cr_assert_eq(memcmp(one, expected, n * 4), 0);
        gg_train_data_free(data);
        gg_train_data_free(again);
        gg_free(zero);
        gg_free(one);
        gg_free(fresh);
    }
    gg_free(expected);
    gg_train_data_free(all);
    gg_cache_free(cache);
}

// Runs, labels and the held-out split against the definition.
Test(train, records_and_runs)
{
    gg_cache *cache;
    make_cache(true, true);
    cr_assert_eq(gg_cache_open_existing(cache_path, gorgon_model_fingerprint(model), &cache, NULL),
                 GORGON_OK);
    gg_train_data *data = open_data(cache, 1, 1);
    const uint32_t *records;
    size_t n, expected = 0;
    const gg_feature_store *store = gg_train_data_held_out(data, &records, &n);
    for (uint64_t i = 0; i < SEQUENCES; i++)
        expected += gg_cache_held_out(i, 0.15);
    // Positions 5..20 and 22..38: 16 and 17 records, the last of each run has no target.
    cr_assert(expected > 0 && expected < SEQUENCES);
    cr_assert_eq(store->n, 33 * expected);
    cr_assert_eq(n, 31 * expected);
    cr_assert_eq(gg_train_data_positions(data), 31 * (SEQUENCES - expected));
    static const uint8_t ends[] = {3, 2, 1, 0};
    cr_assert_arr_eq(store->run + 12, ends, 4);
    cr_assert_arr_eq(store->run + 29, ends, 4);
    for (size_t i = 0; i + 1 < 16; i++)
        cr_assert_eq(store->next[i + 1], (3 * (store->next[i] - 50) + 1) % IDS + 50);
    uint64_t sum = 0;
    for (size_t i = 0; i < gg_model_geometry(model)->n_vocab; i++)
        sum += gg_train_data_counts(data)[i];
    cr_assert_eq(sum, gg_train_data_records(data));
    gg_train_data_free(data);
    gg_cache_free(cache);
}

// Hidden states left out of the cache come out of the engine, the same bits as a pass over single
// rows gives.
Test(train, left_out_states_are_recomputed)
{
    gg_cache *cache;
    make_cache(false, true);
    cr_assert_eq(gg_cache_open_existing(cache_path, gorgon_model_fingerprint(model), &cache, NULL),
                 GORGON_OK);
    gg_train_data *data = open_data(cache, 1, 1);
    const uint32_t *records;
    size_t n, d = width();
    const gg_feature_store *store = gg_train_data_held_out(data, &records, &n);
    uint64_t index = 0;
    while (!gg_cache_held_out(index, 0.15))
        index++;
    gg_cache_sequence s = make_sequence(index, false);
    gorgon_sequence *sequence;
    uint16_t *expected = gg_alloc(d, sizeof *expected);
    cr_assert_eq(gorgon_sequence_create(engine, &sequence, NULL), GORGON_OK);
    for (uint32_t i = 0, record = 0; i < TOKENS && record < s.n_records; i++) {
        gorgon_row row = {sequence, s.tokens[i], GORGON_ROW_ROOT, 0};
        uint32_t zero = 0;
        cr_assert_eq(gorgon_engine_pass(engine, &row, 1, NULL), GORGON_OK);
        if (s.positions[record] == i) {
            gg_engine_kernels(engine)->to_f16(gorgon_engine_hidden(engine, 0), d, expected);
            cr_assert_eq(memcmp(expected, store->hidden + record * d, 2 * d), 0, "position %u", i);
            record++;
        }
        cr_assert_eq(gorgon_engine_commit(engine, sequence, &zero, 1, NULL), GORGON_OK);
    }
    gorgon_sequence_free(sequence);
    gg_free(expected);
    free_sequence(&s);
    gg_train_data_free(data);
    gg_cache_free(cache);
}

static void check_refused(const gorgon_train_options *options, gorgon_status status,
                          const char *text)
{
    gorgon_error err = {0};
    cr_assert_eq(gorgon_train(engine, options, &err), status, "%s", err.message);
    cr_assert(strstr(err.message, text), "%s", err.message);
}

Test(train, refusals)
{
    char out[128];
    gorgon_train_options options = options_for("a.gguf", out);
    check_refused(&options, GORGON_ERROR_IO, "gorgon synth");
    make_cache(true, false);
    check_refused(&options, GORGON_ERROR_MISMATCH, "incomplete: run `gorgon synth`");
    options.batch = 0;
    check_refused(&options, GORGON_ERROR_ARGUMENT, "batch is 0");
    options = options_for("a.gguf", out);
    options.learning_rate = -1.0;
    check_refused(&options, GORGON_ERROR_ARGUMENT, "learning_rate is -1");
    options = options_for("a.gguf", out);
    options.own_output = true;
    options.draft_vocab = 0;
    check_refused(&options, GORGON_ERROR_ARGUMENT, "own_output needs a draft_vocab");
    options.draft_vocab = 16;
    options.architecture = "hydra";
    check_refused(&options, GORGON_ERROR_ARGUMENT, "no own_output");
    options = options_for("a.gguf", out);
    options.weight_type = "Q4_0";
    check_refused(&options, GORGON_ERROR_ARGUMENT, "weight_type is 'Q4_0'");
    options = options_for("missing/a.gguf", out);
    check_refused(&options, GORGON_ERROR_IO, "missing/a.gguf");
    options = options_for("a.gguf", out);
    options.architecture = "oracle";
    check_refused(&options, GORGON_ERROR_ARGUMENT,
                  "architecture is 'oracle', expected one of medusa, linear, markov, hydra, "
                  "hydra++, recurrent, eagle");
    options.architecture = "hydra";
    options.root_embedding = false;
    check_refused(&options, GORGON_ERROR_ARGUMENT, "need root_embedding");
    options = options_for("a.gguf", out);
    options.architecture = "linear";
    options.n_blocks = 2;
    check_refused(&options, GORGON_ERROR_ARGUMENT, "one block");
    options = options_for("a.gguf", out);
    options.rank = 8;
    check_refused(&options, GORGON_ERROR_ARGUMENT, "only markov heads have a rank");
    options.architecture = "markov";
    options.rank = width() + 1;
    check_refused(&options, GORGON_ERROR_ARGUMENT, "rank is 129, expected 0 to 128");
    options.rank = 24;
    options.weight_type = "Q8_0";
    check_refused(&options, GORGON_ERROR_ARGUMENT, "multiples of 32 values");
    options = options_for("a.gguf", out);
    options.cache = NULL;
    check_refused(&options, GORGON_ERROR_ARGUMENT, "no feature cache given");
    cr_assert_neq(access(out, F_OK), 0);
}

// Two blocks, hard targets, no root embedding, whole vocabulary, F32: the other branches.
Test(train, other_shapes)
{
    char out[128];
    make_cache(true, true);
    gorgon_train_options options = options_for("a.gguf", out);
    options.n_blocks = 2;
    options.hard_targets = true;
    options.root_embedding = false;
    options.draft_vocab = 0;
    options.weight_type = "F32";
    options.epochs = 20.0;
    train(engine, &options);
    gorgon_heads *heads;
    gorgon_head_set_info info;
    cr_assert_eq(gorgon_heads_open(out, &heads, NULL), GORGON_OK);
    cr_assert_eq(gorgon_heads_describe(heads, 0, &info, NULL), GORGON_OK);
    cr_assert_eq(info.n_draft, 0);
    cr_assert_eq(info.n_blocks, 2);
    cr_assert_not(info.root_embedding);
    for (size_t k = 0; k < 3; k++)
        cr_assert(top_1(info.accuracy_json, k) > 0.9, "%s", info.accuracy_json);
    gorgon_heads_free(heads);
}

Test(train, own_outputs_leave_the_bases_rows)
{
    char out[128];
    make_cache(true, true);
    gorgon_train_options options = options_for("a.gguf", out);
    options.own_output = true;
    options.draft_vocab = 1 << 20;
    check_refused(&options, GORGON_ERROR_ARGUMENT, "own_output needs a draft_vocab below");
    options.draft_vocab = 48;
    options.weight_type = "F32";
    options.epochs = 10.0;
    train(engine, &options);
    gorgon_heads *heads;
    gorgon_head_set_info info;
    cr_assert_eq(gorgon_heads_open(out, &heads, NULL), GORGON_OK);
    cr_assert_eq(gorgon_heads_describe(heads, 0, &info, NULL), GORGON_OK);
    cr_assert(info.own_output);
    const gg_head_set *set = gg_heads_set(heads, 0);
    const size_t d = width(), row = 20;
    float *base = gg_alloc(d, sizeof *base), *own = gg_alloc(d, sizeof *own);
    gg_matrix_row(gg_model_output(model), set->draft_ids[row], base);
    for (size_t k = 0; k < 3; k++) {
        double apart = 0.0, size = 0.0;
        cr_assert(top_1(info.accuracy_json, k) > 0.9, "%s", info.accuracy_json);
        memcpy(own, (const float *)gg_head_data(set, GG_PART_OUTPUT, k, 0) + row * d,
               d * sizeof *own);
        for (size_t i = 0; i < d; i++) {
            apart += fabs((double)own[i] - (double)base[i]);
            size += fabs((double)base[i]);
        }
        cr_assert(apart > 0.0 && apart < 0.9 * size, "head %zu: %g of %g", k, apart, size);
    }
    gg_free(base);
    gg_free(own);
    gorgon_heads_free(heads);
}

// What is said beforehand is what the heads file then holds.
Test(train, parameters_of_every_architecture)
{
    char out[128];
    make_cache(true, true);
    for (const char *const *name = gorgon_train_architectures(); *name; name++) {
        gorgon_train_options options = options_for("a.gguf", out);
        options.architecture = *name;
        options.n_heads = options.n_blocks = 0; // the architecture's own
        options.epochs = 0.1;
        train(engine, &options);
        gorgon_heads *heads;
        gorgon_head_set_info info;
        cr_assert_eq(gorgon_heads_open(out, &heads, NULL), GORGON_OK);
        cr_assert_eq(gorgon_heads_describe(heads, 0, &info, NULL), GORGON_OK);
        uint64_t count;
        gorgon_error err = {0};
        cr_assert_eq(gorgon_train_parameters(model, &options, &count, &err), GORGON_OK);
        cr_assert_eq(info.n_parameters, count, "%s", *name);
        gorgon_heads_free(heads);
        options.n_blocks = 99;
        cr_assert_eq(gorgon_train_parameters(model, &options, &count, &err), GORGON_ERROR_ARGUMENT);
        cr_assert(strstr(err.message, "99"), "%s", err.message);
        options.architecture = "oracle";
        cr_assert_eq(gorgon_train_parameters(model, &options, &count, &err), GORGON_ERROR_ARGUMENT);
    }
}

Test(train, a_cache_is_described)
{
    gorgon_cache_info info;
    cr_assert_eq(gorgon_cache_describe(model, cache_path, &info, NULL), GORGON_OK);
    cr_assert(info.tokens == 0 && !info.complete);
    make_cache(true, false);
    cr_assert_eq(gorgon_cache_describe(model, cache_path, &info, NULL), GORGON_OK);
    cr_assert(info.tokens > 0 && !info.complete);
    cr_assert_eq(gg_cache_remove(cache_path, NULL), GORGON_OK);
    make_cache(true, true);
    cr_assert_eq(gorgon_cache_describe(model, cache_path, &info, NULL), GORGON_OK);
    cr_assert(info.complete && info.sequences == SEQUENCES && info.bytes > info.tokens);
}
