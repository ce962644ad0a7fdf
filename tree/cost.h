// What a pass costs on this machine: measured once with real passes, read by interpolation,
// corrected by every pass that is run afterwards.
#ifndef GG_TREE_COST_H
#define GG_TREE_COST_H

#include <stdbool.h>

#include "core/engine.h"

enum {
    GG_COST_KNOTS = 7,  // passes of 1, 2, 4, ... 64 rows
    GG_COST_RECENT = 9, // passes whose median tells how fast the machine is now
};

typedef struct gg_cost {
    bool measured;                 // at all knots: worth keeping in a file
    double base_s[GG_COST_KNOTS];  // seconds of a pass of 2^k rows at a short context
    double position_s;             // seconds per attended position, summed over rows
    double machine;                // observed / expected: median of the last passes
    double bucket[GG_COST_KNOTS];  // the same relative to `machine`, passes near 2^k rows
    double bias;                   // mean relative error of the last passes
    double recent[GG_COST_RECENT]; // observed / expected at `machine` 1, a ring
    size_t n_observed;
    double table_s[GG_COST_KNOTS]; // corrected, not decreasing
} gg_cost;

// A guess from the size of the weights, for when nothing could be measured.
void gg_cost_guess(gg_cost *cost, const gorgon_engine *engine);
// Runs passes on a scratch sequence, about 0.3 s at most for a small model and at least one pass
// of one row for any. An engine that has no sequence left, or too small, keeps the guess.
void gg_cost_measure(gg_cost *cost, gorgon_engine *engine);
// Forgets what passes taught.
void gg_cost_reset(gg_cost *cost);
// As measured by an earlier process with the same model, threads, level, activations and host;
// false when the file is absent, unreadable, foreign or has no such entry.
bool gg_cost_load(gg_cost *cost, const char *path, const gorgon_engine *engine);
// Adds or replaces this engine's entry. Failing to write is no error: the next run measures again.
void gg_cost_store(const gg_cost *cost, const char *path, const gorgon_engine *engine);

// Seconds of a pass of `rows` rows that attend to `attended` positions together.
double gg_cost_seconds(const gg_cost *cost, size_t rows, double attended);
// Tells what a pass really took. How fast the machine is at the moment, by which all sizes of a
// pass change alike, follows the median of a few passes; how sizes compare, on which the choice of
// a tree rests, changes slowly, by at most half a percent a pass, and where nothing is observed it
// drifts back to what was measured. So a burst of stolen time passes without a trace.
void gg_cost_observe(gg_cost *cost, size_t rows, double attended, double seconds);

#endif
