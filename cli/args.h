// Declarative command lines: options are rows of a table, help and errors come from the table.
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cli_kind {
    CLI_FLAG,   // bool, no value
    CLI_SIZE,   // size_t
    CLI_U64,    // uint64_t; accepts k, M, G suffixes (decimal)
    CLI_DOUBLE, // double
    CLI_STRING, // const char *
    CLI_LIST,   // cli_list, may be repeated
} cli_kind;

enum { CLI_MAX_OPTIONS = 48, CLI_MAX_LIST = 16 };

typedef struct cli_list {
    const char *values[CLI_MAX_LIST];
    size_t n;
} cli_list;

typedef struct cli_option {
    const char *name; // without dashes
    char letter;      // short form, 0 = none
    cli_kind kind;
    void *target;     // of the kind's type; holds the default
    double low, high; // accepted range of numbers
    const char *value;
    const char *help;
} cli_option;

typedef struct cli_spec {
    const char *command, *summary;
    const char *positional; // "MODEL" or "FILE..."; "" = none
    const char *examples;   // lines, each a full command
    size_t min_positional, max_positional;
    cli_option options[CLI_MAX_OPTIONS];
    size_t n_options;
} cli_spec;

void cli_add(cli_spec *spec, cli_option option);
void cli_add_flag(cli_spec *spec, const char *name, bool *target, const char *help);
void cli_add_string(cli_spec *spec, const char *name, char letter, const char **target,
                    const char *value, const char *help);
void cli_add_size(cli_spec *spec, const char *name, char letter, size_t *target, double low,
                  double high, const char *help);
void cli_add_u64(cli_spec *spec, const char *name, uint64_t *target, double low, double high,
                 const char *help);
void cli_add_double(cli_spec *spec, const char *name, double *target, double low, double high,
                    const char *help);

typedef enum cli_parsed { CLI_PARSED, CLI_PARSED_HELP, CLI_PARSED_ERROR } cli_parsed;
// argv[0] is the command's name. Positional arguments go to positional[max_positional]. Errors are
// one line on stderr; help goes to stdout.
cli_parsed cli_parse(const cli_spec *spec, int argc, char **argv, const char **positional,
                     size_t *n_positional);

#endif
