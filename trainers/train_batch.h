// Turns records into what the trainer of heads eats: inputs [hidden, embeddings / rms of the root
// and what follows], what a decoder layer sees before them, and targets over the draft vocabulary.
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

// Rows as the trainer eats them.
typedef struct gg_batch {
    size_t most, most_context; // room
    size_t rows, context_rows; // filled
    float *input;              // [most][gg_head_input]
    gg_head_target *targets;   // [most * n_heads]
    gg_head_past *past;        // [most]
    float *context;            // [most_context][gg_head_context]
    uint32_t *context_records; // [most_context]
} gg_batch;

// False: out of memory. Clear with gg_batch_clear either way.
bool gg_batch_create(const gg_head_shape *shape, size_t most, gg_batch *batch);
void gg_batch_clear(gg_batch *batch);
// What is filled, borrowed; results are not set.
gg_head_batch gg_batch_rows(const gg_batch *batch);

// Adds n records, for which there is room; the weight of head k is head_decay^k / positions. For a
// decoder layer it also adds the positions that stand before them in the store, as far as the
// window goes; two calls do not see each other's.
void gg_batch_fill(const gg_batch_maker *maker, const gg_feature_store *store,
                   const uint32_t *records, size_t n, size_t positions, gg_batch *batch);
// Replaces what is filled by the whole batch of a step of training, counted from 0.
gorgon_status gg_batch_take(const gg_batch_maker *maker, gg_train_data *data, uint64_t step,
                            gg_batch *batch, gorgon_error *err);

#endif
