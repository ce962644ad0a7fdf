// Sorting the places of a datastore's text by what is read backwards from them.
#ifndef GG_HEADS_DATASTORE_SORT_H
#define GG_HEADS_DATASTORE_SORT_H

#include "core/team.h"
#include "datastore_format.h"

// Fills place[n_places]: indices i of tokens that are followed by a token, not a separator, ordered
// by the tokens i, i - 1, ... down to a separator or GG_DATASTORE_ORDER of them, then by i. The
// text begins and ends with a separator and has exactly n_places such tokens, all below n_vocab. In
// place but for 8 bytes per vocabulary entry; expected time n log n. Errors: MEMORY, CANCELLED.
gorgon_status gg_datastore_sort(const gg_store_text *text, size_t n_vocab, uint32_t *place,
                                size_t n_places, gg_team *team,
                                const gorgon_datastore_options *options, gorgon_error *err);

#endif
