// See text.h.
#include "text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(cli_text *t, size_t more)
{
    if (!t->failed && t->capacity - t->n <= more) {
        size_t wanted = t->capacity ? 2 * t->capacity : 4096;
        while (wanted - t->n <= more)
            wanted *= 2;
        char *grown = realloc(t->data, wanted);
        if (grown) {
            t->data = grown;
            t->capacity = wanted;
        }
        t->failed = !grown;
    }
    return !t->failed;
}

void cli_text_put(cli_text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0 || !reserve(t, (size_t)length))
        return;
    va_start(args, format);
    vsnprintf(t->data + t->n, t->capacity - t->n, format, args);
    va_end(args);
    t->n += (size_t)length;
}

static const char *entity(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

// Bytes of a UTF-8 character that XML may hold, 0 if there is none at `s`.
static size_t character(const char *s)
{
    const unsigned char *b = (const unsigned char *)s;
    size_t n = b[0] < 0x80 ? 1 : b[0] < 0xc2 ? 0 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;
    if (n == 1)
        return b[0] >= 0x20 || b[0] == '\n' || b[0] == '\t';
    for (size_t i = 1; i < n; i++) {
        if ((b[i] & 0xc0) != 0x80)
            return 0;
    }
    if (n == 3) {
        unsigned code = (b[0] & 0xfu) << 12 | (b[1] & 0x3fu) << 6 | (b[2] & 0x3fu);
        return code >= 0x800 && (code < 0xd800 || code > 0xdfff) && code < 0xfffe ? 3 : 0;
    }
    if (n == 4) {
        unsigned code = (b[0] & 0x7u) << 18 | (b[1] & 0x3fu) << 12;
        return b[0] <= 0xf4 && code >= 0x10000 && code <= 0x10ffff ? 4 : 0;
    }
    return n;
}

void cli_text_escape(cli_text *t, const char *bytes)
{
    for (const char *s = bytes ? bytes : ""; *s;) {
        size_t n = character(s);
        const char *name = entity(*s);
        if (name)
            cli_text_put(t, "%s", name);
        else if (n > 0)
            cli_text_put(t, "%.*s", (int)n, s);
        else
            cli_text_put(t, "?");
        s += n > 0 ? n : 1;
    }
}

void cli_text_clear(cli_text *t)
{
    free(t->data);
    *t = (cli_text){0};
}

bool cli_text_write(cli_text *t, const char *path)
{
    bool good = t->failed ? cli_complain("out of memory") : cli_write_file(path, t->data);
    cli_text_clear(t);
    return good;
}
