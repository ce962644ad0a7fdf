// The likeliest segmentation of a text into tokens of given log probabilities (Kudo 2018, as
// sentencepiece does it).
#ifndef GG_UNIGRAM_H
#define GG_UNIGRAM_H

#include "prefix_set.h"
#include "vocab.h"

typedef struct gg_unigram {
    gg_prefix_set pieces;
    double *scores; // [n] of the ids
    double unknown_score;
    bool single; // see gg_tokenizer_spec.single_scores
} gg_unigram;

// Fills a zeroed object, whose pieces point into the vocabulary. On error it is to be cleared too.
gorgon_status gg_unigram_load(const gg_tokenizer_spec *spec, const gg_vocab *vocab,
                              gg_unigram *unigram, gorgon_error *err);
void gg_unigram_clear(gg_unigram *unigram);

typedef struct gg_unigram_node {
    double score;      // of the best way to get here
    uint32_t previous; // where its last token begins
    gorgon_token id;   // that token; GORGON_TOKEN_NONE for an unknown character
} gg_unigram_node;

// Working memory of one encoding call; grows with its longest piece.
typedef struct gg_unigram_work {
    gg_unigram_node *nodes; // [capacity]
    size_t capacity;
} gg_unigram_work;

// Segments text[0, length), valid UTF-8 below 2^31 bytes. Then the chosen tokens are a chain: at
// byte 0, and where each of them ends, nodes[] has the next one's id and, as `previous`, its end.
gorgon_status gg_unigram_segment(const gg_unigram *unigram, gg_unigram_work *work, const char *text,
                                 size_t length, gorgon_error *err);
void gg_unigram_work_clear(gg_unigram_work *work);

#endif
