// Attention of one row over one KV head in 16 lanes, written over simd_*.h: lanes are positions
// for QK and head elements for PV; the query heads of the group share every load of K and V.
#ifndef GG_KERNELS_VECTOR_ATTEND_H
#define GG_KERNELS_VECTOR_ATTEND_H

#include "kernels/vector_ops.h"

enum {
    CACHED_TILES = 4, // slot tiles scored at once and kept
};

// Scores of whole slot tiles, from which the lanes on the row's own path are picked.
typedef struct slot_cache {
    size_t tile[CACHED_TILES];
    size_t n;
    float *score; // [group][CACHED_TILES * 16]
} slot_cache;

// score[h * 64 + t * 16 + lane] of `heads` query heads and `tiles` K tiles.
INLINE void qk_part(const size_t heads, const size_t tiles, const float *q, size_t head_dim,
                    const uint16_t *const *k, float *score)
{
    vf acc[ATTEND_HEADS][ATTEND_TILES];
    UNROLL
    for (size_t h = 0; h < heads; h++) {
        UNROLL
        for (size_t t = 0; t < tiles; t++)
            acc[h][t] = vf_set1(0.0f);
    }
    for (size_t d = 0; d < head_dim; d++) {
        vf key[ATTEND_TILES];
        UNROLL
        for (size_t t = 0; t < tiles; t++)
            key[t] = vf_load_f16(k[t] + d * GG_K_LANES);
        UNROLL
        for (size_t h = 0; h < heads; h++) {
            const vf query = vf_set1(q[h * head_dim + d]);
            UNROLL
            for (size_t t = 0; t < tiles; t++)
                acc[h][t] = vf_fma(query, key[t], acc[h][t]);
        }
    }
    UNROLL
    for (size_t h = 0; h < heads; h++) {
        UNROLL
        for (size_t t = 0; t < tiles; t++)
            vf_store(score + h * GG_PAGE + t * GG_K_LANES, acc[h][t]);
    }
}

INLINE void qk_tiles(const size_t heads, const float *q, size_t head_dim, const uint16_t *const *k,
                     size_t n_tiles, float *score)
{
    size_t t = 0;
    for (; t + ATTEND_TILES <= n_tiles; t += ATTEND_TILES)
        qk_part(heads, ATTEND_TILES, q, head_dim, k + t, score + t * GG_K_LANES);
    if (ATTEND_TILES > 2 && t + 2 <= n_tiles) {
        qk_part(heads, 2, q, head_dim, k + t, score + t * GG_K_LANES);
        t += 2;
    }
    if (t < n_tiles)
        qk_part(heads, 1, q, head_dim, k + t, score + t * GG_K_LANES);
}

// Scores of all query heads over up to four K tiles.
static void qk(const gg_attend *a, const uint16_t *const *k, size_t n_tiles, float *score)
{
    const float *q = a->q;
    size_t left = a->group;
    while (left > 0) {
        const size_t heads = left < ATTEND_HEADS ? left : ATTEND_HEADS;
        if (heads == 1)
            qk_tiles(1, q, a->head_dim, k, n_tiles, score);
        else if (heads == 2)
            qk_tiles(2, q, a->head_dim, k, n_tiles, score);
        else if (ATTEND_HEADS > 2 && heads == 3)
            qk_tiles(ATTEND_HEADS > 2 ? 3 : 1, q, a->head_dim, k, n_tiles, score);
        else
            qk_tiles(ATTEND_HEADS, q, a->head_dim, k, n_tiles, score);
        left -= heads;
        q += heads * a->head_dim;
        score += heads * GG_PAGE;
    }
}

// out[h * head_dim + lane] over `parts` vectors of 16 elements (n elements if parts is 1 and n is
// less), in increasing position.
INLINE void pv_part(const size_t heads, const size_t parts, const float *p,
                    const uint16_t *const *v, size_t d, size_t n, size_t positions, size_t head_dim,
                    float *out)
{
    vf acc[ATTEND_HEADS][ATTEND_TILES];
    UNROLL
    for (size_t h = 0; h < heads; h++) {
        UNROLL
        for (size_t t = 0; t < parts; t++)
            acc[h][t] = vf_set1(0.0f);
    }
    for (size_t i = 0; i < positions; i++) {
        vf value[ATTEND_TILES];
        UNROLL
        for (size_t t = 0; t < parts; t++)
            value[t] = parts == 1 ? vf_load_f16_n(v[i] + d, n) : vf_load_f16(v[i] + d + 16 * t);
        UNROLL
        for (size_t h = 0; h < heads; h++) {
            const vf weight = vf_set1(p[h * GG_PAGE + i]);
            UNROLL
            for (size_t t = 0; t < parts; t++)
                acc[h][t] = vf_fma(weight, value[t], acc[h][t]);
        }
    }
    UNROLL
    for (size_t h = 0; h < heads; h++) {
        UNROLL
        for (size_t t = 0; t < parts; t++)
            vf_store_n(out + h * head_dim + d + 16 * t, acc[h][t], parts == 1 ? n : 16);
    }
}

INLINE void pv_heads(const size_t heads, const float *p, const uint16_t *const *v, size_t positions,
                     size_t head_dim, float *out)
{
    size_t d = 0;
    for (; d + 16 * ATTEND_TILES <= head_dim; d += 16 * ATTEND_TILES)
        pv_part(heads, ATTEND_TILES, p, v, d, 16, positions, head_dim, out);
    for (; d < head_dim; d += 16) {
        const size_t n = head_dim - d < 16 ? head_dim - d : 16;
        pv_part(heads, 1, p, v, d, n, positions, head_dim, out);
    }
}

static void pv(const gg_attend *a, const float *p, const uint16_t *const *v, size_t positions,
               float *out)
{
    size_t left = a->group;
    while (left > 0) {
        const size_t heads = left < ATTEND_HEADS ? left : ATTEND_HEADS;
        if (heads == 1)
            pv_heads(1, p, v, positions, a->head_dim, out);
        else if (heads == 2)
            pv_heads(2, p, v, positions, a->head_dim, out);
        else if (ATTEND_HEADS > 2 && heads == 3)
            pv_heads(ATTEND_HEADS > 2 ? 3 : 1, p, v, positions, a->head_dim, out);
        else
            pv_heads(ATTEND_HEADS, p, v, positions, a->head_dim, out);
        left -= heads;
        p += heads * GG_PAGE;
        out += heads * a->head_dim;
    }
}

static size_t find_tile(const slot_cache *c, size_t tile)
{
    size_t i = 0;
    while (i < c->n && c->tile[i] != tile)
        i++;
    return i;
}

// Scores the next few distinct tiles that the chain meets from index i on.
static void refill(slot_cache *c, const gg_attend *a, size_t i, size_t end)
{
    const uint16_t *k[CACHED_TILES];
    c->n = 0;
    for (; i < end; i++) {
        const size_t tile = a->chain[i] / GG_K_LANES;
        if (find_tile(c, tile) < c->n)
            continue;
        if (c->n == CACHED_TILES)
            break;
        k[c->n] = a->slot_k + tile * GG_K_LANES * a->head_dim;
        c->tile[c->n++] = tile;
    }
    qk(a, k, c->n, c->score);
}

// Scores of chain entries [begin, end) to score[h * 64 + 0 ..].
static void score_slots(slot_cache *c, const gg_attend *a, size_t begin, size_t end, float *score)
{
    size_t i = begin;
    while (i < end) {
        const size_t slot = a->chain[i], lane = slot % GG_K_LANES;
        size_t column = find_tile(c, slot / GG_K_LANES);
        if (column == c->n) {
            refill(c, a, i, end);
            column = 0;
        }
        size_t run = 1;
        while (i + run < end && lane + run < GG_K_LANES && a->chain[i + run] == slot + run)
            run++;
        const float *from = c->score + column * GG_K_LANES + lane;
        for (size_t h = 0; h < a->group; h++) {
            for (size_t j = 0; j < run; j++)
                score[h * GG_PAGE + i - begin + j] = from[h * GG_PAGE + j];
        }
        i += run;
    }
}

// Scores of positions [p0, p1) of one block to score[h * 64 + p - p0].
static void score_block(slot_cache *c, const gg_attend *a, size_t p0, size_t p1, float *score)
{
    const size_t in_pages = a->n_committed < p1 ? a->n_committed : p1;
    if (p0 < in_pages) {
        const uint16_t *k[GG_PAGE / GG_K_LANES];
        const size_t n_tiles = (in_pages - p0 + GG_K_LANES - 1) / GG_K_LANES;
        for (size_t t = 0; t < n_tiles; t++)
            k[t] = a->page_k[p0 / GG_PAGE] + t * GG_K_LANES * a->head_dim;
        qk(a, k, n_tiles, score);
    }
    const size_t first = p0 > in_pages ? p0 : in_pages;
    if (first < p1)
        score_slots(c, a, first - a->n_committed, p1 - a->n_committed, score + first - p0);
}

static void list_values(const gg_attend *a, size_t p0, size_t p1, const uint16_t **v)
{
    for (size_t p = p0; p < p1; p++) {
        if (p < a->n_committed)
            v[p - p0] = a->page_v[p0 / GG_PAGE] + (p - p0) * a->head_dim;
        else
            v[p - p0] = a->slot_v + a->chain[p - a->n_committed] * a->slot_v_stride;
    }
}

// One block: max[h], sum[h], out[h][head_dim].
static void attend_block(slot_cache *c, const gg_attend *a, size_t p0, size_t p1, float *score,
                         float *max, float *sum, float *out)
{
    const uint16_t *v[GG_PAGE];
    score_block(c, a, p0, p1, score);
    for (size_t h = 0; h < a->group; h++) {
        float *s = score + h * GG_PAGE;
        max[h] = vf_largest(lanes_max(s, p1 - p0));
        sum[h] = exp_sum(s, p1 - p0, max[h], s);
    }
    list_values(a, p0, p1, v);
    pv(a, score, v, p1 - p0, out);
}

INLINE float exp_one(float x)
{
    return _mm256_cvtss_f32(low_half(vf_exp(vf_set1(x))));
}

// Merges block results into the running ones for one head.
static void merge(size_t head_dim, float *max, float *sum, float *out, float part_max,
                  float part_sum, const float *part)
{
    const float new_max = part_max > *max ? part_max : *max;
    const float old_factor = exp_one(*max - new_max), factor = exp_one(part_max - new_max);
    *max = new_max;
    *sum = gg_fma(*sum, old_factor, part_sum * factor);
    for (size_t d = 0; d < head_dim; d += 16) {
        const vf scaled = vf_mul(vf_load_n(part + d, head_dim - d), vf_set1(factor));
        const vf old = vf_load_n(out + d, head_dim - d);
        vf_store_n(out + d, vf_fma(old, vf_set1(old_factor), scaled), head_dim - d);
    }
}

static void attend(const gg_attend *a)
{
    const size_t n = a->n_committed + a->n_chain, group = a->group, head_dim = a->head_dim;
    float *score = a->scratch;
    slot_cache cache = {.score = score + group * GG_PAGE};
    float *part = cache.score + group * CACHED_TILES * GG_K_LANES;
    float *max = part + group * head_dim, *sum = max + group;
    float *part_max = sum + group, *part_sum = part_max + group;
    attend_block(&cache, a, 0, n < GG_PAGE ? n : GG_PAGE, score, max, sum, a->out);
    for (size_t p = GG_PAGE; p < n; p += GG_PAGE) {
        attend_block(&cache, a, p, n - p < GG_PAGE ? n : p + GG_PAGE, score, part_max, part_sum,
                     part);
        for (size_t h = 0; h < group; h++)
            merge(head_dim, max + h, sum + h, a->out + h * head_dim, part_max[h], part_sum[h],
                  part + h * head_dim);
    }
    for (size_t h = 0; h < group; h++) {
        float *out = a->out + h * head_dim;
        for (size_t d = 0; d < head_dim; d += 16)
            vf_store_n(out + d, vf_div(vf_load_n(out + d, head_dim - d), vf_set1(sum[h])),
                       head_dim - d);
    }
}

#endif
