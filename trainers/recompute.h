// Hidden states of a cached sequence, computed again where the cache does not hold them.
#ifndef GG_TRAINERS_RECOMPUTE_H
#define GG_TRAINERS_RECOMPUTE_H

#include "trainers/cache.h"

// hidden is [n_records][d_model] f16. Rows do not depend on the rest of a pass, so the values equal
// those that synthesis saw. The engine needs room for one more sequence of n_tokens positions.
gorgon_status gg_recompute_hidden(gorgon_engine *engine, const gg_cache_sequence *sequence,
                                  uint16_t *hidden, gorgon_error *err);

#endif
