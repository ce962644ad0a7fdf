// The conversations of a cache as JSON lines, for people and for other trainers.
#ifndef GG_TRAINERS_SYNTH_TEXT_H
#define GG_TRAINERS_SYNTH_TEXT_H

#include "core/engine.h"
#include "trainers/cache.h"

// One line per sequence: {"index", "temperature", "tokens", "text"}. Written whole or not at all.
gorgon_status gg_synth_write_text(const gorgon_model *model, const gg_cache *cache,
                                  const char *path, gorgon_error *err);

#endif
