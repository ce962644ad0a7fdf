// Searching a datastore: its places (tokens that another one follows) are sorted by the text that
// ends there, read backwards, so that all places at which a context's last tokens stand lie side by
// side, those that share more of it inside those that share less.
#ifndef GG_HEADS_DATASTORE_H
#define GG_HEADS_DATASTORE_H

#include "gorgon/datastore.h"

enum { GG_DATASTORE_ORDER = 16 }; // tokens that the places are sorted by, the longest match

// gorgon_datastore_open over a caller's buffer, which must outlive the store (fuzzing).
gorgon_status gg_datastore_open_memory(const void *data, size_t size, const char *label,
                                       gorgon_datastore **out, gorgon_error *err);

// The places [first, end) of the sorted order whose text ends in the context's last `length`
// tokens.
typedef struct gg_datastore_match {
    size_t length;
    size_t first, end;
} gg_datastore_match;

// The longest match of a context given backwards, last token first: backwards[n], n at most
// GG_DATASTORE_ORDER. Its length is 0 when nothing matches. About log2(places) steps.
gg_datastore_match gg_datastore_longest(const gorgon_datastore *store,
                                        const gorgon_token *backwards, size_t n);
// A match of the same context widened to the places that share `length` tokens, 1 to match.length.
gg_datastore_match gg_datastore_widen(const gorgon_datastore *store, const gorgon_token *backwards,
                                      gg_datastore_match match, size_t length);
// The token that follows place i of the sorted order; GORGON_TOKEN_NONE where a damaged file names
// no token.
gorgon_token gg_datastore_next(const gorgon_datastore *store, size_t i);

#endif
