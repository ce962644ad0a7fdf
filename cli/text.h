// A text that grows: reports and drawings are written into one before they go to a file.
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include "cli.h"

// Zero-initialise; cli_text_clear frees. Out of memory sticks in `failed`, later writes do nothing.
typedef struct cli_text {
    char *data; // NUL-terminated; NULL while empty
    size_t n, capacity;
    bool failed;
} cli_text;

void cli_text_put(cli_text *text, const char *format, ...) CLI_PRINTF(2, 3);
// As character data or a quoted attribute value of HTML and XML, whatever the bytes are.
void cli_text_escape(cli_text *text, const char *bytes);
void cli_text_clear(cli_text *text);
// Writes the text to a file, whole or not at all, and clears it. False after a message.
bool cli_text_write(cli_text *text, const char *path);

#endif
