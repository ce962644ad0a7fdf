// Status names and the one place where error lines are formatted.
#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "utf8.h"

const char *gorgon_status_name(gorgon_status status)
{
    switch (status) {
    case GORGON_OK:
        return "ok";
    case GORGON_ERROR_ARGUMENT:
        return "argument";
    case GORGON_ERROR_MEMORY:
        return "memory";
    case GORGON_ERROR_IO:
        return "io";
    case GORGON_ERROR_FORMAT:
        return "format";
    case GORGON_ERROR_UNSUPPORTED:
        return "unsupported";
    case GORGON_ERROR_MISMATCH:
        return "mismatch";
    case GORGON_ERROR_LIMIT:
        return "limit";
    case GORGON_ERROR_CANCELLED:
        return "cancelled";
    }
    return "unknown";
}

gorgon_status gg_fail(gorgon_error *err, gorgon_status status, const char *format, ...)
{
    if (!err || err->status != GORGON_OK)
        return status;
    err->status = status;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    gg_make_printable(err->message);
    return status;
}

void gg_make_printable(char *text)
{
    size_t n = strlen(text), bad;
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
    }
    for (; !gg_utf8_valid(text, n, &bad); text += bad, n -= bad)
        text[bad] = '?';
}

void gg_list_append(char *list, size_t size, const char *name)
{
    size_t used = strlen(list), length = strlen(name);
    if (used + length + 3 > size)
        return;
    if (used > 0) {
        memcpy(list + used, ", ", 2);
        used += 2;
    }
    memcpy(list + used, name, length + 1);
}
