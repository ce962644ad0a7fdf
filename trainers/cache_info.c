// gorgon_cache_describe: what a feature cache holds, for those who only want to know.
#include "cache_json.h"
#include "gorgon/trainers.h"
#include "trainers/cache.h"

gorgon_status gorgon_cache_describe(const gorgon_model *model, const char *directory,
                                    gorgon_cache_info *info, gorgon_error *err)
{
    gg_cache *cache = NULL;
    gg_cache_identity identity;
    gg_cache_counts counts;
    bool found = false;
    *info = (gorgon_cache_info){0};
    gorgon_status status = gg_cache_json_read(directory, &identity, &counts, &found, err);
    if (status != GORGON_OK || !found)
        return status;
    status = gg_cache_open_existing(
        directory, model ? gorgon_model_fingerprint(model) : identity.base, &cache, err);
    if (status != GORGON_OK)
        return status;
    *info = (gorgon_cache_info){.tokens = gg_cache_records(cache),
                                .sequences = gg_cache_sequences(cache),
                                .bytes = gg_cache_bytes(cache),
                                .seed = identity.seed,
                                .options_hash = identity.options_hash,
                                .base = identity.base,
                                .complete = gg_cache_complete(cache)};
    gg_cache_free(cache);
    return GORGON_OK;
}
