// Turns records into what the Medusa trainer eats: inputs [hidden, root embedding / rms] and
// targets over the draft vocabulary.
#ifndef GG_TRAINERS_TRAIN_BATCH_H
#define GG_TRAINERS_TRAIN_BATCH_H

#include "core/engine.h"
#include "trainers/medusa.h"
#include "trainers/train_data.h"

typedef struct gg_batch_maker {
    gorgon_engine *engine;
    gg_medusa_shape shape;
    bool hard_targets;
    double head_decay;
    size_t n_draft;      // 0 = the whole vocabulary
    uint32_t *draft_ids; // [n_draft] ascending, or NULL
    int32_t *row_of;     // [n_vocab] row in the draft vocabulary, or GG_MEDUSA_ABSENT
    float *output;       // [shape.n_out][d] the base's output rows
    float *ones;         // [d] weights of a norm without weights
} gg_batch_maker;

// Completes `wanted`, of which engine, shape (without n_out), hard_targets, head_decay and n_draft
// are read: chooses the n_draft most frequent tokens of counts[n_vocab] (ties: lower id); 0, or at
// least the whole vocabulary, takes every token. Clear with gg_batch_maker_clear.
gorgon_status gg_batch_maker_create(const gg_batch_maker *wanted, const uint64_t *counts,
                                    gg_batch_maker *maker, gorgon_error *err);
void gg_batch_maker_clear(gg_batch_maker *maker);

// Fills input[n][..] and targets[n * n_heads] for n records; the weight of head k is
// head_decay^k / positions.
void gg_batch_fill(const gg_batch_maker *maker, const gg_feature_store *store,
                   const uint32_t *records, size_t n, size_t positions, float *input,
                   gg_medusa_target *targets);

#endif
