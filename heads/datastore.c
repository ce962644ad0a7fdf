// Proposer "datastore": what followed the longest matching suffixes of context and drafted path in
// a datastore, any text that the user had indexed (after REST, arXiv 2311.08252). Needs no
// training. Shares of longer matches are smoothed by those of shorter ones. Evidence: log2(1 +
// length of the longest match that the token followed); log2(1 + occurrences of that match); the
// token's share of them; log2(1 + length of the longest match of all).
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/math.h"
#include "heads/datastore.h"
#include "registry.h"

enum {
    MAX_DEPTH = 16,   // of suggested nodes
    MAX_BRANCHES = 8, // per parent
    LEVELS = 4,       // match lengths looked at per parent
    SAMPLES = 256,    // occurrences read per level, evenly spread
    ENOUGH = 64,      // occurrences that need no shorter match besides
    SLOTS = 2048,     // of the hash table, twice the candidates that there can be
    CONTEXT = GG_DATASTORE_ORDER,
};

// A level's n occurrences are worth n of n + DOUBT / length, as for prompt lookup; the rest is the
// shorter match's.
static const double DOUBT = 4.0;

// A token that followed.
typedef struct candidate {
    gorgon_token token;
    uint32_t level; // of the longest match so far
    uint32_t count; // among that level's samples
    double share;   // smoothed
} candidate;

typedef struct state {
    gorgon_token last[CONTEXT]; // committed tokens, latest first
    size_t n, position;         // kept; of the next one
    size_t n_candidates;
    candidate candidates[LEVELS * SAMPLES];
    uint16_t slot[SLOTS]; // 1 + index of a candidate, 0 = free
} state;

typedef struct level {
    gg_datastore_match match;
    size_t samples;
} level;

static void forget(state *s, size_t position)
{
    s->n = 0;
    s->position = position;
}

static void push(state *s, gorgon_token token)
{
    memmove(s->last + 1, s->last, (CONTEXT - 1) * sizeof *s->last);
    s->last[0] = token;
    s->n += s->n < CONTEXT;
    s->position++;
}

// Takes back what was kept from `position` on.
static void rewind_to(state *s, size_t position)
{
    if (position > s->position || s->position - position >= s->n) {
        forget(s, position);
        return;
    }
    const size_t gone = s->position - position;
    memmove(s->last, s->last + gone, (CONTEXT - gone) * sizeof *s->last);
    s->n -= gone;
    s->position = position;
}

// The tokens up to a node, the node's first. Returns how many.
static size_t read_backwards(const state *s, const gg_draft *draft, const gg_draft_tree *tree,
                             uint32_t node, gorgon_token backwards[CONTEXT])
{
    size_t n = 0;
    for (; node != 0 && n < CONTEXT; node = (uint32_t)tree->parent[node])
        backwards[n++] = tree->token[node];
    if (n < CONTEXT)
        backwards[n++] = draft->root;
    for (size_t i = 0; i < s->n && n < CONTEXT; i++)
        backwards[n++] = s->last[i];
    return n;
}

static size_t occurrences(const gg_datastore_match *m)
{
    return m->end - m->first;
}

// The longest match, then shorter ones that occur twice as often, until there is enough to go by.
static size_t find_levels(const gorgon_datastore *store, const gorgon_token *backwards, size_t n,
                          level levels[LEVELS])
{
    gg_datastore_match m = gg_datastore_longest(store, backwards, n);
    size_t found = 0, before = 0;
    while (m.length > 0 && found < LEVELS) {
        const size_t count = occurrences(&m);
        if (count >= 2 * before) {
            levels[found++] = (level){m, count < SAMPLES ? count : SAMPLES};
            before = count;
        }
        if (count >= ENOUGH || m.length == 1)
            break;
        m = gg_datastore_widen(store, backwards, m, m.length - 1);
    }
    return found;
}

static candidate *candidate_of(state *s, gorgon_token token, uint32_t level_)
{
    size_t i = ((uint32_t)token * UINT32_C(2654435761) >> 7) % SLOTS;
    for (; s->slot[i] != 0; i = (i + 1) % SLOTS) {
        if (s->candidates[s->slot[i] - 1].token == token)
            return &s->candidates[s->slot[i] - 1];
    }
    candidate *c = &s->candidates[s->n_candidates++];
    s->slot[i] = (uint16_t)s->n_candidates;
    *c = (candidate){.token = token, .level = level_};
    return c;
}

// Adds a level that is longer than those before.
static void tally(const gorgon_datastore *store, state *s, const level *l, uint32_t index)
{
    const double doubt = DOUBT / (double)l->match.length, all = (double)l->samples + doubt;
    const size_t count = occurrences(&l->match);
    for (size_t i = 0; i < s->n_candidates; i++)
        s->candidates[i].share *= doubt / all;
    for (size_t i = 0; i < l->samples; i++) {
        const gorgon_token next = gg_datastore_next(store, l->match.first + i * count / l->samples);
        if (next == GORGON_TOKEN_NONE)
            continue;
        candidate *c = candidate_of(s, next, index);
        if (c->level != index) {
            c->level = index;
            c->count = 0;
        }
        c->count++;
        c->share += 1.0 / all;
    }
}

static bool better(const candidate *a, const candidate *b)
{
    return a->share != b->share ? a->share > b->share : a->token < b->token;
}

// Moves the best of the candidates from `from` on there.
static const candidate *select_best(state *s, size_t from)
{
    size_t best = from;
    for (size_t i = from + 1; i < s->n_candidates; i++) {
        if (better(&s->candidates[i], &s->candidates[best]))
            best = i;
    }
    const candidate c = s->candidates[best];
    s->candidates[best] = s->candidates[from];
    s->candidates[from] = c;
    return &s->candidates[from];
}

static float log2_1p(size_t n)
{
    return (float)(gg_log(1.0 + (double)n) * 1.4426950408889634);
}

static size_t suggest(const gorgon_datastore *store, state *s, const gorgon_token *backwards,
                      size_t n, uint32_t parent, gg_edge *edges, size_t capacity)
{
    level levels[LEVELS];
    const size_t n_levels = find_levels(store, backwards, n, levels);
    s->n_candidates = 0;
    memset(s->slot, 0, sizeof s->slot);
    for (size_t l = n_levels; l-- > 0;)
        tally(store, s, &levels[l], (uint32_t)l);
    size_t i = 0;
    for (; i < s->n_candidates && i < MAX_BRANCHES && i < capacity; i++) {
        const candidate *c = select_best(s, i);
        const level *l = &levels[c->level];
        edges[i] = (gg_edge){
            .parent = parent,
            .token = c->token,
            .score = (float)gg_log(c->share),
            .rank = (uint16_t)i,
            .evidence = {log2_1p(l->match.length), log2_1p(occurrences(&l->match)),
                         (float)c->count / (float)l->samples, log2_1p(levels[0].match.length)},
        };
    }
    return i;
}

static size_t expand(const gg_proposer *p, const gg_draft *draft, const gg_draft_tree *tree,
                     const uint32_t *parents, size_t n_parents, gg_edge *edges, size_t capacity)
{
    gorgon_token backwards[CONTEXT];
    size_t n = 0;
    for (size_t i = 0; i < n_parents; i++) {
        if (tree->depth[parents[i]] >= MAX_DEPTH)
            continue;
        const size_t length = read_backwards(draft->state, draft, tree, parents[i], backwards);
        n += suggest(p->self, draft->state, backwards, length, parents[i], edges + n, capacity - n);
    }
    return n;
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
    rewind_to(s, seen->position);
    for (size_t i = 0; i < seen->n; i++)
        push(s, seen->tokens[i]);
}

static gorgon_status state_create(const gg_proposer *p, size_t context, void **out,
                                  gorgon_error *err)
{
    (void)p;
    (void)context;
    *out = gg_alloc(1, sizeof(state));
    return *out ? GORGON_OK
                : gg_fail(err, GORGON_ERROR_MEMORY, "proposer datastore: out of memory");
}

static void state_free(const gg_proposer *p, void *opaque)
{
    (void)p;
    gg_free(opaque);
}

static void state_reset(const gg_proposer *p, void *opaque)
{
    (void)p;
    forget(opaque, 0);
}

static void state_copy(const gg_proposer *p, void *to, const void *from)
{
    (void)p;
    memcpy(to, from, sizeof(state));
}

static void datastore_free(gg_proposer *p)
{
    gg_free(p);
}

static const gg_proposer_ops ops = {
    .state_create = state_create,
    .state_free = state_free,
    .state_reset = state_reset,
    .state_copy = state_copy,
    .observe = observe,
    .begin = begin_step,
    .expand = expand,
    .free = datastore_free,
};

gorgon_status gg_datastore_proposer(const gg_proposer_config *config, gg_proposer **out,
                                    gorgon_error *err)
{
    gorgon_status status =
        gorgon_datastore_check(config->datastore, gg_engine_model(config->engine), err);
    if (status != GORGON_OK)
        return status;
    gg_proposer *p = gg_alloc(1, sizeof *p);
    if (!p)
        return gg_fail(err, GORGON_ERROR_MEMORY, "proposer datastore: out of memory");
    *p = (gg_proposer){"datastore", MAX_DEPTH, config->datastore, config->engine, &ops};
    *out = p;
    return GORGON_OK;
}
