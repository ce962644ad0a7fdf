// A set of 64-bit hashes.
#ifndef GG_TRAINERS_HASH_SET_H
#define GG_TRAINERS_HASH_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "gorgon/status.h"

typedef struct gg_hash_set gg_hash_set;

gorgon_status gg_hash_set_create(gg_hash_set **out, gorgon_error *err);
void gg_hash_set_free(gg_hash_set *set); // NULL is legal
// *added (may be NULL): false if the hash was there already.
gorgon_status gg_hash_set_add(gg_hash_set *set, uint64_t hash, bool *added, gorgon_error *err);

#endif
