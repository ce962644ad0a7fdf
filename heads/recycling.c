// Proposer "recycling": what the model found likely when it last stood at this token (token
// recycling, arXiv 2408.08696). Every verified row, accepted or not, leaves the tokens that had its
// largest logits under its own token and, more precisely, under the pair of it and the token
// before. The tables belong to the proposer: what one sequence taught serves all later ones. Needs
// no training; a heads file may bring what its training text taught. Evidence: log share of the
// token among those kept; the same of the likeliest one; 1 for a pair, 0 for a single token;
// log2(1 + rows verified since).
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/math.h"
#include "heads/head_set.h"
#include "registry.h"

enum {
    KEPT = GG_SUCCESSORS, // tokens per entry
    MAX_DEPTH = 16,       // of suggested nodes
    PAIRS = 1 << 15,      // entries of the table of pairs
    MAX_ROWS = 64,        // learned at once
    BLOCK = 64,           // logits per float of gg_top_k's scratch
    NO_TOKEN = -1,
    LONG_AGO = 1 << 14, // rows: the age of what a heads file brings
};

typedef struct entry {
    gorgon_token before, token; // whose successors these are; before is NO_TOKEN for single tokens
    uint32_t n;                 // 0 = empty
    uint64_t learned;           // the table's clock then
    gorgon_token next[KEPT];    // likeliest first
    float log_share[KEPT];      // among themselves
} entry;

typedef struct recycling {
    gg_proposer proposer;
    size_t n_vocab;
    entry *single; // [n_vocab]
    entry *pair;   // [PAIRS], by hash
    uint64_t clock;
    entry *fresh;   // [MAX_ROWS] what the rows at hand teach
    float *scratch; // [threads][n_vocab / BLOCK + 1]
} recycling;

typedef struct state {
    gorgon_token last; // committed token before the root, or NO_TOKEN
} state;

static size_t pair_slot(gorgon_token before, gorgon_token token)
{
    uint64_t key = (uint64_t)(uint32_t)before << 32 | (uint32_t)token;
    return (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 40) % PAIRS;
}

static const entry *find(const recycling *r, gorgon_token before, gorgon_token token)
{
    if (before != NO_TOKEN) {
        const entry *e = &r->pair[pair_slot(before, token)];
        if (e->n > 0 && e->before == before && e->token == token)
            return e;
    }
    if (token < 0 || (size_t)token >= r->n_vocab || r->single[token].n == 0)
        return NULL;
    return &r->single[token];
}

static size_t suggest(const recycling *r, const entry *e, uint32_t parent, gg_edge *edges,
                      size_t capacity)
{
    size_t n = e->n < capacity ? e->n : capacity;
    float age = (float)(gg_log(1.0 + (double)(r->clock - e->learned)) * 1.4426950408889634);
    for (size_t i = 0; i < n; i++)
        edges[i] = (gg_edge){
            .parent = parent,
            .token = e->next[i],
            .score = e->log_share[i],
            .rank = (uint16_t)i,
            .evidence = {e->log_share[i], e->log_share[0], e->before != NO_TOKEN ? 1.0f : 0.0f,
                         age},
        };
    return n;
}

static size_t expand(const gg_proposer *p, const gg_draft *draft, const gg_draft_tree *tree,
                     const uint32_t *parents, size_t n_parents, gg_edge *edges, size_t capacity)
{
    const recycling *r = p->self;
    const state *s = draft->state;
    size_t n = 0;
    for (size_t i = 0; i < n_parents; i++) {
        uint32_t node = parents[i];
        if (tree->depth[node] >= MAX_DEPTH)
            continue;
        gorgon_token before = node == 0 ? s->last : tree->token[tree->parent[node]];
        const entry *e = find(r, before, tree->token[node]);
        if (e)
            n += suggest(r, e, node, edges + n, capacity - n);
    }
    return n;
}

typedef struct lesson {
    recycling *r;
    const gg_verified_row *rows;
    size_t n;
} lesson;

static void read_on_thread(void *context, size_t thread, size_t n_threads)
{
    const lesson *l = context;
    const recycling *r = l->r;
    const gg_kernels *kernels = gg_engine_kernels(r->proposer.engine);
    float *scratch = r->scratch + thread * (r->n_vocab / BLOCK + 1);
    for (size_t i = thread; i < l->n; i += n_threads) {
        entry *e = &r->fresh[i];
        uint32_t ids[KEPT];
        float values[KEPT];
        *e = (entry){.before = l->rows[i].before, .token = l->rows[i].token};
        size_t n = gg_top_k(kernels, l->rows[i].logits, r->n_vocab, KEPT, ids, values, scratch);
        float sum = kernels->log_sum_exp(values, n);
        for (size_t k = 0; k < n; k++) {
            e->next[k] = (gorgon_token)ids[k];
            e->log_share[k] = values[k] - sum;
        }
        e->n = sum - sum == 0.0f ? (uint32_t)n : 0; // nothing is learned from infinities
    }
}

static void learn(gg_proposer *p, const gg_verified_row *rows, size_t n)
{
    recycling *r = (recycling *)(void *)p; // the proposer is its first member
    for (size_t done = 0; done < n; done += MAX_ROWS) {
        lesson l = {r, rows + done, n - done < MAX_ROWS ? n - done : MAX_ROWS};
        if (l.n > 1)
            gg_team_run(gg_engine_team(p->engine), read_on_thread, &l);
        else
            read_on_thread(&l, 0, 1);
        for (size_t i = 0; i < l.n; i++) {
            entry *e = &r->fresh[i];
            e->learned = r->clock++;
            if (e->n == 0)
                continue;
            if (e->before != NO_TOKEN)
                r->pair[pair_slot(e->before, e->token)] = *e;
            e->before = NO_TOKEN;
            r->single[e->token] = *e;
        }
    }
}

static void learn_successors(recycling *r, const gg_successors *s)
{
    r->clock = LONG_AGO;
    for (size_t i = 0; i < s->n; i++) {
        const int32_t *next = s->next + i * KEPT;
        entry e = {.before = s->contexts[2 * i], .token = s->contexts[2 * i + 1]};
        while (e.n < KEPT && next[e.n] >= 0) {
            e.next[e.n] = next[e.n];
            e.log_share[e.n] = gg_f16_to_f32(s->log_share[i * KEPT + e.n]);
            e.n++;
        }
        if (e.before == NO_TOKEN)
            r->single[e.token] = e;
        else
            r->pair[pair_slot(e.before, e.token)] = e;
    }
}

static void begin_step(const gg_proposer *p, const gg_draft *drafts, size_t n_drafts)
{
    (void)p; // nothing to batch
    (void)drafts;
    (void)n_drafts;
}

static void observe(const gg_proposer *p, void *opaque, const gg_observation *seen)
{
    state *s = opaque;
    (void)p;
    if (seen->n > 0)
        s->last = seen->tokens[seen->n - 1];
}

static gorgon_status state_create(const gg_proposer *p, size_t context, void **out,
                                  gorgon_error *err)
{
    (void)p;
    (void)context;
    state *s = gg_alloc(1, sizeof *s);
    *out = s;
    if (!s)
        return gg_fail(err, GORGON_ERROR_MEMORY, "proposer recycling: out of memory");
    s->last = NO_TOKEN;
    return GORGON_OK;
}

static void state_free(const gg_proposer *p, void *opaque)
{
    (void)p;
    gg_free(opaque);
}

static void state_reset(const gg_proposer *p, void *opaque)
{
    (void)p;
    ((state *)opaque)->last = NO_TOKEN;
}

static void state_copy(const gg_proposer *p, void *to, const void *from)
{
    (void)p;
    memcpy(to, from, sizeof(state));
}

static void recycling_free(gg_proposer *p)
{
    recycling *r = (recycling *)(void *)p; // the proposer is its first member
    gg_free(r->single);
    gg_free(r->pair);
    gg_free(r->fresh);
    gg_free(r->scratch);
    gg_free(r);
}

static const gg_proposer_ops ops = {
    .state_create = state_create,
    .state_free = state_free,
    .state_reset = state_reset,
    .state_copy = state_copy,
    .observe = observe,
    .learn = learn,
    .begin = begin_step,
    .expand = expand,
    .free = recycling_free,
};

gorgon_status gg_recycling_proposer(const gg_proposer_config *config, gg_proposer **out,
                                    gorgon_error *err)
{
    recycling *r = gg_alloc(1, sizeof *r);
    if (r) {
        r->proposer = (gg_proposer){"recycling", MAX_DEPTH, r, config->engine, &ops};
        r->n_vocab = gg_model_geometry(gg_engine_model(config->engine))->n_vocab;
        size_t scratch = r->n_vocab / BLOCK + 1;
        r->single = gg_alloc(r->n_vocab, sizeof *r->single);
        r->pair = gg_alloc(PAIRS, sizeof *r->pair);
        r->fresh = gg_alloc(MAX_ROWS, sizeof *r->fresh);
        r->scratch = gg_alloc(gorgon_engine_threads(config->engine) * scratch, sizeof *r->scratch);
    }
    if (!r || !r->single || !r->pair || !r->fresh || !r->scratch) {
        if (r)
            recycling_free(&r->proposer);
        return gg_fail(err, GORGON_ERROR_MEMORY, "proposer recycling: out of memory");
    }
    const gg_head_set *set = config->heads ? gg_heads_set(config->heads, config->set) : NULL;
    if (set)
        learn_successors(r, &set->successors);
    *out = &r->proposer;
    return GORGON_OK;
}
