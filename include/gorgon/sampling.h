// Gumbel-max sampling: the same draw for the same (seed, completion, position), whatever the
// batch, tree or thread count (arXiv 2408.07978 uses the same trick for drafting).
#ifndef GORGON_SAMPLING_H
#define GORGON_SAMPLING_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gorgon_sampling {
    float temperature;   // 0 = arg-max; otherwise > 0
    uint32_t top_k;      // keep the k most likely; 0 = all
    float top_p;         // keep the smallest set with mass >= top_p; 1 = all
    float min_p;         // keep tokens with p >= min_p * p_max; 0 = all
    uint64_t seed;       // key of the noise
    uint64_t completion; // index of the completion under one seed (line of a batch)
} gorgon_sampling;

// temperature 0, no truncation, seed 0, completion 0.
void gorgon_sampling_init(gorgon_sampling *sampling);

#ifdef __cplusplus
}
#endif

#endif
