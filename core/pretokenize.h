// Splitting text into the pieces within which BPE merges.
#ifndef GG_PRETOKENIZE_H
#define GG_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>

#include "gorgon/status.h"

typedef struct gg_pretokenizer gg_pretokenizer; // immutable, may be shared by threads

// By its name in tokenizer.ggml.pre of the file `label`. Error: GORGON_ERROR_UNSUPPORTED listing
// the known ones.
gorgon_status gg_pretokenizer_create(const char *label, const char *name, size_t length,
                                     gg_pretokenizer **out, gorgon_error *err);
void gg_pretokenizer_free(gg_pretokenizer *pretokenizer); // NULL is legal
const char *gg_pretokenizer_name(const gg_pretokenizer *pretokenizer);

// One caller's walk over a text.
typedef struct gg_splitter {
    const gg_pretokenizer *pretokenizer;
    void *match; // PCRE2 match data, owned
    const char *text;
    size_t length, position;
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
