// A head's logits as ranked candidates: by log q, or with temperature > 0 by log q / T plus the
// very noise that the target will add at that position (noise-aware drafting, arXiv 2408.07978).
#ifndef GG_HEADS_RANKING_H
#define GG_HEADS_RANKING_H

#include "head_net.h"
#include "heads/proposer.h"

enum { GG_RANKED = 32 }; // candidates per head, more than are ever suggested

// A head's candidates, best first; scores are log-probabilities among them.
typedef struct gg_ranking {
    size_t n;
    float confidence; // log q of the most likely token, noise or not
    gorgon_token token[GG_RANKED];
    float score[GG_RANKED];
    float log_q[GG_RANKED];
} gg_ranking;

// One ranking to be made.
typedef struct gg_rank_job {
    const gg_head_net *net;
    const gorgon_sampling *sampling;
    uint64_t position; // of the token that the head predicts
    const float *logits;
    float *block_max; // [gg_rank_blocks]
} gg_rank_job;

size_t gg_rank_blocks(const gg_head_net *net);
void gg_rank(const gg_rank_job *job, gg_ranking *ranking);

// The candidates as children of a node, at most capacity; returns how many. Evidence: log q without
// noise; log q of the likeliest token; lead over the next rank.
size_t gg_ranking_edges(const gg_ranking *ranking, uint32_t parent, gg_edge *edges,
                        size_t capacity);

#endif
