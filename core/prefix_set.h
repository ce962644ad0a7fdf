// A set of byte strings that answers which of them a text begins with.
#ifndef GG_PREFIX_SET_H
#define GG_PREFIX_SET_H

#include <stdbool.h>
#include <stddef.h>

#include "gorgon/tokenizer.h"

typedef struct gg_prefix_entry {
    const char *bytes; // borrowed, at least one byte
    size_t length;
    gorgon_token id;
} gg_prefix_entry;

typedef struct gg_prefix_set {
    gg_prefix_entry *entries; // [n] in byte order, owned
    size_t n;
    size_t starts[257]; // entries whose first byte is b: [starts[b], starts[b + 1])
} gg_prefix_set;

// Takes `entries` over (gg_alloc) and sorts them; equal strings keep the order of their ids.
void gg_prefix_set_fill(gg_prefix_set *set, gg_prefix_entry *entries, size_t n);
void gg_prefix_set_clear(gg_prefix_set *set);

// A walk along a text: after `depth` steps the entries [low, high) agree with it so far.
typedef struct gg_prefix_walk {
    size_t low, high, depth;
} gg_prefix_walk;

// The next byte of the text; false when no entry goes on like that. Zero-initialise the walk.
bool gg_prefix_step(const gg_prefix_set *set, gg_prefix_walk *walk, char byte);
// The entry that ends here, NULL if none does.
const gg_prefix_entry *gg_prefix_here(const gg_prefix_set *set, const gg_prefix_walk *walk);

#endif
