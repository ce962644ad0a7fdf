// The list of proposers: name and constructor. A new one is a file and a line here.
#ifndef GG_HEADS_REGISTRY_H
#define GG_HEADS_REGISTRY_H

#include "heads/proposer.h"

#define GG_PROPOSERS(X)                                                                            \
    X("heads", gg_heads_proposer)                                                                  \
    X("lookup", gg_lookup_proposer)                                                                \
    X("recycling", gg_recycling_proposer)

#define GG_DECLARE_PROPOSER(name, create)                                                          \
    gorgon_status create(const gg_proposer_config *config, gg_proposer **out, gorgon_error *err);
GG_PROPOSERS(GG_DECLARE_PROPOSER)
// What "heads" stands for, by the kind of the set.
GG_DECLARE_PROPOSER("medusa", gg_medusa_proposer)
GG_DECLARE_PROPOSER("sequential", gg_sequential_proposer)
#undef GG_DECLARE_PROPOSER

#endif
