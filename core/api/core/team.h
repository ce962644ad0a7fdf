// Thread team: n workers run the same function side by side (SPMD) with barriers between phases.
#ifndef GG_CORE_TEAM_H
#define GG_CORE_TEAM_H

#include <stdbool.h>
#include <stddef.h>

#include "gorgon/status.h"

typedef struct gg_team gg_team;

// Body of a parallel region; thread in [0, n_threads).
typedef void (*gg_team_fn)(void *context, size_t thread, size_t n_threads);

// n_threads in [1, GG_MAX_THREADS]; the caller is thread 0. Each worker sets round-to-nearest and
// gradual underflow (MXCSR 0x1f80), so results do not depend on what the process did before.
gorgon_status gg_team_create(size_t n_threads, gg_team **out, gorgon_error *err);
void gg_team_free(gg_team *team); // NULL is legal
size_t gg_team_size(const gg_team *team);

// Runs fn on every thread and returns when all have finished. Not reentrant; one caller at a time.
void gg_team_run(gg_team *team, gg_team_fn fn, void *context);
// Barrier inside a region: everything before it happens before everything after it.
void gg_team_barrier(gg_team *team);

// Inside a region, once per phase (between barriers): the next of n pieces of work, every one given
// out once; false when none is left. A thread gets the pieces of its own share in order, then what
// others have not begun, so that nobody waits long for a thread that lost its processor.
bool gg_team_take(gg_team *team, size_t n, size_t thread, size_t *piece);

// The half-open share [*begin, *end) of n items that this thread owns, in units of `grain`.
void gg_team_share(size_t n, size_t grain, size_t thread, size_t n_threads, size_t *begin,
                   size_t *end);

#endif
