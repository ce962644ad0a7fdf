// Attention of a few rows of one sequence over one KV head in 16 lanes, written over simd_*.h:
// lanes are positions for QK and head elements for PV. All query heads of all rows share every load
// of committed K and V, which many of them first turn into floats once per block.
#ifndef GG_KERNELS_VECTOR_ATTEND_H
#define GG_KERNELS_VECTOR_ATTEND_H

#include "kernels/vector_ops.h"

enum {
    CACHED_TILES = 4, // slot tiles scored at once and kept
    MAX_QUERIES = GG_ATTEND_QUERIES,
};

// A block of 64 positions as all rows see it: the part of it that is committed.
typedef struct kv_block {
    size_t n;                            // committed positions, maybe none
    bool wide;                           // turned into floats
    const void *k[GG_PAGE / GG_K_LANES]; // tiles: [head_dim][16]
    const void *v[GG_PAGE];              // [head_dim] each
} kv_block;

// A query is a query head of a row; those of one row follow each other.
typedef struct attend_work {
    const gg_attend *a;
    size_t n_queries;
    const float *q[MAX_QUERIES];
    float *out[MAX_QUERIES];  // running output, not yet divided
    float *part[MAX_QUERIES]; // output of a block
    float *score;             // [n_queries][64]
    float *slot_score;        // [group][CACHED_TILES * 16]
    float *k, *v;             // a block as floats
    float max[MAX_QUERIES], sum[MAX_QUERIES];
    float part_max[MAX_QUERIES], part_sum[MAX_QUERIES];
} attend_work;

// The positions of a block that a row sees: [first, end), counted from the block's own first one.
typedef struct view {
    size_t first, end; // both 0 if it sees none
} view;

static view seen(const gg_attend *a, size_t row, size_t p0)
{
    const size_t n = a->n_committed + a->n_chain[row], begin = gg_attend_first(a, row);
    if (n <= p0 || begin >= p0 + GG_PAGE)
        return (view){0, 0};
    return (view){begin > p0 ? begin - p0 : 0, n - p0 < GG_PAGE ? n - p0 : GG_PAGE};
}

INLINE vf load_element(const bool wide, const void *p, size_t i)
{
    return wide ? vf_load((const float *)p + i) : vf_load_f16((const uint16_t *)p + i);
}

INLINE vf load_element_n(const bool wide, const void *p, size_t i, size_t n)
{
    return wide ? vf_load_n((const float *)p + i, n) : vf_load_f16_n((const uint16_t *)p + i, n);
}

// score[h * 64 + t * 16 + lane] of `heads` queries and `tiles` K tiles.
INLINE void qk_part(const bool wide, const size_t heads, const size_t tiles, const float *const *q,
                    size_t head_dim, const void *const *k, float *score)
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
            key[t] = load_element(wide, k[t], d * GG_K_LANES);
        UNROLL
        for (size_t h = 0; h < heads; h++) {
            const vf query = vf_set1(q[h][d]);
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

INLINE void qk_tiles(const bool wide, const size_t heads, const float *const *q, size_t head_dim,
                     const void *const *k, size_t n_tiles, float *score)
{
    size_t t = 0;
    for (; t + ATTEND_TILES <= n_tiles; t += ATTEND_TILES)
        qk_part(wide, heads, ATTEND_TILES, q, head_dim, k + t, score + t * GG_K_LANES);
    if (ATTEND_TILES > 2 && t + 2 <= n_tiles) {
        qk_part(wide, heads, 2, q, head_dim, k + t, score + t * GG_K_LANES);
        t += 2;
    }
    if (t < n_tiles)
        qk_part(wide, heads, 1, q, head_dim, k + t, score + t * GG_K_LANES);
}

// Scores of queries over up to four K tiles.
INLINE void qk(const bool wide, const float *const *q, size_t n, size_t head_dim,
               const void *const *k, size_t n_tiles, float *score)
{
    for (size_t i = 0; i < n;
         i += ATTEND_HEADS, q += ATTEND_HEADS, score += ATTEND_HEADS * GG_PAGE) {
        if (n - i == 1)
            qk_tiles(wide, 1, q, head_dim, k, n_tiles, score);
        else if (ATTEND_HEADS > 2 && n - i == 2)
            qk_tiles(wide, 2, q, head_dim, k, n_tiles, score);
        else if (ATTEND_HEADS > 2 && n - i == 3)
            qk_tiles(wide, ATTEND_HEADS > 2 ? 3 : 1, q, head_dim, k, n_tiles, score);
        else
            qk_tiles(wide, ATTEND_HEADS, q, head_dim, k, n_tiles, score);
    }
}

static void qk_f16(const float *const *q, size_t n, size_t head_dim, const void *const *k,
                   size_t n_tiles, float *score)
{
    qk(false, q, n, head_dim, k, n_tiles, score);
}

static void qk_f32(const float *const *q, size_t n, size_t head_dim, const void *const *k,
                   size_t n_tiles, float *score)
{
    qk(true, q, n, head_dim, k, n_tiles, score);
}

// Values weighted by p[h * 64 + i], of which there are n.
typedef struct weighted {
    const float *p;
    const void *const *v;
    size_t n;
    bool more; // to be added to what stands in out
} weighted;

// out[h][d + lane] over `parts` vectors of 16 elements (`width` elements if parts is 1), in
// increasing position.
INLINE void pv_part(const bool wide, const size_t heads, const size_t parts, const weighted *w,
                    size_t d, size_t width, float *const *out)
{
    vf acc[ATTEND_HEADS][ATTEND_TILES];
    UNROLL
    for (size_t h = 0; h < heads; h++) {
        UNROLL
        for (size_t t = 0; t < parts; t++)
            acc[h][t] =
                w->more ? vf_load_n(out[h] + d + 16 * t, parts == 1 ? width : 16) : vf_set1(0.0f);
    }
    for (size_t i = 0; i < w->n; i++) {
        vf value[ATTEND_TILES];
        UNROLL
        for (size_t t = 0; t < parts; t++)
            value[t] = parts == 1 ? load_element_n(wide, w->v[i], d, width)
                                  : load_element(wide, w->v[i], d + 16 * t);
        UNROLL
        for (size_t h = 0; h < heads; h++) {
            const vf weight = vf_set1(w->p[h * GG_PAGE + i]);
            UNROLL
            for (size_t t = 0; t < parts; t++)
                acc[h][t] = vf_fma(weight, value[t], acc[h][t]);
        }
    }
    UNROLL
    for (size_t h = 0; h < heads; h++) {
        UNROLL
        for (size_t t = 0; t < parts; t++)
            vf_store_n(out[h] + d + 16 * t, acc[h][t], parts == 1 ? width : 16);
    }
}

INLINE void pv_heads(const bool wide, const size_t heads, const weighted *w, size_t head_dim,
                     float *const *out)
{
    size_t d = 0;
    for (; d + 16 * ATTEND_TILES <= head_dim; d += 16 * ATTEND_TILES)
        pv_part(wide, heads, ATTEND_TILES, w, d, 16, out);
    for (; d < head_dim; d += 16)
        pv_part(wide, heads, 1, w, d, head_dim - d < 16 ? head_dim - d : 16, out);
}

INLINE void pv(const bool wide, weighted w, size_t n, size_t head_dim, float *const *out)
{
    for (size_t i = 0; i < n; i += ATTEND_HEADS, out += ATTEND_HEADS) {
        if (n - i == 1)
            pv_heads(wide, 1, &w, head_dim, out);
        else if (ATTEND_HEADS > 2 && n - i == 2)
            pv_heads(wide, 2, &w, head_dim, out);
        else if (ATTEND_HEADS > 2 && n - i == 3)
            pv_heads(wide, ATTEND_HEADS > 2 ? 3 : 1, &w, head_dim, out);
        else
            pv_heads(wide, ATTEND_HEADS, &w, head_dim, out);
        w.p += ATTEND_HEADS * GG_PAGE;
    }
}

static void pv_f16(weighted w, size_t n, size_t head_dim, float *const *out)
{
    pv(false, w, n, head_dim, out);
}

static void pv_f32(weighted w, size_t n, size_t head_dim, float *const *out)
{
    pv(true, w, n, head_dim, out);
}

// ---- the positions that come from slots of the running pass, row by row

// Scores of whole slot tiles, from which the lanes on the row's own path are picked.
typedef struct slot_cache {
    size_t tile[CACHED_TILES];
    size_t n;
} slot_cache;

static size_t find_tile(const slot_cache *c, size_t tile)
{
    size_t i = 0;
    while (i < c->n && c->tile[i] != tile)
        i++;
    return i;
}

// Scores the next few distinct tiles that the chain meets from index i on.
static void refill(slot_cache *c, const attend_work *w, size_t row, size_t i, size_t end)
{
    const gg_attend *a = w->a;
    const void *k[CACHED_TILES];
    c->n = 0;
    for (; i < end; i++) {
        const size_t tile = a->chain[row][i] / GG_K_LANES;
        if (find_tile(c, tile) < c->n)
            continue;
        if (c->n == CACHED_TILES)
            break;
        k[c->n] = a->slot_k + tile * GG_K_LANES * a->head_dim;
        c->tile[c->n++] = tile;
    }
    qk_f16(w->q + row * a->group, a->group, a->head_dim, k, c->n, w->slot_score);
}

// Scores of the row's chain entries [begin, end) to score[h * 64 + 0 ..].
static void score_slots(const attend_work *w, size_t row, size_t begin, size_t end, float *score)
{
    const gg_attend *a = w->a;
    const uint32_t *chain = a->chain[row];
    slot_cache cache = {.n = 0};
    size_t i = begin;
    while (i < end) {
        const size_t slot = chain[i], lane = slot % GG_K_LANES;
        size_t column = find_tile(&cache, slot / GG_K_LANES);
        if (column == cache.n) {
            refill(&cache, w, row, i, end);
            column = 0;
        }
        size_t run = 1;
        while (i + run < end && lane + run < GG_K_LANES && chain[i + run] == slot + run)
            run++;
        const float *from = w->slot_score + column * GG_K_LANES + lane;
        for (size_t h = 0; h < a->group; h++) {
            for (size_t j = 0; j < run; j++)
                score[h * GG_PAGE + i - begin + j] = from[h * GG_PAGE + j];
        }
        i += run;
    }
}

// Adds the values of those positions of the block at p0 that are in slots.
static void add_slots(const attend_work *w, size_t row, size_t p0, view slots, bool more,
                      float *const *out)
{
    const gg_attend *a = w->a;
    const void *v[GG_PAGE];
    const uint32_t *chain = a->chain[row] + (p0 + slots.first - a->n_committed);
    const size_t n = slots.end - slots.first, query = row * a->group;
    for (size_t i = 0; i < n; i++)
        v[i] = a->slot_v + chain[i] * a->slot_v_stride;
    const weighted values = {w->score + query * GG_PAGE + slots.first, v, n, more};
    pv_f16(values, a->group, a->head_dim, out + query);
}

// ---- blocks

static void widen(const uint16_t *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i += 16)
        vf_store_n(to + i, vf_load_f16_n(from + i, n - i < 16 ? n - i : 16),
                   n - i < 16 ? n - i : 16);
}

static void load_block(const attend_work *w, size_t p0, kv_block *b)
{
    const gg_attend *a = w->a;
    const size_t hd = a->head_dim, tile = hd * GG_K_LANES;
    b->n = a->n_committed < p0 ? 0 : a->n_committed - p0;
    b->n = b->n < GG_PAGE ? b->n : GG_PAGE;
    b->wide = w->n_queries > 2 * ATTEND_HEADS;
    if (b->n == 0)
        return;
    const uint16_t *k = a->page_k[p0 / GG_PAGE], *v = a->page_v[p0 / GG_PAGE];
    const size_t n_tiles = (b->n + GG_K_LANES - 1) / GG_K_LANES;
    if (b->wide) {
        widen(k, n_tiles * tile, w->k);
        widen(v, b->n * hd, w->v);
    }
    for (size_t t = 0; t < n_tiles; t++)
        b->k[t] = b->wide ? (const void *)(w->k + t * tile) : (const void *)(k + t * tile);
    for (size_t i = 0; i < b->n; i++)
        b->v[i] = b->wide ? (const void *)(w->v + i * hd) : (const void *)(v + i * hd);
}

// Asks for part r of n of the next block's committed keys and values while this one is computed.
static void prefetch_block(const gg_attend *a, size_t p0, size_t r, size_t n)
{
    enum { LINE = 64 };
    if (p0 >= a->n_committed)
        return;
    const size_t left = a->n_committed - p0, positions = left < GG_PAGE ? left : GG_PAGE;
    const size_t bytes = positions * a->head_dim * sizeof(uint16_t), lines = bytes / LINE;
    const char *k = (const char *)a->page_k[p0 / GG_PAGE];
    const char *v = (const char *)a->page_v[p0 / GG_PAGE];
    for (size_t i = lines * r / n; i < lines * (r + 1) / n; i++) {
        _mm_prefetch(k + i * LINE, _MM_HINT_T0);
        _mm_prefetch(v + i * LINE, _MM_HINT_T0);
    }
}

// Max, sum and exponentials of a query's scores, of which the view's first one is scores[first].
static void exponentiate(float *scores, view see, float *max, float *sum)
{
    for (size_t p = 0; p < see.first; p++)
        scores[p] = -__builtin_inff(); // adds exp(-inf) = 0 to a partial sum
    *max = vf_largest(lanes_max(scores, see.end));
    *sum = exp_sum(scores, see.end, *max, scores);
}

// The committed values of a block: for all queries at once where all rows see all of them.
static void add_committed(const attend_work *w, const kv_block *b, const view *see,
                          float *const *out)
{
    const gg_attend *a = w->a;
    bool whole = true;
    for (size_t r = 0; r < a->n_rows; r++)
        whole = whole && see[r].first == 0 && see[r].end >= b->n;
    const size_t parts = whole ? 1 : a->n_rows, queries = w->n_queries / parts;
    for (size_t r = 0; r < parts; r++) {
        const size_t first = see[r].first, end = b->n < see[r].end ? b->n : see[r].end;
        if (first >= end)
            continue;
        const weighted values = {w->score + r * queries * GG_PAGE + first, b->v + first,
                                 end - first, false};
        (b->wide ? pv_f32 : pv_f16)(values, queries, a->head_dim, out + r * queries);
    }
}

// One block for all rows that reach into it: max, sum and out of each of their queries.
static void attend_block(const attend_work *w, size_t p0, float *max, float *sum, float *const *out)
{
    const gg_attend *a = w->a;
    const size_t group = a->group, hd = a->head_dim;
    view see[GG_ATTEND_ROWS];
    kv_block b;
    load_block(w, p0, &b);
    const size_t n_tiles = (b.n + GG_K_LANES - 1) / GG_K_LANES;
    if (b.n > 0)
        (b.wide ? qk_f32 : qk_f16)(w->q, w->n_queries, hd, b.k, n_tiles, w->score);
    for (size_t r = 0; r < a->n_rows; r++) {
        const view *v = &see[r];
        see[r] = seen(a, r, p0);
        prefetch_block(a, p0 + GG_PAGE, r, a->n_rows);
        const size_t slots = v->first > b.n ? v->first : b.n; // where its slots begin
        if (v->end > slots)
            score_slots(w, r, p0 + slots - a->n_committed, p0 + v->end - a->n_committed,
                        w->score + r * group * GG_PAGE + slots);
        for (size_t i = r * group; v->end > 0 && i < (r + 1) * group; i++)
            exponentiate(w->score + i * GG_PAGE, *v, &max[i], &sum[i]);
    }
    add_committed(w, &b, see, out);
    for (size_t r = 0; r < a->n_rows; r++) {
        const size_t slots = see[r].first > b.n ? see[r].first : b.n;
        if (see[r].end > slots)
            add_slots(w, r, p0, (view){slots, see[r].end}, see[r].first < b.n, out);
    }
}

INLINE float exp_one(float x)
{
    return _mm256_cvtss_f32(low_half(vf_exp(vf_set1(x))));
}

// Merges a query's block result into its running one.
static void merge(attend_work *w, size_t i)
{
    const size_t head_dim = w->a->head_dim;
    const float new_max = w->part_max[i] > w->max[i] ? w->part_max[i] : w->max[i];
    const float old_factor = exp_one(w->max[i] - new_max);
    const float factor = exp_one(w->part_max[i] - new_max);
    float *out = w->out[i];
    w->max[i] = new_max;
    w->sum[i] = gg_fma(w->sum[i], old_factor, w->part_sum[i] * factor);
    for (size_t d = 0; d < head_dim; d += 16) {
        const vf scaled = vf_mul(vf_load_n(w->part[i] + d, head_dim - d), vf_set1(factor));
        const vf old = vf_load_n(out + d, head_dim - d);
        vf_store_n(out + d, vf_fma(old, vf_set1(old_factor), scaled), head_dim - d);
    }
}

// The first block that a query sees, where it is not the first one of all queries.
static void take_part(attend_work *w, size_t i)
{
    w->max[i] = w->part_max[i];
    w->sum[i] = w->part_sum[i];
    memcpy(w->out[i], w->part[i], w->a->head_dim * sizeof *w->out[i]);
}

static void begin_attend(attend_work *w, const gg_attend *a)
{
    const size_t n = a->n_rows * a->group, hd = a->head_dim;
    w->a = a;
    w->n_queries = n;
    w->k = a->scratch;
    w->v = w->k + GG_PAGE * hd;
    w->score = w->v + GG_PAGE * hd;
    w->slot_score = w->score + n * GG_PAGE;
    float *part = w->slot_score + a->group * CACHED_TILES * GG_K_LANES;
    for (size_t i = 0; i < n; i++) {
        const size_t at = i / a->group * a->stride + i % a->group * hd;
        w->q[i] = a->q + at;
        w->out[i] = a->out + at;
        w->part[i] = part + i * hd;
    }
}

static void attend(const gg_attend *a)
{
    attend_work w;
    size_t longest = 0, first = SIZE_MAX;
    begin_attend(&w, a);
    for (size_t r = 0; r < a->n_rows; r++) {
        const size_t begin = gg_attend_first(a, r);
        longest = a->n_chain[r] > longest ? a->n_chain[r] : longest;
        first = begin < first ? begin : first;
    }
    first = first / GG_PAGE * GG_PAGE;
    attend_block(&w, first, w.max, w.sum, w.out);
    for (size_t p0 = first + GG_PAGE; p0 < a->n_committed + longest; p0 += GG_PAGE) {
        attend_block(&w, p0, w.part_max, w.part_sum, w.part);
        for (size_t i = 0; i < w.n_queries; i++) {
            const size_t row = i / a->group;
            if (gg_attend_first(a, row) / GG_PAGE == p0 / GG_PAGE)
                take_part(&w, i);
            else if (seen(a, row, p0).end > 0)
                merge(&w, i);
        }
    }
    for (size_t i = 0; i < w.n_queries; i++) {
        float *out = w.out[i];
        for (size_t d = 0; d < a->head_dim; d += 16)
            vf_store_n(out + d, vf_div(vf_load_n(out + d, a->head_dim - d), vf_set1(w.sum[i])),
                       a->head_dim - d);
    }
}

#endif
