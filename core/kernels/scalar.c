// The scalar kernels: the specification that every other level equals bit for bit. Plain loops in
// the order docs/numerics.md states. Compiled twice (see scalar_fma.c): with and without the fma
// instruction, same results.
#include "kernels/table.h"
#include "weight_types.h"

#ifndef GG_SCALAR_TABLE
#define GG_SCALAR_TABLE gg_kernels_scalar

size_t gg_attend_scratch(size_t group, size_t head_dim)
{
    // A block of K and V as floats; scores and outputs of a block; scores of four slot tiles.
    return 2 * GG_PAGE * head_dim + GG_ATTEND_QUERIES * (GG_PAGE + head_dim) + group * GG_PAGE;
}
#endif

static float exp1(float x)
{
    x = x > GG_EXP_MIN ? x : GG_EXP_MIN;
    x = x < GG_EXP_MAX ? x : GG_EXP_MAX;
    const float shifted = gg_fma(x, GG_EXP_LOG2E, GG_EXP_MAGIC);
    const float n = shifted - GG_EXP_MAGIC;
    float r = gg_fma(n, -GG_EXP_LN2_HI, x);
    r = gg_fma(n, -GG_EXP_LN2_LO, r);
    float p = gg_fma(GG_EXP_P7, r, GG_EXP_P6);
    p = gg_fma(p, r, GG_EXP_P5);
    p = gg_fma(p, r, GG_EXP_P4);
    p = gg_fma(p, r, GG_EXP_P3);
    p = gg_fma(p, r, GG_EXP_P2);
    p = gg_fma(p, r, 1.0f);
    p = gg_fma(p, r, 1.0f);
    // p * 2^n in two steps: the first is exact, the second rounds once, gradually below 2^-126.
    const int exponent = (int)n, first = exponent / 2;
    p *= gg_bits_float((uint32_t)(first + 127) << 23);
    return p * gg_bits_float((uint32_t)(exponent - first + 127) << 23);
}

static float silu1(float x)
{
    return x / (1.0f + exp1(-x));
}

static float gelu1(float x)
{
    return x / (1.0f + exp1(-(x * gg_fma(x * x, GG_GELU_3, GG_GELU_1))));
}

// Joins 16 partial sums: i with i + 8, then i + 4, i + 2, i + 1.
static float join(float part[16])
{
    for (size_t step = 8; step > 0; step /= 2) {
        for (size_t i = 0; i < step; i++)
            part[i] += part[i + step];
    }
    return part[0];
}

// Nearest even; |x| < 2^22.
static int round_even(float x)
{
    return (int)((x + GG_EXP_MAGIC) - GG_EXP_MAGIC);
}

// One block of 32: magnitudes are compared as integers, so that NaN > infinity > every number.
static void quantize_block(const float *x, int8_t *q, float *d, float *s, int32_t *sum,
                           int32_t *half)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < GG_BLOCK; i++) {
        const uint32_t magnitude = gg_float_bits(x[i]) & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
    }
    memset(q, 0, GG_BLOCK);
    *sum = *half = 0;
    const float amax = gg_bits_float(largest);
    if (largest >= 0x7f800000u || amax < GG_QUANTIZE_MIN) {
        *d = *s = largest >= 0x7f800000u ? gg_bits_float(0x7fc00000u) : 0.0f;
        return;
    }
    const float inverse = 127.0f / amax;
    for (size_t i = 0; i < GG_BLOCK; i++) {
        q[i] = (int8_t)round_even(x[i] * inverse);
        *sum += q[i];
        *half += i < 16 ? q[i] : 0;
    }
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

// A row's product with one block of weights, added to acc: per span of inputs that share a scale,
// fma(isum, d_w * d_a, .), then with a minimum fma(m_w, d_a * sum, .).
static float add_block(const gg_weight_form *f, const gg_weight_block *w, const int8_t *q, float d,
                       float acc)
{
    const size_t span = f->split ? 16 : 32;
    for (size_t begin = 0; begin < GG_BLOCK; begin += span) {
        int isum = 0, sum = 0;
        for (size_t k = begin; k < begin + span; k++) {
            isum += w->q[k] * q[k];
            sum += q[k];
        }
        acc = gg_fma((float)isum, w->d[begin / 16] * d, acc);
        if (f->minimum)
            acc = gg_fma(w->m[begin / 16], d * (float)sum, acc);
    }
    return acc;
}

static void matmul_q(const gg_matrix *w, size_t tile0, size_t tile1, const gg_qrows *a, size_t rows,
                     float *y, size_t ldy)
{
    const gg_weight_form f = gg_weight_form_of(w->type);
    const size_t n_blocks = w->n_in / GG_BLOCK, unit_blocks = f.inputs / GG_BLOCK;
    uint8_t unit[GG_MAX_UNIT_BYTES];
    gg_weight_block block;
    for (size_t o = tile0 * GG_TILE; o < tile1 * GG_TILE && o < w->n_out; o++) {
        for (size_t r = 0; r < rows; r++)
            y[r * ldy + o] = 0;
        for (size_t b = 0; b < n_blocks; b++) {
            if (b % unit_blocks == 0)
                gg_matrix_unit(w, o, b / unit_blocks, unit);
            gg_weight_decode(w->type, unit, b % unit_blocks, &block);
            for (size_t r = 0; r < rows; r++) {
                const size_t i = r * n_blocks + b;
                y[r * ldy + o] =
                    add_block(&f, &block, a->q + i * GG_BLOCK, a->d[i], y[r * ldy + o]);
            }
        }
    }
}

static void matmul_f(const gg_matrix *w, size_t tile0, size_t tile1, const float *x, size_t ldx,
                     size_t rows, float *y, size_t ldy)
{
    const gg_weight_form f = gg_weight_form_of(w->type);
    uint8_t unit[GG_MAX_UNIT_BYTES];
    float weights[GG_MAX_UNIT_INPUTS];
    for (size_t o = tile0 * GG_TILE; o < tile1 * GG_TILE && o < w->n_out; o++) {
        for (size_t r = 0; r < rows; r++)
            y[r * ldy + o] = 0;
        for (size_t k = 0; k < w->n_in; k++) {
            if (k % f.inputs == 0) {
                gg_matrix_unit(w, o, k / f.inputs, unit);
                gg_weight_values(w->type, unit, weights);
            }
            for (size_t r = 0; r < rows; r++)
                y[r * ldy + o] = gg_fma(weights[k % f.inputs], x[r * ldx + k], y[r * ldy + o]);
        }
    }
}

static void rms_norm(const float *x, const float *weight, float eps, size_t n, float *y)
{
    float part[16] = {0};
    for (size_t i = 0; i < n; i++)
        part[i % 16] = gg_fma(x[i], x[i], part[i % 16]);
    const float mean = join(part) / (float)n;
    const float factor = 1.0f / __builtin_sqrtf(mean + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * factor * weight[i];
}

static void rope(float *x, size_t n_heads, size_t head_dim, const float *cos, const float *sin)
{
    for (size_t h = 0; h < n_heads; h++, x += head_dim) {
        for (size_t j = 0; j < head_dim / 2; j++) {
            const float a = x[2 * j], b = x[2 * j + 1];
            x[2 * j] = gg_fma(a, cos[j], -(b * sin[j]));
            x[2 * j + 1] = gg_fma(b, cos[j], a * sin[j]);
        }
    }
}

static void scale(float *x, size_t n, float factor)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= factor;
}

static void add(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

static void silu_mul(const float *gate, const float *up, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = silu1(gate[i]) * up[i];
}

static void gelu_mul(const float *gate, const float *up, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = gelu1(gate[i]) * up[i];
}

static void silu_residual(const float *x, const float *z, const float *bias, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] + silu1(z[i] + bias[i]);
}

static void to_f16(const float *x, size_t n, uint16_t *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = gg_f32_to_f16(x[i]);
}

static void from_f16(const uint16_t *x, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = gg_f16_to_f32(x[i]);
}

// Largest value; NaN is passed over, -0 comes out as +0.
static float largest(const float *x, size_t n)
{
    float max = -__builtin_inff();
    for (size_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    return max + 0.0f;
}

static float exp_shift(const float *x, size_t n, float max, float *y)
{
    float part[16] = {0};
    for (size_t i = 0; i < n; i++) {
        y[i] = exp1(x[i] - max);
        part[i % 16] += y[i];
    }
    return join(part);
}

static float log_sum_exp(const float *x, size_t n)
{
    const float max = largest(x, n);
    if ((gg_float_bits(max) & 0x7fffffffu) == 0x7f800000u)
        return max;
    float part[16] = {0};
    for (size_t i = 0; i < n; i++)
        part[i % 16] += exp1(x[i] - max);
    return gg_add_log(max, join(part));
}

static size_t argmax(const float *x, size_t n)
{
    size_t best = 0;
    float max = -__builtin_inff();
    for (size_t i = 0; i < n; i++) {
        if (x[i] > max) {
            max = x[i];
            best = i;
        }
    }
    return best;
}

static void block_max(const float *x, size_t n, float *out)
{
    for (size_t i = 0; i < n; i += 64)
        out[i / 64] = largest(x + i, n - i < 64 ? n - i : 64);
}

// K of a position is a strided column: element d at k[d * 16].
static const uint16_t *position_k(const gg_attend *a, size_t row, size_t position)
{
    if (position < a->n_committed)
        return a->page_k[position / GG_PAGE] + position % GG_PAGE / 16 * 16 * a->head_dim +
               position % 16;
    const size_t slot = a->chain[row][position - a->n_committed];
    return a->slot_k + slot / 16 * 16 * a->head_dim + slot % 16;
}

static const uint16_t *position_v(const gg_attend *a, size_t row, size_t position)
{
    if (position < a->n_committed)
        return a->page_v[position / GG_PAGE] + position % GG_PAGE * a->head_dim;
    return a->slot_v + a->chain[row][position - a->n_committed] * a->slot_v_stride;
}

// Positions [first, end) of the block at p0 for one query head: out[d] = sum of exp(s - max) *
// v[d].
static void attend_block(const gg_attend *a, size_t row, size_t head, size_t p0, size_t first,
                         size_t end, float *max, float *sum, float *out)
{
    const float *q = a->q + row * a->stride + head * a->head_dim;
    float score[GG_PAGE];
    for (size_t p = p0; p < first; p++)
        score[p - p0] = -__builtin_inff(); // adds exp(-inf) = 0 to a partial sum
    for (size_t p = first; p < end; p++) {
        const uint16_t *k = position_k(a, row, p);
        score[p - p0] = 0;
        for (size_t d = 0; d < a->head_dim; d++)
            score[p - p0] = gg_fma(q[d], gg_f16_to_f32(k[d * 16]), score[p - p0]);
    }
    *max = largest(score, end - p0);
    *sum = exp_shift(score, end - p0, *max, score);
    memset(out, 0, a->head_dim * sizeof *out);
    for (size_t p = first; p < end; p++) {
        const uint16_t *v = position_v(a, row, p);
        for (size_t d = 0; d < a->head_dim; d++)
            out[d] = gg_fma(score[p - p0], gg_f16_to_f32(v[d]), out[d]);
    }
}

static void attend_head(const gg_attend *a, size_t row, size_t head)
{
    const size_t n = a->n_committed + a->n_chain[row], first = gg_attend_first(a, row);
    float *out = a->out + row * a->stride + head * a->head_dim, *part = a->scratch;
    float max, sum, part_max, part_sum;
    size_t p = first / GG_PAGE * GG_PAGE;
    attend_block(a, row, head, p, first, n - p < GG_PAGE ? n : p + GG_PAGE, &max, &sum, out);
    for (p += GG_PAGE; p < n; p += GG_PAGE) {
        attend_block(a, row, head, p, p, n - p < GG_PAGE ? n : p + GG_PAGE, &part_max, &part_sum,
                     part);
        const float new_max = part_max > max ? part_max : max;
        const float old_factor = exp1(max - new_max), factor = exp1(part_max - new_max);
        max = new_max;
        sum = gg_fma(sum, old_factor, part_sum * factor);
        for (size_t d = 0; d < a->head_dim; d++)
            out[d] = gg_fma(out[d], old_factor, part[d] * factor);
    }
    for (size_t d = 0; d < a->head_dim; d++)
        out[d] /= sum;
}

static void attend(const gg_attend *a)
{
    for (size_t row = 0; row < a->n_rows; row++) {
        for (size_t head = 0; head < a->group; head++)
            attend_head(a, row, head);
    }
}

static void adamw(const gg_adamw_constants *c, const float *gradient, size_t n, float *p, float *m,
                  float *v)
{
    for (size_t i = 0; i < n; i++) {
        const float g = gradient[i] * c->clip;
        m[i] = c->beta1 * m[i] + c->keep1 * g;
        v[i] = c->beta2 * v[i] + c->keep2 * (g * g);
        const float root = __builtin_sqrtf(v[i] * c->root2) + c->epsilon;
        p[i] -= c->rate1 * m[i] / root + c->decay * p[i];
    }
}

static size_t multiply_adds(size_t steps, uint32_t *seed)
{
    enum { CHAINS = 8 };
    uint32_t acc[CHAINS];
    const uint32_t w = *seed | 1;
    for (uint32_t c = 0; c < CHAINS; c++)
        acc[c] = *seed + c;
    for (size_t i = 0; i < steps; i++) {
        for (size_t c = 0; c < CHAINS; c++)
            acc[c] = acc[c] * w + w;
    }
    for (size_t c = 0; c < CHAINS; c++)
        *seed ^= acc[c];
    return steps * CHAINS;
}

static size_t float_multiply_adds(size_t steps, uint32_t *seed)
{
    enum { CHAINS = 8 };
    float acc[CHAINS];
    const float w = 1.0f + (float)(*seed & 7) * 0x1p-20f;
    for (size_t c = 0; c < CHAINS; c++)
        acc[c] = (float)c;
    for (size_t i = 0; i < steps; i++) {
        for (size_t c = 0; c < CHAINS; c++)
            acc[c] = gg_fma(acc[c], w, w);
    }
    for (size_t c = 0; c < CHAINS; c++)
        *seed ^= gg_float_bits(acc[c]);
    return steps * CHAINS;
}

const gg_kernels GG_SCALAR_TABLE = {
    .level = GG_LEVEL_SCALAR,
    .name = "scalar",
    .quantize = quantize,
    .matmul_q = matmul_q,
    .matmul_f = matmul_f,
    .rms_norm = rms_norm,
    .rope = rope,
    .scale = scale,
    .add = add,
    .silu_mul = silu_mul,
    .gelu_mul = gelu_mul,
    .silu_residual = silu_residual,
    .to_f16 = to_f16,
    .from_f16 = from_f16,
    .attend = attend,
    .argmax = argmax,
    .block_max = block_max,
    .log_sum_exp = log_sum_exp,
    .exp_shift = exp_shift,
    .adamw = adamw,
    .multiply_adds = multiply_adds,
    .float_multiply_adds = float_multiply_adds,
};
