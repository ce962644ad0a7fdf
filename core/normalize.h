// What happens to text before it is split into pieces.
#ifndef GG_NORMALIZE_H
#define GG_NORMALIZE_H

#include "tokenizer_spec.h"

typedef struct gg_normal_text {
    char *bytes;
    size_t n, capacity;
} gg_normal_text;

// True when the rules leave every text as it is.
bool gg_rules_are_empty(const gg_text_rules *rules);
// Checks a compiled map before it is used: GORGON_ERROR_FORMAT naming the file.
gorgon_status gg_charsmap_check(const char *label, const uint8_t *map, size_t length,
                                gorgon_error *err);

// Applies the rules to text[0, length), valid UTF-8, and replaces what `out` holds. `begins`: it is
// the beginning of the whole text. Linear in the length.
// Errors: GORGON_ERROR_MEMORY; GORGON_ERROR_LIMIT when the result has 2^31 bytes or more.
gorgon_status gg_normalize(const gg_text_rules *rules, const char *text, size_t length, bool begins,
                           gg_normal_text *out, gorgon_error *err);
void gg_normal_text_clear(gg_normal_text *text);

#endif
