// The vocabulary: bytes and kind of every id, look-up by bytes. Read-only once loaded.
#ifndef GG_VOCAB_H
#define GG_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tokenizer_spec.h"

// Slots of an open-addressing table probe at most this far; a file that needs more is refused, so
// that crafted keys cannot make loading or look-ups slow.
#define GG_MAX_PROBES 256

typedef struct gg_vocab_slot {
    uint32_t hash;
    uint32_t id_plus_one; // 0: empty
} gg_vocab_slot;

typedef struct gg_vocab {
    size_t n;
    gg_vocab_model model;
    char *bytes;          // decoded bytes of all ids, each followed by a NUL
    uint32_t *starts;     // [n + 1] offsets into bytes
    uint8_t *kinds;       // [n] gg_token_kind
    gg_vocab_slot *slots; // [mask + 1]
    size_t mask;
    gorgon_token byte_ids[256]; // id of each single byte, GORGON_TOKEN_NONE where there is none
} gg_vocab;

// Fills a zeroed vocabulary. On error it is to be cleared as well.
gorgon_status gg_vocab_load(const gg_tokenizer_spec *spec, gg_vocab *vocab, gorgon_error *err);
void gg_vocab_clear(gg_vocab *vocab);

// Borrowed bytes of id, which must be below n.
const char *gg_vocab_bytes(const gg_vocab *vocab, size_t id, size_t *length);
// Id by decoded bytes, normal tokens first; GORGON_TOKEN_NONE if there is none.
gorgon_token gg_vocab_find(const gg_vocab *vocab, const char *bytes, size_t length);
// The same among the tokens that text may be segmented into: normal and user's own.
gorgon_token gg_vocab_find_piece(const gg_vocab *vocab, const char *bytes, size_t length);

// What a spelling in a vocabulary of that model stands for: bytes of GPT-2's printable alphabet, or
// spaces for U+2581. out has room for `length`, *out_length is at most that. False when a
// character is outside the alphabet; *bad is its offset.
bool gg_vocab_decode(gg_vocab_model model, const char *text, size_t length, char *out,
                     size_t *out_length, size_t *bad);

// The byte that <0x0A> spells, -1 if the text is no such spelling.
int gg_byte_token(const char *text, size_t length);

// Of open-addressing tables: a power of two of at least twice n, and a hash that mixes all bits.
size_t gg_table_size(size_t n);
uint64_t gg_hash_mix(uint64_t x);

#endif
