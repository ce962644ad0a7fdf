// Chat templates of checkpoints are Jinja programs, which jinja*.c runs; this file keeps one for a
// tokenizer and says what is wrong where it cannot be run.
#include "chat.h"

#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"

gorgon_status gg_chat_parse(const char *source, size_t length, gg_chat *out, gorgon_error *err)
{
    gorgon_error problem = {0};
    *out = (gg_chat){.present = true};
    gorgon_status status = gg_jinja_parse(source, length, &out->jinja, &problem);
    if (status == GORGON_ERROR_MEMORY)
        return gg_fail(err, status, "%s", problem.message);
    if (status != GORGON_OK)
        snprintf(out->problem, sizeof out->problem, "%.150s", problem.message);
    return GORGON_OK;
}

void gg_chat_clear(gg_chat *chat)
{
    gg_jinja_free(chat->jinja);
    *chat = (gg_chat){0};
}

static gorgon_status fail_unknown(const gg_chat *chat, gorgon_error *err)
{
    char list[300] = "";
    for (size_t i = 0; i < gg_named_chats_n; i++)
        gg_list_append(list, sizeof list, gg_named_chats[i].name);
    if (!chat->present)
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "the checkpoint's chat template (tokenizer.chat_template) is absent; "
                       "known by name: %s",
                       list);
    return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                   "the chat template is not one that gorgon knows: %s; known by name: %s",
                   chat->problem, list);
}

gorgon_status gg_chat_render(const gg_chat *chat, const gg_jinja_input *input, char **text,
                             gorgon_error *err)
{
    if (!chat->jinja)
        return fail_unknown(chat, err);
    for (size_t i = 0; i < input->n_messages; i++) {
        if (!input->messages[i].role || !input->messages[i].content)
            return gg_fail(err, GORGON_ERROR_ARGUMENT, "message %zu of %zu has no %s", i,
                           input->n_messages, input->messages[i].role ? "content" : "role");
    }
    return gg_jinja_render(chat->jinja, input, text, err);
}

const char *gorgon_chat_template(const char *name)
{
    for (size_t i = 0; i < gg_named_chats_n; i++) {
        if (strcmp(gg_named_chats[i].name, name) == 0)
            return gg_named_chats[i].source;
    }
    return NULL;
}

const char *gorgon_chat_name(size_t index)
{
    return index < gg_named_chats_n ? gg_named_chats[index].name : NULL;
}
