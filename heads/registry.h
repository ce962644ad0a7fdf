// The list of proposers: name, constructor, the file it needs. A new one is a file and a line here.
#ifndef GG_HEADS_REGISTRY_H
#define GG_HEADS_REGISTRY_H

#include "heads/proposer.h"

typedef enum gg_needs { GG_NEEDS_NOTHING, GG_NEEDS_HEADS, GG_NEEDS_DATASTORE } gg_needs;

#define GG_PROPOSERS(X)                                                                            \
    X("heads", gg_heads_proposer, GG_NEEDS_HEADS)                                                  \
    X("lookup", gg_lookup_proposer, GG_NEEDS_NOTHING)                                              \
    X("recycling", gg_recycling_proposer, GG_NEEDS_NOTHING)                                        \
    X("datastore", gg_datastore_proposer, GG_NEEDS_DATASTORE)

#define GG_DECLARE_PROPOSER(name, create, needs)                                                   \
    gorgon_status create(const gg_proposer_config *config, gg_proposer **out, gorgon_error *err);
GG_PROPOSERS(GG_DECLARE_PROPOSER)
// What "heads" stands for, by the kind of the set.
GG_DECLARE_PROPOSER("medusa", gg_medusa_proposer, GG_NEEDS_HEADS)
GG_DECLARE_PROPOSER("sequential", gg_sequential_proposer, GG_NEEDS_HEADS)
#undef GG_DECLARE_PROPOSER

#endif
