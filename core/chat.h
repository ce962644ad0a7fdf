// Chat templates: the one of a checkpoint or one given by name, and rendering messages through it.
#ifndef GG_CHAT_H
#define GG_CHAT_H

#include <stdbool.h>
#include <stddef.h>

#include "jinja.h"

typedef struct gg_chat {
    bool present;      // there is a template
    gg_jinja *jinja;   // and it is understood; else NULL
    char problem[160]; // what is not
} gg_chat;

typedef struct gg_named_chat {
    const char *name, *source;
} gg_named_chat;
extern const gg_named_chat gg_named_chats[];
extern const size_t gg_named_chats_n;

// Reads the template's source. One that is not understood is no error here: only rendering it is.
// Error: GORGON_ERROR_MEMORY.
gorgon_status gg_chat_parse(const char *source, size_t length, gg_chat *out, gorgon_error *err);
void gg_chat_clear(gg_chat *chat);

gorgon_status gg_chat_render(const gg_chat *chat, const gg_jinja_input *input, char **text,
                             gorgon_error *err);

#endif
