// Feature cache: what the base said about its own text, in chunk files that are either whole or
// absent. A chunk holds complete sequences in index order, so a run that was killed continues at
// the first missing chunk. Normative description: docs/formats.md.
#ifndef GG_TRAINERS_CACHE_H
#define GG_TRAINERS_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gorgon/engine.h"

enum { GG_TARGETS = 8 };                  // soft target tokens per position
#define GG_TRAIN_STATE_NAME "train.state" // checkpoint of a training run, beside the chunks

// One sequence. A position is "trained" when the model itself wrote the token after it (assistant
// turns); only those carry features. Record i describes row positions[i] < n_tokens - 1: its hidden
// state and the base's top tokens for the next place, where tokens[positions[i] + 1] stands.
typedef struct gg_cache_sequence {
    uint64_t index;            // its identity: sequences 2j and 2j + 1 come from job j
    float temperature;         // that the model's turns were sampled with, 0 = greedy
    uint64_t seed, completion; // of the sampling noise
    uint32_t n_tokens;
    gorgon_token *tokens; // [n_tokens] whole conversation, prompt included
    uint32_t n_records;
    uint32_t *positions;   // [n_records] ascending
    uint16_t *hidden;      // [n_records][d_model] f16, NULL when not stored (recompute) or not read
    uint32_t *target_ids;  // [n_records][GG_TARGETS] descending probability
    float *target_logprob; // [n_records][GG_TARGETS] nats, of the full softmax
} gg_cache_sequence;

typedef struct gg_cache gg_cache;

// Identity of a cache: a run with other values refuses it (GORGON_ERROR_MISMATCH).
typedef struct gg_cache_identity {
    gorgon_fingerprint base;
    uint64_t seed;
    uint64_t options_hash; // everything else that changes the text
} gg_cache_identity;

// Opens or creates the directory; drops half-written files; counts what is there. limit_bytes
// bounds the hidden states kept (uncompressed bytes, f16); 0 = no limit.
gorgon_status gg_cache_open(const char *directory, const gg_cache_identity *identity,
                            uint64_t limit_bytes, gg_cache **out, gorgon_error *err);
// Opens an existing cache without knowing its seed and options; the base must match.
gorgon_status gg_cache_open_existing(const char *directory, gorgon_fingerprint base, gg_cache **out,
                                     gorgon_error *err);
void gg_cache_free(gg_cache *cache); // NULL is legal

size_t gg_cache_chunks(const gg_cache *cache);
uint64_t gg_cache_sequences(const gg_cache *cache); // over all chunks
uint64_t gg_cache_records(const gg_cache *cache);
uint64_t gg_cache_next_index(const gg_cache *cache); // first job index not covered by a chunk
bool gg_cache_complete(const gg_cache *cache);       // gg_cache_finish was called
gg_cache_identity gg_cache_identity_of(const gg_cache *cache);
uint64_t gg_cache_bytes(const gg_cache *cache); // on disk
size_t gg_cache_d_model(const gg_cache *cache);

// Appends one chunk: sequences that survived out of jobs [first_index, end_index). Hidden states
// are left out once limit_bytes is reached (reads then give hidden = NULL).
gorgon_status gg_cache_append(gg_cache *cache, uint64_t first_index, uint64_t end_index,
                              const gg_cache_sequence *sequences, size_t n, gorgon_error *err);
// Marks the cache complete.
gorgon_status gg_cache_finish(gg_cache *cache, gorgon_error *err);
// Makes a complete cache take more chunks; nothing to do for one that is not complete.
gorgon_status gg_cache_extend(gg_cache *cache, gorgon_error *err);

// What to read: hidden states are nine tenths of a chunk.
typedef enum gg_cache_extent { GG_CACHE_TEXT, GG_CACHE_HIDDEN } gg_cache_extent;
// Reads a chunk; verifies the checksums of what it reads. Free with gg_cache_chunk_free.
gorgon_status gg_cache_read(const gg_cache *cache, size_t chunk, gg_cache_extent extent,
                            gg_cache_sequence **sequences, size_t *n, gorgon_error *err);
void gg_cache_chunk_free(gg_cache_sequence *sequences, size_t n);
// The same over a caller's buffer that holds a chunk file; label names it in errors.
gorgon_status gg_cache_chunk_parse(const void *data, size_t size, const char *label,
                                   gg_cache_extent extent, gg_cache_sequence **sequences, size_t *n,
                                   gorgon_error *err);
// Removes every file the cache and its training run wrote, and the directory if it is then empty.
gorgon_status gg_cache_remove(const char *directory, gorgon_error *err);

// True for the sequences that no trainer may train on: a fixed hash of the job.
bool gg_cache_held_out(uint64_t index, double share);

#endif
