// Text <-> token ids, and chat templates. A tokenizer is immutable and may be shared by threads.
#ifndef GORGON_TOKENIZER_H
#define GORGON_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gorgon/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t gorgon_token; // 0-based vocabulary index
#define GORGON_TOKEN_NONE (-1)

typedef struct gorgon_tokenizer gorgon_tokenizer;

// Opens the tokenizer of a checkpoint without its weights: a GGUF file, a Hugging Face directory
// with tokenizer.json, or that file. *out is owned by the caller (a model's own is not to be
// freed). Errors: IO, FORMAT, UNSUPPORTED, MEMORY; the message names file, item, expected and got.
gorgon_status gorgon_tokenizer_open(const char *path, gorgon_tokenizer **out, gorgon_error *err);
void gorgon_tokenizer_free(gorgon_tokenizer *tokenizer); // NULL is legal

// Number of ids. Token bytes: borrowed, *length bytes, what the id decodes to (control tokens:
// their text); NULL and 0 for an id out of range.
size_t gorgon_tokenizer_size(const gorgon_tokenizer *tokenizer);
const char *gorgon_tokenizer_bytes(const gorgon_tokenizer *tokenizer, gorgon_token id,
                                   size_t *length);
bool gorgon_tokenizer_is_control(const gorgon_tokenizer *tokenizer, gorgon_token id);
// True when `id` ends a generation (end of sequence, end of turn).
bool gorgon_tokenizer_is_end(const gorgon_tokenizer *tokenizer, gorgon_token id);
gorgon_token gorgon_tokenizer_bos(const gorgon_tokenizer *tokenizer); // or GORGON_TOKEN_NONE
gorgon_token gorgon_tokenizer_eos(const gorgon_tokenizer *tokenizer); // or GORGON_TOKEN_NONE
// Id of a vocabulary entry by its exact decoded bytes, or GORGON_TOKEN_NONE.
gorgon_token gorgon_tokenizer_find(const gorgon_tokenizer *tokenizer, const char *bytes,
                                   size_t length);
// True when prompts start with BOS by default (from the checkpoint).
bool gorgon_tokenizer_adds_bos(const gorgon_tokenizer *tokenizer);
// True when the checkpoint ends texts with EOS. Prompts that are to be continued do not get one.
bool gorgon_tokenizer_adds_eos(const gorgon_tokenizer *tokenizer);

// Encodes `length` bytes of UTF-8. With parse_special, control tokens are matched in the text;
// otherwise they are ordinary text. Tokens that users added to a vocabulary are always matched. No
// BOS is added. *ids is allocated (gorgon_free), *n_ids set. What the vocabulary cannot express is
// dropped or becomes its unknown token (see docs/formats.md).
// Error: GORGON_ERROR_ARGUMENT with the byte offset when the text is not valid UTF-8.
gorgon_status gorgon_tokenizer_encode(const gorgon_tokenizer *tokenizer, const char *text,
                                      size_t length, bool parse_special, gorgon_token **ids,
                                      size_t *n_ids, gorgon_error *err);
// The same for the beginning of what a model is to read: BOS comes first where the checkpoint adds
// one (gorgon_tokenizer_adds_bos) and the text, which a chat template may have written, lacks it.
gorgon_status gorgon_tokenizer_prompt(const gorgon_tokenizer *tokenizer, const char *text,
                                      size_t length, bool parse_special, gorgon_token **ids,
                                      size_t *n_ids, gorgon_error *err);
// Concatenated bytes of the ids, NUL-terminated, allocated (gorgon_free); *length excludes the NUL.
// Where encoding puts a space before a text, one at the beginning is taken off again (not if a
// control token begins the ids). May end inside a UTF-8 character. Error: GORGON_ERROR_ARGUMENT
// naming an id out of range.
gorgon_status gorgon_tokenizer_decode(const gorgon_tokenizer *tokenizer, const gorgon_token *ids,
                                      size_t n_ids, char **text, size_t *length, gorgon_error *err);

typedef struct gorgon_message {
    const char *role;    // "system", "user", "assistant"
    const char *content; // UTF-8
} gorgon_message;

// Chat templates by name ("chatml", "llama3", ..): the source of one, and the name at an index;
// NULL where there is none.
const char *gorgon_chat_template(const char *name);
const char *gorgon_chat_name(size_t index);
// Puts another template (Jinja source) in the place of the checkpoint's. Not while others use the
// tokenizer. Error: GORGON_ERROR_UNSUPPORTED naming line and reason, if it is not understood.
gorgon_status gorgon_tokenizer_set_chat(gorgon_tokenizer *tokenizer, const char *source,
                                        gorgon_error *err);
// True when there is a chat template that gorgon understands.
bool gorgon_tokenizer_has_chat(const gorgon_tokenizer *tokenizer);
// Renders messages through the chat template, as transformers' apply_chat_template does without
// tools. Where the template writes BOS, the text begins with it. *text is allocated (gorgon_free).
// Errors: GORGON_ERROR_UNSUPPORTED when the template is absent or not understood, listing those
// known by name; GORGON_ERROR_ARGUMENT when it refuses these messages.
gorgon_status gorgon_tokenizer_chat(const gorgon_tokenizer *tokenizer,
                                    const gorgon_message *messages, size_t n_messages,
                                    bool add_generation_prompt, char **text, gorgon_error *err);

// Length of the longest prefix of text[0..length) that does not end inside a UTF-8 character;
// used to stream text token by token.
size_t gorgon_utf8_complete(const char *text, size_t length);
// True if the text is valid UTF-8 throughout; else *bad is the first byte that is not.
bool gorgon_utf8_valid(const char *text, size_t length, size_t *bad);

// Frees what gorgon functions allocated for the caller. NULL is legal.
void gorgon_free(void *block);

#ifdef __cplusplus
}
#endif

#endif
