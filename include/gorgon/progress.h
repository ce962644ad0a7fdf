// Progress of long work: building heads, building datastores.
#ifndef GORGON_PROGRESS_H
#define GORGON_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// done of total in `unit`s; rate per second. `line` is a human summary.
typedef struct gorgon_progress {
    const char *stage; // "synth", "train", "calibrate", "read", "sort"
    const char *unit;  // "tokens", "steps", "bytes"
    uint64_t done, total;
    double rate, eta_s;
    const char *line; // one line of figures (loss, accuracy), "" if none
} gorgon_progress;
// Returns false to stop: the work then returns GORGON_ERROR_CANCELLED; stages of `attach` save
// their state first.
typedef bool (*gorgon_progress_fn)(void *context, const gorgon_progress *progress);

#ifdef __cplusplus
}
#endif

#endif
