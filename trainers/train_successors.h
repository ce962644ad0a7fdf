// What token recycling begins with: the base's likeliest tokens after the contexts that the
// training text holds most often.
#ifndef GG_TRAINERS_TRAIN_SUCCESSORS_H
#define GG_TRAINERS_TRAIN_SUCCESSORS_H

#include "heads/head_set.h"
#include "trainers/cache.h"

// Of the sequences that are not held out, each context as it was met last; n is 0 where there are
// none. Clear with gg_successors_clear, also after an error. Errors: those of gg_cache_read,
// MEMORY.
gorgon_status gg_train_successors(const gg_cache *cache, double held_out, gg_successors *out,
                                  gorgon_error *err);

#endif
