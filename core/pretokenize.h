// Splitting text into the pieces within which BPE merges.
#ifndef GG_PRETOKENIZE_H
#define GG_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>

#include "gorgon/status.h"
#include "pretokenize_table.h"

typedef struct gg_pretokenizer gg_pretokenizer; // immutable, may be shared by threads

// By its name in tokenizer.ggml.pre of the file `label`. Error: GORGON_ERROR_UNSUPPORTED listing
// the known ones.
gorgon_status gg_pretokenizer_create(const char *label, const char *name, size_t length,
                                     gg_pretokenizer **out, gorgon_error *err);
void gg_pretokenizer_free(gg_pretokenizer *pretokenizer); // NULL is legal
const char *gg_pretokenizer_name(const gg_pretokenizer *pretokenizer);

// A known pre-tokenizer by name or alias, NULL if there is none.
const gg_known_split *gg_split_find(const char *name, size_t length);
// Name of the pre-tokenizer that cuts by these patterns, in the spelling of tokenizer.json, one
// after the other; NULL if there is none.
const char *gg_split_find_listed(const char *const *patterns, const size_t *lengths, size_t n);

// A text that one stage is cutting.
typedef struct gg_split_level {
    const char *text;
    size_t length, position;
    size_t match_start, match_end; // the match that has been found, if it ends behind position
} gg_split_level;

// One caller's walk over a text.
typedef struct gg_splitter {
    const gg_pretokenizer *pretokenizer;
    void *match; // PCRE2 match data, owned
    gg_split_level levels[GG_SPLIT_STAGES];
    size_t depth;
} gg_splitter;

gorgon_status gg_splitter_open(const gg_pretokenizer *pretokenizer, gg_splitter *out,
                               gorgon_error *err);
void gg_splitter_close(gg_splitter *splitter);
// Starts on text[0..length), which must be valid UTF-8 and outlive the walk.
void gg_splitter_start(gg_splitter *splitter, const char *text, size_t length);
// The next piece, never empty; the pieces cover the text. *got is false at the end.
gorgon_status gg_splitter_next(gg_splitter *splitter, const char **piece, size_t *length, bool *got,
                               gorgon_error *err);

#endif
