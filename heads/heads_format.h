// What reading and writing of heads files share: version, names and checks of single values.
// The format itself is described in docs/formats.md, "Heads side-car".
#ifndef GG_HEADS_FORMAT_H
#define GG_HEADS_FORMAT_H

#include "core/gguf.h"
#include "core/limits.h"
#include "heads/head_set.h"

enum {
    GG_HEADS_VERSION = 1,      // what sets without anything newer are written as
    GG_HEADS_LAST_VERSION = 2, // BF16, unordered draft ids, unknown bases, the flags below
};

// Flags of a shape that came with version 2: bools that may be absent.
typedef struct gg_heads_flag {
    const char *field;
    size_t offset; // of the bool in gg_head_shape
} gg_heads_flag;
enum { GG_HEADS_FLAGS = 5 };
extern const gg_heads_flag gg_heads_flags[GG_HEADS_FLAGS];

#define GG_HEADS_ARCHITECTURE "gorgon-heads"

typedef char gg_heads_name[GG_MAX_NAME];

// Key "gorgon.heads.<set>.<field>".
void gg_heads_key(gg_heads_name name, size_t set, const char *field);
// Tensor "heads.<set>.draft_ids".
void gg_heads_ids_name(gg_heads_name name, size_t set);
// Tensor "heads.<set>.successors.<field>".
void gg_heads_successors_name(gg_heads_name name, size_t set, const char *field);
// The tensor of a part: "heads.<set>.<head>.block.<block>.weight", ".bias", or
// "heads.<set>.<head>.<role>.weight".
void gg_heads_part_name(gg_heads_name name, size_t set, const gg_head_part *part);

// True for F32, F16, BF16 and Q8_0: what weights of heads may be stored as.
bool gg_heads_weight_type(gg_dtype type);
// False if any of `bytes` of stored values is infinite or not a number (Q8_0: any scale).
bool gg_heads_finite(gg_dtype type, const uint8_t *data, size_t bytes);
// Index of the first of ids[n] that is not below n_vocab or not above its predecessor; n if none.
size_t gg_heads_bad_id(const uint32_t *ids, size_t n, size_t n_vocab);
// ids[n] in any order: each once, below n_vocab (0: below GG_MAX_VOCAB). *bad: the first that is
// not, or n. Error: MEMORY.
gorgon_status gg_heads_check_ids(const uint32_t *ids, size_t n, size_t n_vocab, size_t *bad,
                                 gorgon_error *err);

#endif
