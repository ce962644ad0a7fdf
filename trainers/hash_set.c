// Open addressing, at most half full; 0 marks an empty place, so hash 0 is kept as 1.
#include "hash_set.h"

#include <stddef.h>

#include "core/alloc.h"
#include "core/error.h"

struct gg_hash_set {
    uint64_t *places; // [capacity], a power of two
    size_t capacity, n;
};

gorgon_status gg_hash_set_create(gg_hash_set **out, gorgon_error *err)
{
    gg_hash_set *set = gg_alloc(1, sizeof *set);
    if (set) {
        set->capacity = 1024;
        set->places = gg_alloc(set->capacity, sizeof *set->places);
    }
    *out = set;
    if (!set || !set->places)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for a hash set");
    return GORGON_OK;
}

void gg_hash_set_free(gg_hash_set *set)
{
    if (!set)
        return;
    gg_free(set->places);
    gg_free(set);
}

// Where hash is or belongs.
static size_t place_of(const uint64_t *places, size_t capacity, uint64_t hash)
{
    size_t i = (size_t)(hash * 0x9e3779b97f4a7c15u >> 20) & (capacity - 1);
    while (places[i] != 0 && places[i] != hash)
        i = (i + 1) & (capacity - 1);
    return i;
}

static gorgon_status grow(gg_hash_set *set, gorgon_error *err)
{
    size_t capacity = set->capacity * 2;
    uint64_t *places = gg_alloc(capacity, sizeof *places);
    if (!places)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for %zu hashes", capacity);
    for (size_t i = 0; i < set->capacity; i++) {
        if (set->places[i] != 0)
            places[place_of(places, capacity, set->places[i])] = set->places[i];
    }
    gg_free(set->places);
    set->places = places;
    set->capacity = capacity;
    return GORGON_OK;
}

gorgon_status gg_hash_set_add(gg_hash_set *set, uint64_t hash, bool *added, gorgon_error *err)
{
    hash = hash ? hash : 1;
    size_t i = place_of(set->places, set->capacity, hash);
    if (added)
        *added = set->places[i] == 0;
    if (set->places[i] != 0)
        return GORGON_OK;
    set->places[i] = hash;
    set->n++;
    return set->n * 2 > set->capacity ? grow(set, err) : GORGON_OK;
}
