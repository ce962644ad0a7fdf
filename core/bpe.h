// Byte-pair merges: the table of pairs and the merging of one piece of text.
#ifndef GG_BPE_H
#define GG_BPE_H

#include "vocab.h"

typedef struct gg_merge {
    gorgon_token left, right; // left is GORGON_TOKEN_NONE in an empty slot
    uint32_t rank;            // line of the merge: lower merges first
    gorgon_token result;
} gg_merge;

typedef struct gg_merges {
    gg_merge *slots; // [mask + 1]
    size_t mask, n;
} gg_merges;

// Fills zeroed merges: those that the description lists, whose parts and results must be in the
// vocabulary; if it lists none, every way to put a token together from two, best score first.
// On error they are to be cleared as well.
gorgon_status gg_merges_load(const gg_tokenizer_spec *spec, const gg_vocab *vocab,
                             gg_merges *merges, gorgon_error *err);
void gg_merges_clear(gg_merges *merges);

typedef struct gg_bpe_node {
    uint32_t previous, next; // neighbours in the piece
    uint32_t rank;           // of the pair (this, next)
    gorgon_token result;     // of that pair
} gg_bpe_node;

// Working memory of one encoding call; grows with its longest piece.
typedef struct gg_bpe_work {
    gg_bpe_node *nodes; // [capacity]
    uint64_t *heap;     // [2 * capacity] rank and position of candidate pairs, smallest first
    size_t capacity;
} gg_bpe_work;

// Merges ids[0 .. *n), one id per byte or character on entry, in place: always the pair of lowest
// rank, the leftmost of equals, until none is left. O(n log n). *n is below 2^31. Error:
// GORGON_ERROR_MEMORY.
gorgon_status gg_bpe_merge(const gg_merges *merges, gg_bpe_work *work, gorgon_token *ids, size_t *n,
                           gorgon_error *err);
void gg_bpe_work_clear(gg_bpe_work *work);

#endif
