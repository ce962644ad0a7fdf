// cache.json: the identity of a feature cache and, once it is complete, its counts.
#ifndef GG_TRAINERS_CACHE_JSON_H
#define GG_TRAINERS_CACHE_JSON_H

#include "trainers/cache.h"

#define GG_CACHE_JSON_NAME "cache.json"

typedef struct gg_cache_counts {
    bool complete;
    uint64_t chunks, sequences, records; // stored only when complete
} gg_cache_counts;

// "<directory>/<name>"; gg_free it. NULL when out of memory.
char *gg_cache_path(const char *directory, const char *name);

gorgon_status gg_cache_json_write(const char *directory, const gg_cache_identity *identity,
                                  const gg_cache_counts *counts, gorgon_error *err);
// *found is false, with success, when there is no cache.json.
gorgon_status gg_cache_json_read(const char *directory, gg_cache_identity *identity,
                                 gg_cache_counts *counts, bool *found, gorgon_error *err);

#endif
