// The user's own texts: files of plain text or JSON lines, as `index` and `attach --data` take
// them.
#ifndef CLI_DATA_H
#define CLI_DATA_H

#include "args.h"
#include "cli.h"

// Texts to make training text from (gorgon_synth_options.data).
typedef struct cli_data {
    gorgon_synth_text *items; // [n]
    size_t n;
    void **blocks; // [n_blocks] memory that the items point to
    size_t n_blocks;
} cli_data;

// Reads and checks whole files. JSON lines: "turns" or the user's messages of "messages" or
// "prompt" are a chat, "text" is a passage; any other file is plain text, cut into passages of some
// 2,000 bytes. False after a message that names file and line.
bool cli_data_read(const cli_list *paths, cli_data *out);
void cli_data_clear(cli_data *data);

// By the end of its name.
bool cli_is_jsonl(const char *path);
// Where a piece of text[0, n) may end without cutting a word: after its last line, else after its
// last space, else after its last character.
size_t cli_text_cut(const char *text, size_t n);

#endif
