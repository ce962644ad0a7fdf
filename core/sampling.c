// Gumbel-max sampling: counter-based noise, truncation, and a scan that skips what cannot win.
// The noise is plain integer and double arithmetic in one written order, without libm, so that it
// is the same everywhere; exp and arg-max come from the kernel table.
#include "core/sampling.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "core/error.h"

enum {
    BLOCK = 64, // tokens per entry of kernels->block_max
    FEW = 256,  // gg_top_k takes k * (n / 64) steps, a selection about 3 n
};

// Separates the sampling noise from other users of gg_random_bits with the same key.
static const uint64_t noise_domain = UINT64_C(0x676f72676f6e2067);

void gorgon_sampling_init(gorgon_sampling *sampling)
{
    *sampling = (gorgon_sampling){.top_p = 1.0f};
}

gorgon_status gg_sampling_check(const gorgon_sampling *sampling, gorgon_error *err)
{
    float t = sampling->temperature;
    if (!(t >= 0.0f && t <= FLT_MAX))
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "sampling: temperature is %g, expected 0 or a finite number above",
                       (double)t);
    if (!(sampling->top_p > 0.0f && sampling->top_p <= 1.0f))
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "sampling: top_p is %g, expected above 0 and at most 1",
                       (double)sampling->top_p);
    if (!(sampling->min_p >= 0.0f && sampling->min_p <= 1.0f))
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "sampling: min_p is %g, expected 0 to 1",
                       (double)sampling->min_p);
    return GORGON_OK;
}

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011): in place on the counter x[4].
static void philox(uint32_t key0, uint32_t key1, uint32_t x[4])
{
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)x[0] * UINT32_C(0xD2511F53);
        uint64_t p1 = (uint64_t)x[2] * UINT32_C(0xCD9E8D57);
        uint32_t y0 = (uint32_t)(p1 >> 32) ^ x[1] ^ key0;
        uint32_t y2 = (uint32_t)(p0 >> 32) ^ x[3] ^ key1;
        x[0] = y0;
        x[1] = (uint32_t)p1;
        x[2] = y2;
        x[3] = (uint32_t)p0;
        key0 += UINT32_C(0x9E3779B9);
        key1 += UINT32_C(0xBB67AE85);
    }
}

static uint64_t low_half(const uint32_t x[4])
{
    return (uint64_t)x[1] << 32 | x[0];
}

// The counter holds a whole and the low words of b and c; high words, if any, change the key.
static uint64_t wide_key(uint64_t key, uint64_t b, uint64_t c)
{
    if (((b | c) >> 32) == 0)
        return key;
    uint32_t x[4] = {(uint32_t)(c >> 32), (uint32_t)(b >> 32), UINT32_MAX, UINT32_MAX};
    philox((uint32_t)key, (uint32_t)(key >> 32), x);
    return low_half(x);
}

uint64_t gg_random_bits(uint64_t key, uint64_t a, uint64_t b, uint64_t c)
{
    uint32_t x[4] = {(uint32_t)c, (uint32_t)b, (uint32_t)a, (uint32_t)(a >> 32)};
    key = wide_key(key, b, c);
    philox((uint32_t)key, (uint32_t)(key >> 32), x);
    return low_half(x);
}

double gg_random_uniform(uint64_t key, uint64_t a, uint64_t b, uint64_t c)
{
    // 52 bits and a half: the largest value, 1 - 2^-53, is still representable.
    return ((double)(gg_random_bits(key, a, b, c) >> 12) + 0.5) * 0x1p-52;
}

// Natural logarithm of a normal positive double; error below 2 ulp, relative also near 1.
static double log_positive(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52) - 1023;
    bits = (bits & UINT64_C(0xFFFFFFFFFFFFF)) | UINT64_C(0x3FF0000000000000);
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        exponent++;
    }
    // log m = 2 atanh(s), |s| < 0.172: the series is cut where its terms fall below 2^-57.
    double s = (m - 1.0) / (m + 1.0);
    double z = s * s;
    static const double series[] = {1.0 / 23, 1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13,
                                    1.0 / 11, 1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3};
    double sum = 0.0;
    for (size_t i = 0; i < sizeof series / sizeof series[0]; i++)
        sum = (sum + series[i]) * z;
    double e = exponent;
    return e * 0x1.62e42fee00000p-1 + (e * 0x1.a39ef35793c76p-33 + (2.0 * s + 2.0 * s * sum));
}

// Gumbel noise from 32 uniform bits; the largest is -log(-log(1 - 2^-33)) = 22.88.
static float gumbel_of(uint32_t bits)
{
    double u = ((double)bits + 0.5) * 0x1p-32;
    return (float)-log_positive(-log_positive(u));
}

// The noise of one position: four neighbouring tokens share a Philox block, one word each.
typedef struct noise {
    uint32_t key0, key1;
    uint32_t position, completion0, completion1;
} noise;

static noise noise_at(const gorgon_sampling *sampling, uint64_t position)
{
    uint64_t key = wide_key(sampling->seed ^ noise_domain, position, 0);
    return (noise){.key0 = (uint32_t)key,
                   .key1 = (uint32_t)(key >> 32),
                   .position = (uint32_t)position,
                   .completion0 = (uint32_t)sampling->completion,
                   .completion1 = (uint32_t)(sampling->completion >> 32)};
}

static void noise_words(const noise *n, uint32_t group, uint32_t words[4])
{
    words[0] = group;
    words[1] = n->position;
    words[2] = n->completion0;
    words[3] = n->completion1;
    philox(n->key0, n->key1, words);
}

static uint32_t noise_word(const noise *n, uint32_t id)
{
    uint32_t words[4];
    noise_words(n, id / 4, words);
    return words[id % 4];
}

float gg_gumbel(const gorgon_sampling *sampling, uint64_t position, uint32_t id)
{
    noise n = noise_at(sampling, position);
    return gumbel_of(noise_word(&n, id));
}

// Running arg-max of logit / T + g.
typedef struct draw {
    noise noise;
    double temperature;
    double best;
    uint32_t id;
} draw;

static double scaled(const draw *d, float logit)
{
    return (double)logit / d->temperature;
}

static void offer(draw *d, uint32_t id, float logit, float gumbel)
{
    double value = scaled(d, logit) + (double)gumbel;
    if (value > d->best || (value == d->best && id < d->id)) {
        d->best = value;
        d->id = id;
    }
}

// Noise words below the returned limit give noise below `bound`:
// bits < 2^32 - 2^(32 - j) means 1 - u > 2^-j, so g < -log(1 - u) < j log 2. The margin covers the
// rounding of g and of sums with it.
static uint64_t word_limit(double bound)
{
    double steps = (bound - 1e-4) * 1.442695;
    if (!(steps >= 1.0))
        return 0;
    int j = steps < 32.0 ? (int)steps : 32;
    return (UINT64_C(1) << 32) - (UINT64_C(1) << (32 - j));
}

bool gg_gumbel_at_least(const gorgon_sampling *sampling, uint64_t position, uint32_t id,
                        double bound, float *gumbel)
{
    noise n = noise_at(sampling, position);
    uint32_t word = noise_word(&n, id);
    if (word < word_limit(bound))
        return false;
    *gumbel = gumbel_of(word);
    return true;
}

static void draw_block(draw *d, const float *logits, size_t begin, size_t end, float block_max)
{
    uint64_t limit = word_limit(d->best - scaled(d, block_max));
    for (size_t group = begin; group < end; group += 4) {
        uint32_t words[4];
        noise_words(&d->noise, (uint32_t)(group / 4), words);
        for (size_t i = 0; i < 4 && group + i < end; i++) {
            if (words[i] < limit)
                continue;
            offer(d, (uint32_t)(group + i), logits[group + i], gumbel_of(words[i]));
        }
    }
}

// All tokens allowed: blocks whose largest logit cannot win are skipped whole.
static void draw_all(draw *d, const gg_kernels *kernels, const float *logits, size_t n_vocab,
                     float *block_max)
{
    kernels->block_max(logits, n_vocab, block_max);
    for (size_t begin = 0, b = 0; begin < n_vocab; begin += BLOCK, b++) {
        if (!(scaled(d, block_max[b]) + (double)GG_GUMBEL_MAX >= d->best))
            continue;
        size_t end = n_vocab - begin < BLOCK ? n_vocab : begin + BLOCK;
        draw_block(d, logits, begin, end, block_max[b]);
    }
}

// The allowed set, as parallel arrays in no particular order.
typedef struct candidates {
    size_t n;
    uint32_t *ids;
    float *logits;
    float *p; // exp((logit - max) / T), not normalised
} candidates;

static void draw_candidates(draw *d, const candidates *c)
{
    for (size_t i = 0; i < c->n; i++) {
        double bound = d->best - scaled(d, c->logits[i]);
        if (bound > (double)GG_GUMBEL_MAX)
            continue;
        uint32_t word = noise_word(&d->noise, c->ids[i]);
        if (word >= word_limit(bound))
            offer(d, c->ids[i], c->logits[i], gumbel_of(word));
    }
}

static void move(candidates *c, size_t to, size_t from)
{
    c->ids[to] = c->ids[from];
    c->logits[to] = c->logits[from];
    c->p[to] = c->p[from];
}

static void swap(candidates *c, size_t i, size_t j)
{
    uint32_t id = c->ids[i];
    float logit = c->logits[i], p = c->p[i];
    move(c, i, j);
    c->ids[j] = id;
    c->logits[j] = logit;
    c->p[j] = p;
}

static bool before(const candidates *c, size_t i, size_t j)
{
    if (c->logits[i] != c->logits[j])
        return c->logits[i] > c->logits[j];
    return c->ids[i] < c->ids[j];
}

static void set_probabilities(const gg_kernels *kernels, candidates *c, float max,
                              float temperature)
{
    for (size_t i = 0; i < c->n; i++) {
        float y = (c->logits[i] - max) / temperature;
        c->p[i] = y > -128.0f ? y : -128.0f; // exp is 0 from -104 on; also NaN and -infinity
    }
    kernels->exp_shift(c->p, c->n, 0.0f, c->p);
}

static void keep_at_least(candidates *c, double p_min)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->n; i++) {
        if ((double)c->p[i] >= p_min)
            move(c, kept++, i);
    }
    c->n = kept;
}

// What a candidate counts: 1, or its probability as an integer, so that the order of additions
// cannot matter.
static uint64_t weight(const candidates *c, size_t i, bool by_mass)
{
    return by_mass ? (uint64_t)((double)c->p[i] * 0x1p40) : 1;
}

// Moves those of [begin, end) that come before the middle one to the front, it behind them, and
// returns its place.
static size_t partition(candidates *c, size_t begin, size_t end)
{
    size_t last = end - 1, place = begin;
    swap(c, begin + (end - begin) / 2, last);
    for (size_t i = begin; i < last; i++) {
        if (before(c, i, last))
            swap(c, i, place++);
    }
    swap(c, place, last);
    return place;
}

// Keeps the smallest set, in order, whose weight reaches `target` (> 0), by selection, not sorting.
static void keep_first(candidates *c, bool by_mass, uint64_t target)
{
    size_t begin = 0, end = c->n; // all before `begin` stay, all from `end` on go
    uint64_t sum = 0;             // weight of those before `begin`
    while (begin < end && sum < target) {
        size_t middle = partition(c, begin, end);
        uint64_t part = 0;
        for (size_t i = begin; i < middle; i++)
            part += weight(c, i, by_mass);
        if (sum + part >= target) {
            end = middle;
            continue;
        }
        sum += part + weight(c, middle, by_mass);
        begin = middle + 1;
    }
    c->n = begin;
}

static void keep_top_p(candidates *c, double top_p)
{
    uint64_t mass = 0; // at least 2^40: the first in order has p = 1
    for (size_t i = 0; i < c->n; i++)
        mass += weight(c, i, true);
    // What this drops weighs less than half of 1 - top_p together, so the set is reached before.
    keep_at_least(c, (1.0 - top_p) * (double)mass * 0x1p-41 / (double)c->n);
    keep_first(c, true, (uint64_t)(top_p * (double)mass));
}

static void keep_min_p(candidates *c, double min_p)
{
    float largest = 0.0f;
    for (size_t i = 0; i < c->n; i++)
        largest = c->p[i] > largest ? c->p[i] : largest;
    keep_at_least(c, min_p * (double)largest);
}

static void take_all(const float *logits, size_t n_vocab, candidates *c)
{
    c->n = n_vocab;
    for (size_t i = 0; i < n_vocab; i++) {
        c->ids[i] = (uint32_t)i;
        c->logits[i] = logits[i] >= -FLT_MAX ? logits[i] : -INFINITY; // NaN sorts last
    }
}

static void apply_truncation(const gg_kernels *kernels, const gorgon_sampling *s,
                             const float *logits, size_t n_vocab, float max, float *block_max,
                             candidates *c)
{
    bool by_k = s->top_k != 0 && s->top_k < n_vocab;
    if (by_k && s->top_k <= FEW) {
        c->n = gg_top_k(kernels, logits, n_vocab, s->top_k, c->ids, c->logits, block_max);
    } else {
        take_all(logits, n_vocab, c);
        if (by_k)
            keep_first(c, false, s->top_k);
    }
    if (s->top_p >= 1.0f && s->min_p <= 0.0f)
        return;
    set_probabilities(kernels, c, max, s->temperature);
    if (s->top_p < 1.0f)
        keep_top_p(c, (double)s->top_p);
    if (s->min_p > 0.0f)
        keep_min_p(c, (double)s->min_p);
}

// Elements of one scratch array: whole cache lines.
static size_t padded(size_t n)
{
    return (n + 15) / 16 * 16;
}

size_t gg_sample_scratch(size_t n_vocab)
{
    return (3 * padded(n_vocab) + padded((n_vocab + BLOCK - 1) / BLOCK)) * sizeof(float);
}

uint32_t gg_sample(const gg_kernels *kernels, const gorgon_sampling *sampling, uint64_t position,
                   const float *logits, size_t n_vocab, void *scratch)
{
    size_t top = kernels->argmax(logits, n_vocab);
    float max = logits[top];
    if (sampling->temperature == 0.0f || !(max >= -FLT_MAX && max <= FLT_MAX))
        return (uint32_t)top;
    draw d = {.noise = noise_at(sampling, position),
              .temperature = (double)sampling->temperature,
              .best = -(double)INFINITY};
    offer(&d, (uint32_t)top, max, gumbel_of(noise_word(&d.noise, (uint32_t)top)));

    float *floats = scratch;
    size_t stride = padded(n_vocab);
    float *block_max = floats + 3 * stride;
    bool all = sampling->top_p >= 1.0f && sampling->min_p <= 0.0f;
    if (all && (sampling->top_k == 0 || sampling->top_k >= n_vocab)) {
        draw_all(&d, kernels, logits, n_vocab, block_max);
        return d.id;
    }
    candidates c = {
        .logits = floats, .p = floats + stride, .ids = (uint32_t *)(void *)(floats + 2 * stride)};
    apply_truncation(kernels, sampling, logits, n_vocab, max, block_max, &c);
    draw_candidates(&d, &c);
    return d.id;
}
