// Turns records into what the trainer of heads eats: inputs [hidden, embeddings / rms of the root
// and what follows] and targets over the draft vocabulary.
#ifndef GG_TRAINERS_TRAIN_BATCH_H
#define GG_TRAINERS_TRAIN_BATCH_H

#include "core/engine.h"
#include "trainers/head_trainer.h"
#include "trainers/train_data.h"

typedef struct gg_batch_maker {
    gorgon_engine *engine;
    gg_head_shape shape; // n_draft is settled
    size_t n_out;        // rows of output: draft vocabulary or vocabulary
    bool hard_targets;
    double head_decay;
    uint32_t *draft_ids; // [shape.n_draft] ascending, or NULL
    int32_t *row_of;     // [n_vocab] row in the draft vocabulary, or GG_HEAD_ABSENT
    float *output;       // [n_out][d] the base's output rows
    float *ones;         // [d] weights of a norm without weights
} gg_batch_maker;

// Completes `wanted`, of which engine, shape, hard_targets and head_decay are read: chooses the
// shape.n_draft most frequent tokens of counts[n_vocab] (ties: lower id); 0, or at
// least the whole vocabulary, takes every token. Clear with gg_batch_maker_clear.
gorgon_status gg_batch_maker_create(const gg_batch_maker *wanted, const uint64_t *counts,
                                    gg_batch_maker *maker, gorgon_error *err);
void gg_batch_maker_clear(gg_batch_maker *maker);

// Neighbouring positions that batches keep together. A decoder layer sees what stands before a
// position in the batch: a piece of twice the usual window gives most positions all of it, and a
// step of the usual size still holds pieces of several texts. Other kinds take positions singly.
size_t gg_batch_piece(const gg_head_shape *shape);

// Fills input[n][..], reach[n] and targets[n * n_heads] for n <= 65,536 records; the weight of head
// k is head_decay^k / positions.
void gg_batch_fill(const gg_batch_maker *maker, const gg_feature_store *store,
                   const uint32_t *records, size_t n, size_t positions, float *input,
                   uint16_t *reach, gg_head_target *targets);

#endif
