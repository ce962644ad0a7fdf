// Proposer "heads" for sets that see the drafted tokens: markov, hydra and hydra++ (arXiv
// 2402.05109), recurrent (after ReDrafter, arXiv 2403.09919) and eagle heads (after arXiv
// 2401.15077). A node of the draft tree is expanded when it is asked for, whoever named its token.
// The first question at a depth runs the likeliest few nodes of that depth, of all sequences
// together, as one batch: they are the ones that will be asked for. Heads with a decoder layer take
// up what was committed since the last step when a step begins, also together.
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "head_context.h"
#include "head_net.h"
#include "ranking.h"
#include "registry.h"

enum {
    AHEAD = 4,      // nodes per depth and sequence that are expanded before they are asked for
    MAX_NODES = 64, // expanded per step and sequence
};
// Nodes whose path is less likely than this by the heads' own word are not expanded ahead.
static const float least_path = -3.5f; // nats

// An expanded node, or one that waits in the batch for it.
typedef struct node {
    int32_t parent; // -1: the root
    uint32_t depth;
    gorgon_token token;
    float path; // sum of log q, noise or not
} node;

typedef struct state {
    gg_head_context context;
    size_t n; // nodes of the current step
    node nodes[MAX_NODES];
    float *states;       // [MAX_NODES][d] one cell: x of the node's children, else NULL
    float *prefix;       // [d] hydra++: x of all nodes, else NULL
    float *base;         // [n_heads][n_out] markov: logits without the token before, else NULL
    gg_ranking *ranking; // [MAX_NODES] children
} state;

// A node of the batch.
typedef struct member {
    const gg_draft *draft;
    size_t node;
} member;

// The step that is being drafted for.
typedef struct step {
    const gg_draft *drafts;
    size_t n_drafts;
    size_t ahead; // depths whose likeliest nodes are expanded
} step;

typedef struct sequential {
    gg_proposer proposer;
    gg_head_net net;
    float *block_max; // [threads][n_blocks]
    size_t n_blocks;
    member *member; // [net.max_rows] of the batch
    step *step;
} sequential;

// Nodes of one depth that are expanded together; among those of the roots there may be rows of
// which only keys and values are wanted.
typedef struct batch {
    const sequential *q;
    size_t depth;
    size_t n, n_rows; // nodes; with those rows
} batch;

static const gg_head_shape *shape_of(const sequential *q)
{
    return &q->net.set->shape;
}

static gg_head_layer layer_of(const sequential *q)
{
    return gg_head_traits_of(shape_of(q)->kind)->layer;
}

static void rank_on_thread(void *context, size_t thread, size_t n_threads)
{
    const batch *b = context;
    const sequential *q = b->q;
    for (size_t i = thread; i < b->n; i += n_threads) {
        const member *m = &q->member[i];
        const state *s = m->draft->state;
        float *logits = q->net.logits + i * q->net.n_out;
        if (s->base)
            gg_engine_kernels(q->net.engine)
                ->add(logits, s->base + b->depth * q->net.n_out, q->net.n_out);
        const gg_rank_job job = {
            .net = &q->net,
            .sampling = m->draft->sampling,
            .position = (uint64_t)m->draft->root_position + 1 + b->depth,
            .logits = logits,
            .block_max = q->block_max + thread * q->n_blocks,
        };
        gg_rank(&job, &s->ranking[m->node]);
    }
}

// Expands the nodes of the batch: rankings, and the states that their children begin from.
static void run_batch(batch *b)
{
    const sequential *q = b->q;
    const size_t d = shape_of(q)->d_model;
    if (b->n_rows == 0)
        return;
    gg_head_net_run_at(&q->net, b->depth, b->n_rows);
    if (b->n > 1)
        gg_team_run(gg_engine_team(q->net.engine), rank_on_thread, b);
    else
        rank_on_thread(b, 0, 1);
    for (size_t i = 0; q->net.state && i < b->n; i++) {
        const state *s = q->member[i].draft->state;
        memcpy(s->states + q->member[i].node * d, q->net.state + i * d, d * sizeof(float));
    }
    b->n = b->n_rows = 0;
}

// A row of the batch that is free.
static size_t new_row(batch *b)
{
    if (b->n_rows == b->q->net.max_rows)
        run_batch(b);
    return b->n_rows++;
}

// What the children of node `parent` begin from.
static const float *x_of(const state *s, int32_t parent, size_t d)
{
    if (s->states && parent >= 0)
        return s->states + (size_t)parent * d;
    return s->prefix ? s->prefix : gg_head_context_last(&s->context);
}

// A new node of the draft joins the batch.
static void add_node(batch *b, const gg_draft *draft, node new)
{
    const sequential *q = b->q;
    state *s = draft->state;
    const size_t row = new_row(b);
    gorgon_token tokens[GG_MAX_DRAFT_HEADS];
    uint32_t path[GG_MAX_DRAFT_HEADS];
    tokens[new.depth] = new.token;
    path[new.depth] = (uint32_t)s->n;
    for (int32_t at = new.parent; at >= 0; at = s->nodes[at].parent) {
        tokens[s->nodes[at].depth] = s->nodes[at].token;
        path[s->nodes[at].depth] = (uint32_t)at;
    }
    gg_head_net_load_at(&q->net, row, b->depth, x_of(s, new.parent, shape_of(q)->d_model), tokens);
    if (layer_of(q) == GG_LAYER_CELL)
        gg_head_context_place_node(&s->context, path, new.depth, &q->net.layer, row);
    s->nodes[s->n] = new;
    q->member[b->n++] = (member){draft, s->n++};
}

// The child of node `parent` that bears `token`, or -1.
static int32_t find_child(const state *s, int32_t parent, gorgon_token token)
{
    for (size_t i = 1; i < s->n; i++) {
        if (s->nodes[i].parent == parent && s->nodes[i].token == token)
            return (int32_t)i;
    }
    return -1;
}

// The likeliest children of expanded nodes of the depth before, as nodes; returns how many.
static size_t likeliest(const state *s, size_t depth, node best[AHEAD])
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        const gg_ranking *r = &s->ranking[i];
        for (size_t c = 0; s->nodes[i].depth + 1 == depth && c < r->n && c < AHEAD; c++) {
            const node child = {(int32_t)i, (uint32_t)depth, r->token[c],
                                s->nodes[i].path + r->score[c]};
            size_t at = n;
            while (at > 0 && child.path > best[at - 1].path)
                at--;
            if (at == AHEAD || child.path < least_path)
                break;
            n += n < AHEAD;
            for (size_t k = n - 1; k > at; k--)
                best[k] = best[k - 1];
            best[at] = child;
        }
    }
    return n;
}

// Expands ahead at this depth: the likeliest nodes of every draft.
static void expand_ahead(const sequential *q, batch *b)
{
    for (size_t i = 0; i < q->step->n_drafts; i++) {
        node best[AHEAD];
        const gg_draft *draft = &q->step->drafts[i];
        state *s = draft->state;
        const size_t n = likeliest(s, b->depth, best);
        for (size_t k = 0; k < n && s->n < MAX_NODES; k++) {
            if (find_child(s, best[k].parent, best[k].token) < 0)
                add_node(b, draft, best[k]);
        }
    }
    q->step->ahead = b->depth + 1;
}

// Logits of the batch's drafts without what the root adds.
static void run_base(const sequential *q, size_t n)
{
    const size_t floats = q->net.lanes * q->net.n_out;
    if (n == 0)
        return;
    gg_head_net_run(&q->net, n);
    for (size_t i = 0; i < n; i++) {
        const state *s = q->member[i].draft->state;
        memcpy(s->base, q->net.logits + i * floats, floats * sizeof *s->base);
    }
}

static bool can_draft(const gg_proposer *p, const gg_draft *draft)
{
    const state *s = draft->state;
    return gg_head_context_last(&s->context) &&
           (size_t)draft->root < gg_model_geometry(gg_engine_model(p->engine))->n_vocab;
}

// markov: logits of all drafts without what the root adds.
static void run_bases(const sequential *q)
{
    size_t n = 0;
    for (size_t i = 0; i < q->step->n_drafts; i++) {
        const gg_draft *draft = &q->step->drafts[i];
        const state *s = draft->state;
        if (!can_draft(&q->proposer, draft))
            continue;
        gg_head_net_load(&q->net, n, gg_head_context_last(&s->context), draft->root);
        q->member[n++].draft = draft;
        if (n == q->net.max_rows) {
            run_base(q, n);
            n = 0;
        }
    }
    run_base(q, n);
}

// hydra++: a batch of n_rows committed rows, among them the last ones of n drafts, q->member.
static void run_prefix(const sequential *q, size_t n_rows, size_t n)
{
    const size_t d = shape_of(q)->d_model;
    if (n_rows == 0)
        return;
    gg_head_net_run_prefix(&q->net, n_rows);
    for (size_t i = 0; i < n; i++) {
        const state *s = q->member[i].draft->state;
        memcpy(s->prefix, q->net.prefix + i * d, d * sizeof *s->prefix);
    }
}

// hydra++: takes up what was committed; the layer's output at the last row is the x of the draft.
static void run_prefixes(const sequential *q)
{
    size_t n_rows = 0, n = 0;
    for (size_t i = 0; i < q->step->n_drafts; i++) {
        const gg_draft *draft = &q->step->drafts[i];
        gg_head_context *c = &((state *)draft->state)->context;
        if (!can_draft(&q->proposer, draft))
            continue;
        for (; c->keyed < c->end; c->keyed++) {
            const bool last = c->keyed + 1 == c->end;
            if (n_rows == q->net.max_rows) {
                run_prefix(q, n_rows, n);
                n_rows = n = 0;
            }
            gg_head_net_load_prefix(&q->net, n_rows, gg_head_context_hidden(c, c->keyed));
            gg_head_context_place_row(c, c->keyed, last, &q->net.layer, n_rows++);
            if (last)
                q->member[n++].draft = draft;
        }
    }
    run_prefix(q, n_rows, n);
}

// eagle: keys and values of committed rows, each of its hidden state and the token after it; that
// of the last row is the root, whose node follows.
static void add_committed(batch *b, const gg_draft *draft)
{
    gg_head_context *c = &((state *)draft->state)->context;
    for (; c->keyed + 1 < c->end; c->keyed++) {
        const size_t row = new_row(b);
        const gorgon_token after = gg_head_context_token(c, c->keyed + 1);
        gg_head_net_load_at(&b->q->net, row, 0, gg_head_context_hidden(c, c->keyed), &after);
        gg_head_context_place_row(c, c->keyed, false, &b->q->net.layer, row);
    }
}

static void begin_step(const gg_proposer *p, const gg_draft *drafts, size_t n_drafts)
{
    const sequential *q = p->self;
    batch b = {.q = q};
    *q->step = (step){drafts, n_drafts, 1};
    if (shape_of(q)->rank)
        run_bases(q);
    if (layer_of(q) == GG_LAYER_PREFIX)
        run_prefixes(q);
    for (size_t i = 0; i < n_drafts; i++) {
        ((state *)drafts[i].state)->n = 0;
        if (!can_draft(p, &drafts[i]))
            continue;
        if (layer_of(q) == GG_LAYER_CELL)
            add_committed(&b, &drafts[i]);
        add_node(&b, &drafts[i], (node){-1, 0, drafts[i].root, 0.0f});
    }
    run_batch(&b);
}

// The expanded node that the path to `leaf` leads to. -1: the path is there up to the leaf itself,
// whose parent is *parent; or not even that, and *parent is -1.
static int32_t find_node(const state *s, const gg_draft_tree *tree, uint32_t leaf, int32_t *parent)
{
    gorgon_token path[GG_MAX_DRAFT_HEADS];
    const size_t depth = tree->depth[leaf];
    int32_t at = s->n > 0 ? 0 : -1;
    *parent = -1;
    for (size_t i = depth; i > 0; i--) {
        path[i - 1] = tree->token[leaf];
        leaf = (uint32_t)tree->parent[leaf];
    }
    for (size_t i = 0; i < depth && at >= 0; i++) {
        *parent = i + 1 == depth ? at : -1;
        at = find_child(s, at, path[i]);
    }
    return at;
}

// The log-probability that node `parent` gives to the token; what it does not name is less likely
// than what it does.
static float score_of(const state *s, int32_t parent, gorgon_token token)
{
    const gg_ranking *r = &s->ranking[parent];
    float least = r->n > 0 ? r->score[r->n - 1] : least_path;
    for (size_t i = 0; i < r->n; i++) {
        if (r->token[i] == token)
            return r->score[i];
    }
    return least;
}

// The node of the path to `leaf`, expanded now if it was not yet; -1 when it cannot be.
static int32_t expanded(const sequential *q, const gg_draft *draft, const gg_draft_tree *tree,
                        uint32_t leaf)
{
    state *s = draft->state;
    int32_t parent, at = find_node(s, tree, leaf, &parent);
    const size_t n_vocab = gg_model_geometry(gg_engine_model(q->net.engine))->n_vocab;
    const gorgon_token token = tree->token[leaf];
    if (at >= 0 || parent < 0 || s->n == MAX_NODES || (size_t)token >= n_vocab)
        return at;
    batch b = {.q = q, .depth = tree->depth[leaf]};
    const node wanted = {parent, (uint32_t)b.depth, token,
                         s->nodes[parent].path + score_of(s, parent, token)};
    at = (int32_t)s->n;
    add_node(&b, draft, wanted);
    if (b.depth == q->step->ahead)
        expand_ahead(q, &b);
    run_batch(&b);
    return at;
}

static size_t expand(const gg_proposer *p, const gg_draft *draft, const gg_draft_tree *tree,
                     const uint32_t *parents, size_t n_parents, gg_edge *edges, size_t capacity)
{
    const sequential *q = p->self;
    const state *s = draft->state;
    size_t n = 0;
    for (size_t i = 0; i < n_parents; i++) {
        if (tree->depth[parents[i]] >= p->max_depth)
            continue;
        const int32_t at = expanded(q, draft, tree, parents[i]);
        if (at >= 0)
            n += gg_ranking_edges(&s->ranking[at], parents[i], edges + n, capacity - n);
    }
    return n;
}

static void state_free(const gg_proposer *p, void *opaque)
{
    state *s = opaque;
    (void)p;
    if (!s)
        return;
    gg_head_context_clear(&s->context);
    gg_free(s->states);
    gg_free(s->prefix);
    gg_free(s->base);
    gg_free(s->ranking);
    gg_free(s);
}

static gorgon_status state_create(const gg_proposer *p, size_t context, void **out,
                                  gorgon_error *err)
{
    const sequential *q = p->self;
    const size_t d = shape_of(q)->d_model, rank = shape_of(q)->rank;
    (void)context;
    *out = NULL;
    state *s = gg_alloc(1, sizeof *s);
    if (!s)
        return gg_fail(err, GORGON_ERROR_MEMORY, "proposer heads: out of memory for a sequence");
    gorgon_status status =
        gg_head_context_create(p->engine, shape_of(q), MAX_NODES, &s->context, err);
    if (status == GORGON_OK) {
        s->states = q->net.state ? gg_alloc(MAX_NODES * d, sizeof *s->states) : NULL;
        s->prefix = q->net.prefix ? gg_alloc(d, sizeof *s->prefix) : NULL;
        s->base = rank ? gg_alloc(shape_of(q)->n_heads * q->net.n_out, sizeof *s->base) : NULL;
        s->ranking = gg_alloc(MAX_NODES, sizeof *s->ranking);
        if ((q->net.state && !s->states) || (q->net.prefix && !s->prefix) || (rank && !s->base) ||
            !s->ranking)
            status =
                gg_fail(err, GORGON_ERROR_MEMORY, "proposer heads: out of memory for a sequence");
    }
    if (status == GORGON_OK)
        *out = s;
    else
        state_free(p, s);
    return status;
}

static void state_reset(const gg_proposer *p, void *opaque)
{
    state *s = opaque;
    (void)p;
    gg_head_context_reset(&s->context);
    s->n = 0;
}

// Nodes belong to a step: a fork begins with none.
static void state_copy(const gg_proposer *p, void *to, const void *from)
{
    state *t = to;
    const state *f = from;
    const sequential *q = p->self;
    gg_head_context_copy(&t->context, &f->context);
    t->n = 0;
    if (f->prefix)
        memcpy(t->prefix, f->prefix, shape_of(q)->d_model * sizeof *t->prefix);
}

static void observe(const gg_proposer *p, void *opaque, const gg_observation *seen)
{
    state *s = opaque;
    (void)p;
    gg_head_context_observe(&s->context, seen);
}

static void sequential_free(gg_proposer *p)
{
    sequential *q = (sequential *)(void *)p; // the proposer is its first member
    gg_head_net_clear(&q->net);
    gg_free(q->block_max);
    gg_free(q->member);
    gg_free(q->step);
    gg_free(q);
}

static const gg_proposer_ops ops = {
    .state_create = state_create,
    .state_free = state_free,
    .state_reset = state_reset,
    .state_copy = state_copy,
    .observe = observe,
    .begin = begin_step,
    .expand = expand,
    .free = sequential_free,
};

gorgon_status gg_sequential_proposer(const gg_proposer_config *config, gg_proposer **out,
                                     gorgon_error *err)
{
    sequential *q = gg_alloc(1, sizeof *q);
    if (!q)
        return gg_fail(err, GORGON_ERROR_MEMORY, "proposer heads: out of memory");
    gorgon_status status = gg_head_net_create(config->engine, config->heads, config->set,
                                              config->max_sequences * (1 + AHEAD), &q->net, err);
    if (status != GORGON_OK) {
        gg_free(q);
        return status;
    }
    q->proposer = (gg_proposer){"heads", shape_of(q)->n_heads, q, config->engine, &ops};
    q->n_blocks = gg_rank_blocks(&q->net);
    q->block_max = gg_alloc(gorgon_engine_threads(config->engine), q->n_blocks * sizeof(float));
    q->member = gg_alloc(q->net.max_rows, sizeof *q->member);
    q->step = gg_alloc(1, sizeof *q->step);
    if (!q->block_max || !q->member || !q->step) {
        sequential_free(&q->proposer);
        return gg_fail(err, GORGON_ERROR_MEMORY, "proposer heads: out of memory");
    }
    *out = &q->proposer;
    return GORGON_OK;
}
