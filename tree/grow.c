// See grow.h.
#include "grow.h"

#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/model.h"
#include "core/sampling.h"
#include "core/system.h"

gorgon_status gg_grower_create(gg_grower *g, size_t max_nodes, size_t max_sprouts,
                               gorgon_error *err)
{
    g->max_expansions = max_nodes + max_sprouts;
    size_t capacity = g->max_expansions * GG_MAX_CHILDREN * g->n_proposers;
    g->pool = gg_alloc_uninit(capacity, sizeof *g->pool);
    g->heap = gg_alloc_uninit(capacity, sizeof *g->heap);
    g->order = gg_alloc(g->max_expansions, sizeof *g->order);
    g->first_child = gg_alloc(GG_MAX_TREE_NODES, sizeof *g->first_child);
    g->n_children = gg_alloc(GG_MAX_TREE_NODES, sizeof *g->n_children);
    if (!g->pool || !g->heap || !g->order || !g->first_child || !g->n_children)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for growing trees of %zu nodes",
                       max_nodes);
    gg_online_init(&g->online);
    return GORGON_OK;
}

void gg_grower_clear(gg_grower *g)
{
    gg_free(g->pool);
    gg_free(g->heap);
    gg_free(g->order);
    gg_free(g->first_child);
    gg_free(g->n_children);
}

void gg_grower_reset(gg_grower *g)
{
    g->n_pool = 0;
    g->n_heap = 0;
    memset(g->expand_s, 0, sizeof g->expand_s);
    memset(g->expanded, 0, sizeof g->expanded);
}

// Tells the planner what this growth's expansions took.
static void book_expansions(const gg_grower *g)
{
    for (size_t i = 0; i < g->n_proposers; i++)
        gg_plan_expand_time(g->plan, i, g->expand_s[i], g->expanded[i]);
}

// The likelier first; ties in a fixed order.
static bool before(const gg_candidate *a, const gg_candidate *b)
{
    if (a->path != b->path)
        return a->path > b->path;
    if (a->sprout != b->sprout)
        return a->sprout < b->sprout;
    if (a->parent != b->parent)
        return a->parent < b->parent;
    return a->token < b->token;
}

static void heap_push(gg_grower *g, uint32_t candidate)
{
    size_t i = g->n_heap++;
    while (i > 0) {
        size_t up = (i - 1) / 2;
        if (!before(&g->pool[candidate], &g->pool[g->heap[up]]))
            break;
        g->heap[i] = g->heap[up];
        i = up;
    }
    g->heap[i] = candidate;
}

static uint32_t heap_pop(gg_grower *g)
{
    uint32_t top = g->heap[0], last = g->heap[--g->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= g->n_heap)
            break;
        if (child + 1 < g->n_heap && before(&g->pool[g->heap[child + 1]], &g->pool[g->heap[child]]))
            child++;
        if (!before(&g->pool[g->heap[child]], &g->pool[last]))
            break;
        g->heap[i] = g->heap[child];
        i = child;
    }
    g->heap[i] = last;
    return top;
}

// One node whose children are asked for.
typedef struct expansion {
    const gg_sprout *sprout;
    uint32_t sprout_index, node;
    size_t first; // of its candidates, which end the pool
    size_t depth; // of the children
    const gorgon_sampling *sampling;
    uint64_t position; // of the children in the sequence
    const float *weights;
} expansion;

static float noise_of(const expansion *x, gorgon_token token)
{
    if (!(x->sampling->temperature > 0.0f))
        return 0.0f;
    return gg_gumbel(x->sampling, x->position, (uint32_t)token);
}

// The candidate of this expansion that bears `token`, made if there is none yet.
static gg_candidate *candidate_of(gg_grower *g, const expansion *x, gorgon_token token)
{
    for (size_t i = x->first; i < g->n_pool; i++) {
        if (g->pool[i].token == token)
            return &g->pool[i];
    }
    gg_candidate *c = &g->pool[g->n_pool++];
    gg_term terms[GG_SHARED];
    gg_shared_terms(x->depth, x->sprout->tree->path[x->node], noise_of(x, token), terms);
    *c = (gg_candidate){.sprout = x->sprout_index,
                        .parent = x->node,
                        .token = token,
                        .node = GG_NO_NODE,
                        .odds = gg_log_odds(x->weights, terms, GG_SHARED)};
    return c;
}

// Merges a proposer's edge into its candidate.
static void add_edge(gg_grower *g, const expansion *x, size_t proposer, const gg_edge *edge)
{
    gg_candidate *c = candidate_of(g, x, edge->token);
    gg_term terms[GG_WEIGHTS];
    size_t n = gg_said_terms(proposer, edge, &c->namers, terms);
    c->odds += gg_log_odds(x->weights, terms, n);
    if (n > 0)
        c->said[proposer] = (float)gg_log_odds(x->weights, terms, GG_SAID);
}

// Probabilities of one expansion's edges: calibrated, corrected, and no more than certain together.
static void settle_siblings(gg_grower *g, const expansion *x)
{
    size_t n = g->n_pool - x->first;
    gg_candidate *siblings = g->pool + x->first;
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        g->odds[i] = siblings[i].odds;
    gg_choose(g->odds, n);
    for (size_t i = 0; i < n; i++) {
        siblings[i].calibrated = (float)g->odds[i];
        siblings[i].edge = gg_online_correct(&g->online, x->depth, siblings[i].calibrated);
        sum += (double)siblings[i].edge;
    }
    float scale = sum > 1.0 ? (float)(1.0 / sum) : 1.0f;
    for (size_t i = 0; i < n; i++) {
        siblings[i].edge *= scale;
        siblings[i].path = x->sprout->tree->path[x->node] * siblings[i].edge;
    }
}

// Best edge first; few entries, nearly sorted.
static void sort_siblings(gg_grower *g, size_t first)
{
    for (size_t i = first + 1; i < g->n_pool; i++) {
        gg_candidate c = g->pool[i];
        size_t j = i;
        while (j > first && before(&c, &g->pool[j - 1])) {
            g->pool[j] = g->pool[j - 1];
            j--;
        }
        g->pool[j] = c;
    }
}

// Asks the active proposers for children of one node. Returns the first of the new candidates,
// which end the pool, best first.
static size_t expand(gg_grower *g, uint32_t active, uint32_t sprout, const gg_sprout *s,
                     uint32_t node)
{
    const gg_draft *draft = s->draft[0];
    expansion x = {.sprout = s,
                   .sprout_index = sprout,
                   .node = node,
                   .first = g->n_pool,
                   .depth = (size_t)s->tree->depth[node] + 1,
                   .sampling = draft->sampling};
    x.position = draft->root_position + x.depth;
    x.weights = g->calibration.w[x.sampling->temperature > 0.0f][gg_depth_class(x.depth)];
    for (size_t i = 0; i < g->n_proposers; i++) {
        const gg_proposer *p = g->proposer[i];
        if (!(active & UINT32_C(1) << i) || x.depth > p->max_depth)
            continue;
        double begin = gg_now();
        size_t n = p->ops->expand(p, s->draft[i], s->tree, &node, 1, g->edges, GG_MAX_CHILDREN);
        g->expand_s[i] += gg_now() - begin;
        g->expanded[i]++;
        for (size_t e = 0; e < n; e++)
            add_edge(g, &x, i, &g->edges[e]);
    }
    settle_siblings(g, &x);
    sort_siblings(g, x.first);
    return x.first;
}

static void expand_into_heap(gg_grower *g, uint32_t active, uint32_t sprout, const gg_sprout *s,
                             uint32_t node)
{
    for (size_t i = expand(g, active, sprout, s, node); i < g->n_pool; i++)
        heap_push(g, (uint32_t)i);
}

static uint16_t best_rank(const gg_candidate *c)
{
    uint16_t best = UINT16_MAX;
    for (size_t i = 0; i < GG_MAX_PROPOSERS; i++) {
        if ((c->namers.set & UINT32_C(1) << i) && c->namers.rank[i] < best)
            best = c->namers.rank[i];
    }
    return best;
}

// Makes a candidate a node of its tree. False when that tree is full.
static bool plant(const gg_sprout *s, gg_candidate *c)
{
    if (s->tree->n > s->max_nodes)
        return false;
    c->node = gg_tree_add(s->tree, c->parent, c->token, c->edge, c->namers.set, best_rank(c));
    return c->node != GG_NO_NODE;
}

// Takes the last nodes back until `keep` are left.
static void prune(gg_grower *g, const gg_sprout *sprouts, size_t grown, size_t keep)
{
    while (grown > keep) {
        gg_candidate *c = &g->pool[g->order[--grown]];
        gg_draft_tree *tree = sprouts[c->sprout].tree;
        gg_tree_truncate(tree, tree->n - 1);
        c->node = GG_NO_NODE;
    }
}

gg_growth gg_grow_best_first(gg_grower *g, uint32_t active, const gg_sprout *sprouts, size_t n,
                             size_t max_nodes, const gg_objective *objective)
{
    gg_growth now = {0}, best = {0};
    double best_rate = objective ? 1.01 * gg_objective_rate(objective, 0, 0.0) : 0.0;
    gg_grower_reset(g);
    for (uint32_t i = 0; i < n; i++) {
        if (sprouts[i].max_depth > 0 && sprouts[i].max_nodes > 0)
            expand_into_heap(g, active, i, &sprouts[i], 0);
    }
    while (g->n_heap > 0 && now.nodes < max_nodes) {
        uint32_t index = heap_pop(g);
        gg_candidate *c = &g->pool[index];
        if (objective && !gg_objective_can_improve(objective, now.nodes, now.path_sum,
                                                   (double)c->path, max_nodes, best_rate))
            break;
        const gg_sprout *s = &sprouts[c->sprout];
        if (!plant(s, c))
            continue;
        g->order[now.nodes++] = index;
        now.path_sum += (double)c->path;
        double rate = objective ? gg_objective_rate(objective, now.nodes, now.path_sum) : 0.0;
        if (!objective || rate > best_rate) {
            best = now;
            best_rate = rate;
        }
        if (s->tree->depth[c->node] < s->max_depth && now.nodes < max_nodes)
            expand_into_heap(g, active, c->sprout, s, (uint32_t)c->node);
    }
    prune(g, sprouts, now.nodes, best.nodes);
    book_expansions(g);
    return best;
}

static void grow_shape(gg_grower *g, uint32_t active, uint32_t index, const gg_sprout *s,
                       const gg_static_tree *shape, gg_growth *growth)
{
    int32_t node_of[GG_MAX_TREE_NODES] = {0};
    memset(g->n_children, 0, GG_MAX_TREE_NODES * sizeof *g->n_children);
    bool expanded[GG_MAX_TREE_NODES] = {false};
    for (size_t i = 1; i < shape->n; i++) {
        size_t parent = shape->parent[i];
        node_of[i] = GG_NO_NODE;
        if (node_of[parent] == GG_NO_NODE || shape->depth[i] > s->max_depth)
            continue;
        if (!expanded[parent]) {
            expanded[parent] = true;
            size_t first = expand(g, active, index, s, (uint32_t)node_of[parent]);
            g->first_child[parent] = (uint32_t)first;
            g->n_children[parent] = (uint16_t)(g->n_pool - first);
        }
        if (shape->rank[i] >= g->n_children[parent])
            continue;
        gg_candidate *c = &g->pool[g->first_child[parent] + shape->rank[i]];
        if (!plant(s, c))
            return;
        node_of[i] = c->node;
        growth->nodes++;
        growth->path_sum += (double)c->path;
    }
}

gg_growth gg_grow_static(gg_grower *g, uint32_t active, const gg_sprout *sprouts, size_t n,
                         const gg_static_tree *shape)
{
    gg_growth growth = {0};
    gg_grower_reset(g);
    for (uint32_t i = 0; i < n; i++) {
        if (sprouts[i].max_depth > 0 && sprouts[i].max_nodes > 0)
            grow_shape(g, active, i, &sprouts[i], shape, &growth);
    }
    book_expansions(g);
    return growth;
}
