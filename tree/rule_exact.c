// Rule "exact": the target draws its own token at each node, with the noise of that position, and
// the walk follows the child that bears it. The tokens are those of plain decoding, always.
#include "core/sampling.h"
#include "topology.h"
#include "verify.h"

static void verify(const gg_verify_input *in, gg_verdict *verdict)
{
    const gg_kernels *kernels = gg_engine_kernels(in->engine);
    size_t n_vocab = gg_model_geometry(gg_engine_model(in->engine))->n_vocab;
    int32_t node = 0;
    verdict->n = 0;
    verdict->missing = GG_NO_NODE;
    while (node != GG_NO_NODE) {
        const float *logits = gorgon_engine_logits(in->engine, in->first_row + (size_t)node);
        if (!logits) {
            verdict->missing = node;
            return;
        }
        size_t i = verdict->n++;
        verdict->path[i] = (uint32_t)node;
        verdict->decided[i] = (gorgon_token)gg_sample(
            kernels, in->sampling, in->root_position + i + 1, logits, n_vocab, in->scratch);
        node = gg_tree_child(in->tree, (uint32_t)node, verdict->decided[i]);
    }
}

const gg_rule gg_rule_exact = {"exact", verify};
