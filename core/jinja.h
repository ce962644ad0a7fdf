// Chat templates: the part of the Jinja language that they are written in, as transformers runs it
// (trim_blocks and lstrip_blocks on, undefined values lenient, loop controls).
#ifndef GG_JINJA_H
#define GG_JINJA_H

#include <stdbool.h>
#include <stddef.h>

#include "gorgon/tokenizer.h"

typedef struct gg_jinja gg_jinja; // a parsed template, immutable

// Errors: GORGON_ERROR_UNSUPPORTED naming the line and what is not known there, MEMORY, LIMIT.
gorgon_status gg_jinja_parse(const char *source, size_t length, gg_jinja **out, gorgon_error *err);
void gg_jinja_free(gg_jinja *jinja); // NULL is legal

typedef struct gg_jinja_input {
    const gorgon_message *messages; // [n_messages], roles and contents not NULL
    size_t n_messages;
    bool add_generation_prompt;
    const char *bos, *eos; // texts of the tokens, NULL: the variable is undefined
    size_t bos_length, eos_length;
} gg_jinja_input;

// *text is NUL-terminated, owned by the caller. Bounded in steps and memory whatever the template.
// Errors: GORGON_ERROR_ARGUMENT where the template raises one or the values do not fit what it does
// with them, UNSUPPORTED for functions that are not known, MEMORY, LIMIT.
gorgon_status gg_jinja_render(const gg_jinja *jinja, const gg_jinja_input *input, char **text,
                              gorgon_error *err);

#endif
