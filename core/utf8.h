// UTF-8: validation, characters, sentencepiece's visible spaces.
#ifndef GG_UTF8_H
#define GG_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// True when text[0..length) is well-formed UTF-8 (no overlong forms, surrogates or values above
// U+10FFFF). Otherwise *bad is the offset of the first byte of the first ill-formed sequence.
bool gg_utf8_valid(const char *text, size_t length, size_t *bad);
// Well-formed and without control characters: what a name may hold.
bool gg_utf8_printable(const char *text, size_t length);
// Bytes of the character that begins at `text`, by its first byte alone; 1 where none begins. At
// most `left`, which is at least 1.
size_t gg_utf8_step(const char *text, size_t left);
// The character at `text`, which is valid UTF-8; *n is its length.
uint32_t gg_utf8_read(const char *text, size_t *n);
size_t gg_utf8_write(uint32_t c, char out[4]); // returns the length
// Unicode's White_Space, as regular expressions and "strip" know it.
bool gg_is_space(uint32_t c);
// How much white space text[0, length) begins or ends with, in bytes.
size_t gg_spaces_before(const char *text, size_t length);
size_t gg_spaces_after(const char *text, size_t length);
// Copies text with U+2581 made spaces; returns the length, at most the old one. out may be text.
size_t gg_spaces_decode(const char *text, size_t length, char *out);

// Where `wanted` begins in text, SIZE_MAX if it does not occur.
size_t gg_find_text(const char *text, size_t length, const char *wanted, size_t n);

#endif
