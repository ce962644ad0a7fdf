// The vocabulary of a byte-level BPE tokenizer: bytes and kind of every id, look-up by bytes, and
// the search for special tokens inside a text. Read-only once loaded.
#ifndef GG_VOCAB_H
#define GG_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/gguf.h"
#include "gorgon/tokenizer.h"

// As GGUF numbers tokenizer.ggml.token_type.
typedef enum gg_token_kind {
    GG_TOKEN_NORMAL = 1,
    GG_TOKEN_UNKNOWN = 2,
    GG_TOKEN_CONTROL = 3,
    GG_TOKEN_USER = 4,
    GG_TOKEN_UNUSED = 5,
} gg_token_kind;

// Slots of an open-addressing table probe at most this far; a file that needs more is refused, so
// that crafted keys cannot make loading or look-ups slow.
#define GG_MAX_PROBES 256

typedef struct gg_vocab_slot {
    uint32_t hash;
    uint32_t id_plus_one; // 0: empty
} gg_vocab_slot;

typedef struct gg_special {
    const char *bytes; // inside the vocabulary's arena
    size_t length;
    gorgon_token id;
} gg_special;

typedef struct gg_vocab {
    size_t n;
    char *bytes;          // decoded bytes of all ids, each followed by a NUL
    uint32_t *starts;     // [n + 1] offsets into bytes
    uint8_t *kinds;       // [n] gg_token_kind
    gg_vocab_slot *slots; // [mask + 1]
    size_t mask;
    gorgon_token byte_ids[256]; // id of each single byte, GORGON_TOKEN_NONE where there is none
    gg_special *specials;       // [n_specials] control and user tokens in byte order
    size_t n_specials;
    bool special_starts[256]; // first bytes of the specials
} gg_vocab;

// Fills a zeroed vocabulary from tokenizer.ggml.tokens and token_type. On error it is to be
// cleared as well.
gorgon_status gg_vocab_load(const gg_gguf *file, gg_vocab *vocab, gorgon_error *err);
void gg_vocab_clear(gg_vocab *vocab);

// Borrowed bytes of id, which must be below n.
const char *gg_vocab_bytes(const gg_vocab *vocab, size_t id, size_t *length);
// Id by decoded bytes, normal tokens first; GORGON_TOKEN_NONE if there is none.
gorgon_token gg_vocab_find(const gg_vocab *vocab, const char *bytes, size_t length);
// The longest special token that text begins with, or NULL.
const gg_special *gg_vocab_special_at(const gg_vocab *vocab, const char *text, size_t length);

// Turns GPT-2's printable byte alphabet back into bytes: out has room for `length`, *out_length is
// set. False, with the offset of the character, where one is not of the alphabet.
bool gg_byte_level_decode(const char *text, size_t length, char *out, size_t *out_length,
                          size_t *bad);

// Smallest power of two that is at least twice n and at least 16.
size_t gg_table_size(size_t n);
// Spreads all bits of x over the result (the finaliser of MurmurHash3).
uint64_t gg_hash_mix(uint64_t x);

#endif
