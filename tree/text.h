// Text of a stream as it grows: bytes of tokens become valid UTF-8, stop strings cut it, and what
// may still turn out to be the beginning of a stop string is not handed out.
#ifndef GG_TREE_TEXT_H
#define GG_TREE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "gorgon/status.h"

typedef struct gg_text {
    char *bytes; // valid UTF-8; ill-formed input is replaced by U+FFFD; NUL-terminated
    size_t length, capacity;
    unsigned char pending[4]; // first bytes of an unfinished character
    size_t n_pending;
    size_t streamed; // bytes handed out by gg_text_take
    char **stop;     // [n_stop] owned
    size_t *stop_length;
    size_t n_stop;
} gg_text;

// Room for `capacity` bytes of text. Stop strings are copied; an empty one is an error.
gorgon_status gg_text_create(gg_text *t, size_t capacity, const char *const *stop, size_t n_stop,
                             gorgon_error *err);
void gg_text_clear(gg_text *t);
// Bytes of valid text that this token's bytes can lead to at most.
size_t gg_text_bound(const char *bytes, size_t n);

// Adds the bytes of one token. True when a stop string is now complete: the text ends before it.
bool gg_text_append(gg_text *t, const char *bytes, size_t n);
// No more tokens come: an unfinished character becomes U+FFFD. Not after a stop string.
void gg_text_finish(gg_text *t);
// Text that has become certain since the last call. With `all`, everything that is left.
const char *gg_text_take(gg_text *t, bool all, size_t *length);

#endif
