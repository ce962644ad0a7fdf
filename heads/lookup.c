// Proposer "lookup": what followed earlier occurrences of the longest matching suffixes, over
// prompt, output and the drafted path itself (prompt lookup decoding). Needs no training. Committed
// positions are chained by the hash of their token, so that a search visits only places where the
// suffix's last token may stand, latest first. Evidence: log2(1 + match length); log2(1 +
// occurrences that agree); their share among the occurrences that match as long or longer; log2(1 +
// distance of the nearest one).
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/math.h"
#include "registry.h"

enum {
    MAX_DEPTH = 16,   // of suggested nodes
    MAX_BRANCHES = 4, // per parent
    MAX_MATCH = 32,   // tokens compared
    MAX_SEEN = 128,   // occurrences looked at per parent
    MAX_VISITS = 512, // chain links followed per parent
    NONE = -1,
};

// A match of one token is wrong four times out of five before counts say better; longer matches
// earn trust in proportion: share = agreeing / (all + DOUBT / length).
static const double DOUBT = 4.0;

typedef struct history {
    size_t origin;       // position of tokens[0]
    size_t n, capacity;  // tokens
    gorgon_token *token; // [capacity]
    int32_t *previous;   // [capacity] index before with the same hash, or NONE
    int32_t *last;       // [n_buckets] latest index, or NONE
    size_t n_buckets;    // a power of two
} history;

// The committed tokens followed by the root and a path of the tree.
typedef struct text {
    const history *h;
    size_t n_tail;
    gorgon_token tail[MAX_DEPTH + 1];
} text;

// A place where the suffix's last token stands, and what follows it.
typedef struct occurrence {
    gorgon_token next;
    uint32_t length;   // of the match
    uint32_t distance; // from the end of the text
} occurrence;

// Occurrences with the same continuation.
typedef struct candidate {
    gorgon_token token;
    uint32_t length; // longest match
    uint32_t count;
    uint32_t distance; // nearest
} candidate;

static size_t bucket(const history *h, gorgon_token token)
{
    return ((uint32_t)token * UINT32_C(2654435761) >> 7) & (h->n_buckets - 1);
}

static void clear(history *h, size_t origin)
{
    h->origin = origin;
    h->n = 0;
    for (size_t i = 0; i < h->n_buckets; i++)
        h->last[i] = NONE;
}

static void append(history *h, gorgon_token token)
{
    if (h->n == h->capacity)
        return;
    int32_t *last = &h->last[bucket(h, token)];
    h->token[h->n] = token;
    h->previous[h->n] = *last;
    *last = (int32_t)h->n++;
}

// Forgets positions from `position` on. A position beyond the end starts a new history.
static void rewind_to(history *h, size_t position)
{
    if (position < h->origin || position > h->origin + h->n) {
        clear(h, position);
        return;
    }
    while (h->origin + h->n > position) {
        h->n--;
        h->last[bucket(h, h->token[h->n])] = h->previous[h->n];
    }
}

static gorgon_token at(const text *t, size_t i)
{
    return i < t->h->n ? t->h->token[i] : t->tail[i - t->h->n];
}

static void read_path(text *t, const gg_draft *draft, const gg_draft_tree *tree, uint32_t parent)
{
    t->n_tail = (size_t)tree->depth[parent] + 1;
    for (size_t i = t->n_tail - 1, node = parent; i > 0; i--) {
        t->tail[i] = tree->token[node];
        node = (size_t)tree->parent[node];
    }
    t->tail[0] = draft->root;
}

static uint32_t match_length(const text *t, size_t i, size_t end)
{
    uint32_t length = 1;
    while (length < MAX_MATCH && length <= i && at(t, i - length) == at(t, end - length))
        length++;
    return length;
}

static occurrence occurrence_at(const text *t, size_t i, size_t end)
{
    return (occurrence){at(t, i + 1), match_length(t, i, end), (uint32_t)(end - i)};
}

// Nearest first; returns how many.
static size_t find_occurrences(const text *t, occurrence *found)
{
    const history *h = t->h;
    const size_t end = h->n + t->n_tail - 1;
    const gorgon_token token = at(t, end);
    size_t n = 0;
    for (size_t i = end; i-- > h->n;) {
        if (at(t, i) == token)
            found[n++] = occurrence_at(t, i, end);
    }
    int32_t i = h->last[bucket(h, token)];
    for (size_t visits = 0; i != NONE && visits < MAX_VISITS && n < MAX_SEEN; visits++) {
        if (h->token[i] == token)
            found[n++] = occurrence_at(t, (size_t)i, end);
        i = h->previous[i];
    }
    return n;
}

static size_t merge(const occurrence *found, size_t n, candidate *list)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        const occurrence *o = &found[i];
        size_t c = 0;
        while (c < count && list[c].token != o->next)
            c++;
        if (c == count)
            list[count++] = (candidate){o->next, 0, 0, o->distance};
        list[c].count++;
        if (o->length > list[c].length)
            list[c].length = o->length;
    }
    return count;
}

// Longer match, then more occurrences, then nearer.
static bool better(const candidate *a, const candidate *b)
{
    if (a->length != b->length)
        return a->length > b->length;
    if (a->count != b->count)
        return a->count > b->count;
    return a->distance < b->distance;
}

// Moves the best of list[from .. n) to list[from].
static void select_best(candidate *list, size_t from, size_t n)
{
    size_t best = from;
    for (size_t i = from + 1; i < n; i++) {
        if (better(&list[i], &list[best]))
            best = i;
    }
    const candidate c = list[best];
    list[best] = list[from];
    list[from] = c;
}

static float log2_1p(uint32_t n)
{
    return (float)(gg_log(1.0 + (double)n) * 1.4426950408889634);
}

static gg_edge edge_of(const candidate *c, const occurrence *found, size_t n)
{
    uint32_t all = 0, agreeing = 0; // among matches at least as long
    for (size_t i = 0; i < n; i++) {
        if (found[i].length < c->length)
            continue;
        all++;
        if (found[i].next == c->token)
            agreeing++;
    }
    const double share = (double)agreeing / ((double)all + DOUBT / (double)c->length);
    return (gg_edge){
        .token = c->token,
        .score = (float)gg_log(share),
        .evidence = {log2_1p(c->length), log2_1p(c->count), (float)agreeing / (float)all,
                     log2_1p(c->distance)},
    };
}

static size_t suggest(const text *t, uint32_t parent, gg_edge *edges, size_t capacity)
{
    occurrence found[MAX_SEEN];
    candidate list[MAX_SEEN];
    const size_t n = find_occurrences(t, found);
    const size_t count = merge(found, n, list);
    size_t i = 0;
    for (; i < count && i < MAX_BRANCHES && i < capacity; i++) {
        select_best(list, i, count);
        edges[i] = edge_of(&list[i], found, n);
        edges[i].parent = parent;
        edges[i].rank = (uint16_t)i;
        if (i > 0 && edges[i].score > edges[i - 1].score) // best first, also by score
            edges[i].score = edges[i - 1].score;
    }
    return i;
}

static size_t expand(const gg_proposer *p, const gg_draft *draft, const gg_draft_tree *tree,
                     const uint32_t *parents, size_t n_parents, gg_edge *edges, size_t capacity)
{
    text t = {.h = draft->state};
    size_t n = 0;
    (void)p;
    for (size_t i = 0; i < n_parents; i++) {
        if (tree->depth[parents[i]] >= MAX_DEPTH)
            continue;
        read_path(&t, draft, tree, parents[i]);
        n += suggest(&t, parents[i], edges + n, capacity - n);
    }
    return n;
}

static void begin_step(const gg_proposer *p, const gg_draft *drafts, size_t n_drafts)
{
    (void)p; // nothing to batch
    (void)drafts;
    (void)n_drafts;
}

static void observe(const gg_proposer *p, void *state, const gg_observation *seen)
{
    history *h = state;
    (void)p;
    rewind_to(h, seen->position);
    for (size_t i = 0; i < seen->n; i++)
        append(h, seen->tokens[i]);
}

static void state_free(const gg_proposer *p, void *state)
{
    history *h = state;
    (void)p;
    if (!h)
        return;
    gg_free(h->token);
    gg_free(h->previous);
    gg_free(h->last);
    gg_free(h);
}

static gorgon_status state_create(const gg_proposer *p, size_t context, void **state,
                                  gorgon_error *err)
{
    *state = NULL;
    if (context > GG_MAX_CONTEXT)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "proposer lookup: context is %zu, expected at most %u", context,
                       GG_MAX_CONTEXT);
    history *h = gg_alloc(1, sizeof *h);
    if (h) {
        h->capacity = context;
        for (h->n_buckets = 64; h->n_buckets < 2 * context;)
            h->n_buckets *= 2;
        h->token = gg_alloc(context, sizeof *h->token);
        h->previous = gg_alloc(context, sizeof *h->previous);
        h->last = gg_alloc(h->n_buckets, sizeof *h->last);
    }
    if (!h || !h->token || !h->previous || !h->last) {
        state_free(p, h);
        return gg_fail(err, GORGON_ERROR_MEMORY,
                       "proposer lookup: out of memory for a sequence of %zu positions", context);
    }
    clear(h, 0);
    *state = h;
    return GORGON_OK;
}

static void state_reset(const gg_proposer *p, void *state)
{
    (void)p;
    clear(state, 0);
}

static void state_copy(const gg_proposer *p, void *to, const void *from)
{
    const history *f = from;
    history *t = to;
    (void)p;
    clear(t, f->origin);
    for (size_t i = 0; i < f->n; i++)
        append(t, f->token[i]);
}

static void lookup_free(gg_proposer *p)
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
    .free = lookup_free,
};

gorgon_status gg_lookup_proposer(const gg_proposer_config *config, gg_proposer **out,
                                 gorgon_error *err)
{
    gg_proposer *p = gg_alloc(1, sizeof *p);
    if (!p)
        return gg_fail(err, GORGON_ERROR_MEMORY, "proposer lookup: out of memory");
    *p = (gg_proposer){"lookup", MAX_DEPTH, NULL, config->engine, &ops};
    *out = p;
    return GORGON_OK;
}
