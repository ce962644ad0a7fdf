// What a tokenizer is made from, whichever file told it: readers of GGUF and of tokenizer.json fill
// a description, gg_tokenizer_build makes the tokenizer, gg_tokenizer_spec_put writes GGUF keys.
#ifndef GG_TOKENIZER_SPEC_H
#define GG_TOKENIZER_SPEC_H

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
    GG_TOKEN_BYTE = 6, // spelled <0x0A>
} gg_token_kind;

// How special tokens (control, user, unknown) are found in text.
enum {
    GG_TOKEN_LSTRIP = 1,     // takes the white space before it
    GG_TOKEN_RSTRIP = 2,     // takes the white space after it
    GG_TOKEN_NORMALIZED = 4, // is looked for in the normalised text
};

typedef struct gg_spec_token {
    const char *text; // as the file spells it, not terminated
    size_t length;
    double score;
    uint8_t kind;  // gg_token_kind; 0: an id that the file leaves out
    uint8_t flags; // GG_TOKEN_...
} gg_spec_token;

typedef struct gg_spec_merge {
    const char *text[2]; // left and right, as the file spells them
    size_t length[2];
} gg_spec_merge;

typedef enum gg_vocab_model {
    GG_VOCAB_BYTES,         // byte-level BPE
    GG_VOCAB_SENTENCEPIECE, // BPE over characters, bytes for those it lacks
    GG_VOCAB_UNIGRAM,       // likeliest segmentation
} gg_vocab_model;

typedef enum gg_text_prefix {
    GG_PREFIX_NONE,
    GG_PREFIX_FIRST, // a space before the whole text
    GG_PREFIX_EACH,  // and after every special token
} gg_text_prefix;

// What happens to text before it is split; in this order. Sentencepiece's U+2581 is a plain space
// in the normalised text, as in the bytes of the tokens.
typedef struct gg_text_rules {
    const uint8_t *charsmap; // sentencepiece's compiled replacements, or NULL
    size_t charsmap_length;
    bool nfc;
    bool spaces; // U+2581 stands for a space
    bool collapse, strip_left, strip_right;
    gg_text_prefix prefix;
    bool prefix_missing; // only where the text does not begin with a space
} gg_text_rules;

enum { GG_SPEC_ENDS = 16 };

typedef struct gg_tokenizer_spec {
    const char *label;        // file, for messages
    const char *tokens_place; // what the file calls its tokens and merges
    const char *merges_place;
    gg_vocab_model model;
    const char *pre; // name of the pre-tokenizer
    size_t pre_length;
    gg_spec_token *tokens; // [n], owned; the texts are the source's
    size_t n;
    gg_spec_merge *merges; // [n_merges], owned; NULL: made from the scores
    size_t n_merges;
    gorgon_token bos, eos, unknown;
    gorgon_token ends[GG_SPEC_ENDS]; // that end a generation, besides known names
    size_t n_ends;
    bool adds_bos, adds_eos;
    bool single_scores; // sums of scores are rounded to float, as sentencepiece does
    bool ignore_merges; // a piece that is a token is not merged
    bool strips_space;  // decoding drops the space that encoding put before a text
    gg_text_rules rules;
    const char *chat; // template, NULL if there is none
    size_t chat_length;
    void *blocks[4]; // owned memory that the above points to
} gg_tokenizer_spec;

// Starts a description: no special ids, default names of places.
void gg_tokenizer_spec_init(gg_tokenizer_spec *spec, const char *label);
void gg_tokenizer_spec_clear(gg_tokenizer_spec *spec);
// The id of a token by its spelling, GORGON_TOKEN_NONE if there is none.
gorgon_token gg_tokenizer_spec_find(const gg_tokenizer_spec *spec, const char *text, size_t length);
// "left right": the first space that is not the first byte is between them; false without one.
bool gg_spec_merge_read(const char *text, size_t length, gg_spec_merge *merge);
void gg_tokenizer_spec_end(gg_tokenizer_spec *spec, gorgon_token id); // GORGON_TOKEN_NONE is legal

gorgon_status gg_tokenizer_spec_from_gguf(const gg_gguf *file, gg_tokenizer_spec *spec,
                                          gorgon_error *err);
// Puts the keys tokenizer.ggml.* and, for what GGUF has no words for, gorgon.tokenizer.*.
gorgon_status gg_tokenizer_spec_put(const gg_tokenizer_spec *spec, gg_gguf_writer *writer,
                                    gorgon_error *err);
// Makes a tokenizer, which keeps nothing of the description.
gorgon_status gg_tokenizer_build(const gg_tokenizer_spec *spec, gorgon_tokenizer **out,
                                 gorgon_error *err);

#endif
