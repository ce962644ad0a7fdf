// Prompts of batch and bench: JSON lines, each a prompt with settings of its own.
#ifndef CLI_PROMPTS_H
#define CLI_PROMPTS_H

#include "cli.h"

typedef struct cli_prompt {
    json_t *line;         // owned; keeps the strings below alive
    const char *category; // "" if the line names none
    gorgon_token *ids;    // [n_ids], owned
    size_t n_ids;
    cli_common settings; // the flags, overridden by the line
} cli_prompt;

typedef struct cli_prompts {
    cli_prompt *items; // [n]
    size_t n, capacity;
} cli_prompts;

// Reads and checks a whole file ("-" = standard input): {"id","category","turns":[..]} (the first
// turn), {"id","prompt"} or {"id","ids"}, with "tokens", "temp", "top_k", "top_p", "min_p", "seed",
// "stop", "ignore_end" overriding the flags. chat: turns and prompts go through the chat template.
// False after a message that names the line.
bool cli_prompts_read(const char *path, const gorgon_model *model, const cli_common *common,
                      bool chat, cli_prompts *out);
// One more, from a line of such a file, which is taken over; `lines` names its place, or is NULL.
bool cli_prompts_add(const cli_lines *lines, const gorgon_model *model, const cli_common *common,
                     bool chat, json_t *line, cli_prompts *out);
void cli_prompts_clear(cli_prompts *prompts);
// Most positions that one of them may take.
size_t cli_prompts_positions(const cli_prompts *prompts);

#endif
