// A set of heads on single hidden states, without a proposer around it.
#ifndef GG_HEADS_HEAD_PROBE_H
#define GG_HEADS_HEAD_PROBE_H

#include "gorgon/heads.h"

typedef struct gg_head_probe gg_head_probe;

// Checks the heads against the engine's model and packs the set; the heads must outlive the probe.
// turned: the blocks' matrices, which must not be quantised, with rows and columns exchanged.
gorgon_status gg_head_probe_create(gorgon_engine *engine, const gorgon_heads *heads, size_t set,
                                   bool turned, gg_head_probe **out, gorgon_error *err);
void gg_head_probe_free(gg_head_probe *probe);            // NULL is legal
size_t gg_head_probe_outputs(const gg_head_probe *probe); // logits per head
gorgon_token gg_head_probe_token(const gg_head_probe *probe, size_t output);
// logits[n_heads][outputs] for hidden[d_model] and the root after it, as gorgon_heads_logits has
// them. Does not allocate.
void gg_head_probe_run(gg_head_probe *probe, const float *hidden, gorgon_token root, float *logits);

#endif
