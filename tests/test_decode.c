// Decoding on the embedded model: speculative runs against plain ones, bit for bit, and everything
// that ends or disturbs a stream. Set-up, errors and single steps are in test_decoder.c.
#include "decode_fixture.h"

#include "core/kernels.h"

static void run_prompt(const gorgon_model *model, const setup *s, const char *prompt, size_t tokens,
                       float t, outcome *o)
{
    rig r = rig_create(model, s);
    size_t n = 0;
    gorgon_token *ids = encode(model, prompt, &n);
    gorgon_request q = request_of(ids, n, tokens, t);
    run_one(&r, &q, o);
    gorgon_free(ids);
    rig_free(&r);
}

static outcome plain, other; // large

Test(same_bytes, trees_proposers_threads_levels_temperatures)
{
    const char *const trees[] = {"1", "4", "16", "64", "auto"};
    const char *const proposers[] = {"lookup,recycling", "heads", "heads,lookup,recycling"};
    gorgon_model *model = open_tiny();
    scratch files = scratch_create();
    gorgon_heads *heads[] = {random_heads(model, &files),
                             random_followers(model, &files, GG_HEADS_RECURRENT),
                             random_followers(model, &files, GG_HEADS_HYDRA_PREFIX),
                             random_followers(model, &files, GG_HEADS_EAGLE)};
    size_t levels = 0;
    for (gg_level level = GG_LEVEL_SCALAR; level < GG_LEVEL_COUNT; level++) {
        if (!gg_kernels_get(level))
            continue;
        levels++;
        for (size_t i = 0; i < 60; i++) {
            size_t p = i % 3, t = i / 3 % 5, threads = i / 15 % 2 + 1;
            float temperature = i / 30 ? 0.8f : 0.0f;
            if (level == GG_LEVEL_SCALAR && i % 7 != 0 && i % 30 != 0)
                continue; // slow
            if (i % 30 == 0) {
                const setup reference = {.threads = 1, .level = "scalar"};
                run_prompt(model, &reference, prompts[1 - i / 30], 48, temperature, &plain);
            }
            const setup s = {.propose = proposers[p],
                             .tree = trees[t],
                             .level = gg_kernels_get(level)->name,
                             .threads = threads,
                             .heads = heads[i / 3 % 4]};
            char what[128];
            snprintf(what, sizeof what, "%s, tree %s, %s, %zu threads, temperature %g", s.propose,
                     s.tree, s.level, threads, (double)temperature);
            run_prompt(model, &s, prompts[1 - i / 30], 48, temperature, &other);
            assert_same(&plain, &other, what);
        }
    }
    cr_assert_geq(levels, 1);
    for (size_t i = 0; i < 4; i++)
        gorgon_heads_free(heads[i]);
    scratch_remove(&files);
    gorgon_model_free(model);
}

Test(same_bytes, speculation_really_happens)
{
    gorgon_model *model = open_tiny();
    const setup off = {0}, tree = {.propose = "lookup", .tree = "16"};
    run_prompt(model, &off, prompts[0], 100, 0.0f, &plain);
    run_prompt(model, &tree, prompts[0], 100, 0.0f, &other);
    assert_same(&plain, &other, "lookup");
    cr_assert_eq(plain.passes, plain.n_ids - 1);
    cr_assert_lt(other.passes, plain.passes);
    gorgon_model_free(model);
}

Test(same_bytes, static_tree_file)
{
    gorgon_model *model = open_tiny();
    scratch files = scratch_create();
    FILE *f = fopen(files.path, "w");
    fputs("[[0], [1], [0, 0], [0, 1], [0, 0, 0], [1, 0]]", f);
    fclose(f);
    const setup off = {0}, tree = {.propose = "lookup", .tree = files.path};
    for (int k = 0; k < 2; k++) {
        run_prompt(model, &off, prompts[k], 60, k ? 0.8f : 0.0f, &plain);
        run_prompt(model, &tree, prompts[k], 60, k ? 0.8f : 0.0f, &other);
        assert_same(&plain, &other, "static tree");
    }
    scratch_remove(&files);
    gorgon_model_free(model);
}

Test(same_bytes, truncated_sampling)
{
    gorgon_model *model = open_tiny();
    scratch files = scratch_create();
    gorgon_heads *heads = random_heads(model, &files);
    size_t n;
    gorgon_token *ids = encode(model, prompts[0], &n);
    for (int k = 0; k < 6; k++) {
        gorgon_request q = request_of(ids, n, 48, 1.1f);
        q.sampling.top_k = k % 3 == 0 ? 2 : 0;
        q.sampling.top_p = k % 3 == 1 ? 0.8f : 1.0f;
        q.sampling.min_p = k % 3 == 2 ? 0.1f : 0.0f;
        // Bushy trees: the child that wins with its noise may be one that truncation forbids, and
        // the walk then leaves the rows that got their logits first.
        const setup off = {0}, tree = {.propose = k < 3 ? "lookup" : "heads,lookup",
                                       .tree = k < 3 ? "16" : "64",
                                       .threads = 2,
                                       .heads = heads};
        rig a = rig_create(model, &off), b = rig_create(model, &tree);
        run_one(&a, &q, &plain);
        run_one(&b, &q, &other);
        assert_same(&plain, &other, "truncated sampling");
        rig_free(&a);
        rig_free(&b);
    }
    gorgon_free(ids);
    gorgon_heads_free(heads);
    scratch_remove(&files);
    gorgon_model_free(model);
}

// Streams of one decoder, the k-th submitted after `delay * k` steps, against each one alone.
static void batch_against_single(const gorgon_model *model, const setup *batch, size_t delay)
{
    static outcome out[N_PROMPTS];
    gorgon_request q[N_PROMPTS];
    gorgon_token *ids[N_PROMPTS];
    gorgon_stream *stream[N_PROMPTS];
    rig r = rig_create(model, batch);
    gorgon_error err = {0};
    size_t submitted = 0, active = 1;
    for (size_t step = 0; active || submitted < N_PROMPTS; step++) {
        while (submitted < N_PROMPTS && step >= delay * submitted) {
            size_t k = submitted++, n;
            ids[k] = encode(model, prompts[k], &n);
            q[k] = request_of(ids[k], n, 40 + 5 * k, k % 2 ? 0.8f : 0.0f);
            q[k].sampling.completion = k;
            stream[k] = submit(&r, &q[k], &out[k]);
        }
        cr_assert_eq(gorgon_decoder_step(r.decoder, &active, &err), GORGON_OK, "%s", err.message);
    }
    for (size_t k = 0; k < N_PROMPTS; k++) {
        const setup off = {0};
        rig alone = rig_create(model, &off);
        finish(stream[k], &out[k]);
        run_one(&alone, &q[k], &plain);
        assert_same(&plain, &out[k], prompts[k]);
        rig_free(&alone);
        gorgon_free(ids[k]);
    }
    rig_free(&r);
}

Test(batch, streams_do_not_disturb_each_other)
{
    gorgon_model *model = open_tiny();
    const char *const trees[] = {"off", "4", "64", "auto"};
    for (size_t t = 0; t < 4; t++) {
        for (size_t delay = 0; delay < 12; delay += 5) {
            const setup s = {
                .propose = "lookup", .tree = trees[t], .max_streams = 4, .threads = 1 + t % 2};
            batch_against_single(model, &s, delay);
        }
    }
    scratch files = scratch_create();
    gorgon_heads *heads = random_heads(model, &files);
    for (size_t k = 0; k < 2; k++) { // bushy: logits along the likely walks of all streams
        const setup s = {.propose = "heads,lookup",
                         .tree = k ? "64" : "16",
                         .max_streams = 4,
                         .threads = 2,
                         .heads = heads};
        batch_against_single(model, &s, k);
    }
    gorgon_heads_free(heads);
    scratch_remove(&files);
    gorgon_model_free(model);
}

Test(batch, few_rows_a_pass)
{
    gorgon_model *model = open_tiny();
    const char *const trees[] = {"off", "16", "auto"};
    for (size_t rows = 4; rows <= 9; rows++) {
        const setup s = {
            .propose = "lookup", .tree = trees[rows % 3], .max_streams = 4, .max_rows = rows};
        batch_against_single(model, &s, 2);
    }
    gorgon_model_free(model);
}

Test(batch, slots_are_reused_and_cancelled_streams_leave)
{
    gorgon_model *model = open_tiny();
    size_t n, active;
    gorgon_token *ids = encode(model, prompts[1], &n);
    const setup off = {0}, s = {.propose = "lookup", .tree = "16", .max_streams = 2};
    gorgon_request q = request_of(ids, n, 30, 0.0f);
    rig alone = rig_create(model, &off), r = rig_create(model, &s);
    run_one(&alone, &q, &plain);
    static outcome cancelled;
    for (size_t round = 0; round < 5; round++) {
        gorgon_error err = {0};
        gorgon_stream *leaving = submit(&r, &q, &cancelled);
        gorgon_stream *staying = submit(&r, &q, &other);
        gorgon_stream *refused = NULL;
        cr_assert_eq(gorgon_decoder_submit(r.decoder, &q, &refused, &err), GORGON_ERROR_LIMIT);
        cr_assert_null(refused);
        cr_assert(strstr(err.message, "all 2 streams"));
        err = (gorgon_error){0};
        for (size_t i = 0; i < round; i++)
            gorgon_decoder_step(r.decoder, &active, &err);
        gorgon_stream_free(leaving);
        run_all(&r);
        finish(staying, &other);
        assert_same(&plain, &other, "after a cancelled neighbour");
    }
    gorgon_free(ids);
    rig_free(&r);
    rig_free(&alone);
    gorgon_model_free(model);
}

// ---- what ends a stream

Test(stop, max_tokens_is_met_exactly)
{
    gorgon_model *model = open_tiny();
    const setup off = {0}, tree = {.propose = "lookup", .tree = "16"};
    size_t n;
    gorgon_token *ids = encode(model, prompts[1], &n);
    rig a = rig_create(model, &off), b = rig_create(model, &tree);
    for (size_t tokens = 0; tokens <= 40; tokens++) {
        gorgon_request q = request_of(ids, n, tokens, 0.0f);
        q.ignore_end = true;
        run_one(&a, &q, &plain);
        run_one(&b, &q, &other);
        cr_assert_eq(plain.n_ids, tokens);
        cr_assert_eq(plain.stop, GORGON_STOP_LENGTH);
        assert_same(&plain, &other, "max_tokens");
        cr_assert_eq(plain.n_rows, tokens ? n + tokens - 1 : n);
        cr_assert_eq(plain.n_logit_rows, tokens ? tokens : 1);
    }
    gorgon_free(ids);
    rig_free(&a);
    rig_free(&b);
    gorgon_model_free(model);
}

Test(stop, the_context_is_used_to_its_last_position)
{
    gorgon_model *model = open_tiny();
    size_t n;
    gorgon_token *ids = encode(model, prompts[1], &n);
    for (size_t context = n; context <= n + 30; context++) {
        const setup off = {.context = context},
                    tree = {.propose = "lookup", .tree = "64", .context = context};
        rig a = rig_create(model, &off), b = rig_create(model, &tree);
        gorgon_request q = request_of(ids, n, 1000, 0.0f);
        q.ignore_end = true;
        run_one(&a, &q, &plain);
        run_one(&b, &q, &other);
        cr_assert_eq(plain.stop, GORGON_STOP_CONTEXT);
        cr_assert_eq(plain.n_ids, context - n + 1);
        assert_same(&plain, &other, "context");
        rig_free(&a);
        rig_free(&b);
    }
    gorgon_free(ids);
    gorgon_model_free(model);
}

Test(stop, an_end_token_inside_a_path_cuts_it)
{
    gorgon_model *model = open_tiny();
    const setup off = {0}, tree = {.propose = "lookup", .tree = "64"};
    size_t n, ended = 0;
    gorgon_token *ids = encode(model, prompts[0], &n), prompt[MOST_TOKENS];
    rig a = rig_create(model, &off), b = rig_create(model, &tree);
    gorgon_request q = request_of(ids, n, 300, 0.0f);
    run_one(&a, &q, &plain);
    cr_assert_eq(plain.stop, GORGON_STOP_END);
    // The same conversation twice: the second time lookup drafts the answer and its end token.
    memcpy(prompt, ids, n * sizeof *ids);
    memcpy(prompt + n, plain.ids, plain.n_ids * sizeof *ids);
    memcpy(prompt + n + plain.n_ids, ids, n * sizeof *ids);
    size_t twice = 2 * n + plain.n_ids, answer = plain.n_ids;
    for (size_t given = 0; given < answer; given += 3) {
        memcpy(prompt + twice, plain.ids, given * sizeof *ids);
        q = request_of(prompt, twice + given, 60, 0.0f);
        static outcome reference;
        run_one(&a, &q, &reference);
        run_one(&b, &q, &other);
        assert_same(&reference, &other, "end token");
        ended += reference.stop == GORGON_STOP_END;
    }
    cr_assert_gt(ended, 0);
    gorgon_free(ids);
    rig_free(&a);
    rig_free(&b);
    gorgon_model_free(model);
}

Test(stop, strings_at_every_place_of_the_text)
{
    gorgon_model *model = open_tiny();
    const setup off = {0}, tree = {.propose = "lookup", .tree = "16"};
    size_t n;
    gorgon_token *ids = encode(model, prompts[0], &n);
    rig a = rig_create(model, &off), b = rig_create(model, &tree);
    gorgon_request q = request_of(ids, n, 60, 0.0f);
    run_one(&a, &q, &plain);
    static outcome whole;
    whole = plain;
    size_t length = strlen(whole.text);
    for (size_t from = 0; from + 12 < length; from += 3) {
        char stop[16] = "";
        size_t m = 1 + from % 11; // ends and begins anywhere in tokens
        memcpy(stop, whole.text + from, m);
        const char *const stops[] = {stop, "never in this text"};
        size_t at = (size_t)(strstr(whole.text, stop) - whole.text);
        q.stop = stops;
        q.n_stop = 2;
        run_one(&a, &q, &plain);
        run_one(&b, &q, &other);
        cr_assert_eq(plain.stop, GORGON_STOP_STRING);
        cr_assert_eq(strlen(plain.text), at, "'%s': '%s'", stop, plain.text);
        cr_assert_eq(memcmp(plain.text, whole.text, at), 0);
        assert_same(&plain, &other, stop);
    }
    gorgon_free(ids);
    rig_free(&a);
    rig_free(&b);
    gorgon_model_free(model);
}

Test(stop, kv_pages_run_out_for_one_stream_only)
{
    gorgon_model *model = open_tiny();
    size_t n, active = 1, failures = 0;
    gorgon_token *ids = encode(model, prompts[0], &n);
    const setup off = {0}, s = {.max_streams = 2, .kv_positions = 192, .context = 192};
    rig alone = rig_create(model, &off), r = rig_create(model, &s);
    static outcome outs[2];
    gorgon_request q = request_of(ids, n, 80, 0.0f);
    q.ignore_end = true;
    run_one(&alone, &q, &plain);
    gorgon_request long_one = request_of(ids, n, 150, 0.0f);
    long_one.ignore_end = true;
    gorgon_stream *short_stream = submit(&r, &q, &outs[0]);
    gorgon_stream *long_stream = submit(&r, &long_one, &outs[1]);
    while (active) {
        gorgon_error err = {0};
        if (gorgon_decoder_step(r.decoder, &active, &err) != GORGON_OK) {
            failures++;
            cr_assert_eq(err.status, GORGON_ERROR_LIMIT);
            cr_assert(strstr(err.message, "KV pages"), "%s", err.message);
        }
    }
    cr_assert_eq(failures, 1);
    finish(short_stream, &outs[0]);
    finish(long_stream, &outs[1]);
    // Whoever came first to the last page kept it; the other one failed and disturbed nobody.
    cr_assert_eq((outs[0].stop == GORGON_STOP_FAILED) + (outs[1].stop == GORGON_STOP_FAILED), 1);
    size_t common = outs[1].n_ids < plain.n_ids ? outs[1].n_ids : plain.n_ids;
    cr_assert_arr_eq(outs[1].ids, plain.ids, common * sizeof *plain.ids);
    cr_assert_arr_eq(outs[0].ids, plain.ids, outs[0].n_ids * sizeof *plain.ids);
    gorgon_free(ids);
    rig_free(&r);
    rig_free(&alone);
    gorgon_model_free(model);
}
