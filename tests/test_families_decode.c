// Decoding on models with windows, head norms, biases and fused matrices: speculative runs against
// plain ones, bit for bit.
#include "decode_fixture.h"

#include "core/kernels.h"

static outcome plain, other; // large

// Ids that repeat, so that look-up has something to say.
static void run(const gorgon_model *model, const setup *s, float temperature, outcome *o)
{
    enum { N = 75, PERIOD = 23 };
    gorgon_token prompt[N];
    gorgon_model_info info;
    gorgon_model_describe(model, &info);
    for (uint64_t i = 0; i < N; i++)
        prompt[i] = (gorgon_token)(gg_random_bits(3, i % PERIOD, 0, 0) % info.n_vocab);
    rig r = rig_create(model, s);
    gorgon_request q = request_of(prompt, N, 48, temperature);
    q.ignore_end = true;
    run_one(&r, &q, o);
    rig_free(&r);
}

static void check_family(const char *file)
{
    const char *const trees[] = {"4", "16", "64", "auto"};
    const char *const proposers[] = {"lookup,recycling", "heads,lookup,recycling"};
    char path[256];
    gorgon_model *model = NULL;
    gorgon_error err = {0};
    snprintf(path, sizeof path, "%s/families/%s", GG_TEST_DATA, file);
    cr_assert_eq(gorgon_model_open(path, 1, &model, &err), GORGON_OK, "%s", err.message);
    scratch files = scratch_create();
    gorgon_heads *heads[] = {random_heads(model, &files),
                             random_followers(model, &files, GG_HEADS_HYDRA_PREFIX),
                             random_followers(model, &files, GG_HEADS_EAGLE)};
    size_t speculated = 0;
    for (size_t hot = 0; hot < 2; hot++) {
        const float temperature = hot ? 0.8f : 0.0f;
        const setup reference = {.threads = 1, .level = "scalar"};
        run(model, &reference, temperature, &plain);
        for (gg_level level = GG_LEVEL_SCALAR; level < GG_LEVEL_COUNT; level++) {
            for (size_t i = 0; gg_kernels_get(level) && i < 16; i++) {
                if (i % (level == GG_LEVEL_SCALAR ? 7 : 3) != 0)
                    continue; // slow
                const setup s = {.propose = proposers[i % 2],
                                 .tree = trees[i / 2 % 4],
                                 .level = gg_kernels_get(level)->name,
                                 .threads = i / 8 + 1,
                                 .heads = heads[i % 3]};
                char what[160];
                snprintf(what, sizeof what, "%s: %s, tree %s, %s, %zu threads, temperature %g",
                         file, s.propose, s.tree, s.level, s.threads, (double)temperature);
                run(model, &s, temperature, &other);
                assert_same(&plain, &other, what);
                speculated += other.passes < plain.passes;
            }
        }
    }
    cr_expect_gt(speculated, 0);
    for (size_t i = 0; i < 3; i++)
        gorgon_heads_free(heads[i]);
    scratch_remove(&files);
    gorgon_model_free(model);
}

Test(same_bytes, gemma3)
{
    check_family("gemma3.f16.gguf");
}

Test(same_bytes, qwen3)
{
    check_family("qwen3.f16.gguf");
}

Test(same_bytes, qwen2)
{
    check_family("qwen2.f16.gguf");
}

Test(same_bytes, phi3)
{
    check_family("phi3.f16.gguf");
}
