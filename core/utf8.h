// UTF-8 validation.
#ifndef GG_UTF8_H
#define GG_UTF8_H

#include <stdbool.h>
#include <stddef.h>

// True when text[0..length) is well-formed UTF-8 (no overlong forms, surrogates or values above
// U+10FFFF). Otherwise *bad is the offset of the first byte of the first ill-formed sequence.
bool gg_utf8_valid(const char *text, size_t length, size_t *bad);

#endif
