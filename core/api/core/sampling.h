// The target's own token at a row: arg-max over the allowed set of logit / T + g, where g is
// Gumbel noise from a counter-based generator. Ties: higher value, then lower id.
#ifndef GG_CORE_SAMPLING_H
#define GG_CORE_SAMPLING_H

#include <stdbool.h>

#include "core/kernels.h"
#include "gorgon/sampling.h"
#include "gorgon/status.h"

// Range checks of all fields; the error names the field.
gorgon_status gg_sampling_check(const gorgon_sampling *sampling, gorgon_error *err);

// Counter-based generator: 64 uniform bits for a key and three counters. Pure function. It is
// Philox4x32-10 (Salmon et al. 2011): counter words {c, b, low a, high a}, first half of the
// output, low word first; if b or c exceed 32 bits, their high words first change the key.
uint64_t gg_random_bits(uint64_t key, uint64_t a, uint64_t b, uint64_t c);
// Uniform in (0, 1), never 0 or 1.
double gg_random_uniform(uint64_t key, uint64_t a, uint64_t b, uint64_t c);

// Gumbel(0, 1) noise of token id at a position; position = index of the token being drawn in its
// sequence (prompt included). Bounded above by GG_GUMBEL_MAX. The values are pinned by a test:
// text drawn under a seed stays the same from one version to the next.
#define GG_GUMBEL_MAX 23.0f
float gg_gumbel(const gorgon_sampling *sampling, uint64_t position, uint32_t id);
// A quick refusal for searches: false only when the noise is below `bound`; else *gumbel is set.
bool gg_gumbel_at_least(const gorgon_sampling *sampling, uint64_t position, uint32_t id,
                        double bound, float *gumbel);

// Draws the token at `position` from logits[n_vocab]. scratch: gg_sample_scratch(n_vocab) bytes,
// 64-byte aligned. Truncation order: top-k, then top-p, then min-p, each on the softmax of logit/T
// renormalised over what the previous kept. A NaN logit is never drawn; when the largest logit is
// infinite, the arg-max is. Does not allocate.
size_t gg_sample_scratch(size_t n_vocab);
uint32_t gg_sample(const gg_kernels *kernels, const gorgon_sampling *sampling, uint64_t position,
                   const float *logits, size_t n_vocab, void *scratch);

#endif
