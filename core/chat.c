// Templates are Jinja programs. A known one is recognised by its whole text, reduced to a canonical
// form (no white space outside literals, one kind of quote, constant strings joined), so that what
// is rendered is what the template says; the default system text is read from it.
#include "chat.h"

#include <string.h>

#include "core/alloc.h"
#include "core/error.h"

// Stands for either quote in the canonical form; a template that holds this byte is not known.
#define QUOTE_CHAR '\001'
#define Q          "\001"

static const char optional_default[] = "{%ifnotadd_generation_promptisdefined%}"
                                       "{%setadd_generation_prompt=false%}{%endif%}";
static const char loop_open[] = "{%formessageinmessages%}";
static const char system_open[] =
    "{%ifloop.firstandmessages[0][" Q "role" Q "]!=" Q "system" Q "%}{{" Q "<|im_start|>system\n";
static const char system_close[] = "<|im_end|>\n" Q "}}{%endif%}";
static const char loop_body[] = "{{" Q "<|im_start|>" Q "+message[" Q "role" Q "]+" Q "\n" Q
                                "+message[" Q "content" Q "]+" Q "<|im_end|>\n" Q "}}{%endfor%}";
static const char generation[] =
    "{%ifadd_generation_prompt%}{{" Q "<|im_start|>assistant\n" Q "}}{%endif%}";

typedef struct reduction {
    const char *source;
    size_t length, at;
    char *out; // never longer than the source
    size_t used;
} reduction;

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static char peek(const reduction *r, size_t ahead)
{
    return r->length - r->at > ahead ? r->source[r->at + ahead] : '\0';
}

static bool at_tag(const reduction *r)
{
    return peek(r, 0) == '{' && (peek(r, 1) == '%' || peek(r, 1) == '{');
}

// Passes over the text before the next tag. Only white space that Jinja removes may stand there:
// after and before a tag with '-', the newline after a block tag (trim_blocks), the indentation
// of a block tag (lstrip_blocks).
static bool skip_text(reduction *r, bool after_block, bool after_trim)
{
    if (after_trim) {
        while (is_space(peek(r, 0)))
            r->at++;
    } else if (after_block && peek(r, 0) == '\n') {
        r->at++;
    }
    size_t start = r->at;
    while (r->at < r->length && !at_tag(r)) {
        if (!is_space(r->source[r->at]))
            return false;
        r->at++;
    }
    if (r->at == start || (r->at < r->length && peek(r, 2) == '-'))
        return true;
    bool line_start = start == 0 || r->source[start - 1] == '\n';
    bool indented = line_start && r->at < r->length && peek(r, 1) == '%';
    for (size_t i = start; i < r->at; i++)
        indented = indented && (r->source[i] == ' ' || r->source[i] == '\t');
    return indented;
}

static bool copy_literal(reduction *r)
{
    char quote = r->source[r->at++];
    bool joins = r->used >= 2 && r->out[r->used - 1] == '+' && r->out[r->used - 2] == QUOTE_CHAR;
    if (joins)
        r->used -= 2;
    else
        r->out[r->used++] = QUOTE_CHAR;
    for (; r->at < r->length; r->at++) {
        char c = r->source[r->at];
        if (c == quote) {
            r->at++;
            r->out[r->used++] = QUOTE_CHAR;
            return true;
        }
        if (c == '\\') {
            r->at++;
            c = peek(r, 0);
            if (c == 'n')
                c = '\n';
            else if (c == 't')
                c = '\t';
            else if (c != '\'' && c != '"' && c != '\\')
                return false;
        }
        if (c == QUOTE_CHAR || c == '\0')
            return false;
        r->out[r->used++] = c;
    }
    return false;
}

// Copies one tag without its white space; *block and *trim say how it ended.
static bool copy_tag(reduction *r, bool *block, bool *trim)
{
    char close = peek(r, 1) == '%' ? '%' : '}';
    *block = close == '%';
    r->out[r->used++] = '{';
    r->out[r->used++] = r->source[r->at + 1];
    r->at += 2;
    if (peek(r, 0) == '-')
        r->at++;
    while (r->at < r->length) {
        char c = peek(r, 0);
        *trim = c == '-' && peek(r, 1) == close && peek(r, 2) == '}';
        if (*trim || (c == close && peek(r, 1) == '}')) {
            r->at += *trim ? 3 : 2;
            r->out[r->used++] = close;
            r->out[r->used++] = '}';
            return true;
        }
        if (c == '\'' || c == '"') {
            if (!copy_literal(r))
                return false;
            continue;
        }
        if (c == QUOTE_CHAR || c == '\0')
            return false;
        if (!is_space(c))
            r->out[r->used++] = c;
        r->at++;
    }
    return false;
}

// False when the source is not a sequence of tags. The result ends with a NUL.
static bool reduce(reduction *r)
{
    bool block = false, trim = false;
    if (r->length > 0 && r->source[r->length - 1] == '\n')
        r->length--; // Jinja drops one newline at the end of a template
    for (;;) {
        if (!skip_text(r, block, trim))
            return false;
        if (r->at == r->length)
            break;
        if (!copy_tag(r, &block, &trim))
            return false;
    }
    r->out[r->used] = '\0';
    return true;
}

static bool accept(const char **cursor, const char *expected)
{
    size_t n = strlen(expected);
    if (strncmp(*cursor, expected, n) != 0)
        return false;
    *cursor += n;
    return true;
}

// Matches the canonical form; the default system text, if any, is left in [*system, *system_end).
static bool match_chatml(const char *canonical, const char **system, const char **system_end)
{
    const char *cursor = canonical;
    accept(&cursor, optional_default);
    if (!accept(&cursor, loop_open))
        return false;
    if (accept(&cursor, system_open)) {
        const char *quote = strchr(cursor, QUOTE_CHAR);
        size_t tail = strlen("<|im_end|>\n");
        if (!quote || (size_t)(quote - cursor) < tail)
            return false;
        *system = cursor;
        *system_end = cursor = quote - tail;
        if (!accept(&cursor, system_close))
            return false;
    }
    return accept(&cursor, loop_body) && accept(&cursor, generation) && *cursor == '\0';
}

gorgon_status gg_chat_parse(const char *source, size_t length, gg_chat *out, gorgon_error *err)
{
    *out = (gg_chat){.present = true};
    reduction r = {.source = source, .length = length, .out = gg_alloc(length + 1, 1)};
    if (!r.out)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for a chat template of %zu bytes",
                       length);
    gorgon_status status = GORGON_OK;
    const char *system = NULL, *system_end = NULL;
    if (reduce(&r) && match_chatml(r.out, &system, &system_end)) {
        out->known = true;
        if (system) {
            size_t n = (size_t)(system_end - system);
            out->default_system = gg_alloc(n + 1, 1);
            if (out->default_system)
                memcpy(out->default_system, system, n);
            else
                status = gg_fail(err, GORGON_ERROR_MEMORY,
                                 "no memory for a default system prompt of %zu bytes", n);
        }
    }
    gg_free(r.out);
    return status;
}

void gg_chat_clear(gg_chat *chat)
{
    gg_free(chat->default_system);
    *chat = (gg_chat){0};
}

typedef struct text_sink {
    char *out;     // NULL while measuring
    size_t length; // SIZE_MAX once it has overflowed
} text_sink;

static void put(text_sink *sink, const char *text)
{
    size_t n = strlen(text);
    if (sink->out)
        memcpy(sink->out + sink->length, text, n);
    if (!gg_add(sink->length, n, &sink->length))
        sink->length = SIZE_MAX;
}

static void put_turn(text_sink *sink, const char *role, const char *content)
{
    put(sink, "<|im_start|>");
    put(sink, role);
    put(sink, "\n");
    put(sink, content);
    put(sink, "<|im_end|>\n");
}

static void put_chat(text_sink *sink, const gg_chat *chat, const gorgon_message *messages,
                     size_t n_messages, bool add_generation_prompt)
{
    for (size_t i = 0; i < n_messages; i++) {
        if (i == 0 && chat->default_system && strcmp(messages[0].role, "system") != 0)
            put_turn(sink, "system", chat->default_system);
        put_turn(sink, messages[i].role, messages[i].content);
    }
    if (add_generation_prompt)
        put(sink, "<|im_start|>assistant\n");
}

gorgon_status gg_chat_render(const gg_chat *chat, const gorgon_message *messages, size_t n_messages,
                             bool add_generation_prompt, char **text, gorgon_error *err)
{
    if (!chat->known)
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "the checkpoint's chat template (tokenizer.chat_template) is %s; known: "
                       "chatml (with or without a default system prompt)",
                       chat->present ? "not one that gorgon knows" : "absent");
    for (size_t i = 0; i < n_messages; i++) {
        if (!messages[i].role || !messages[i].content)
            return gg_fail(err, GORGON_ERROR_ARGUMENT, "message %zu of %zu has no %s", i,
                           n_messages, messages[i].role ? "content" : "role");
    }
    text_sink sink = {0};
    put_chat(&sink, chat, messages, n_messages, add_generation_prompt);
    if (sink.length == SIZE_MAX || !(sink.out = gg_alloc(sink.length + 1, 1)))
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for a chat of %zu bytes", sink.length);
    *text = sink.out;
    sink.length = 0;
    put_chat(&sink, chat, messages, n_messages, add_generation_prompt);
    return GORGON_OK;
}
