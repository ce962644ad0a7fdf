// See ranking.h.
#include "ranking.h"

#include <float.h>

#include "core/sampling.h"

enum { BLOCK = 64 }; // logits per entry of kernels->block_max

// Candidates while they are collected: descending value, ties by index.
typedef struct top {
    size_t n;
    uint32_t index[GG_RANKED]; // into the logits
    double value[GG_RANKED];
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
    if (at == GG_RANKED)
        return;
    if (t->n < GG_RANKED)
        t->n++;
    for (size_t i = t->n - 1; i > at; i--) {
        t->index[i] = t->index[i - 1];
        t->value[i] = t->value[i - 1];
    }
    t->index[at] = index;
    t->value[at] = value;
}

static void offer(const gg_rank_job *j, top *t, uint32_t index)
{
    const double value = (double)j->logits[index] / (double)j->sampling->temperature;
    const double needed = t->n == GG_RANKED ? t->value[GG_RANKED - 1] - value : -DBL_MAX;
    float g;
    if (gg_gumbel_at_least(j->sampling, j->position, gg_head_net_token(j->net, index), needed, &g))
        insert(t, index, value + (double)g);
}

// The GG_RANKED largest of logit / T + noise. The likely tokens come first, for the bound they set.
static void noisy_top(const gg_rank_job *j, const top *likely, top *t)
{
    const size_t n = j->net->n_out;
    const double temperature = (double)j->sampling->temperature;
    const uint32_t last = likely->index[likely->n - 1];
    const float least = j->logits[last];
    for (size_t i = 0; i < likely->n; i++)
        offer(j, t, likely->index[i]);
    gg_engine_kernels(j->net->engine)->block_max(j->logits, n, j->block_max);
    for (size_t begin = 0; t->n == GG_RANKED && begin < n; begin += BLOCK) {
        const double most = (double)j->block_max[begin / BLOCK] / temperature;
        if (!(most + (double)GG_GUMBEL_MAX >= t->value[GG_RANKED - 1]))
            continue;
        const size_t end = n - begin < BLOCK ? n : begin + BLOCK;
        for (size_t i = begin; i < end; i++) {
            if (j->logits[i] < least || (j->logits[i] == least && i > last))
                offer(j, t, (uint32_t)i);
        }
    }
}

// Scores: log-softmax of the values over the candidates.
static void score_noisy(const gg_kernels *kernels, const top *t, gg_ranking *r)
{
    for (size_t i = 0; i < t->n; i++) {
        const double below = t->value[i] - t->value[0];
        r->score[i] = below > -1e4 ? (float)below : -1e4f;
    }
    const float sum = kernels->log_sum_exp(r->score, t->n);
    for (size_t i = 0; i < t->n; i++)
        r->score[i] -= sum;
}

void gg_rank(const gg_rank_job *j, gg_ranking *r)
{
    const gg_head_net *net = j->net;
    const gg_kernels *kernels = gg_engine_kernels(net->engine);
    float values[GG_RANKED];
    top likely, noisy = {0};
    r->n = 0;
    const float sum = kernels->log_sum_exp(j->logits, net->n_out);
    if (!is_finite(sum))
        return;
    likely.n =
        gg_top_k(kernels, j->logits, net->n_out, GG_RANKED, likely.index, values, j->block_max);
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
        r->token[i] = (gorgon_token)gg_head_net_token(net, best->index[i]);
        r->log_q[i] = j->logits[best->index[i]] - sum;
        r->score[i] = r->log_q[i];
    }
    if (draws)
        score_noisy(kernels, &noisy, r);
}

size_t gg_rank_blocks(const gg_head_net *net)
{
    return (net->n_out + BLOCK - 1) / BLOCK;
}

static gg_edge edge_of(const gg_ranking *r, uint32_t parent, size_t i)
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

size_t gg_ranking_edges(const gg_ranking *ranking, uint32_t parent, gg_edge *edges, size_t capacity)
{
    size_t n = 0;
    for (; n < ranking->n && n < GG_MAX_CHILDREN && n < capacity; n++)
        edges[n] = edge_of(ranking, parent, n);
    return n;
}
