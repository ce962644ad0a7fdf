// A decoder's set-up, errors, accounts and the cost of passes, on the embedded model.
#include "decode_fixture.h"

#include "cost.h"
#include "tree/decoder.h"

static outcome plain, other; // large

// ---- errors

static void assert_refused(rig *r, const gorgon_request *q, gorgon_status status,
                           const char *needle)
{
    gorgon_stream *stream = NULL;
    gorgon_error err = {0};
    cr_assert_eq(gorgon_decoder_submit(r->decoder, q, &stream, &err), status, "%s", err.message);
    cr_assert_null(stream);
    cr_assert(strstr(err.message, needle), "%s", err.message);
}

Test(errors, requests)
{
    gorgon_model *model = open_tiny();
    const setup s = {.context = 64};
    rig r = rig_create(model, &s);
    gorgon_token ids[65] = {0};
    gorgon_request q = request_of(ids, 65, 5, 0.0f);
    assert_refused(&r, &q, GORGON_ERROR_LIMIT, "prompt has 65 tokens");
    q.n_prompt = 0;
    assert_refused(&r, &q, GORGON_ERROR_ARGUMENT, "prompt is empty");
    q.n_prompt = 3;
    ids[2] = 1 << 24;
    assert_refused(&r, &q, GORGON_ERROR_ARGUMENT, "prompt token 2 is id 16777216");
    ids[2] = -1;
    assert_refused(&r, &q, GORGON_ERROR_ARGUMENT, "prompt token 2 is id -1");
    ids[2] = 0;
    q.sampling.temperature = -1.0f;
    assert_refused(&r, &q, GORGON_ERROR_ARGUMENT, "temperature");
    q.sampling.temperature = 0.0f;
    const char *const stops[] = {""};
    q.stop = stops;
    q.n_stop = 1;
    assert_refused(&r, &q, GORGON_ERROR_ARGUMENT, "stop string 0");
    rig_free(&r);
    gorgon_model_free(model);
}

Test(errors, options)
{
    gorgon_model *model = open_tiny();
    gorgon_engine_options eo;
    gorgon_engine *engine = NULL;
    gorgon_engine_options_init(&eo);
    eo.threads = 1;
    eo.context = 64;
    cr_assert_eq(gorgon_engine_create(model, &eo, &engine, NULL), GORGON_OK);
    const struct {
        const char *propose, *tree, *rule, *needle;
        size_t streams;
    } cases[] = {
        {"oracle", "auto", NULL, "lookup", 1},
        {"lookup,lookup", "auto", NULL, "named twice", 1},
        {"lookup,", "auto", NULL, "ends with a comma", 1},
        {",lookup", "auto", NULL, "separated by commas", 1},
        {"heads", "auto", NULL, "heads file", 1},
        {"lookup", "big", NULL, "big", 1},
        {"lookup", "auto", "typical", "exact", 1},
        {"lookup", "auto", NULL, "max_streams is 0", 0},
        {"lookup", "auto", NULL, "max_streams is 129, expected 1 to 128", 129},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gorgon_decoder_options o;
        gorgon_decoder *d = NULL;
        gorgon_error err = {0};
        gorgon_decoder_options_init(&o);
        o.propose = cases[i].propose;
        o.tree = cases[i].tree;
        o.rule = cases[i].rule;
        o.max_streams = cases[i].streams;
        cr_assert_eq(gorgon_decoder_create(engine, &o, &d, &err), GORGON_ERROR_ARGUMENT, "case %zu",
                     i);
        cr_assert_null(d);
        cr_assert(strstr(err.message, cases[i].needle), "case %zu: %s", i, err.message);
    }
    gorgon_engine_free(engine);
    gorgon_model_free(model);
}

Test(errors, every_failing_allocation_is_survived)
{
    gorgon_model *model = open_tiny();
    gorgon_engine_options eo;
    gorgon_engine *engine = NULL;
    gorgon_engine_options_init(&eo);
    eo.threads = 1;
    eo.context = 64;
    cr_assert_eq(gorgon_engine_create(model, &eo, &engine, NULL), GORGON_OK);
    gorgon_token ids[] = {1, 2, 3};
    gorgon_status status = GORGON_ERROR_MEMORY;
    size_t n = 1;
    for (; n < 500 && status != GORGON_OK; n++) {
        gorgon_decoder_options o;
        gorgon_decoder *d = NULL;
        gorgon_stream *stream = NULL;
        gorgon_decoder_options_init(&o);
        o.propose = "lookup";
        o.tree = "4";
        gorgon_request q = request_of(ids, 3, 5, 0.0f);
        const char *const stops[] = {"x"};
        q.stop = stops;
        q.n_stop = 1;
        gg_alloc_fail_at(n);
        status = gorgon_decoder_create(engine, &o, &d, NULL);
        if (status == GORGON_OK)
            status = gorgon_decoder_submit(d, &q, &stream, NULL);
        gg_alloc_fail_at(0);
        cr_assert(status == GORGON_OK || status == GORGON_ERROR_MEMORY);
        gorgon_decoder_free(d);
    }
    cr_assert(n > 20 && n < 500, "%zu", n);
    gorgon_engine_free(engine);
    gorgon_model_free(model);
}

// ---- inside a step

Test(step, does_not_allocate)
{
    gorgon_model *model = open_tiny();
    size_t n, active = 1, steps = 0;
    gorgon_token *ids = encode(model, prompts[1], &n);
    scratch files = scratch_create();
    gorgon_heads *heads[] = {random_heads(model, &files),
                             random_followers(model, &files, GG_HEADS_RECURRENT),
                             random_followers(model, &files, GG_HEADS_EAGLE)};
    const char *const trees[] = {"off", "16", "auto"};
    const char *const stops[] = {"never there"};
    for (size_t t = 0; t < 9; t++) {
        const setup s = {.propose = "heads,lookup,recycling",
                         .tree = trees[t % 3],
                         .max_streams = 2,
                         .heads = heads[t / 3]};
        rig r = rig_create(model, &s);
        gorgon_stream *stream[2];
        gorgon_error err = {0};
        for (size_t k = 0; k < 2; k++) {
            gorgon_request q = request_of(ids, n, 40, k ? 0.8f : 0.0f);
            q.stop = stops;
            q.n_stop = 1;
            cr_assert_eq(gorgon_decoder_submit(r.decoder, &q, &stream[k], &err), GORGON_OK);
        }
        for (active = 1; active; steps++) {
            gg_alloc_fail_at(0);
            cr_assert_eq(gorgon_decoder_step(r.decoder, &active, &err), GORGON_OK);
            cr_assert_eq(gg_alloc_fail_at(0), 0, "step %zu", steps);
        }
        rig_free(&r);
    }
    cr_assert_gt(steps, 20);
    for (size_t i = 0; i < 3; i++)
        gorgon_heads_free(heads[i]);
    scratch_remove(&files);
    gorgon_free(ids);
    gorgon_model_free(model);
}

Test(step, telemetry_adds_up)
{
    gorgon_model *model = open_tiny();
    const setup s = {.propose = "lookup", .tree = "16"};
    rig r = rig_create(model, &s);
    size_t n;
    gorgon_token *ids = encode(model, prompts[0], &n);
    gorgon_request q = request_of(ids, n, 73, 0.0f);
    run_one(&r, &q, &other);
    gorgon_telemetry t[2];
    cr_assert_eq(gorgon_decoder_telemetry(r.decoder, t, 2), 1);
    cr_assert_str_eq(t[0].proposer, "lookup");
    uint64_t accepted = 0, offered = 0;
    for (size_t d = 0; d < GORGON_TELEMETRY_DEPTH; d++) {
        uint64_t at_depth = 0;
        for (size_t k = 0; k < GORGON_TELEMETRY_RANK; k++) {
            cr_assert_leq(t[0].accepted[d][k], t[0].offered[d][k]);
            at_depth += t[0].accepted[d][k];
            offered += t[0].offered[d][k];
        }
        accepted += at_depth;
    }
    // Each pass decides one token of its own; the first one came with the prompt.
    cr_assert_eq(accepted, other.n_ids - 1 - other.passes);
    cr_assert_gt(offered, accepted);
    cr_assert(t[0].expected > 0.0 && t[0].expected < (double)offered);
    cr_assert_eq(t[0].won, accepted); // it was alone
    uint64_t suggested = 0, came_true = 0;
    for (size_t i = 0; i < GORGON_TELEMETRY_BUCKETS; i++) {
        double edges = (double)t[0].suggested[i];
        cr_assert_geq(t[0].predicted[i], 0.1 * (double)i * edges - 1e-4);
        cr_assert_leq(t[0].predicted[i], 0.1 * (double)(i + 1) * edges + 1e-4);
        suggested += t[0].suggested[i];
        came_true += t[0].came_true[i];
    }
    cr_assert(suggested >= offered && came_true >= accepted);
    gorgon_decoder_reset_telemetry(r.decoder);
    gorgon_decoder_telemetry(r.decoder, t, 2);
    cr_assert(t[0].offered[0][0] == 0 && strcmp(t[0].proposer, "lookup") == 0);
    gorgon_free(ids);
    rig_free(&r);
    gorgon_model_free(model);
}

Test(step, every_accepted_node_has_one_winner)
{
    gorgon_model *model = open_tiny();
    const setup s = {.propose = "recycling,lookup", .tree = "16"};
    rig r = rig_create(model, &s);
    uint64_t gained = 0;
    for (size_t i = 0; i < 2; i++) {
        size_t n;
        gorgon_token *ids = encode(model, prompts[i], &n);
        gorgon_request q = request_of(ids, n, 73, 0.0f);
        run_one(&r, &q, &other);
        gained += other.n_ids - 1 - other.passes;
        gorgon_free(ids);
    }
    gorgon_telemetry t[2];
    cr_assert_eq(gorgon_decoder_telemetry(r.decoder, t, 2), 2);
    cr_assert(t[0].won > 0 && t[1].won > 0);
    cr_assert_eq(t[0].won + t[1].won, gained);
    rig_free(&r);
    gorgon_model_free(model);
}

typedef struct tap_count {
    size_t n, accepted;
} tap_count;

static void count_edges(void *context, const gg_edge_outcome *edge)
{
    tap_count *c = context;
    cr_assert(edge->proposers == 1 && edge->depth >= 1 && !edge->sampled);
    cr_assert(edge->calibrated > 0.0f && edge->calibrated < 1.0f);
    cr_assert(edge->corrected > 0.0f && edge->corrected <= 1.0f);
    c->n++;
    c->accepted += edge->accepted;
}

Test(step, edge_tap_sees_more_than_the_tree_held)
{
    gorgon_model *model = open_tiny();
    tap_count count[2] = {{0}};
    const char *const trees[] = {"1", "32"};
    for (size_t i = 0; i < 2; i++) {
        const setup s = {.propose = "lookup", .tree = trees[i]};
        rig r = rig_create(model, &s);
        size_t n;
        gorgon_token *ids = encode(model, prompts[1], &n);
        gorgon_request q = request_of(ids, n, 40, 0.0f);
        gg_decoder_set_edge_tap(r.decoder, count_edges, &count[i]);
        run_one(&r, &q, &other);
        gorgon_telemetry t;
        gorgon_decoder_telemetry(r.decoder, &t, 1);
        uint64_t offered = 0;
        for (size_t k = 0; k < GORGON_TELEMETRY_RANK; k++)
            offered += t.offered[0][k];
        if (i == 0)
            cr_assert_gt(count[i].n, offered);
        gorgon_free(ids);
        rig_free(&r);
    }
    cr_assert(count[0].accepted > 0 && count[1].accepted > 0);
    gorgon_model_free(model);
}

Test(step, tree_can_change_between_requests)
{
    gorgon_model *model = open_tiny();
    size_t n;
    gorgon_token *ids = encode(model, prompts[0], &n);
    const setup s = {.propose = "lookup", .tree = "off"};
    rig r = rig_create(model, &s);
    gorgon_request q = request_of(ids, n, 50, 0.0f);
    run_one(&r, &q, &plain);
    cr_assert_eq(plain.passes, plain.n_ids - 1);
    const char *const trees[] = {"16", "auto", "off"};
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(gorgon_decoder_set_tree(r.decoder, trees[i], NULL), GORGON_OK);
        run_one(&r, &q, &other);
        assert_same(&plain, &other, trees[i]);
    }
    cr_assert_eq(other.passes, plain.passes);
    gorgon_free(ids);
    rig_free(&r);
    gorgon_model_free(model);
}

// ---- cost of passes

static double ms_with_cache(gorgon_engine *engine, const char *path, size_t rows)
{
    gorgon_decoder_options o;
    gorgon_decoder *d = NULL;
    gorgon_error err = {0};
    gorgon_decoder_options_init(&o);
    o.propose = "lookup";
    o.cost_cache = path;
    cr_assert_eq(gorgon_decoder_create(engine, &o, &d, &err), GORGON_OK, "%s", err.message);
    double ms = gorgon_decoder_pass_ms(d, rows);
    gorgon_decoder_free(d);
    return ms;
}

Test(cost, cache_is_used_and_bad_ones_are_measured_again)
{
    gorgon_model *model = open_tiny();
    scratch files = scratch_create();
    gorgon_engine_options eo;
    gorgon_engine *engine = NULL;
    gorgon_engine_options_init(&eo);
    eo.threads = 1;
    eo.context = 128;
    cr_assert_eq(gorgon_engine_create(model, &eo, &engine, NULL), GORGON_OK);
    // Times no machine has, so that a measurement cannot pass for them.
    gg_cost stored = {.measured = true, .position_s = 1e-9};
    for (size_t k = 0; k < GG_COST_KNOTS; k++)
        stored.base_s[k] = 1000.0 + (double)k;
    gg_cost_store(&stored, files.path, engine);
    cr_assert_float_eq(ms_with_cache(engine, files.path, 4), 1002e3, 1e-3);
    const char *const bad[] = {"",
                               "{",
                               "[]",
                               "{\"gorgon_pass_cost\": 2, \"entries\": []}",
                               "{\"gorgon_pass_cost\": 1, \"entries\": [{\"key\": 3}]}",
                               "{\"gorgon_pass_cost\": 1, \"entries\": {}}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        FILE *f = fopen(files.path, "w");
        fputs(bad[i], f);
        fclose(f);
        double ms = ms_with_cache(engine, files.path, 4);
        cr_assert(ms > 0.0 && ms < 900e3);
        gg_cost_store(&stored, files.path, engine); // over the bad file
        cr_assert_float_eq(ms_with_cache(engine, files.path, 4), 1002e3, 1e-3);
    }
    cr_assert_gt(ms_with_cache(engine, "/no/such/directory/cache.json", 4), 0.0);
    scratch_remove(&files);
    gorgon_engine_free(engine);
    gorgon_model_free(model);
}

Test(cost, measuring_leaves_no_sequence_behind_and_needs_none)
{
    gorgon_model *model = open_tiny();
    gorgon_engine_options eo;
    gorgon_engine *engine = NULL;
    gorgon_sequence *held = NULL;
    gorgon_engine_options_init(&eo);
    eo.threads = 1;
    eo.context = 128;
    cr_assert_eq(gorgon_engine_create(model, &eo, &engine, NULL), GORGON_OK);
    cr_assert_gt(ms_with_cache(engine, NULL, 4), 0.0);
    cr_assert_eq(gorgon_sequence_create(engine, &held, NULL), GORGON_OK);
    cr_assert_gt(ms_with_cache(engine, NULL, 4), 0.0); // the guess
    gorgon_sequence_free(held);
    gorgon_engine_free(engine);
    gorgon_model_free(model);
}
