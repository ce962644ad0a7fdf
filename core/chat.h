// Chat templates: recognising the one of a checkpoint, and rendering messages through it.
#ifndef GG_CHAT_H
#define GG_CHAT_H

#include <stdbool.h>
#include <stddef.h>

#include "gorgon/tokenizer.h"

typedef struct gg_chat {
    bool present;         // the checkpoint has a template
    bool known;           // and it is ChatML
    char *default_system; // inserted when the first message is not a system message; or NULL
} gg_chat;

// Reads the template's source. An unknown one is no error here: only rendering it is.
// Error: GORGON_ERROR_MEMORY.
gorgon_status gg_chat_parse(const char *source, size_t length, gg_chat *out, gorgon_error *err);
void gg_chat_clear(gg_chat *chat);

gorgon_status gg_chat_render(const gg_chat *chat, const gorgon_message *messages, size_t n_messages,
                             bool add_generation_prompt, char **text, gorgon_error *err);

#endif
