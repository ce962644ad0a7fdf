// Models in the types that other tools write: equal to independent software within float error or
// that of int8 activations, the same bits at every level; and models quantised while they are
// opened.
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "gorgon/engine.h"

#define TYPES GG_TEST_DATA "/types/"

enum {
    N = 17,
    MAX_VOCAB = 512,
};

typedef struct golden {
    uint32_t n, vocabulary;
    gorgon_token ids[N];
    float logits[N * MAX_VOCAB];
} golden;

static const char *const names[] = {"llama.Q8_0", "llama.Q4_0", "llama.Q5_0", "llama.Q5_1",
                                    "llama_kq.mix"};
enum { NAMES = sizeof names / sizeof names[0] };

static void read_golden(const char *name, golden *g)
{
    char path[512];
    snprintf(path, sizeof path, TYPES "%s.logits", name);
    FILE *file = fopen(path, "rb");
    cr_assert_not_null(file, "%s", path);
    cr_assert_eq(fread(&g->n, 4, 2, file), 2);
    cr_assert(g->n == N && g->vocabulary <= MAX_VOCAB);
    cr_assert_eq(fread(g->ids, 4, N, file), N);
    cr_assert_eq(fread(g->logits, 4 * g->vocabulary, N, file), N);
    fclose(file);
}

static gorgon_model *open_model(const char *name, const char *quantize)
{
    char path[512];
    gorgon_error err = {0};
    gorgon_model *model = NULL;
    gorgon_model_options options;
    gorgon_model_options_init(&options);
    options.threads = 2;
    options.quantize = quantize;
    snprintf(path, sizeof path, TYPES "%s.gguf", name);
    cr_assert_eq(gorgon_model_open_with(path, &options, &model, &err), GORGON_OK, "%s",
                 err.message);
    return model;
}

// Logits of all positions of g's ids; false if this CPU lacks the level.
static bool compute(const gorgon_model *model, const golden *g, const char *level,
                    gorgon_activations activations, float *logits)
{
    gorgon_engine *engine = NULL;
    gorgon_sequence *s = NULL;
    gorgon_row rows[N];
    gorgon_engine_options options;
    gorgon_engine_options_init(&options);
    options.threads = 1;
    options.cpu_level = level;
    options.activations = activations;
    options.context = 64;
    gorgon_status status = gorgon_engine_create(model, &options, &engine, NULL);
    if (status == GORGON_ERROR_UNSUPPORTED)
        return false;
    cr_assert_eq(status, GORGON_OK);
    cr_assert_eq(gorgon_sequence_create(engine, &s, NULL), GORGON_OK);
    for (size_t i = 0; i < N; i++)
        rows[i] = (gorgon_row){s, g->ids[i], (int32_t)i - 1, GORGON_WANT_LOGITS};
    cr_assert_eq(gorgon_engine_pass(engine, rows, N, NULL), GORGON_OK);
    for (size_t i = 0; i < N; i++)
        memcpy(logits + i * g->vocabulary, gorgon_engine_logits(engine, i),
               g->vocabulary * sizeof *logits);
    gorgon_sequence_free(s);
    gorgon_engine_free(engine);
    return true;
}

static double log_sum_exp(const float *x, size_t n)
{
    double max = (double)x[0], sum = 0;
    for (size_t i = 1; i < n; i++)
        max = fmax(max, (double)x[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp((double)x[i] - max);
    return max + log(sum);
}

// Of one position: rms of the differences over the standard deviation of the wanted logits, and the
// divergence of the distributions, nats.
static void compare(const float *want, const float *got, size_t n, double *rms, double *divergence)
{
    double mean = 0, variance = 0, squares = 0;
    const double want_sum = log_sum_exp(want, n), got_sum = log_sum_exp(got, n);
    *divergence = 0;
    for (size_t i = 0; i < n; i++)
        mean += (double)want[i] / (double)n;
    for (size_t i = 0; i < n; i++) {
        const double difference = (double)got[i] - (double)want[i];
        squares += difference * difference;
        variance += ((double)want[i] - mean) * ((double)want[i] - mean);
        *divergence += exp((double)want[i] - want_sum) * (got_sum - want_sum - difference);
    }
    *rms = sqrt(squares / variance);
}

Test(weight_types, float_activations_equal_independent_software)
{
    static golden g;
    static float logits[N * MAX_VOCAB];
    for (size_t f = 0; f < NAMES; f++) {
        read_golden(names[f], &g);
        gorgon_model *model = open_model(names[f], NULL);
        cr_assert(compute(model, &g, NULL, GORGON_ACTIVATIONS_F32, logits));
        for (size_t i = 0; i < N * g.vocabulary; i++)
            cr_assert_float_eq((double)logits[i], (double)g.logits[i], 1e-3, "%s, %zu", names[f],
                               i);
        gorgon_model_free(model);
    }
}

Test(weight_types, int8_activations_are_near_it)
{
    static golden g;
    static float logits[N * MAX_VOCAB];
    for (size_t f = 0; f < NAMES; f++) {
        double sum = 0;
        read_golden(names[f], &g);
        gorgon_model *model = open_model(names[f], NULL);
        cr_assert(compute(model, &g, NULL, GORGON_ACTIVATIONS_INT8, logits));
        for (size_t i = 0; i < N; i++) {
            double rms, divergence;
            const size_t at = i * g.vocabulary;
            compare(g.logits + at, logits + at, g.vocabulary, &rms, &divergence);
            cr_expect_leq(rms, 0.15, "%s, position %zu: %g", names[f], i, rms);
            sum += divergence;
        }
        cr_expect_leq(sum / N, 0.03, "%s: %g nats", names[f], sum / N);
        gorgon_model_free(model);
    }
}

Test(weight_types, every_level_gives_the_same_bits)
{
    static const char *const levels[] = {"avx2", "avxvnni", "avx512", "amx"};
    static golden g;
    static float want[N * MAX_VOCAB], got[N * MAX_VOCAB];
    for (size_t f = 0; f < NAMES; f++) {
        read_golden(names[f], &g);
        gorgon_model *model = open_model(names[f], NULL);
        for (int float_rows = 0; float_rows < 2; float_rows++) {
            const gorgon_activations a =
                float_rows ? GORGON_ACTIVATIONS_F32 : GORGON_ACTIVATIONS_INT8;
            cr_assert(compute(model, &g, "scalar", a, want));
            for (size_t l = 0; l < sizeof levels / sizeof levels[0]; l++) {
                if (compute(model, &g, levels[l], a, got))
                    cr_expect_arr_eq(want, got, N * g.vocabulary * sizeof *want, "%s at %s",
                                     names[f], levels[l]);
            }
        }
        gorgon_model_free(model);
    }
}

// The files were made by ggml's reference method from the model whose 16-bit form is quantised
// here.
Test(weight_types, quantised_while_opening_equals_the_quantised_file)
{
    static const struct {
        const char *quantize, *file, *type;
    } cases[] = {
        {"q8_0", "llama.Q8_0", "Q8_0"},
        {"q4_0", "llama.Q4_0", "Q4_0"},
        {"q4_k", "llama.Q8_0", "Q8_0"}, // rows of 64 and 160 do not fit
    };
    static golden g;
    static float want[N * MAX_VOCAB], got[N * MAX_VOCAB];
    gorgon_model *plain = open_model("llama.f16", NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gorgon_model_info info;
        read_golden(cases[i].file, &g);
        gorgon_model *file = open_model(cases[i].file, NULL);
        gorgon_model *model = open_model("llama.f16", cases[i].quantize);
        gorgon_model_describe(model, &info);
        cr_expect_str_eq(info.matrix_type, cases[i].type);
        cr_expect_neq(gorgon_model_fingerprint(model).tensors,
                      gorgon_model_fingerprint(plain).tensors);
        cr_assert(compute(file, &g, NULL, GORGON_ACTIVATIONS_INT8, want));
        cr_assert(compute(model, &g, NULL, GORGON_ACTIVATIONS_INT8, got));
        cr_expect_arr_eq(want, got, N * g.vocabulary * sizeof *want, "%s", cases[i].quantize);
        gorgon_model_free(file);
        gorgon_model_free(model);
    }
    gorgon_model_free(plain);
}

Test(weight_types, quantised_tensors_stay_as_they_are)
{
    gorgon_model *plain = open_model("llama_kq.mix", NULL);
    gorgon_model *model = open_model("llama_kq.mix", "q4_k");
    cr_expect_eq(gorgon_model_fingerprint(model).tensors, gorgon_model_fingerprint(plain).tensors);
    gorgon_model_free(plain);
    gorgon_model_free(model);
}

Test(weight_types, unknown_words_and_failing_allocations)
{
    gorgon_error err = {0};
    gorgon_model *model = NULL;
    gorgon_model_options options = {.threads = 1, .quantize = "q5_1"};
    cr_expect_eq(gorgon_model_open_with(TYPES "llama.f16.gguf", &options, &model, &err),
                 GORGON_ERROR_ARGUMENT);
    cr_expect_not_null(strstr(err.message, "q8_0, q4_0 or q4_k, got 'q5_1'"), "%s", err.message);
    options.quantize = "q4_0";
    for (size_t n = 1;; n++) {
        gg_alloc_fail_at(n);
        gorgon_status status =
            gorgon_model_open_with(TYPES "llama.f16.gguf", &options, &model, &err);
        gg_alloc_fail_at(0);
        gorgon_model_free(model);
        if (status == GORGON_OK)
            break;
        cr_assert_eq(status, GORGON_ERROR_MEMORY, "allocation %zu: %s", n, err.message);
        cr_assert(n < 5000);
    }
}
