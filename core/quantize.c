// Rows of floats to the types that gorgon makes itself, and back. Q8_0 and Q4_0 as ggml's reference
// rounds them; Q4_K by the reference's method (weighted least squares over a few candidates), in
// double, so not to the same bits. NaN and infinities give something, whatever it is.
#include <string.h>

#include "core/kernels.h"
#include "core/math.h"
#include "weight_types.h"

// Nearest integer, halves away from zero (ggml's roundf); beyond +-127 and NaN are clamped.
static int8_t round_q8(float v)
{
    const float magnitude = v < 0 ? -v : v;
    if (!(magnitude < 127.5f))
        return (int8_t)(v > 0 ? 127 : v < 0 ? -127 : 0);
    int n = (int)magnitude;
    if (magnitude - (float)n >= 0.5f)
        n++;
    return (int8_t)(v < 0 ? -n : n);
}

static void quantize_q8_0(const float *x, uint8_t *unit)
{
    float amax = 0;
    for (size_t i = 0; i < GG_BLOCK; i++) {
        const float magnitude = x[i] < 0 ? -x[i] : x[i];
        amax = magnitude > amax ? magnitude : amax;
    }
    const float d = amax / 127.0f;
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    const uint16_t half = gg_f32_to_f16(d);
    memcpy(unit, &half, sizeof half);
    for (size_t i = 0; i < GG_BLOCK; i++)
        unit[2 + i] = (uint8_t)round_q8(x[i] * inverse);
}

// v, not negative, rounded down to an integer of at most `most`.
static int floor_to(double v, int most)
{
    return !(v > 0) ? 0 : v >= (double)most ? most : (int)v;
}

static int round_to(double v, int most)
{
    return floor_to(v + 0.5, most);
}

static void put_half(uint8_t *p, double value)
{
    const uint16_t half = gg_f32_to_f16((float)value);
    memcpy(p, &half, sizeof half);
}

// The value of largest magnitude becomes -8: d = value / -8.
static void quantize_q4_0(const float *x, uint8_t *unit)
{
    float largest = 0, extreme = 0;
    for (size_t i = 0; i < GG_BLOCK; i++) {
        const float magnitude = x[i] < 0 ? -x[i] : x[i];
        if (magnitude > largest) {
            largest = magnitude;
            extreme = x[i];
        }
    }
    const float d = extreme / -8.0f, inverse = d != 0 ? 1.0f / d : 0.0f;
    put_half(unit, (double)d);
    for (size_t i = 0; i < 16; i++) {
        const int low = floor_to((double)(x[i] * inverse + 8.5f), 15);
        const int high = floor_to((double)(x[i + 16] * inverse + 8.5f), 15);
        unit[2 + i] = (uint8_t)(low | high << 4);
    }
}

// A block as q * d - m, q from 0 to 15, d and m not negative.
typedef struct affine {
    double d, m;
} affine;

enum {
    K_LEVELS = 15,
    K_FACTORS = 63, // of a super-block's d and dmin
    K_BLOCKS = 8,
};

// Weighted sums over a block whose values x have the levels q.
typedef struct moments {
    double w, x, q, xq, qq, xx;
} moments;

static moments sum_moments(const float *x, const double *weight, double lowest, double inverse)
{
    moments s = {0};
    for (size_t i = 0; i < GG_BLOCK; i++) {
        const double v = (double)x[i], w = weight[i];
        const double q = round_to((v - lowest) * inverse, K_LEVELS);
        s.w += w;
        s.x += w * v;
        s.q += w * q;
        s.xq += w * v * q;
        s.qq += w * q * q;
        s.xx += w * v * v;
    }
    return s;
}

// Weighted squares of q * d - m - x.
static double error_of(const moments *s, affine a)
{
    return a.d * a.d * s->qq + a.m * a.m * s->w + s->xx - 2 * a.d * a.m * s->q - 2 * a.d * s->xq +
           2 * a.m * s->x;
}

// The d and m of least squares for levels that are given; m is 0 where it would be negative.
static affine solve(const moments *s)
{
    const double determinant = s->w * s->qq - s->q * s->q;
    affine a = {0};
    if (determinant > 0)
        a = (affine){(s->w * s->xq - s->x * s->q) / determinant,
                     (s->q * s->xq - s->qq * s->x) / determinant};
    if (!(a.m > 0))
        a = (affine){s->qq > 0 ? s->xq / s->qq : 0, 0};
    return a;
}

// Levels are tried that spread the block's range, 0 included, over 14 to 16 steps; each candidate's
// d and m are solved for, values weighing as their magnitude plus the block's root mean square.
static affine fit_block(const float *x)
{
    enum { CANDIDATES = 21 };
    double lowest = 0, highest = (double)x[0], squares = 0, weight[GG_BLOCK];
    for (size_t i = 0; i < GG_BLOCK; i++) {
        const double v = (double)x[i];
        lowest = v < lowest ? v : lowest;
        highest = v > highest ? v : highest;
        squares += v * v;
    }
    if (!(highest > lowest))
        return (affine){0, -lowest};
    for (size_t i = 0; i < GG_BLOCK; i++)
        weight[i] = gg_sqrt(squares / GG_BLOCK) + (double)(x[i] < 0 ? -x[i] : x[i]);
    const double range = highest - lowest;
    affine best = {range / K_LEVELS, -lowest};
    moments s = sum_moments(x, weight, lowest, K_LEVELS / range);
    double least = error_of(&s, best);
    for (size_t c = 0; c < CANDIDATES; c++) {
        s = sum_moments(x, weight, lowest, (K_LEVELS - 1 + 0.1 * (double)c) / range);
        const affine a = solve(&s);
        const double error = error_of(&s, a);
        if (a.d > 0 && error < least) {
            least = error;
            best = a;
        }
    }
    return best;
}

// The eight d and m as 6-bit multiples of the super-block's; the layout is weight_types.c's.
static void put_k_scales(uint8_t *unit, const affine *blocks)
{
    uint8_t *bytes = unit + 4;
    double d = 0, m = 0;
    for (size_t b = 0; b < K_BLOCKS; b++) {
        d = blocks[b].d > d ? blocks[b].d : d;
        m = blocks[b].m > m ? blocks[b].m : m;
    }
    put_half(unit, d / K_FACTORS);
    put_half(unit + 2, m / K_FACTORS);
    memset(bytes, 0, 12);
    for (size_t b = 0; b < K_BLOCKS; b++) {
        const int scale = d > 0 ? round_to(blocks[b].d / d * K_FACTORS, K_FACTORS) : 0;
        const int minimum = m > 0 ? round_to(blocks[b].m / m * K_FACTORS, K_FACTORS) : 0;
        if (b < 4) {
            bytes[b] = (uint8_t)scale;
            bytes[b + 4] = (uint8_t)minimum;
        } else {
            bytes[b + 4] = (uint8_t)((scale & 15) | (minimum & 15) << 4);
            bytes[b - 4] = (uint8_t)(bytes[b - 4] | scale >> 4 << 6);
            bytes[b] = (uint8_t)(bytes[b] | minimum >> 4 << 6);
        }
    }
}

static void quantize_q4_k(const float *x, uint8_t *unit)
{
    affine blocks[K_BLOCKS];
    for (size_t b = 0; b < K_BLOCKS; b++)
        blocks[b] = fit_block(x + b * GG_BLOCK);
    put_k_scales(unit, blocks);
    uint8_t *levels = unit + 16;
    memset(levels, 0, K_BLOCKS / 2 * GG_BLOCK);
    for (size_t b = 0; b < K_BLOCKS; b++, x += GG_BLOCK) {
        gg_weight_block w; // as it will be read: the nearest levels under the rounded scales
        gg_weight_decode(GG_Q4_K, unit, b, &w);
        for (size_t i = 0; i < GG_BLOCK; i++) {
            const double level = ((double)x[i] - (double)w.m[0]) / (double)w.d[0];
            uint8_t *byte = levels + b / 2 * GG_BLOCK + i;
            *byte = (uint8_t)(*byte | round_to(level, K_LEVELS) << b % 2 * 4);
        }
    }
}

static void quantize_f16(const float *x, uint8_t *unit)
{
    put_half(unit, (double)*x);
}

static void quantize_f32(const float *x, uint8_t *unit)
{
    memcpy(unit, x, sizeof *x);
}

static const struct {
    gg_dtype type;
    void (*unit)(const float *x, uint8_t *unit);
} quantizers[] = {
    {GG_F32, quantize_f32},   {GG_F16, quantize_f16},   {GG_Q8_0, quantize_q8_0},
    {GG_Q4_0, quantize_q4_0}, {GG_Q4_K, quantize_q4_k},
};

void gg_quantize_row(gg_dtype type, const float *x, size_t n_in, void *dst)
{
    const gg_weight_form f = gg_weight_form_of(type);
    for (size_t t = 0; t < sizeof quantizers / sizeof quantizers[0]; t++) {
        for (size_t i = 0; quantizers[t].type == type && i < n_in / f.inputs; i++)
            quantizers[t].unit(x + i * f.inputs, (uint8_t *)dst + i * gg_weight_unit_bytes(f));
    }
}

void gg_dequantize_row(gg_dtype type, const void *src, size_t n_in, float *y)
{
    const gg_weight_form f = gg_weight_form_of(type);
    for (size_t i = 0; i < n_in / f.inputs; i++)
        gg_weight_values(type, (const uint8_t *)src + i * gg_weight_unit_bytes(f),
                         y + i * f.inputs);
}
