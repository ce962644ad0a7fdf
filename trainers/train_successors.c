// See train_successors.h. The text is read twice: to count contexts, and for what follows the
// chosen ones.
#include "train_successors.h"

#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/kernels.h"
#include "core/math.h"

enum {
    SINGLES = 4096,      // contexts of a token alone, at most
    PAIRS = 8192,        // of the token before as well
    MOST_READ = 1 << 23, // contexts of pairs that are counted; later text is left out
    ANY = -1,            // token before of a single one
    ROW = GG_SUCCESSORS,
};
_Static_assert((int)GG_SUCCESSORS <= (int)GG_TARGETS, "the cache tells enough tokens");

typedef struct context {
    uint64_t key; // of the pair (before + 1, token): ascending as contexts do
    uint64_t count;
} context;

typedef struct collector {
    const gg_cache *cache;
    double held_out;
    uint64_t *keys; // [n_keys] of pairs, as they are met
    size_t n_keys;
    size_t n_vocab;
    uint64_t *counts; // [n_vocab] of single tokens
    context *chosen;  // [n] ascending
    gg_successors *out;
    gorgon_error *err;
} collector;

static uint64_t key_of(int64_t before, gorgon_token token)
{
    return (uint64_t)(before + 1) << 32 | (uint32_t)token;
}

typedef void (*visit_record)(collector *c, const gg_cache_sequence *s, size_t record);

static gorgon_status visit(collector *c, visit_record visitor)
{
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < gg_cache_chunks(c->cache) && status == GORGON_OK; i++) {
        gg_cache_sequence *sequences;
        size_t n;
        status = gg_cache_read(c->cache, i, GG_CACHE_TEXT, &sequences, &n, c->err);
        for (size_t j = 0; j < n && status == GORGON_OK; j++) {
            if (gg_cache_held_out(sequences[j].index, c->held_out))
                continue;
            for (size_t k = 0; k < sequences[j].n_records; k++)
                visitor(c, &sequences[j], k);
        }
        gg_cache_chunk_free(sequences, n);
    }
    return status;
}

static void count_record(collector *c, const gg_cache_sequence *s, size_t record)
{
    const uint32_t at = s->positions[record];
    c->counts[s->tokens[at]]++;
    if (at > 0 && c->n_keys < MOST_READ)
        c->keys[c->n_keys++] = key_of(s->tokens[at - 1], s->tokens[at]);
}

static int ascending(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int by_key(const void *a, const void *b)
{
    return ascending(&((const context *)a)->key, &((const context *)b)->key);
}

// More frequent first; ties: the lower key.
static int by_count(const void *a, const void *b)
{
    const context *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    return by_key(a, b);
}

// Equal keys, which stand together, as contexts; returns how many.
static size_t count_pairs(const collector *c, context *pairs)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_keys; i++) {
        if (i == 0 || c->keys[i] != c->keys[i - 1])
            pairs[n++] = (context){c->keys[i], 0};
        pairs[n - 1].count++;
    }
    return n;
}

static size_t count_singles(const collector *c, context *singles)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_vocab; i++) {
        if (c->counts[i] > 0)
            singles[n++] = (context){key_of(ANY, (gorgon_token)i), c->counts[i]};
    }
    return n;
}

// The most frequent ones join those that are chosen.
static void take_most(collector *c, context *from, size_t n, size_t most)
{
    qsort(from, n, sizeof *from, by_count);
    n = n < most ? n : most;
    memcpy(c->chosen + c->out->n, from, n * sizeof *from);
    c->out->n += n;
}

static gorgon_status out_of_memory(const collector *c)
{
    return gg_fail(c->err, GORGON_ERROR_MEMORY, "successors of the text: out of memory");
}

static gorgon_status choose(collector *c)
{
    c->counts = gg_alloc(c->n_vocab, sizeof *c->counts);
    c->keys = gg_alloc(MOST_READ, sizeof *c->keys);
    c->chosen = gg_alloc(SINGLES + PAIRS, sizeof *c->chosen);
    if (!c->counts || !c->keys || !c->chosen)
        return out_of_memory(c);
    gorgon_status status = visit(c, count_record);
    if (status != GORGON_OK)
        return status;
    qsort(c->keys, c->n_keys, sizeof *c->keys, ascending);
    context *all = gg_alloc(c->n_keys > c->n_vocab ? c->n_keys : c->n_vocab, sizeof *all);
    if (!all)
        return out_of_memory(c);
    take_most(c, all, count_singles(c, all), SINGLES);
    take_most(c, all, count_pairs(c, all), PAIRS);
    gg_free(all);
    qsort(c->chosen, c->out->n, sizeof *c->chosen, by_key);
    return GORGON_OK;
}

// What the base gave the first ROW of its top tokens; those without probability end the row.
static void keep_row(const gg_successors *out, size_t row, const uint32_t *ids,
                     const float *logprob)
{
    double p[ROW], sum = 0.0;
    size_t n = 0;
    while (n < ROW && (p[n] = gg_exp((double)logprob[n])) > 0.0)
        sum += p[n++];
    for (size_t i = 0; i < ROW && n > 0; i++) {
        const double share = i < n ? gg_log(p[i] / sum) : 0.0;
        out->next[row * ROW + i] = i < n ? (int32_t)ids[i] : -1;
        out->log_share[row * ROW + i] = gg_f32_to_f16(share < 0.0 ? (float)share : 0.0f);
    }
}

static void keep_context(const collector *c, uint64_t key, const gg_cache_sequence *s,
                         size_t record)
{
    const context wanted = {.key = key};
    const context *found = bsearch(&wanted, c->chosen, c->out->n, sizeof wanted, by_key);
    if (found)
        keep_row(c->out, (size_t)(found - c->chosen), s->target_ids + record * GG_TARGETS,
                 s->target_logprob + record * GG_TARGETS);
}

static void keep_record(collector *c, const gg_cache_sequence *s, size_t record)
{
    const uint32_t at = s->positions[record];
    keep_context(c, key_of(ANY, s->tokens[at]), s, record);
    if (at > 0)
        keep_context(c, key_of(s->tokens[at - 1], s->tokens[at]), s, record);
}

static gorgon_status fill(collector *c)
{
    gg_successors *out = c->out;
    gorgon_status status = gg_successors_create(out->n, out, c->err);
    if (status != GORGON_OK)
        return status;
    for (size_t i = 0; i < out->n; i++) {
        out->contexts[2 * i] = (int32_t)(c->chosen[i].key >> 32) - 1;
        out->contexts[2 * i + 1] = (int32_t)(uint32_t)c->chosen[i].key;
    }
    return visit(c, keep_record);
}

gorgon_status gg_train_successors(const gg_cache *cache, double held_out, gg_successors *out,
                                  gorgon_error *err)
{
    collector c = {.cache = cache, .held_out = held_out, .out = out, .err = err};
    *out = (gg_successors){0};
    c.n_vocab = gg_cache_identity_of(cache).base.n_vocab;
    gorgon_status status = choose(&c);
    if (status == GORGON_OK)
        status = fill(&c);
    gg_free(c.keys);
    gg_free(c.counts);
    gg_free(c.chosen);
    return status;
}
