// Held-out loss and accuracy of heads in training.
#ifndef GG_TRAINERS_TRAIN_EVAL_H
#define GG_TRAINERS_TRAIN_EVAL_H

#include "core/limits.h"
#include "train_batch.h"

enum { GG_TRAIN_TOP = 10 };

typedef struct gg_train_buffers {
    gg_batch batch;
    double *loss;   // [batch.most * n_heads]
    uint32_t *rank; // [batch.most * n_heads]
} gg_train_buffers;

// Top-n accuracy counts every pair whose token is known; a token outside the draft vocabulary is a
// miss. Ranks are those of f32 logits, ties go to the lower id.
typedef struct gg_train_scores {
    size_t positions;
    double loss;                                         // as in training: mean over positions
    uint64_t pairs[GG_MAX_DRAFT_HEADS];                  // positions with a known token
    uint64_t hits[GG_MAX_DRAFT_HEADS][GG_TRAIN_TOP + 1]; // [r]: rank r, last: worse or absent
    // Pairs whose token is known and is drafted after the true path: every head before it put its
    // token first; and of those, the ones that it puts first itself.
    uint64_t reached[GG_MAX_DRAFT_HEADS], accepted[GG_MAX_DRAFT_HEADS];
} gg_train_scores;

// Share of pairs of `head` whose token ranks among the first `top`; 0 without pairs.
double gg_train_accuracy(const gg_train_scores *scores, size_t head, size_t top);
// Expected accepted length of a drafted chain, in tokens after the root: the chain's token at depth
// k counts if all before it were accepted, so this is the sum over depths of the product of
// accepted[j] / reached[j] for j <= k. Positions near the end of known text count as far as it
// goes.
double gg_train_accepted(const gg_train_scores *scores, size_t n_heads);

// At most `most` of records[n] of store, in evenly spaced pieces.
gorgon_status gg_train_evaluate(gg_head_trainer *trainer, const float *parameters,
                                const gg_batch_maker *maker, const gg_feature_store *store,
                                const uint32_t *records, size_t n, size_t most,
                                gg_train_buffers *buffers, gg_train_scores *scores,
                                gorgon_error *err);

#endif
