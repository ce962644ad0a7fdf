// Proposer "heads": Medusa heads on the hidden state before the decided token. Head k suggests for
// every node of depth k: the heads do not see the path, so one run per step serves the whole tree.
// With temperature > 0 candidates are ranked by log q / T plus the very noise that the target will
// add at that position (noise-aware drafting, arXiv 2408.07978).
// Evidence: log q without noise; log q of the head's most likely token; lead over the next rank.
#include <float.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/sampling.h"
#include "medusa_net.h"
#include "registry.h"

enum {
    KEEP = 32,  // candidates per head, more than are ever suggested
    BLOCK = 64, // logits per entry of kernels->block_max
};

typedef struct medusa {
    gg_proposer proposer;
    gg_medusa_net net;
    float *block_max;       // [threads][n_blocks]
    size_t n_blocks;        // of net.n_out logits
    const gg_draft **batch; // [net.max_drafts]
} medusa;

// A head's candidates, best first; scores are log-probabilities among them.
typedef struct ranking {
    size_t n;
    float confidence; // log q of the most likely token, noise or not
    gorgon_token token[KEEP];
    float score[KEEP];
    float log_q[KEEP];
} ranking;

typedef struct state {
    bool observed;
    float *hidden;  // [d_model] of the last committed row
    ranking *heads; // [n_heads] of the current step
} state;

// Candidates while they are collected: descending value, ties by index.
typedef struct top {
    size_t n;
    uint32_t index[KEEP]; // into the logits
    double value[KEEP];
} top;

static bool is_finite(float x)
{
    return x >= -FLT_MAX && x <= FLT_MAX;
}

static void insert(top *t, uint32_t index, double value)
{
    size_t at = t->n;
    while (at > 0 &&
           (value > t->value[at - 1] || (value == t->value[at - 1] && index < t->index[at - 1])))
        at--;
    if (at == KEEP)
        return;
    if (t->n < KEEP)
        t->n++;
    for (size_t i = t->n - 1; i > at; i--) {
        t->index[i] = t->index[i - 1];
        t->value[i] = t->value[i - 1];
    }
    t->index[at] = index;
    t->value[at] = value;
}

// One ranking to be made: a head of a draft.
typedef struct job {
    const medusa *m;
    const gorgon_sampling *sampling;
    uint64_t position; // of the token that the head predicts
    const float *logits;
    float *block_max; // [n_blocks]
} job;

static void offer(const job *j, top *t, uint32_t index)
{
    const double value = (double)j->logits[index] / (double)j->sampling->temperature;
    const double needed = t->n == KEEP ? t->value[KEEP - 1] - value : -DBL_MAX;
    float g;
    if (gg_gumbel_at_least(j->sampling, j->position, gg_medusa_token(&j->m->net, index), needed,
                           &g))
        insert(t, index, value + (double)g);
}

// The KEEP largest of logit / T + noise. The likely tokens come first, for the bound they set.
static void noisy_top(const job *j, const top *likely, top *t)
{
    const size_t n = j->m->net.n_out;
    const double temperature = (double)j->sampling->temperature;
    const uint32_t last = likely->index[likely->n - 1];
    const float least = j->logits[last];
    for (size_t i = 0; i < likely->n; i++)
        offer(j, t, likely->index[i]);
    gg_engine_kernels(j->m->net.engine)->block_max(j->logits, n, j->block_max);
    for (size_t begin = 0; t->n == KEEP && begin < n; begin += BLOCK) {
        const double most = (double)j->block_max[begin / BLOCK] / temperature;
        if (!(most + (double)GG_GUMBEL_MAX >= t->value[KEEP - 1]))
            continue;
        const size_t end = n - begin < BLOCK ? n : begin + BLOCK;
        for (size_t i = begin; i < end; i++) {
            if (j->logits[i] < least || (j->logits[i] == least && i > last))
                offer(j, t, (uint32_t)i);
        }
    }
}

// Scores: log-softmax of the values over the candidates.
static void score_noisy(const gg_kernels *kernels, const top *t, ranking *r)
{
    for (size_t i = 0; i < t->n; i++) {
        const double below = t->value[i] - t->value[0];
        r->score[i] = below > -1e4 ? (float)below : -1e4f;
    }
    const float sum = kernels->log_sum_exp(r->score, t->n);
    for (size_t i = 0; i < t->n; i++)
        r->score[i] -= sum;
}

static void rank(const job *j, ranking *r)
{
    const gg_medusa_net *net = &j->m->net;
    const gg_kernels *kernels = gg_engine_kernels(net->engine);
    float values[KEEP];
    top likely, noisy = {0};
    r->n = 0;
    const float sum = kernels->log_sum_exp(j->logits, net->n_out);
    if (!is_finite(sum))
        return;
    likely.n = gg_top_k(kernels, j->logits, net->n_out, KEEP, likely.index, values, j->block_max);
    while (likely.n > 0 && !is_finite(values[likely.n - 1]))
        likely.n--;
    if (likely.n == 0)
        return;
    const bool draws = j->sampling->temperature > 0.0f;
    if (draws)
        noisy_top(j, &likely, &noisy);
    const top *best = draws ? &noisy : &likely;
    r->n = best->n;
    r->confidence = values[0] - sum;
    for (size_t i = 0; i < r->n; i++) {
        r->token[i] = (gorgon_token)gg_medusa_token(net, best->index[i]);
        r->log_q[i] = j->logits[best->index[i]] - sum;
        r->score[i] = r->log_q[i];
    }
    if (draws)
        score_noisy(kernels, &noisy, r);
}

typedef struct batch {
    const medusa *m;
    size_t n; // drafts
} batch;

static void rank_on_thread(void *context, size_t thread, size_t n_threads)
{
    const batch *b = context;
    const medusa *m = b->m;
    const size_t n_heads = m->net.set->n_heads;
    size_t begin, end;
    gg_team_share(b->n * n_heads, 1, thread, n_threads, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        const gg_draft *draft = m->batch[i / n_heads];
        const size_t head = i % n_heads;
        const state *s = draft->state;
        const job j = {
            .m = m,
            .sampling = draft->sampling,
            .position = (uint64_t)draft->root_position + 1 + head,
            .logits = m->net.logits + i * m->net.n_out,
            .block_max = m->block_max + thread * m->n_blocks,
        };
        rank(&j, &s->heads[head]);
    }
}

static void run_batch(const medusa *m, size_t n)
{
    batch b = {m, n};
    if (n == 0)
        return;
    gg_medusa_run(&m->net, n);
    gg_team_run(gg_engine_team(m->net.engine), rank_on_thread, &b);
}

static void begin_step(const gg_proposer *p, const gg_draft *drafts, size_t n_drafts)
{
    const medusa *m = p->self;
    const size_t n_vocab = gg_model_geometry(gg_engine_model(p->engine))->n_vocab;
    size_t n = 0;
    for (size_t i = 0; i < n_drafts; i++) {
        const state *s = drafts[i].state;
        for (size_t k = 0; k < m->net.set->n_heads; k++)
            s->heads[k].n = 0;
        if (!s->observed || (size_t)drafts[i].root >= n_vocab)
            continue;
        gg_medusa_input(&m->net, n, s->hidden, drafts[i].root);
        m->batch[n++] = &drafts[i];
        if (n == m->net.max_drafts) {
            run_batch(m, n);
            n = 0;
        }
    }
    run_batch(m, n);
}

static gg_edge edge_of(const ranking *r, uint32_t parent, size_t i)
{
    return (gg_edge){
        .parent = parent,
        .token = r->token[i],
        .score = r->score[i],
        .rank = (uint16_t)i,
        .evidence = {r->log_q[i], r->confidence,
                     i + 1 < r->n ? r->score[i] - r->score[i + 1] : 0.0f, 0.0f},
    };
}

static size_t expand(const gg_proposer *p, const gg_draft *draft, const gg_draft_tree *tree,
                     const uint32_t *parents, size_t n_parents, gg_edge *edges, size_t capacity)
{
    const medusa *m = p->self;
    const state *s = draft->state;
    size_t n = 0;
    for (size_t i = 0; i < n_parents; i++) {
        const size_t depth = tree->depth[parents[i]];
        if (depth >= m->net.set->n_heads)
            continue;
        const ranking *r = &s->heads[depth];
        for (size_t c = 0; c < r->n && c < GG_MAX_CHILDREN && n < capacity; c++)
            edges[n++] = edge_of(r, parents[i], c);
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
    gg_free(s->heads);
    gg_free(s);
}

static gorgon_status state_create(const gg_proposer *p, size_t context, void **out,
                                  gorgon_error *err)
{
    const gg_head_set *set = ((const medusa *)p->self)->net.set;
    (void)context;
    *out = NULL;
    state *s = gg_alloc(1, sizeof *s);
    if (s) {
        s->hidden = gg_alloc(set->d_model, sizeof *s->hidden);
        s->heads = gg_alloc(set->n_heads, sizeof *s->heads);
    }
    if (!s || !s->hidden || !s->heads) {
        state_free(p, s);
        return gg_fail(err, GORGON_ERROR_MEMORY, "proposer heads: out of memory for a sequence");
    }
    *out = s;
    return GORGON_OK;
}

static void state_reset(const gg_proposer *p, void *opaque)
{
    const medusa *m = p->self;
    state *s = opaque;
    s->observed = false;
    for (size_t k = 0; k < m->net.set->n_heads; k++)
        s->heads[k].n = 0;
}

static void state_copy(const gg_proposer *p, void *to, const void *from)
{
    const gg_head_set *set = ((const medusa *)p->self)->net.set;
    state *t = to;
    const state *f = from;
    t->observed = f->observed;
    memcpy(t->hidden, f->hidden, set->d_model * sizeof *t->hidden);
    memcpy(t->heads, f->heads, set->n_heads * sizeof *t->heads);
}

static void observe(const gg_proposer *p, void *opaque, const gg_observation *seen)
{
    const gg_head_set *set = ((const medusa *)p->self)->net.set;
    state *s = opaque;
    if (seen->n == 0)
        return;
    s->observed = seen->hidden != NULL && seen->hidden[seen->n - 1] != NULL;
    if (s->observed)
        memcpy(s->hidden, seen->hidden[seen->n - 1], set->d_model * sizeof *s->hidden);
}

static void medusa_free(gg_proposer *p)
{
    medusa *m = (medusa *)(void *)p; // the proposer is its first member
    gg_medusa_clear(&m->net);
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

gorgon_status gg_heads_proposer(const gg_proposer_config *config, gg_proposer **out,
                                gorgon_error *err)
{
    if (!config->heads)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "proposer heads needs a heads file");
    medusa *m = gg_alloc(1, sizeof *m);
    if (!m)
        return gg_fail(err, GORGON_ERROR_MEMORY, "proposer heads: out of memory");
    gorgon_status status = gg_medusa_create(config->engine, config->heads, config->set,
                                            config->max_sequences, &m->net, err);
    if (status != GORGON_OK) {
        gg_free(m);
        return status;
    }
    m->proposer = (gg_proposer){"heads", m->net.set->n_heads, m, config->engine, &ops};
    m->n_blocks = (m->net.n_out + BLOCK - 1) / BLOCK;
    m->block_max = gg_alloc(gorgon_engine_threads(config->engine), m->n_blocks * sizeof(float));
    m->batch = gg_alloc(m->net.max_drafts, sizeof *m->batch);
    if (!m->block_max || !m->batch) {
        medusa_free(&m->proposer);
        return gg_fail(err, GORGON_ERROR_MEMORY, "proposer heads: out of memory");
    }
    *out = &m->proposer;
    return GORGON_OK;
}
