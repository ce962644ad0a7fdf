// Proposer "heads" for a recurrent set (after ReDrafter, arXiv 2403.09919): each depth sees the
// token drafted before it. A step grows a beam: the likeliest few nodes of a depth, of all
// sequences together, are one batch, which runs when the first of them is asked for its children.
// Nodes outside the beam get no children from this proposer.
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "ranking.h"
#include "registry.h"

enum {
    BEAM = 4, // nodes per depth and sequence
    MAX_NODES = 1 + BEAM * (GG_MAX_DRAFT_HEADS - 1),
};
// Nodes whose path is less likely than this by the heads' own word are not expanded.
static const float least_path = -3.5f; // nats

typedef struct node {
    int32_t parent; // -1: the root
    gorgon_token token;
    float path; // sum of log q, noise or not
} node;

typedef struct state {
    bool observed;
    float *hidden; // [d] of the last committed row
    size_t n;      // nodes of the current step's beam, in order of depth
    size_t level;  // first node of the deepest depth
    node nodes[MAX_NODES];
    float *states;       // [MAX_NODES][d] after the node's token was taken in
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
    size_t depths;   // of beams that were chosen
    size_t expanded; // and of those whose children are known
} step;

typedef struct recurrent {
    gg_proposer proposer;
    gg_medusa_net net;
    float *block_max; // [threads][n_blocks]
    size_t n_blocks;
    member *member; // [net.max_drafts] of the batch
    step *step;
} recurrent;

// Nodes that are expanded together.
typedef struct batch {
    const recurrent *r;
    size_t n;
} batch;

static size_t width(const recurrent *r)
{
    return r->net.set->d_model;
}

static void rank_on_thread(void *context, size_t thread, size_t n_threads)
{
    const batch *b = context;
    const recurrent *r = b->r;
    for (size_t i = thread; i < b->n; i += n_threads) {
        const member *m = &r->member[i];
        const state *s = m->draft->state;
        const gg_rank_job job = {
            .net = &r->net,
            .sampling = m->draft->sampling,
            .position = (uint64_t)m->draft->root_position + 1 + r->step->expanded,
            .logits = r->net.logits + i * r->net.n_out,
            .block_max = r->block_max + thread * r->n_blocks,
        };
        gg_rank(&job, &s->ranking[m->node]);
    }
}

// Expands the nodes of the batch: rankings, and the states that their children begin from.
static void run_batch(batch *b)
{
    const recurrent *r = b->r;
    const size_t d = width(r);
    if (b->n == 0)
        return;
    gg_medusa_run(&r->net, b->n);
    if (b->n > 1)
        gg_team_run(gg_engine_team(r->net.engine), rank_on_thread, b);
    else
        rank_on_thread(b, 0, 1);
    for (size_t i = 0; i < b->n; i++) {
        const state *s = r->member[i].draft->state;
        memcpy(s->states + r->member[i].node * d, r->net.state + i * d, d * sizeof(float));
    }
    b->n = 0;
}

// The deepest nodes of one draft join the batch.
static void add_level(batch *b, const gg_draft *draft)
{
    const recurrent *r = b->r;
    const state *s = draft->state;
    for (size_t i = s->level; i < s->n; i++) {
        const float *before =
            s->nodes[i].parent < 0 ? s->hidden : s->states + (size_t)s->nodes[i].parent * width(r);
        if (b->n == r->net.max_drafts)
            run_batch(b);
        gg_medusa_input(&r->net, b->n, before, s->nodes[i].token);
        r->member[b->n++] = (member){draft, i};
    }
}

// The likeliest children of the deepest nodes become the next depth.
static void descend(state *s)
{
    node best[BEAM];
    size_t n = 0, end = s->n;
    for (size_t i = s->level; i < end; i++) {
        const gg_ranking *r = &s->ranking[i];
        for (size_t c = 0; c < r->n && c < BEAM; c++) {
            const node child = {(int32_t)i, r->token[c], s->nodes[i].path + r->score[c]};
            size_t at = n;
            while (at > 0 && child.path > best[at - 1].path)
                at--;
            if (at == BEAM || child.path < least_path)
                break;
            n += n < BEAM;
            for (size_t k = n - 1; k > at; k--)
                best[k] = best[k - 1];
            best[at] = child;
        }
    }
    s->level = end;
    memcpy(s->nodes + end, best, n * sizeof *best);
    for (size_t i = end; i < end + n; i++)
        s->ranking[i].n = 0; // not expanded yet
    s->n = end + n;
}

// The children of the deepest nodes of all beams become known.
static void expand_level(const recurrent *r)
{
    batch b = {r, 0};
    for (size_t i = 0; i < r->step->n_drafts; i++)
        add_level(&b, &r->step->drafts[i]);
    run_batch(&b);
    r->step->expanded++;
}

static void begin_step(const gg_proposer *p, const gg_draft *drafts, size_t n_drafts)
{
    const recurrent *r = p->self;
    const size_t n_vocab = gg_model_geometry(gg_engine_model(p->engine))->n_vocab;
    *r->step = (step){drafts, n_drafts, 1, 0};
    for (size_t i = 0; i < n_drafts; i++) {
        state *s = drafts[i].state;
        s->level = 0;
        s->n = s->observed && (size_t)drafts[i].root < n_vocab;
        s->nodes[0] = (node){-1, drafts[i].root, 0.0f};
        s->ranking[0].n = 0;
    }
    expand_level(r);
}

// The beam's child of node `parent` that bears `token`, or -1.
static int32_t find_child(const state *s, int32_t parent, gorgon_token token)
{
    for (size_t i = 1; i < s->n; i++) {
        if (s->nodes[i].parent == parent && s->nodes[i].token == token)
            return (int32_t)i;
    }
    return -1;
}

// The beam's node that the path to `leaf` leads to, or -1.
static int32_t find_node(const state *s, const gg_draft_tree *tree, uint32_t leaf)
{
    uint32_t path[GG_MAX_DRAFT_HEADS];
    size_t depth = tree->depth[leaf];
    int32_t at = s->n > 0 ? 0 : -1;
    for (size_t i = depth; i > 0; i--) {
        path[i - 1] = leaf;
        leaf = (uint32_t)tree->parent[leaf];
    }
    for (size_t i = 0; i < depth && at >= 0; i++)
        at = find_child(s, at, tree->token[path[i]]);
    return at;
}

static size_t expand(const gg_proposer *p, const gg_draft *draft, const gg_draft_tree *tree,
                     const uint32_t *parents, size_t n_parents, gg_edge *edges, size_t capacity)
{
    const recurrent *r = p->self;
    const state *s = draft->state;
    size_t n = 0;
    for (size_t i = 0; i < n_parents; i++) {
        const size_t depth = tree->depth[parents[i]];
        if (depth >= p->max_depth || depth > r->step->depths)
            continue;
        if (depth == r->step->depths && depth == r->step->expanded) {
            for (size_t k = 0; k < r->step->n_drafts; k++)
                descend(r->step->drafts[k].state);
            r->step->depths++;
        }
        const int32_t at = find_node(s, tree, parents[i]);
        if (at >= 0 && depth == r->step->expanded)
            expand_level(r);
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
    gg_free(s->hidden);
    gg_free(s->states);
    gg_free(s->ranking);
    gg_free(s);
}

static gorgon_status state_create(const gg_proposer *p, size_t context, void **out,
                                  gorgon_error *err)
{
    const size_t d = width(p->self);
    (void)context;
    *out = NULL;
    state *s = gg_alloc(1, sizeof *s);
    if (s) {
        s->hidden = gg_alloc(d, sizeof *s->hidden);
        s->states = gg_alloc(MAX_NODES * d, sizeof *s->states);
        s->ranking = gg_alloc(MAX_NODES, sizeof *s->ranking);
    }
    if (!s || !s->hidden || !s->states || !s->ranking) {
        state_free(p, s);
        return gg_fail(err, GORGON_ERROR_MEMORY, "proposer heads: out of memory for a sequence");
    }
    *out = s;
    return GORGON_OK;
}

static void state_reset(const gg_proposer *p, void *opaque)
{
    state *s = opaque;
    (void)p;
    s->observed = false;
    s->n = 0;
}

// The beam belongs to a step: a fork begins with none.
static void state_copy(const gg_proposer *p, void *to, const void *from)
{
    state *t = to;
    const state *f = from;
    t->observed = f->observed;
    t->n = 0;
    memcpy(t->hidden, f->hidden, width(p->self) * sizeof *t->hidden);
}

static void observe(const gg_proposer *p, void *opaque, const gg_observation *seen)
{
    state *s = opaque;
    if (seen->n == 0)
        return;
    s->observed = seen->hidden != NULL && seen->hidden[seen->n - 1] != NULL;
    if (s->observed)
        memcpy(s->hidden, seen->hidden[seen->n - 1], width(p->self) * sizeof *s->hidden);
}

static void recurrent_free(gg_proposer *p)
{
    recurrent *r = (recurrent *)(void *)p; // the proposer is its first member
    gg_medusa_clear(&r->net);
    gg_free(r->block_max);
    gg_free(r->member);
    gg_free(r->step);
    gg_free(r);
}

static const gg_proposer_ops ops = {
    .state_create = state_create,
    .state_free = state_free,
    .state_reset = state_reset,
    .state_copy = state_copy,
    .observe = observe,
    .begin = begin_step,
    .expand = expand,
    .free = recurrent_free,
};

gorgon_status gg_recurrent_proposer(const gg_proposer_config *config, gg_proposer **out,
                                    gorgon_error *err)
{
    recurrent *r = gg_alloc(1, sizeof *r);
    if (!r)
        return gg_fail(err, GORGON_ERROR_MEMORY, "proposer heads: out of memory");
    gorgon_status status = gg_medusa_create(config->engine, config->heads, config->set,
                                            config->max_sequences * BEAM, &r->net, err);
    if (status != GORGON_OK) {
        gg_free(r);
        return status;
    }
    r->proposer = (gg_proposer){"heads", r->net.set->n_heads, r, config->engine, &ops};
    r->n_blocks = gg_rank_blocks(&r->net);
    r->block_max = gg_alloc(gorgon_engine_threads(config->engine), r->n_blocks * sizeof(float));
    r->member = gg_alloc(r->net.max_drafts, sizeof *r->member);
    r->step = gg_alloc(1, sizeof *r->step);
    if (!r->block_max || !r->member || !r->step) {
        recurrent_free(&r->proposer);
        return gg_fail(err, GORGON_ERROR_MEMORY, "proposer heads: out of memory");
    }
    *out = &r->proposer;
    return GORGON_OK;
}
