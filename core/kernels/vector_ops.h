// Elementwise kernels and reductions in 16 lanes, written over simd_*.h; included by one source
// per level. Same operations in the same order as scalar.c.
#ifndef GG_KERNELS_VECTOR_OPS_H
#define GG_KERNELS_VECTOR_OPS_H

INLINE vf vf_exp(vf x)
{
    x = vf_max(x, vf_set1(GG_EXP_MIN));
    x = vf_min(x, vf_set1(GG_EXP_MAX));
    const vf magic = vf_set1(GG_EXP_MAGIC);
    const vf n = vf_sub(vf_fma(x, vf_set1(GG_EXP_LOG2E), magic), magic);
    vf r = vf_fma(n, vf_set1(-GG_EXP_LN2_HI), x);
    r = vf_fma(n, vf_set1(-GG_EXP_LN2_LO), r);
    vf p = vf_fma(vf_set1(GG_EXP_P7), r, vf_set1(GG_EXP_P6));
    p = vf_fma(p, r, vf_set1(GG_EXP_P5));
    p = vf_fma(p, r, vf_set1(GG_EXP_P4));
    p = vf_fma(p, r, vf_set1(GG_EXP_P3));
    p = vf_fma(p, r, vf_set1(GG_EXP_P2));
    p = vf_fma(p, r, vf_set1(1.0f));
    p = vf_fma(p, r, vf_set1(1.0f));
    return vf_scale_exp(p, n);
}

INLINE vf vf_silu(vf x)
{
    return vf_div(x, vf_add(vf_set1(1.0f), vf_exp(vf_negate(x))));
}

INLINE vf vf_gelu(vf x)
{
    const vf slope = vf_fma(vf_mul(x, x), vf_set1(GG_GELU_3), vf_set1(GG_GELU_1));
    return vf_div(x, vf_add(vf_set1(1.0f), vf_exp(vf_negate(vf_mul(x, slope)))));
}

// Joins 16 partial sums: i with i + 8, then i + 4, i + 2, i + 1.
INLINE float vf_join(vf x)
{
    const __m256 s8 = _mm256_add_ps(low_half(x), high_half(x));
    const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}

// Largest lane; -0 comes out as +0.
INLINE float vf_largest(vf x)
{
    const __m256 m8 = _mm256_max_ps(low_half(x), high_half(x));
    const __m128 m4 = _mm_max_ps(_mm256_castps256_ps128(m8), _mm256_extractf128_ps(m8, 1));
    const __m128 m2 = _mm_max_ps(m4, _mm_movehl_ps(m4, m4));
    return _mm_cvtss_f32(_mm_max_ss(m2, _mm_shuffle_ps(m2, m2, 1))) + 0.0f;
}

INLINE __m128i fold_add(__m128i x, int is_max)
{
    __m128i y = _mm_shuffle_epi32(x, 0x4e);
    x = is_max ? _mm_max_epi32(x, y) : _mm_add_epi32(x, y);
    y = _mm_shuffle_epi32(x, 0xb1);
    return is_max ? _mm_max_epi32(x, y) : _mm_add_epi32(x, y);
}

INLINE int32_t vi_sum(vi x)
{
    const __m256i s = _mm256_add_epi32(vi_low(x), vi_high(x));
    return _mm_cvtsi128_si32(
        fold_add(_mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1)), 0));
}

INLINE int32_t vi_largest(vi x)
{
    const __m256i s = _mm256_max_epi32(vi_low(x), vi_high(x));
    return _mm_cvtsi128_si32(
        fold_add(_mm_max_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1)), 1));
}

INLINE void quantize_block(const float *x, int8_t *q, float *d, float *s, int32_t *sum,
                           int32_t *half)
{
    const vf x0 = vf_load(x), x1 = vf_load(x + 16);
    const vi magnitude = vi_set1(0x7fffffff);
    const int32_t largest =
        vi_largest(vi_max(vi_and(vf_bits(x0), magnitude), vi_and(vf_bits(x1), magnitude)));
    const float amax = gg_bits_float((uint32_t)largest);
    if (largest >= 0x7f800000 || amax < GG_QUANTIZE_MIN) {
        memset(q, 0, GG_BLOCK);
        *sum = *half = 0;
        *d = *s = largest >= 0x7f800000 ? gg_bits_float(0x7fc00000u) : 0.0f;
        return;
    }
    const vf inverse = vf_set1(127.0f / amax);
    const vi q0 = vf_round(vf_mul(x0, inverse)), q1 = vf_round(vf_mul(x1, inverse));
    vi_store_i8(q, q0);
    vi_store_i8(q + 16, q1);
    *half = vi_sum(q0);
    *sum = *half + vi_sum(q1);
    *d = amax / 127.0f;
    *s = *d * (float)*sum;
}

static void quantize(const float *x, size_t ldx, size_t rows, const gg_qrows *out)
{
    const size_t n_blocks = out->n_in / GG_BLOCK;
    for (size_t r = 0; r < rows; r++) {
        for (size_t b = 0; b < n_blocks; b++) {
            const size_t i = r * n_blocks + b;
            quantize_block(x + r * ldx + b * GG_BLOCK, out->q + i * GG_BLOCK, &out->d[i],
                           &out->s[i], &out->sum[i], &out->half[i]);
        }
    }
}

static void rms_norm(const float *x, const float *weight, float eps, size_t n, float *y)
{
    vf part = vf_set1(0.0f);
    for (size_t i = 0; i < n; i += 16) {
        const vf v = vf_load_n(x + i, n - i);
        part = vf_fma(v, v, part);
    }
    const float mean = vf_join(part) / (float)n;
    const vf factor = vf_set1(1.0f / __builtin_sqrtf(mean + eps));
    for (size_t i = 0; i < n; i += 16) {
        const vf v = vf_mul(vf_load_n(x + i, n - i), factor);
        vf_store_n(y + i, vf_mul(v, vf_load_n(weight + i, n - i)), n - i);
    }
}

static void rope(float *x, size_t n_heads, size_t head_dim, const float *cos, const float *sin)
{
    for (size_t h = 0; h < n_heads; h++, x += head_dim) {
        for (size_t i = 0; i < head_dim; i += 16) {
            const size_t n = head_dim - i;
            const vf v = vf_load_n(x + i, n);
            const vf c = vf_load_doubled_n(cos + i / 2, n / 2 < 8 ? n / 2 : 8);
            const vf s = vf_load_doubled_n(sin + i / 2, n / 2 < 8 ? n / 2 : 8);
            vf_store_n(x + i, vf_fmaddsub(v, c, vf_mul(vf_swap_pairs(v), s)), n);
        }
    }
}

static void scale(float *x, size_t n, float factor)
{
    for (size_t i = 0; i < n; i += 16)
        vf_store_n(x + i, vf_mul(vf_load_n(x + i, n - i), vf_set1(factor)), n - i);
}

static void add(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i += 16)
        vf_store_n(x + i, vf_add(vf_load_n(x + i, n - i), vf_load_n(y + i, n - i)), n - i);
}

static void silu_mul(const float *gate, const float *up, size_t n, float *y)
{
    for (size_t i = 0; i < n; i += 16) {
        const vf v = vf_silu(vf_load_n(gate + i, n - i));
        vf_store_n(y + i, vf_mul(v, vf_load_n(up + i, n - i)), n - i);
    }
}

static void gelu_mul(const float *gate, const float *up, size_t n, float *y)
{
    for (size_t i = 0; i < n; i += 16) {
        const vf v = vf_gelu(vf_load_n(gate + i, n - i));
        vf_store_n(y + i, vf_mul(v, vf_load_n(up + i, n - i)), n - i);
    }
}

static void silu_residual(const float *x, const float *z, const float *bias, size_t n, float *y)
{
    for (size_t i = 0; i < n; i += 16) {
        const vf v = vf_silu(vf_add(vf_load_n(z + i, n - i), vf_load_n(bias + i, n - i)));
        vf_store_n(y + i, vf_add(vf_load_n(x + i, n - i), v), n - i);
    }
}

static void to_f16(const float *x, size_t n, uint16_t *y)
{
    for (size_t i = 0; i < n; i += 16)
        vf_store_f16_n(y + i, vf_load_n(x + i, n - i), n - i);
}

static void from_f16(const uint16_t *x, size_t n, float *y)
{
    for (size_t i = 0; i < n; i += 16)
        vf_store_n(y + i, vf_load_f16_n(x + i, n - i), n - i);
}

// Lane-wise maximum of x[n]; NaN is passed over.
INLINE vf lanes_max(const float *x, size_t n)
{
    const vf least = vf_set1(-__builtin_inff());
    vf max = least;
    for (size_t i = 0; i + 16 <= n; i += 16)
        max = vf_max(vf_load(x + i), max);
    if (n % 16 != 0) {
        const size_t i = n / 16 * 16;
        max = vf_max(vf_keep_n(vf_load_n(x + i, n - i), least, n - i), max);
    }
    return max;
}

static void block_max(const float *x, size_t n, float *out)
{
    for (size_t i = 0; i < n; i += 64)
        out[i / 64] = vf_largest(lanes_max(x + i, n - i < 64 ? n - i : 64));
}

// Writes exp(x - max) to y, which may be x, and adds it to 16 partial sums; returns their join.
INLINE float exp_sum(const float *x, size_t n, float max, float *y)
{
    vf part = vf_set1(0.0f);
    for (size_t i = 0; i < n; i += 16) {
        vf v = vf_exp(vf_sub(vf_load_n(x + i, n - i), vf_set1(max)));
        if (n - i < 16)
            v = vf_keep_n(v, vf_set1(0.0f), n - i);
        if (y)
            vf_store_n(y + i, v, n - i);
        part = vf_add(part, v);
    }
    return vf_join(part);
}

static float exp_shift(const float *x, size_t n, float max, float *y)
{
    return exp_sum(x, n, max, y);
}

static float log_sum_exp(const float *x, size_t n)
{
    const float max = vf_largest(lanes_max(x, n));
    if ((gg_float_bits(max) & 0x7fffffffu) == 0x7f800000u)
        return max;
    return gg_add_log(max, exp_sum(x, n, max, NULL));
}

static size_t argmax(const float *x, size_t n)
{
    static const int32_t lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const vf least = vf_set1(-__builtin_inff());
    vf best = least;
    vi best_index = vi_set1(0), index = vi_load((const uint8_t *)lanes);
    for (size_t i = 0; i < n; i += 16) {
        vf v = vf_load_n(x + i, n - i);
        if (n - i < 16)
            v = vf_keep_n(v, least, n - i);
        vf_take_greater(v, index, &best, &best_index);
        index = vi_add(index, vi_set1(16));
    }
    float value[16];
    int32_t at[16];
    vf_store(value, best);
    vi_store(at, best_index);
    size_t winner = 0;
    for (size_t i = 1; i < 16; i++) {
        if (value[i] > value[winner] || (value[i] == value[winner] && at[i] < at[winner]))
            winner = i;
    }
    return (size_t)at[winner];
}

static void adamw(const gg_adamw_constants *c, const float *gradient, size_t n, float *p, float *m,
                  float *v)
{
    for (size_t i = 0; i < n; i += 16) {
        const size_t left = n - i;
        const vf g = vf_mul(vf_load_n(gradient + i, left), vf_set1(c->clip));
        const vf first =
            vf_add(vf_mul(vf_set1(c->beta1), vf_load_n(m + i, left)), vf_mul(vf_set1(c->keep1), g));
        const vf second = vf_add(vf_mul(vf_set1(c->beta2), vf_load_n(v + i, left)),
                                 vf_mul(vf_set1(c->keep2), vf_mul(g, g)));
        const vf root = vf_add(vf_sqrt(vf_mul(second, vf_set1(c->root2))), vf_set1(c->epsilon));
        const vf old = vf_load_n(p + i, left);
        const vf step =
            vf_add(vf_div(vf_mul(vf_set1(c->rate1), first), root), vf_mul(vf_set1(c->decay), old));
        vf_store_n(m + i, first, left);
        vf_store_n(v + i, second, left);
        vf_store_n(p + i, vf_sub(old, step), left);
    }
}

static size_t float_multiply_adds(size_t steps, uint32_t *seed)
{
    enum { CHAINS = 6, LANES = 16 }; // twice as many where vf is one register
    vf acc[CHAINS * 2];
    const vf w = vf_set1(1.0f + (float)(*seed & 7) * 0x1p-20f);
    UNROLL for (int c = 0; c < CHAINS * 2; c++) acc[c] = vf_set1((float)c);
    for (size_t i = 0; i < steps; i++) {
        UNROLL for (int c = 0; c < CHAINS; c++) acc[c] = vf_fma(acc[c], w, w);
        if (ATTEND_HEADS > 2) {
            UNROLL for (int c = CHAINS; c < CHAINS * 2; c++) acc[c] = vf_fma(acc[c], w, w);
        }
    }
    float out[LANES];
    UNROLL for (int c = 1; c < CHAINS * 2; c++) acc[0] = vf_add(acc[0], acc[c]);
    vf_store(out, acc[0]);
    *seed ^= gg_float_bits(out[0]);
    return steps * LANES * (ATTEND_HEADS > 2 ? CHAINS * 2 : CHAINS);
}

#endif
