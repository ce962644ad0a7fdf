// A tokenizer's description from the files of a Hugging Face directory.
#ifndef GG_TOKENIZER_JSON_H
#define GG_TOKENIZER_JSON_H

#include <jansson.h>

#include "tokenizer_spec.h"

// The files, parsed. The description borrows their texts.
typedef struct gg_tokenizer_files {
    const char *label;  // of tokenizer.json, for messages
    json_t *tokenizer;  // tokenizer.json
    json_t *config;     // tokenizer_config.json, or NULL
    json_t *generation; // generation_config.json, or NULL
    char *chat;         // chat_template.jinja, or NULL; owned
    size_t chat_length;
} gg_tokenizer_files;

// One reading: where it writes to and what it knows so far.
typedef struct gg_json_reader {
    const gg_tokenizer_files *files;
    gg_tokenizer_spec *spec;
    size_t n_vocab;
    const char *patterns[8]; // of the pre-tokenizer, one after the other
    size_t pattern_lengths[8], n_patterns;
    bool byte_level, word_split, plain_search;
    gorgon_error *err;
} gg_json_reader;

// Fails with "<file>: <place>: expected <expected>, got <what value is>".
gorgon_status gg_json_expected(const gg_json_reader *r, const char *place, const char *expected,
                               const json_t *value);
// True if value is the string `text`.
bool gg_json_is(const json_t *value, const char *text);

// Reads one item or, of a Sequence with its `list`, the items; Sequences may hold Sequences.
typedef gorgon_status gg_json_read_item(gg_json_reader *r, const json_t *item, const char *place);
gorgon_status gg_json_read_sequence(gg_json_reader *r, const json_t *top, const char *list,
                                    const char *place, gg_json_read_item *read);

// tokenizer_json_rules.c: normalizer, pre_tokenizer, decoder.
gorgon_status gg_json_read_rules(gg_json_reader *r);
// tokenizer_json_roles.c: post_processor, the config files, the chat template. After the tokens.
gorgon_status gg_json_read_roles(gg_json_reader *r);

gorgon_status gg_tokenizer_spec_from_json(const gg_tokenizer_files *files, size_t n_vocab,
                                          gg_tokenizer_spec *spec, gorgon_error *err);

#endif
