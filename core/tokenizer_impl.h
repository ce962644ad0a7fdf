// The tokenizer object, for the files that build, use and describe it.
#ifndef GG_TOKENIZER_IMPL_H
#define GG_TOKENIZER_IMPL_H

#include "bpe.h"
#include "chat.h"
#include "core/tokenizer.h"
#include "prefix_set.h"
#include "pretokenize.h"
#include "tokenizer_spec.h"
#include "unigram.h"
#include "vocab.h"

enum { GG_TOKENIZER_ENDS = 64 };

struct gorgon_tokenizer {
    gg_vocab vocab;
    gg_merges merges;   // unless the model is unigram
    gg_unigram unigram; // if it is
    gg_pretokenizer *pretokenizer;
    gg_text_rules rules;        // the character map points into `charsmap`
    gg_prefix_set specials;     // looked for in the text as it comes
    gg_prefix_set normal_users; // looked for in the normalised text
    uint8_t *flags;             // [n] GG_TOKEN_...
    char *special_text;         // what the sets' entries point to
    uint8_t *charsmap;
    gg_chat chat;
    gorgon_token bos, eos, unknown;
    gorgon_token ends[GG_TOKENIZER_ENDS]; // ids that end a generation
    size_t n_ends;
    bool adds_bos, adds_eos, ignore_merges, strips_space;
};

#endif
