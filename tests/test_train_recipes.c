// gorgon_train with every recipe: each learns, is served and resumes; which heads are written, and
// when a run ends early.
#define _XOPEN_SOURCE 700 // mkdtemp
#include "train_fixture.h"

TestSuite(train_recipes, .init = set_up, .fini = tear_down);

static double number_after(const char *json, const char *key)
{
    const char *at = strstr(json, key);
    cr_assert(at, "%s in %s", key, json);
    return strtod(at + strlen(key), NULL);
}

// The trained heads, read back and served, name the tokens that the rule has next.
static void check_served(const char *path)
{
    float hidden[256], *logits = gg_alloc(3 * 48, sizeof *logits);
    gorgon_token ids[48];
    gorgon_heads *heads;
    size_t right = 0;
    cr_assert_leq(width(), 256);
    cr_assert_eq(gorgon_heads_open(path, &heads, NULL), GORGON_OK);
    for (uint64_t id = 0; id < IDS; id++) {
        uint64_t token = (3 * id + 1) % IDS;
        for (size_t j = 0; j < width(); j++)
            hidden[j] = (float)(3.0 * gg_random_uniform(1, id, j, 0) - 1.5);
        cr_assert_eq(gorgon_heads_logits(engine, heads, 0, hidden, (gorgon_token)token + 50, logits,
                                         ids, NULL),
                     GORGON_OK);
        for (size_t k = 0; k < 3; k++) {
            size_t best = 0;
            for (size_t i = 1; i < 48; i++)
                best = logits[48 * k + i] > logits[48 * k + best] ? i : best;
            token = (3 * token + 1) % IDS;
            right += ids[best] == (gorgon_token)token + 50;
        }
    }
    cr_assert(right > 3 * IDS * 9 / 10, "%zu of %d", right, 3 * IDS);
    gorgon_heads_free(heads);
    gg_free(logits);
}

// Learns, is served, and ends with the same bytes when it was stopped on the way.
static void check_architecture(const char *name)
{
    char out[128], again[128], recipe[64];
    gorgon_train_options options = options_for("a.gguf", out);
    options.architecture = name;
    options.epochs = 12.0;
    train(engine, &options);
    gorgon_heads *heads;
    gorgon_head_set_info info;
    cr_assert_eq(gorgon_heads_open(out, &heads, NULL), GORGON_OK);
    cr_assert_eq(gorgon_heads_describe(heads, 0, &info, NULL), GORGON_OK);
    cr_assert_str_eq(info.kind, name);
    cr_assert(info.n_heads == 3 && info.root_embedding);
    cr_assert_eq(info.n_blocks, strcmp(name, "recurrent") == 0 ? 2 : 1);
    snprintf(recipe, sizeof recipe, "\"recipe\":\"%s\"", name);
    cr_assert(strstr(info.training_json, recipe), "%s", info.training_json);
    cr_assert(number_after(info.accuracy_json, "\"accepted_length\":") > 2.7, "%s",
              info.accuracy_json);
    gorgon_heads_free(heads);
    check_served(out);

    char state[128];
    watch w = {.stop_at = 13};
    options.out = again;
    snprintf(again, sizeof again, "%s/b.gguf", directory);
    options.state = state;
    snprintf(state, sizeof state, "%s/state", directory);
    options.progress = on_progress;
    options.context = &w;
    cr_assert_eq(gorgon_train(engine, &options, NULL), GORGON_ERROR_CANCELLED);
    w.stop_at = 0;
    train(engine, &options);
    check_same_files(out, again);
}

Test(train_recipes, every_architecture)
{
    make_cache(true, true);
    for (const char *const *name = gorgon_train_architectures(); *name; name++)
        check_architecture(*name);
}

static double accepted_length(const char *name)
{
    char out[128];
    gorgon_train_options options = options_for("a.gguf", out);
    options.architecture = name;
    options.epochs = 9.0;
    train(engine, &options);
    gorgon_heads *heads;
    gorgon_head_set_info info;
    cr_assert_eq(gorgon_heads_open(out, &heads, NULL), GORGON_OK);
    cr_assert_eq(gorgon_heads_describe(heads, 0, &info, NULL), GORGON_OK);
    const double accepted = number_after(info.accuracy_json, "\"accepted_length\":");
    gorgon_heads_free(heads);
    return accepted;
}

// The token after the root follows from the position before alone: what has a decoder layer looks
// there, in training and when it is judged. It cannot at the first of a run.
Test(train_recipes, layers_see_the_rows_before)
{
    walks = 3;
    make_cache(true, true);
    cr_expect_lt(accepted_length("hydra"), 0.3);
    cr_expect_lt(accepted_length("recurrent"), 0.3);
    cr_expect_gt(accepted_length("hydra++"), 0.9);
    cr_expect_gt(accepted_length("eagle"), 0.9);
}

// A run of another kind, or of another rank, does not continue this one.
Test(train_recipes, kind_and_rank_are_of_the_identity)
{
    char out[128];
    make_cache(true, true);
    gorgon_train_options options = options_for("a.gguf", out);
    watch w = {0};
    options.progress = on_progress;
    options.context = &w;
    static const char *const names[] = {"medusa", "linear", "markov", "markov"};
    for (size_t i = 0; i < 4; i++) {
        options.architecture = names[i];
        options.rank = i == 3 ? 32 : 0;
        w.calls = 0;
        train(engine, &options);
        cr_assert_eq(w.calls, w.total + 1, "%s continued another run", names[i]);
    }
}

// What the training record of a heads file says of its end.
typedef struct ending {
    uint64_t steps, chosen_step;
    uint64_t best_step, last_step; // of the points: the first best one, the last one
    double best, last, final;      // accepted lengths: of those, and of the written heads
    size_t points;
} ending;

static ending ending_of(const char *path)
{
    gorgon_heads *heads;
    gorgon_head_set_info info;
    cr_assert_eq(gorgon_heads_open(path, &heads, NULL), GORGON_OK);
    cr_assert_eq(gorgon_heads_describe(heads, 0, &info, NULL), GORGON_OK);
    ending e = {.steps = (uint64_t)number_after(info.training_json, "\"steps\":"),
                .chosen_step = (uint64_t)number_after(info.training_json, "\"chosen_step\":"),
                .best = -1.0,
                .final = info.accuracy_json[0] == '\0'
                             ? 0.0
                             : number_after(info.accuracy_json, "\"accepted_length\":")};
    const char *at = strstr(info.training_json, "\"loss_curve\":");
    for (; (at = strstr(at, "{\"step\":")); at++, e.points++) {
        e.last_step = (uint64_t)number_after(at, "\"step\":");
        e.last = number_after(at, "\"accepted_length\":");
        e.best_step = e.last > e.best ? e.last_step : e.best_step;
        e.best = e.last > e.best ? e.last : e.best;
    }
    gorgon_heads_free(heads);
    return e;
}

// A rate that rises to the end and far too high: later heads are worse than earlier ones.
static gorgon_train_options options_that_spoil(const char *name, char out[128])
{
    gorgon_train_options options = options_for(name, out);
    options.epochs = 10.0;
    options.warmup_share = 1.0;
    options.learning_rate = 1.0;
    return options;
}

Test(train_recipes, best_heads_are_written)
{
    char out[128];
    make_cache(true, true);
    gorgon_train_options options = options_for("a.gguf", out);
    train(engine, &options);
    ending e = ending_of(out);
    cr_assert_eq(e.chosen_step, e.last >= e.best ? e.steps : e.best_step);
    options = options_that_spoil("b.gguf", out);
    train(engine, &options);
    e = ending_of(out);
    cr_assert_eq(e.points, 10);
    cr_assert_eq(e.last_step, e.steps);
    cr_assert(e.best > 2.0 * e.last, "best %g, last %g", e.best, e.last);
    cr_assert_eq(e.chosen_step, e.best_step);
    cr_assert_float_eq(e.final, e.best, 1e-6); // all held-out positions are in either figure
}

// Ends at the same step, with the same bytes, when it is stopped just before and after the best
// point, and again when there is nothing left to do.
Test(train_recipes, patience)
{
    char a[128], b[128], state[128];
    make_cache(true, true);
    gorgon_train_options options = options_that_spoil("a.gguf", a);
    watch w = {0};
    options.patience = 2;
    options.progress = on_progress;
    options.context = &w;
    train(engine, &options);
    const ending e = ending_of(a);
    cr_assert(e.steps < w.total && e.steps == e.last_step, "%d of %d steps", (int)e.steps,
              (int)w.total);
    cr_assert(e.chosen_step == e.best_step && e.best_step < e.last_step);
    cr_assert_float_eq(e.final, e.best, 1e-6);
    snprintf(b, sizeof b, "%s/b.gguf", directory);
    snprintf(state, sizeof state, "%s/state", directory);
    options.out = b;
    options.state = state;
    const uint64_t stops[] = {e.best_step - 1, e.best_step + 1, e.last_step - 1};
    for (size_t i = 0; i < 3; i++) {
        w.stop_at = stops[i];
        cr_assert_eq(gorgon_train(engine, &options, NULL), GORGON_ERROR_CANCELLED);
    }
    w.stop_at = 0;
    train(engine, &options);
    check_same_files(a, b);
    unlink(b);
    w.calls = 0;
    train(engine, &options);
    cr_assert_eq(w.calls, 1);
    check_same_files(a, b);
}

Test(train_recipes, patience_needs_held_out_text)
{
    char out[128];
    make_cache(true, true);
    gorgon_train_options options = options_for("a.gguf", out);
    options.held_out = 0.0;
    options.patience = 1;
    gorgon_error err = {0};
    cr_assert_eq(gorgon_train(engine, &options, &err), GORGON_ERROR_ARGUMENT);
    cr_assert(strstr(err.message, "no position is held out"), "%s", err.message);
    options.patience = 0; // without any, the last heads are written
    train(engine, &options);
    const ending e = ending_of(out);
    cr_assert_eq(e.chosen_step, e.steps);
}
