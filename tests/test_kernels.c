// Every kernel at every level against the scalar specification, bit for bit: odd sizes, strides,
// guard pages, extremes, every row count; and the specification against double precision.
#include "kernels_common.h"

#include "core/error.h"

// Three input vectors of n floats each and what a kernel made of them.
typedef struct op_case {
    const float *a, *b, *c;
    size_t n;
} op_case;

static void run_rms_norm(const gg_kernels *k, op_case in, float *y)
{
    k->rms_norm(in.a, in.b, 1e-5f, in.n, y);
}

static void run_rms_norm_in_place(const gg_kernels *k, op_case in, float *y)
{
    memcpy(y, in.a, in.n * sizeof *y);
    k->rms_norm(y, in.b, 1e-5f, in.n, y);
}

static void run_rope(const gg_kernels *k, op_case in, float *y)
{
    memcpy(y, in.a, in.n * sizeof *y);
    k->rope(y, 1, in.n / 2 * 2, in.b, in.c);
}

static void run_rope_heads(const gg_kernels *k, op_case in, float *y)
{
    memcpy(y, in.a, in.n * sizeof *y);
    k->rope(y, 3, in.n / 6 * 2, in.b, in.c);
}

static void run_scale(const gg_kernels *k, op_case in, float *y)
{
    memcpy(y, in.a, in.n * sizeof *y);
    k->scale(y, in.n, 0.3f);
}

static void run_add(const gg_kernels *k, op_case in, float *y)
{
    memcpy(y, in.a, in.n * sizeof *y);
    k->add(y, in.b, in.n);
}

static void run_silu_mul(const gg_kernels *k, op_case in, float *y)
{
    k->silu_mul(in.a, in.b, in.n, y);
}

static void run_gelu_mul(const gg_kernels *k, op_case in, float *y)
{
    k->gelu_mul(in.a, in.b, in.n, y);
}

static void run_silu_residual(const gg_kernels *k, op_case in, float *y)
{
    k->silu_residual(in.a, in.b, in.c, in.n, y);
}

static void run_silu_residual_in_place(const gg_kernels *k, op_case in, float *y)
{
    memcpy(y, in.a, in.n * sizeof *y);
    k->silu_residual(y, in.b, in.c, in.n, y);
}

static void run_to_f16(const gg_kernels *k, op_case in, float *y)
{
    k->to_f16(in.a, in.n, (uint16_t *)y);
}

static void run_from_f16(const gg_kernels *k, op_case in, float *y)
{
    k->from_f16((const uint16_t *)in.a, in.n, y);
}

static void run_argmax(const gg_kernels *k, op_case in, float *y)
{
    y[0] = (float)k->argmax(in.a, in.n);
}

static void run_block_max(const gg_kernels *k, op_case in, float *y)
{
    k->block_max(in.a, in.n, y);
}

static void run_log_sum_exp(const gg_kernels *k, op_case in, float *y)
{
    y[0] = k->log_sum_exp(in.a, in.n);
}

static void run_exp_shift(const gg_kernels *k, op_case in, float *y)
{
    float sum = k->exp_shift(in.a, in.n, 1.5f, y);
    y[in.n / 2] += sum;
}

static void run_exp_shift_in_place(const gg_kernels *k, op_case in, float *y)
{
    memcpy(y, in.a, in.n * sizeof *y);
    float sum = k->exp_shift(y, in.n, 0.25f, y);
    y[in.n / 2] += sum;
}

// A third of y each: weights, moments. Three updates, so that the moments take part.
static void run_adamw(const gg_kernels *k, op_case in, float *y)
{
    static const gg_adamw_constants constants = {0.9f,  0.999f, 0.1f,  0.001f, 0.7f,
                                                 0.01f, 10.0f,  1e-8f, 0.002f};
    const size_t n = in.n / 3;
    memcpy(y, in.a, n * sizeof *y);
    memset(y + n, 0, 2 * n * sizeof *y);
    for (size_t i = 0; i < 3; i++)
        k->adamw(&constants, in.b + i * n, n, y, y + n, y + 2 * n);
}

#define OPERATIONS(X)                                                                              \
    X(rms_norm)                                                                                    \
    X(rms_norm_in_place)                                                                           \
    X(rope)                                                                                        \
    X(rope_heads)                                                                                  \
    X(scale)                                                                                       \
    X(add)                                                                                         \
    X(silu_mul)                                                                                    \
    X(gelu_mul)                                                                                    \
    X(silu_residual)                                                                               \
    X(silu_residual_in_place)                                                                      \
    X(to_f16)                                                                                      \
    X(from_f16)                                                                                    \
    X(argmax)                                                                                      \
    X(block_max)                                                                                   \
    X(log_sum_exp)                                                                                 \
    X(exp_shift)                                                                                   \
    X(exp_shift_in_place)                                                                          \
    X(adamw)

typedef void (*op_run)(const gg_kernels *k, op_case in, float *y);

#define OPERATION_ENTRY(name) {#name, run_##name},
static const struct {
    const char *name;
    op_run run;
} operations[] = {OPERATIONS(OPERATION_ENTRY)};

enum {
    N_OPERATIONS = sizeof operations / sizeof operations[0],
    MAX_N = 1536,
};

// One kernel at all levels on one input; the buffers touch guard pages.
static void check_operation(size_t op, const float *values, size_t n, bool at_end)
{
    guards g = {.n = 0};
    const size_t bytes = n * sizeof(float);
    const op_case in = {guard_copy(&g, values, bytes, at_end),
                        guard_copy(&g, values + MAX_N, bytes, at_end),
                        guard_copy(&g, values + MAX_N / 2, bytes, at_end), n};
    float *want = guard_alloc(&g, bytes, at_end), *got = guard_alloc(&g, bytes, at_end);
    operations[op].run(&gg_kernels_scalar, in, want);
    for (size_t l = 0; test_level(l); l++) {
        memset(got, 0, bytes);
        operations[op].run(test_level(l), in, got);
        const size_t i = first_difference(want, got, n);
        cr_assert_eq(i, n, "%s at %s, n %zu: element %zu is %a, expected %a", operations[op].name,
                     test_level(l)->name, n, i, (double)got[i], (double)want[i]);
    }
    guard_free(&g);
}

static void check_operations(const float *values)
{
    for (size_t op = 0; op < N_OPERATIONS; op++) {
        for (size_t n = 1; n <= 70; n++)
            check_operation(op, values, n, n % 2 == 0);
        static const size_t sizes[] = {127, 128, 129, 576, 1000, 1536};
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            check_operation(op, values, sizes[i], true);
            check_operation(op, values, sizes[i], false);
        }
    }
}

Test(kernels, operations_equal_scalar)
{
    static float values[2 * MAX_N];
    uint64_t seed = 1;
    for (size_t i = 0; i < 2 * MAX_N; i++)
        values[i] = random_float(&seed) * 8.0f;
    check_operations(values);
}

Test(kernels, operations_equal_scalar_on_extremes)
{
    static float values[2 * MAX_N];
    uint64_t seed = 2;
    for (size_t i = 0; i < 2 * MAX_N; i++)
        values[i] = random_extreme(&seed);
    check_operations(values);
}

Test(kernels, operations_equal_scalar_on_infinities_and_nan)
{
    static float values[2 * MAX_N];
    uint64_t seed = 3;
    for (size_t i = 0; i < 2 * MAX_N; i++) {
        const uint32_t r = next_random(&seed) % 16;
        values[i] = r == 0   ? INFINITY
                    : r == 1 ? -INFINITY
                    : r == 2 ? NAN
                    : r == 3 ? 0.0f
                    : r == 4 ? -0.0f
                             : random_float(&seed);
    }
    check_operations(values);
    for (size_t i = 0; i < 2 * MAX_N; i++)
        values[i] = i % 3 == 0 ? NAN : -INFINITY;
    check_operations(values);
}

// Rows of `n_in` values, `ldx` apart, quantised at a level into guarded buffers.
static gg_qrows quantize_guarded(guards *g, const gg_kernels *k, const float *x, size_t ldx,
                                 size_t rows, size_t n_in, bool at_end)
{
    const size_t blocks = rows * n_in / GG_BLOCK;
    const gg_qrows out = {n_in,
                          guard_alloc(g, rows * n_in, at_end),
                          guard_alloc(g, blocks * sizeof(float), at_end),
                          guard_alloc(g, blocks * sizeof(float), at_end),
                          guard_alloc(g, blocks * sizeof(int32_t), at_end),
                          guard_alloc(g, blocks * sizeof(int32_t), at_end)};
    k->quantize(x, ldx, rows, &out);
    return out;
}

static void check_quantize(const float *values, size_t rows, size_t n_in, size_t ldx, bool at_end)
{
    guards g = {.n = 0};
    const size_t blocks = rows * n_in / GG_BLOCK;
    const float *x = guard_copy(&g, values, ((rows - 1) * ldx + n_in) * sizeof(float), at_end);
    const gg_qrows want = quantize_guarded(&g, &gg_kernels_scalar, x, ldx, rows, n_in, at_end);
    for (size_t l = 0; test_level(l); l++) {
        const gg_qrows got = quantize_guarded(&g, test_level(l), x, ldx, rows, n_in, at_end);
        cr_assert_arr_eq(got.q, want.q, rows * n_in, "q at %s", test_level(l)->name);
        cr_assert_eq(first_difference(want.d, got.d, blocks), blocks);
        cr_assert_eq(first_difference(want.s, got.s, blocks), blocks);
        cr_assert_arr_eq(got.sum, want.sum, blocks * sizeof(int32_t));
        cr_assert_arr_eq(got.half, want.half, blocks * sizeof(int32_t));
    }
    guard_free(&g);
}

Test(kernels, quantize_equals_scalar)
{
    static float values[8 * 700];
    for (uint64_t seed = 4; seed < 7; seed++) {
        uint64_t state = seed;
        for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
            values[i] = seed == 4 ? random_float(&state) : random_extreme(&state);
        if (seed == 6) {
            values[40] = INFINITY;
            values[100] = NAN;
            values[200] = -NAN;
        }
        for (size_t at_end = 0; at_end < 2; at_end++) {
            check_quantize(values, 1, 32, 32, at_end);
            check_quantize(values, 3, 96, 101, at_end);
            check_quantize(values, 8, 576, 700, at_end);
        }
    }
}

Test(kernels, quantize_is_exact_where_it_can_be)
{
    float x[32] = {0}, d, s;
    int8_t q[32];
    int32_t sum, half;
    const gg_qrows out = {32, q, &d, &s, &sum, &half};
    for (size_t i = 0; i < 32; i++)
        x[i] = (float)((int)i - 16) * 0.5f; // largest magnitude 8 becomes 127
    gg_kernels_scalar.quantize(x, 32, 1, &out);
    cr_assert_eq(d, 8.0f / 127.0f);
    cr_assert_eq(q[0], -127);
    cr_assert_eq(q[16], 0);
    int expected = 0, first = 0;
    for (size_t i = 0; i < 32; i++) {
        cr_assert_eq(q[i], (int)nearbyint((double)x[i] * 127.0 / 8.0));
        expected += q[i];
        first += i < 16 ? q[i] : 0;
    }
    cr_assert_eq(sum, expected);
    cr_assert_eq(half, first);
    cr_assert_eq(s, d * (float)expected);
    x[7] = NAN;
    gg_kernels_scalar.quantize(x, 32, 1, &out);
    cr_assert(isnan(d) && isnan(s) && sum == 0 && half == 0 && q[0] == 0);
    memset(x, 0, sizeof x);
    gg_kernels_scalar.quantize(x, 32, 1, &out);
    cr_assert(d == 0 && s == 0 && sum == 0 && half == 0 && q[0] == 0);
}

// ---- accuracy of the specification ----

Test(kernels, exp_is_accurate_at_every_level)
{
    for (size_t l = 0; test_level(l); l++) {
        double worst = 0;
        for (float x = -87.3f; x < 88.7f; x += 0.00137f) {
            float y;
            test_level(l)->exp_shift(&x, 1, 0.0f, &y);
            const double error = fabs((double)y / exp((double)x) - 1.0);
            worst = error > worst ? error : worst;
        }
        cr_assert_lt(worst, 2e-7, "%s: relative error %g", test_level(l)->name, worst);
        // Gradual below 2^-126: within one unit of 2^-149.
        for (float x = -103.9f; x < -87.3f; x += 0.0071f) {
            float y;
            test_level(l)->exp_shift(&x, 1, 0.0f, &y);
            cr_assert_lt(fabs((double)y - exp((double)x)), 1.5e-45, "exp(%g)", (double)x);
        }
        const float edge[] = {0.0f, -INFINITY, -104.0f, -3e38f, 89.0f, 3e38f, INFINITY};
        const float want[] = {1.0f, 0.0f, 0.0f, 0.0f, INFINITY, INFINITY, INFINITY};
        float y[7];
        test_level(l)->exp_shift(edge, 7, 0.0f, y);
        cr_assert_eq(first_difference(want, y, 7), 7);
    }
}

Test(kernels, reductions_are_accurate)
{
    enum {
        N = 1000,
    };
    static float x[N], weight[N], y[N], z[N];
    uint64_t seed = 8;
    double sum_exp = 0, squares = 0;
    for (size_t i = 0; i < N; i++) {
        x[i] = random_float(&seed) * 6.0f;
        weight[i] = random_float(&seed);
        sum_exp += exp((double)x[i]);
        squares += (double)x[i] * (double)x[i];
    }
    const gg_kernels *k = &gg_kernels_scalar;
    cr_assert_float_eq((double)k->log_sum_exp(x, N), log(sum_exp), 2e-6);
    cr_assert_float_eq((double)k->exp_shift(x, N, 0.0f, y), sum_exp, 1e-5 * sum_exp);
    k->rms_norm(x, weight, 1e-5f, N, y);
    const double factor = 1.0 / sqrt(squares / N + 1e-5);
    for (size_t i = 0; i < N; i++)
        cr_assert_float_eq((double)y[i], (double)x[i] * factor * (double)weight[i], 2e-6);
    k->silu_mul(x, weight, N, y);
    k->silu_residual(x, x, weight, N, z);
    for (size_t i = 0; i < N; i++) {
        const double a = (double)x[i], b = a + (double)weight[i];
        cr_assert_float_eq((double)y[i], a / (1 + exp(-a)) * (double)weight[i], 2e-6);
        cr_assert_float_eq((double)z[i], a + b / (1 + exp(-b)), 4e-6);
    }
    k->gelu_mul(x, weight, N, y);
    for (size_t i = 0; i < N; i++) {
        const double a = (double)x[i], inner = sqrt(2 / M_PI) * (a + 0.044715 * a * a * a);
        cr_assert_float_eq((double)y[i], 0.5 * a * (1 + tanh(inner)) * (double)weight[i], 2e-6);
    }
    // One value and a long tail of equal ones: ln n on top of the maximum.
    for (size_t i = 0; i < N; i++)
        x[i] = -3.0f;
    cr_assert_float_eq((double)k->log_sum_exp(x, N), -3.0 + log(N), 1e-6);
    cr_assert_eq(k->log_sum_exp(x, 1), -3.0f);
}

Test(kernels, rope_rotates_pairs)
{
    float x[4] = {1, 2, 3, 4};
    const float c[2] = {0, 0.6f}, s[2] = {1, 0.8f};
    gg_kernels_scalar.rope(x, 1, 4, c, s);
    cr_assert(x[0] == -2.0f && x[1] == 1.0f);
    cr_assert_float_eq((double)x[2], 3 * 0.6 - 4 * 0.8, 1e-6);
    cr_assert_float_eq((double)x[3], 3 * 0.8 + 4 * 0.6, 1e-6);
}

// ---- choosing among values ----

Test(kernels, argmax_prefers_the_lower_index_and_never_nan)
{
    for (size_t l = 0; test_level(l); l++) {
        const gg_kernels *k = test_level(l);
        float x[100];
        for (size_t i = 0; i < 100; i++)
            x[i] = -1.0f;
        x[37] = x[21] = x[90] = 5.0f;
        x[3] = NAN;
        cr_assert_eq(k->argmax(x, 100), 21);
        cr_assert_eq(k->argmax(x + 22, 78), 15);
        x[21] = -0.0f;
        x[37] = x[90] = 0.0f;
        cr_assert_eq(k->argmax(x, 100), 21);
        for (size_t i = 0; i < 100; i++)
            x[i] = i < 50 ? NAN : -INFINITY;
        cr_assert_eq(k->argmax(x, 100), 0);
    }
}

// The k first of all values in the order (value descending, id ascending), NaN as -inf.
static size_t naive_top_k(const float *x, size_t n, size_t k, uint32_t *ids)
{
    bool taken[700] = {false};
    for (size_t c = 0; c < k && c < n; c++) {
        size_t best = n;
        for (size_t i = 0; i < n; i++) {
            const float v = isnan(x[i]) ? -INFINITY : x[i];
            if (!taken[i] && (best == n || v > (isnan(x[best]) ? -INFINITY : x[best])))
                best = i;
        }
        taken[best] = true;
        ids[c] = (uint32_t)best;
    }
    return k < n ? k : n;
}

Test(kernels, top_k_matches_a_full_sort)
{
    static float x[700], values[700], scratch[11];
    static uint32_t ids[700], want[700];
    uint64_t seed = 11;
    for (size_t round = 0; round < 40; round++) {
        const size_t n = 1 + next_random(&seed) % 700, k = next_random(&seed) % (n + 20);
        for (size_t i = 0; i < n; i++) { // few distinct values: many ties
            const uint32_t r = next_random(&seed) % 40;
            x[i] = r == 0 ? NAN : r == 1 ? -INFINITY : r == 2 ? -0.0f : (float)(r % 12);
        }
        const size_t count = naive_top_k(x, n, k, want);
        for (size_t l = 0; test_level(l); l++) {
            cr_assert_eq(gg_top_k(test_level(l), x, n, k, ids, values, scratch), count);
            for (size_t i = 0; i < count; i++) {
                cr_assert_eq(ids[i], want[i], "n %zu k %zu pick %zu: %u, expected %u", n, k, i,
                             ids[i], want[i]);
                cr_assert_eq(float_bits(values[i]), float_bits(x[ids[i]]));
            }
        }
    }
}

// ---- levels ----

Test(kernels, levels_are_named_and_the_best_is_chosen)
{
    static const char *const names[] = {"scalar", "avx2", "avxvnni", "avx512", "amx"};
    for (size_t l = 0; l < GG_LEVEL_COUNT; l++) {
        gg_level level;
        cr_assert_eq(gg_level_parse(names[l], &level, NULL), GORGON_OK);
        cr_assert_eq(level, (gg_level)l);
        const gg_kernels *k = gg_kernels_get(level);
        cr_assert(l > GG_LEVEL_SCALAR || k);
        cr_assert(level != gg_cpu_level() || k);
        cr_assert(level <= gg_cpu_level() || !k);
        if (k)
            cr_assert(k->level == level && strcmp(k->name, names[l]) == 0);
    }
    gorgon_error err = {0};
    gg_level level = GG_LEVEL_AVX2;
    cr_assert_eq(gg_level_parse("sse9", &level, &err), GORGON_ERROR_ARGUMENT);
    cr_assert(strstr(err.message, "avx512") && strstr(err.message, "sse9"));
    cr_assert_eq(level, GG_LEVEL_AVX2);
    cr_assert_eq(gg_level_parse("", &level, NULL), GORGON_ERROR_ARGUMENT);
}
