// Proposer "heads" for linear and Medusa sets: heads on the hidden state before the decided token.
// Head k suggests for every node of depth k: the heads do not see the path, so one run per step
// serves the whole tree. With temperature > 0 candidates are ranked by log q / T plus the very
// noise that the target will add at that position (noise-aware drafting, arXiv 2408.07978).
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "head_context.h"
#include "head_net.h"
#include "ranking.h"
#include "registry.h"

typedef struct medusa {
    gg_proposer proposer;
    gg_head_net net;
    float *block_max;       // [threads][n_blocks]
    size_t n_blocks;        // of net.n_out logits
    const gg_draft **batch; // [net.max_rows]
} medusa;

typedef struct state {
    gg_head_context context;
    gg_ranking *heads; // [n_heads] of the current step
} state;

typedef struct batch {
    const medusa *m;
    size_t n; // drafts
} batch;

static void rank_on_thread(void *context, size_t thread, size_t n_threads)
{
    const batch *b = context;
    const medusa *m = b->m;
    const size_t n_heads = m->net.set->shape.n_heads;
    size_t begin, end;
    gg_team_share(b->n * n_heads, 1, thread, n_threads, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        const gg_draft *draft = m->batch[i / n_heads];
        const size_t head = i % n_heads;
        const state *s = draft->state;
        const gg_rank_job j = {
            .net = &m->net,
            .sampling = draft->sampling,
            .position = (uint64_t)draft->root_position + 1 + head,
            .logits = m->net.logits + i * m->net.n_out,
            .block_max = m->block_max + thread * m->n_blocks,
        };
        gg_rank(&j, &s->heads[head]);
    }
}

static void run_batch(const medusa *m, size_t n)
{
    batch b = {m, n};
    if (n == 0)
        return;
    gg_head_net_run(&m->net, n);
    gg_team_run(gg_engine_team(m->net.engine), rank_on_thread, &b);
}

static void begin_step(const gg_proposer *p, const gg_draft *drafts, size_t n_drafts)
{
    const medusa *m = p->self;
    const size_t n_vocab = gg_model_geometry(gg_engine_model(p->engine))->n_vocab;
    size_t n = 0;
    for (size_t i = 0; i < n_drafts; i++) {
        const state *s = drafts[i].state;
        for (size_t k = 0; k < m->net.set->shape.n_heads; k++)
            s->heads[k].n = 0;
        const float *hidden = gg_head_context_last(&s->context);
        if (!hidden || (size_t)drafts[i].root >= n_vocab)
            continue;
        gg_head_net_load(&m->net, n, hidden, drafts[i].root);
        m->batch[n++] = &drafts[i];
        if (n == m->net.max_rows) {
            run_batch(m, n);
            n = 0;
        }
    }
    run_batch(m, n);
}

static size_t expand(const gg_proposer *p, const gg_draft *draft, const gg_draft_tree *tree,
                     const uint32_t *parents, size_t n_parents, gg_edge *edges, size_t capacity)
{
    const medusa *m = p->self;
    const state *s = draft->state;
    size_t n = 0;
    for (size_t i = 0; i < n_parents; i++) {
        const size_t depth = tree->depth[parents[i]];
        if (depth >= m->net.set->shape.n_heads)
            continue;
        n += gg_ranking_edges(&s->heads[depth], parents[i], edges + n, capacity - n);
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
    gg_free(s->heads);
    gg_free(s);
}

static gorgon_status state_create(const gg_proposer *p, size_t context, void **out,
                                  gorgon_error *err)
{
    const gg_head_shape *shape = &((const medusa *)p->self)->net.set->shape;
    (void)context;
    *out = NULL;
    state *s = gg_alloc(1, sizeof *s);
    if (s)
        s->heads = gg_alloc(shape->n_heads, sizeof *s->heads);
    gorgon_status status =
        s && s->heads
            ? gg_head_context_create(p->engine, shape, 0, &s->context, err)
            : gg_fail(err, GORGON_ERROR_MEMORY, "proposer heads: out of memory for a sequence");
    if (status == GORGON_OK)
        *out = s;
    else
        state_free(p, s);
    return status;
}

static void state_reset(const gg_proposer *p, void *opaque)
{
    const medusa *m = p->self;
    state *s = opaque;
    gg_head_context_reset(&s->context);
    for (size_t k = 0; k < m->net.set->shape.n_heads; k++)
        s->heads[k].n = 0;
}

static void state_copy(const gg_proposer *p, void *to, const void *from)
{
    const gg_head_set *set = ((const medusa *)p->self)->net.set;
    state *t = to;
    const state *f = from;
    gg_head_context_copy(&t->context, &f->context);
    memcpy(t->heads, f->heads, set->shape.n_heads * sizeof *t->heads);
}

static void observe(const gg_proposer *p, void *opaque, const gg_observation *seen)
{
    state *s = opaque;
    (void)p;
    gg_head_context_observe(&s->context, seen);
}

static void medusa_free(gg_proposer *p)
{
    medusa *m = (medusa *)(void *)p; // the proposer is its first member
    gg_head_net_clear(&m->net);
    gg_free(m->block_max);
    gg_free(m->batch);
    gg_free(m);
}

static const gg_proposer_ops ops = {
    .state_create = state_create,
    .state_free = state_free,
    .state_reset = state_reset,
    .state_copy = state_copy,
    .observe = observe,
    .begin = begin_step,
    .expand = expand,
    .free = medusa_free,
};

gorgon_status gg_medusa_proposer(const gg_proposer_config *config, gg_proposer **out,
                                 gorgon_error *err)
{
    medusa *m = gg_alloc(1, sizeof *m);
    if (!m)
        return gg_fail(err, GORGON_ERROR_MEMORY, "proposer heads: out of memory");
    gorgon_status status = gg_head_net_create(config->engine, config->heads, config->set,
                                              config->max_sequences, &m->net, err);
    if (status != GORGON_OK) {
        gg_free(m);
        return status;
    }
    m->proposer = (gg_proposer){"heads", m->net.set->shape.n_heads, m, config->engine, &ops};
    m->n_blocks = gg_rank_blocks(&m->net);
    m->block_max = gg_alloc(gorgon_engine_threads(config->engine), m->n_blocks * sizeof(float));
    m->batch = gg_alloc(m->net.max_rows, sizeof *m->batch);
    if (!m->block_max || !m->batch) {
        medusa_free(&m->proposer);
        return gg_fail(err, GORGON_ERROR_MEMORY, "proposer heads: out of memory");
    }
    *out = &m->proposer;
    return GORGON_OK;
}
