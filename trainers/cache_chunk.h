// Chunk files of the feature cache: encoding, header, parsing. Normative: docs/formats.md.
#ifndef GG_TRAINERS_CACHE_CHUNK_H
#define GG_TRAINERS_CACHE_CHUNK_H

#include "trainers/cache.h"

// What a chunk's header says.
typedef struct gg_chunk_info {
    uint32_t d_model, n_vocab, n_sequences;
    uint64_t first_index, end_index; // jobs covered
    uint64_t n_tokens, n_records;
    uint64_t n_hidden; // records whose hidden state is stored
    uint64_t identity; // hash of the cache's identity
    uint64_t bytes;    // of the whole file
} gg_chunk_info;

// Writes sequences[n] to path. Of info, geometry, indices and identity are read, the rest is filled
// in. Hidden states of sequence i are stored where keep_hidden[i].
gorgon_status gg_chunk_write(const char *path, gg_chunk_info *info,
                             const gg_cache_sequence *sequences, const bool *keep_hidden, size_t n,
                             gorgon_error *err);

// Checks the header and that the parts fill the file exactly.
gorgon_status gg_chunk_header(const void *data, size_t size, const char *label, gg_chunk_info *info,
                              gorgon_error *err);

// True when tokens, positions and records of a sequence are consistent and in range; otherwise
// *reason says what is wrong.
bool gg_chunk_sequence_valid(const gg_cache_sequence *s, uint32_t n_vocab, const char **reason);

#endif
