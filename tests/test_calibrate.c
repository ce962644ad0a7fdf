// gorgon_calibrate on a small cache: proposers draft after what serving would show them.
#define _XOPEN_SOURCE 700 // mkdtemp
#include <math.h>

#include "heads_fixture.h"
#include "train_fixture.h"

TestSuite(calibrate, .init = set_up, .fini = tear_down);

enum { UNKNOWN = 5 }; // rows of the fixture before the first record

// A sequence of which the last `kept` unknown rows are left; their tokens stand nowhere else.
static gg_cache_sequence cut_sequence(uint64_t index, size_t kept)
{
    gg_cache_sequence s = make_sequence(index, true);
    const uint32_t cut = (uint32_t)(UNKNOWN - kept);
    for (size_t i = 0; i < UNKNOWN; i++)
        s.tokens[i] = (gorgon_token)(50 + IDS + i);
    s.n_tokens -= cut;
    memmove(s.tokens, s.tokens + cut, s.n_tokens * sizeof *s.tokens);
    for (size_t i = 0; i < s.n_records; i++)
        s.positions[i] -= cut;
    return s;
}

static void make_cut_cache(size_t kept)
{
    gg_cache_identity id = {gorgon_model_fingerprint(model), 3, 4};
    gg_cache_sequence all[SEQUENCES];
    gg_cache *cache;
    gorgon_error err = {0};
    cr_assert_eq(gg_cache_open(cache_path, &id, 0, &cache, &err), GORGON_OK, "%s", err.message);
    for (uint64_t i = 0; i < SEQUENCES; i++)
        all[i] = cut_sequence(i, kept);
    cr_assert_eq(gg_cache_append(cache, 0, SEQUENCES, all, SEQUENCES, &err), GORGON_OK, "%s",
                 err.message);
    for (uint64_t i = 0; i < SEQUENCES; i++)
        free_sequence(&all[i]);
    cr_assert_eq(gg_cache_finish(cache, &err), GORGON_OK, "%s", err.message);
    gg_cache_free(cache);
}

// Calibration of the heads in a.gguf on such a cache; returns how many numbers it has.
static size_t calibrate(gorgon_engine *with, size_t kept, float *out, size_t most)
{
    char path[128];
    gorgon_heads *heads;
    gorgon_error err = {0};
    gorgon_calibrate_options options;
    gorgon_calibrate_options_init(&options);
    snprintf(path, sizeof path, "%s/a.gguf", directory);
    options.cache = cache_path;
    options.heads = path;
    options.held_out = 0.9;
    options.max_positions = 300;
    make_cut_cache(kept);
    cr_assert_eq(gorgon_calibrate(with, &options, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(gg_cache_remove(cache_path, NULL), GORGON_OK);
    cr_assert_eq(gorgon_heads_open(path, &heads, &err), GORGON_OK, "%s", err.message);
    const gg_head_set *set = gg_heads_set(heads, 0);
    const size_t n = set->n_calibration;
    cr_assert(n > 0 && n <= most);
    memcpy(out, set->calibration, n * sizeof *out);
    gorgon_heads_free(heads);
    return n;
}

static void check_unknown_rows(gg_head_kind kind)
{
    enum { NUMBERS = 1024 };
    static float few[NUMBERS], many[NUMBERS];
    const heads_spec spec = {.n_heads = 3,
                             .n_blocks = 1,
                             .n_draft = 48,
                             .root = true,
                             .seed = 3,
                             .kind = kind,
                             .n_attention = 4,
                             .n_ffn = 32,
                             .window = 16};
    char path[128];
    gorgon_engine *floats;
    gorgon_engine_options options;
    gorgon_engine_options_init(&options);
    options.threads = 1;
    options.context = 64;
    options.activations = GORGON_ACTIVATIONS_F32; // where a text begins is not to be seen
    cr_assert_eq(gorgon_engine_create(model, &options, &floats, NULL), GORGON_OK);
    heads_fixture f = heads_fixture_create(width(), gg_model_geometry(model)->n_vocab, &spec);
    for (uint32_t i = 0; i < 48; i++)
        f.ids[i] = 50 + i; // the tokens of the texts are among them
    snprintf(path, sizeof path, "%s/a.gguf", directory);
    cr_assert_eq(gg_heads_write(path, model, &f.source, 1, NULL), GORGON_OK);
    const size_t n = calibrate(floats, 1, few, NUMBERS);
    cr_assert_eq(calibrate(floats, UNKNOWN, many, NUMBERS), n);
    for (size_t i = 0; i < n; i++)
        cr_expect_float_eq(many[i], few[i], 1e-4f * (1.0f + fabsf(few[i])),
                           "%s: number %zu is %g, with fewer unknown rows %g",
                           gg_head_traits_of(kind)->name, i, (double)many[i], (double)few[i]);
    heads_fixture_free(&f);
    gorgon_engine_free(floats);
}

// Rows whose hidden state is not known are not attended to, however many there are.
Test(calibrate, unknown_rows_do_not_count)
{
    check_unknown_rows(GG_HEADS_HYDRA_PREFIX);
    check_unknown_rows(GG_HEADS_EAGLE);
    make_cache(true, true); // that the suite removes
}
