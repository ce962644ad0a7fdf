// What a pass costs on this machine: measured once with real passes, read by interpolation,
// corrected by every pass that is run afterwards.
#ifndef GG_TREE_COST_H
#define GG_TREE_COST_H

#include <stdbool.h>

#include "core/engine.h"

enum { GG_COST_KNOTS = 7 }; // passes of 1, 2, 4, ... 64 rows

typedef struct gg_cost {
    bool measured;                 // at all knots: worth keeping in a file
    double base_s[GG_COST_KNOTS];  // seconds of a pass of 2^k rows at a short context
    double position_s;             // seconds per attended position, summed over rows
    double machine;                // observed / measured, all passes
    double bucket[GG_COST_KNOTS];  // the same relative to `machine`, passes near 2^k rows
    double table_s[GG_COST_KNOTS]; // corrected, not decreasing
} gg_cost;

// A guess from the size of the weights, for when nothing could be measured.
void gg_cost_guess(gg_cost *cost, const gorgon_engine *engine);
// Runs passes on a scratch sequence, about 0.3 s at most for a small model and at least one pass
// of one row for any. An engine that has no sequence left, or too small, keeps the guess.
void gg_cost_measure(gg_cost *cost, gorgon_engine *engine);
// As measured by an earlier process with the same model, threads, level, activations and host;
// false when the file is absent, unreadable, foreign or has no such entry.
bool gg_cost_load(gg_cost *cost, const char *path, const gorgon_engine *engine);
// Adds or replaces this engine's entry. Failing to write is no error: the next run measures again.
void gg_cost_store(const gg_cost *cost, const char *path, const gorgon_engine *engine);

// Seconds of a pass of `rows` rows that attend to `attended` positions together.
double gg_cost_seconds(const gg_cost *cost, size_t rows, double attended);
// Tells what a pass really took. One wild value moves the model by at most about one percent.
void gg_cost_observe(gg_cost *cost, size_t rows, double attended, double seconds);

#endif
