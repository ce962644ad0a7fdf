// Training positions of a feature cache as an endless stream whose order is a pure function of the
// seed: pieces of neighbouring positions, shuffled. Memory is bounded: when the records do not fit,
// groups of whole chunks take turns.
#ifndef GG_TRAINERS_TRAIN_DATA_H
#define GG_TRAINERS_TRAIN_DATA_H

#include "trainers/cache.h"

// Records in memory, in the order of the cache. A record's later heads look at the records after
// it: the one at +1+k holds the soft target and the label (its next token) of head k.
typedef struct gg_feature_store {
    size_t n, capacity, d;
    uint16_t *hidden; // [n][d] f16
    uint32_t *next;   // [n] token after the record's position
    uint32_t *ids;    // [n][GG_TARGETS]
    float *logprob;   // [n][GG_TARGETS]
    uint8_t *run;     // [n] heads with a target: records that follow without a gap, <= n_heads
} gg_feature_store;

typedef struct gg_train_source {
    gorgon_engine *engine; // recomputes hidden states that the cache left out
    const gg_cache *cache; // borrowed
    size_t n_heads;        // <= 255
    double held_out;       // share of sequences that are never trained on
    uint64_t seed;
    uint64_t budget_bytes; // of records in memory; at least one chunk is held
    size_t piece;          // positions that stay together, >= 1; the last of a group may be fewer
} gg_train_source;

typedef struct gg_train_data gg_train_data;

// Scans the cache. Error LIMIT when no position can be trained.
gorgon_status gg_train_data_open(const gg_train_source *source, gg_train_data **out,
                                 gorgon_error *err);
void gg_train_data_free(gg_train_data *data); // NULL is legal

uint64_t gg_train_data_positions(const gg_train_data *data); // of one epoch: run > 0
uint64_t gg_train_data_records(const gg_train_data *data);   // trained records
// [n_vocab] how often each token was generated in the trained records.
const uint64_t *gg_train_data_counts(const gg_train_data *data);

// Up to `wanted` positions of the stream from `position` on: records[*got] of *store, valid until
// the next call. *got >= 1; fewer than wanted at the end of a group.
gorgon_status gg_train_data_take(gg_train_data *data, uint64_t position, size_t wanted,
                                 const gg_feature_store **store, const uint32_t **records,
                                 size_t *got, gorgon_error *err);

// The held-out positions with run > 0, in order (a bounded number of them).
const gg_feature_store *gg_train_data_held_out(const gg_train_data *data, const uint32_t **records,
                                               size_t *n);

#endif
