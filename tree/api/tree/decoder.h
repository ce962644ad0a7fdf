// What calibration and tests need of a decoder besides its public face.
#ifndef GG_TREE_DECODER_H
#define GG_TREE_DECODER_H

#include "gorgon/decode.h"
#include "tree/calibration.h"

// One suggested edge whose parent was accepted, judged by the target's token. Edges that were not
// put into the tree are judged as well, so the sample does not depend on the tree's size.
typedef struct gg_edge_outcome {
    uint32_t proposers; // bit set of those who named it, in the order of the decoder's list
    bool sampled;       // temperature > 0
    size_t depth;       // of the edge's child, root's children have 1
    float calibrated;   // without the online correction
    float corrected;
    bool accepted;
} gg_edge_outcome;
typedef void (*gg_edge_tap_fn)(void *context, const gg_edge_outcome *outcome);
// NULL removes the tap.
void gg_decoder_set_edge_tap(gorgon_decoder *decoder, gg_edge_tap_fn tap, void *context);

#endif
