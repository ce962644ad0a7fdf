// Models of every family: the promises that hold for rows, and what metadata mean, checked by files
// that must compute the same thing in another way. Against other software: golden_test.py.
#include "forward_fixture.h"

#include "gguf_variant.h"

#define FAMILIES GG_TEST_DATA "/families/"

static const char *const paths[] = {FAMILIES "llama_rope3.f16.gguf", FAMILIES "mistral.f16.gguf",
                                    FAMILIES "qwen2.f16.gguf",       FAMILIES "qwen3.f16.gguf",
                                    FAMILIES "gemma3.f16.gguf",      FAMILIES "phi3.f16.gguf"};
enum { N_PATHS = sizeof paths / sizeof paths[0], LLAMA = 0, MISTRAL, QWEN2, QWEN3, GEMMA3, PHI3 };

static void for_all(void (*check)(void))
{
    for (size_t i = 0; i < N_PATHS; i++) {
        open_model_at(paths[i]);
        check();
        close_model();
    }
}

static void check_levels(void)
{
    static const size_t chunks[] = {5, 65};
    check_threads_and_levels(chunks, 2);
}

Test(families, chunks_threads_and_levels_do_not_change_a_bit)
{
    for_all(check_levels);
}

Test(families, the_reference_path_is_row_invariant_too)
{
    for_all(check_reference_path);
}

Test(families, a_row_of_a_tree_equals_its_path_decoded_alone)
{
    for_all(check_rows_of_trees);
}

Test(families, fork_and_truncate_keep_the_past)
{
    for_all(check_fork_and_truncate);
}

Test(families, an_early_exit_and_its_continuation_equal_the_whole)
{
    for_all(check_ranges);
}

// ---- what metadata mean

static float *logits_of(const char *path, size_t n)
{
    open_model_at(path);
    gorgon_engine *engine = make_engine(1, NULL, GORGON_ACTIVATIONS_INT8);
    float *logits = logits_by_chunks(engine, n, 64);
    gorgon_engine_free(engine);
    close_model();
    return logits;
}

static float *logits_of_variant(variant *v, size_t n)
{
    variant_write(v);
    float *logits = logits_of(v->path, n);
    unlink(v->path);
    return logits;
}

static bool same_rows(const float *a, const float *b, size_t first, size_t end)
{
    return memcmp(a + first * n_vocab, b + first * n_vocab, (end - first) * n_vocab * sizeof *a) ==
           0;
}

Test(meaning, geometry_of_gemma3)
{
    gorgon_model_info info;
    open_model_at(paths[GEMMA3]);
    gorgon_model_describe(model, &info);
    cr_expect_str_eq(info.architecture, "gemma3");
    cr_expect_eq(info.window, 16);
    cr_expect_eq(info.n_window_layers, 6);
    cr_expect_eq(gg_model_layer(model, 5)->window, 0);
    cr_expect_eq(gg_model_layer(model, 5)->rope, 0);
    cr_expect_eq(gg_model_layer(model, 6)->rope, 1);
    cr_expect_float_eq(gg_model_attended(model, 10), 10, 1e-12);
    cr_expect_float_eq(gg_model_attended(model, 86), (86.0 + 6 * 16) / 7, 1e-12);
    float scaled[64], row[64];
    gg_model_embed(model, 7, scaled);
    gg_matrix_row(gg_model_embedding(model), 7, row);
    for (size_t i = 0; i < 64; i++)
        cr_expect_eq(scaled[i], 8.0f * row[i]);
    close_model();
}

// Without the key a depth of 62 layers means the 27B model, whose scale is not that of its heads.
Test(meaning, what_is_converted_says_its_query_scale)
{
    char path[64];
    float scale = 0;
    gg_gguf *file = NULL;
    snprintf(path, sizeof path, "/tmp/gorgon-families-%d.gguf", (int)getpid());
    cr_assert_eq(gorgon_model_convert(FAMILIES "gemma3", path, NULL), GORGON_OK);
    cr_assert_eq(gg_gguf_open(path, &file, NULL), GORGON_OK);
    cr_expect_eq(gg_gguf_get_f32(file, "gemma3.attention.scale", &scale, NULL), GORGON_OK);
    cr_expect_float_eq(scale, 0.1767767f, 1e-7f); // 1 / sqrt(32)
    gg_gguf_close(file);
    unlink(path);
}

// With a window of w in three layers, position 0 reaches as far as 3 (w - 1) and no further.
Test(meaning, a_window_holds_so_many_positions)
{
    enum { W = 8, REACH = 3 * (W - 1), N = 40 };
    variant v = variant_of(paths[MISTRAL], NULL);
    gg_gguf_put_u32(v.w, "llama.attention.sliding_window", W, NULL);
    variant_write(&v);
    float *plain = logits_of(paths[MISTRAL], N), *window = logits_of(v.path, N);
    cr_expect(same_rows(plain, window, 0, W), "the window is not yet full");
    cr_expect_not(same_rows(plain, window, W, W + 1));
    open_model_at(v.path);
    text[0] ^= 1;
    gorgon_engine *engine = make_engine(1, NULL, GORGON_ACTIVATIONS_INT8);
    float *other = logits_by_chunks(engine, N, 64);
    cr_expect_not(same_rows(window, other, REACH, REACH + 1));
    cr_expect(same_rows(window, other, REACH + 1, N));
    gorgon_engine_free(engine);
    close_model();
    unlink(v.path);
    free(plain);
    free(window);
    free(other);
}

Test(meaning, patterns_say_which_layers_have_the_window)
{
    static const uint32_t as_default[] = {1, 1, 1, 1, 1, 0, 1}, others[] = {1, 0, 1, 1, 1, 0, 1};
    const char *key = "gemma3.attention.sliding_window_pattern";
    float *plain = logits_of(paths[GEMMA3], 40);
    for (size_t i = 0; i < 4; i++) {
        variant v = variant_of(paths[GEMMA3], NULL);
        if (i < 2)
            gg_gguf_put_array_u32(v.w, key, i ? others : as_default, 7, NULL);
        else
            gg_gguf_put_u32(v.w, key, i == 2 ? 6 : 3, NULL);
        float *got = logits_of_variant(&v, 40);
        cr_expect_eq(same_rows(plain, got, 0, 40), i % 2 == 0, "%zu", i);
        free(got);
    }
    free(plain);
}

// Frequencies divided one by one, all alike, or by a factor: the same numbers.
Test(meaning, divisors_of_frequencies_equal_a_factor)
{
    float ones[16], twos[16];
    for (size_t i = 0; i < 16; i++) {
        ones[i] = 1.0f;
        twos[i] = 2.0f;
    }
    float *plain = logits_of(paths[PHI3], N_TEXT);
    variant linear = variant_of(paths[PHI3], NULL);
    gg_gguf_put_string(linear.w, "phi3.rope.scaling.type", "linear", NULL);
    gg_gguf_put_f32(linear.w, "phi3.rope.scaling.factor", 2.0f, NULL);
    float *halved = logits_of_variant(&linear, N_TEXT);
    cr_expect_not(same_rows(plain, halved, 1, N_TEXT));
    // The engine of the test has a context of 256.
    static const uint32_t original[] = {255, 256};
    for (size_t i = 0; i < 2; i++) {
        variant v = variant_of(paths[PHI3], "phi3.rope.scaling.original_context_length");
        gg_gguf_put_u32(v.w, "phi3.rope.scaling.original_context_length", original[i], NULL);
        gg_gguf_put_string(v.w, "phi3.rope.scaling.type", "longrope", NULL);
        variant_put_floats(&v, "rope_factors_long.weight", twos, 8);
        variant_put_floats(&v, "rope_factors_short.weight", ones, 8);
        float *got = logits_of_variant(&v, N_TEXT);
        cr_expect(same_rows(i ? plain : halved, got, 0, N_TEXT), "original context %u",
                  original[i]);
        free(got);
    }
    variant llama[] = {variant_of(paths[LLAMA], "rope_freqs.weight"),
                       variant_of(paths[LLAMA], "rope_freqs.weight")};
    gg_gguf_put_f32(llama[0].w, "llama.rope.scaling.factor", 2.0f, NULL);
    variant_put_floats(&llama[1], "rope_freqs.weight", twos, 16);
    float *a = logits_of_variant(&llama[0], N_TEXT), *b = logits_of_variant(&llama[1], N_TEXT);
    cr_expect(same_rows(a, b, 0, N_TEXT));
    free(a);
    free(b);
    free(plain);
    free(halved);
}

// Twice as long queries and keys give four times the scores, exactly.
Test(meaning, the_magnitude_of_a_scaling_multiplies_queries_and_keys)
{
    variant turned = variant_of(paths[PHI3], NULL), scaled = variant_of(paths[PHI3], NULL);
    gg_gguf_put_f32(turned.w, "phi3.rope.scaling.attn_factor", 2.0f, NULL);
    gg_gguf_put_f32(scaled.w, "phi3.attention.scale", 4.0f / 4.0f, NULL); // 1 / sqrt(16), times 4
    float *a = logits_of_variant(&turned, N_TEXT), *b = logits_of_variant(&scaled, N_TEXT);
    cr_expect(same_rows(a, b, 0, N_TEXT));
    free(a);
    free(b);
}

static double largest_difference(const float *a, const float *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n * n_vocab; i++) {
        double difference = (double)a[i] - (double)b[i];
        difference = difference < 0 ? -difference : difference;
        worst = difference > worst ? difference : worst;
    }
    return worst;
}

static float *logits_of_base_one(uint32_t n_rotary, const float *divisors)
{
    variant v = variant_of(paths[MISTRAL], "llama.rope.freq_base llama.rope.dimension_count");
    gg_gguf_put_f32(v.w, "llama.rope.freq_base", 1.0f, NULL);
    gg_gguf_put_u32(v.w, "llama.rope.dimension_count", n_rotary, NULL);
    if (divisors)
        variant_put_floats(&v, "rope_freqs.weight", divisors, 16);
    return logits_of_variant(&v, 40);
}

// With base 1 all pairs turn alike: half the rotary width is the other half almost standing still.
Test(meaning, elements_beyond_the_rotary_width_do_not_turn)
{
    float divisors[16];
    for (size_t i = 0; i < 16; i++)
        divisors[i] = i < 8 ? 1.0f : 1e6f;
    float *whole = logits_of_base_one(32, NULL), *half = logits_of_base_one(16, NULL);
    float *slow = logits_of_base_one(32, divisors);
    cr_expect_lt(largest_difference(slow, half, 40), 0.05);
    cr_expect_gt(largest_difference(whole, half, 40), 0.5);
    free(whole);
    free(half);
    free(slow);
}

// Vectors of 16 bits are converted.
Test(meaning, norms_may_be_f16_or_bf16)
{
    static const char *const names[] = {"blk.1.attn_q_norm.weight", "blk.2.ffn_norm.weight"};
    float *plain = logits_of(paths[QWEN3], 20);
    for (size_t i = 0; i < 4; i++) {
        variant v = variant_of(paths[QWEN3], names[i / 2]);
        const gg_tensor *t = gg_gguf_find(v.file, names[i / 2]);
        uint16_t half[64];
        cr_assert_leq(t->dims[0], 64);
        for (size_t k = 0; k < t->dims[0]; k++) { // exact in both, by the file's making
            float value;
            uint32_t bits;
            memcpy(&value, t->data + 4 * k, sizeof value);
            memcpy(&bits, t->data + 4 * k, sizeof bits);
            half[k] = i % 2 ? (uint16_t)(bits >> 16) : gg_f32_to_f16(value);
        }
        cr_assert_eq(gg_gguf_put_tensor(v.w, names[i / 2], i % 2 ? GG_BF16 : GG_F16, t->dims, 1,
                                        half, 2 * t->dims[0], NULL),
                     GORGON_OK);
        float *got = logits_of_variant(&v, 20);
        cr_expect(same_rows(plain, got, 0, 20), "%s, %zu", names[i / 2], i % 2);
        free(got);
    }
    free(plain);
}

// ---- what is refused

static void expect_refused(variant *v, gorgon_status status, const char *words)
{
    gorgon_error err = {0};
    gorgon_model *opened = NULL;
    variant_write(v);
    cr_expect_eq(gorgon_model_open(v->path, 1, &opened, &err), status, "'%s'", err.message);
    cr_expect_null(opened);
    cr_expect_not_null(strstr(err.message, words), "expected '%s' in '%s'", words, err.message);
    cr_expect_not_null(strstr(err.message, v->path), "no file name in '%s'", err.message);
    unlink(v->path);
}

Test(refusal, numbers_that_change_the_result)
{
    static const struct {
        size_t model;
        const char *key;
        float value;
        const char *words;
    } cases[] = {
        {GEMMA3, "gemma3.final_logit_softcapping", 30, "final_logit_softcapping is 30"},
        {GEMMA3, "gemma3.attn_logit_softcapping", 50, "attn_logit_softcapping is 50"},
        {LLAMA, "llama.expert_count", 8, "expert_count is 8"},
        {LLAMA, "llama.attention.causal", 0, "attention.causal is 0"},
        {LLAMA, "llama.logit_scale", 0.5, "key 'llama.logit_scale' is not one"},
        {QWEN3, "qwen3.rope.scaling.yarn_beta_fast", 32, "yarn_beta_fast' is not one"},
        {LLAMA, "llama.rope.scaling.factor", 0, "factor is 0, expected 0.25"},
        {LLAMA, "llama.rope.freq_base_swa", 1e4, "key 'llama.rope.freq_base_swa' is not one"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        variant v = variant_of(paths[cases[i].model], NULL);
        gg_gguf_put_f32(v.w, cases[i].key, cases[i].value, NULL);
        bool range = strstr(cases[i].words, "expected");
        expect_refused(&v, range ? GORGON_ERROR_FORMAT : GORGON_ERROR_UNSUPPORTED, cases[i].words);
    }
}

Test(refusal, indifferent_values_are_taken)
{
    variant v = variant_of(paths[GEMMA3], NULL);
    gg_gguf_put_f32(v.w, "gemma3.final_logit_softcapping", 0, NULL);
    gg_gguf_put_u32(v.w, "gemma3.expert_count", 0, NULL);
    gg_gguf_put_bool(v.w, "gemma3.attention.causal", true, NULL);
    gg_gguf_put_u32(v.w, "gemma3.vocab_size", 448, NULL);
    gg_gguf_put_string(v.w, "gemma3.rope.scaling.type", "none", NULL);
    gg_gguf_put_u32(v.w, "other.logit_scale", 3, NULL);
    float *plain = logits_of(paths[GEMMA3], 20), *got = logits_of_variant(&v, 20);
    cr_expect(same_rows(plain, got, 0, 20));
    free(plain);
    free(got);
}

Test(refusal, scalings_and_windows_that_are_not_known)
{
    variant yarn = variant_of(paths[QWEN2], NULL);
    gg_gguf_put_string(yarn.w, "qwen2.rope.scaling.type", "yarn", NULL);
    gg_gguf_put_f32(yarn.w, "qwen2.rope.scaling.factor", 4, NULL);
    expect_refused(&yarn, GORGON_ERROR_UNSUPPORTED, "rope scaling 'yarn' by 4 is not supported");
    variant longrope = variant_of(paths[QWEN2], NULL);
    gg_gguf_put_string(longrope.w, "qwen2.rope.scaling.type", "longrope", NULL);
    expect_refused(&longrope, GORGON_ERROR_UNSUPPORTED, "'longrope'");
    variant window = variant_of(paths[QWEN2], NULL);
    gg_gguf_put_u32(window.w, "qwen2.attention.sliding_window", 128, NULL);
    expect_refused(&window, GORGON_ERROR_UNSUPPORTED, "sliding_window is 128, expected none below");
    variant absent = variant_of(paths[GEMMA3], "gemma3.attention.sliding_window");
    expect_refused(&absent, GORGON_ERROR_FORMAT, "'gemma3.attention.sliding_window' is missing");
    variant pattern = variant_of(paths[GEMMA3], NULL);
    gg_gguf_put_array_u32(pattern.w, "gemma3.attention.sliding_window_pattern",
                          (const uint32_t[]){1, 0}, 2, NULL);
    expect_refused(&pattern, GORGON_ERROR_FORMAT, "expected 7 elements, got 2");
    variant name = variant_of(paths[QWEN2], "general.architecture");
    gg_gguf_put_string(name.w, "general.architecture", "gemma2", NULL);
    expect_refused(&name, GORGON_ERROR_UNSUPPORTED,
                   "'gemma2', expected one of llama, qwen2, qwen3, gemma3, phi3");
}

Test(refusal, tensors_too_few_or_too_many)
{
    static const struct {
        size_t model;
        const char *dropped, *added;
        size_t n;
        float value;
        gorgon_status status;
        const char *words;
    } cases[] = {
        {QWEN2, "blk.1.attn_k.bias", NULL, 0, 0, GORGON_ERROR_FORMAT, "blk.1.attn_k.bias"},
        {QWEN3, "blk.0.attn_q_norm.weight", NULL, 0, 0, GORGON_ERROR_FORMAT, "attn_q_norm.weight"},
        {GEMMA3, "blk.6.post_ffw_norm.weight", NULL, 0, 0, GORGON_ERROR_FORMAT, "post_ffw_norm"},
        {PHI3, "blk.0.attn_qkv.weight", NULL, 0, 0, GORGON_ERROR_FORMAT, "blk.0.attn_qkv.weight"},
        {MISTRAL, NULL, "blk.0.attn_q.bias", 32, 1, GORGON_ERROR_UNSUPPORTED,
         "tensor 'blk.0.attn_q.bias' is not part of a llama model"},
        {LLAMA, NULL, "blk.2.attn_norm.weight", 32, 1, GORGON_ERROR_FORMAT,
         "block_count contradicts it"},
        {QWEN2, NULL, "rope_freqs.weight", 8, 1, GORGON_ERROR_UNSUPPORTED, "rope_freqs.weight"},
        {PHI3, NULL, "rope_factors_long.weight", 8, 1, GORGON_ERROR_FORMAT, "rope_factors_short"},
        {MISTRAL, NULL, "rope_freqs.weight", 8, 1, GORGON_ERROR_FORMAT,
         "shape [8, 1], expected [16"},
        {MISTRAL, NULL, "rope_freqs.weight", 16, 0, GORGON_ERROR_FORMAT,
         "element 0 of 'rope_freqs"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float values[32];
        for (size_t k = 0; k < 32; k++)
            values[k] = cases[i].value;
        variant v = variant_of(paths[cases[i].model], cases[i].dropped);
        if (cases[i].added)
            variant_put_floats(&v, cases[i].added, values, cases[i].n);
        expect_refused(&v, cases[i].status, cases[i].words);
    }
}
