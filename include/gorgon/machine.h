// What this machine can do at best, measured through an engine's threads: the limits that a
// pass runs against.
#ifndef GORGON_MACHINE_H
#define GORGON_MACHINE_H

#include "gorgon/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

// Best rate at which all threads together read 256 MB of memory, in GB/s (1e9 bytes). Takes about
// 0.1 s. Error: MEMORY. One thread at a time uses an engine.
gorgon_status gorgon_measure_bandwidth(gorgon_engine *engine, double *gb_s, gorgon_error *err);

// Best rate of int8 multiply-adds of the engine's CPU level, bare instructions on registers, all
// threads together, in 1e9 per second. Takes about 0.1 s. Error: MEMORY. One thread at a time uses
// an engine.
gorgon_status gorgon_measure_peak(gorgon_engine *engine, double *gmac_s, gorgon_error *err);
// The same of f32 multiply-adds, which attention is made of.
gorgon_status gorgon_measure_float_peak(gorgon_engine *engine, double *gmac_s, gorgon_error *err);

#ifdef __cplusplus
}
#endif

#endif
