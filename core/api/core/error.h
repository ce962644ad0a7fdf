// Writing a gorgon_error. The first error sticks: later failures do not overwrite it.
#ifndef GG_CORE_ERROR_H
#define GG_CORE_ERROR_H

#include <stddef.h>

#include "gorgon/status.h"

#if defined(__GNUC__)
#define GG_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define GG_PRINTF(fmt, args)
#endif

// Formats the message into err (which may be NULL) unless err already holds an error; returns
// status, so that a caller can write `return gg_fail(err, GORGON_ERROR_FORMAT, "...", ...)`.
gorgon_status gg_fail(gorgon_error *err, gorgon_status status, const char *format, ...)
    GG_PRINTF(3, 4);
// Replaces control characters and bytes that are no UTF-8 by '?', as is done with messages: names
// from files may hold anything, and a name cut off may end within a character.
void gg_make_printable(char *text);

// Appends name to a comma-separated list of `size` bytes in all, for messages that say what exists;
// a name that does not fit is left out. The list starts as "".
void gg_list_append(char *list, size_t size, const char *name);

#endif
