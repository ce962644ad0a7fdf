// Parsing and help for the option tables of args.h.
#include "args.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cli_add(cli_spec *spec, cli_option option)
{
    if (spec->n_options < CLI_MAX_OPTIONS)
        spec->options[spec->n_options++] = option;
}

void cli_add_flag(cli_spec *spec, const char *name, bool *target, const char *help)
{
    cli_add(spec, (cli_option){name, 0, CLI_FLAG, target, 0, 0, "", help});
}

void cli_add_string(cli_spec *spec, const char *name, char letter, const char **target,
                    const char *value, const char *help)
{
    cli_add(spec, (cli_option){name, letter, CLI_STRING, (void *)target, 0, 0, value, help});
}

void cli_add_size(cli_spec *spec, const char *name, char letter, size_t *target, double low,
                  double high, const char *help)
{
    cli_add(spec, (cli_option){name, letter, CLI_SIZE, target, low, high, "N", help});
}

void cli_add_u64(cli_spec *spec, const char *name, uint64_t *target, double low, double high,
                 const char *help)
{
    cli_add(spec, (cli_option){name, 0, CLI_U64, target, low, high, "N", help});
}

void cli_add_double(cli_spec *spec, const char *name, double *target, double low, double high,
                    const char *help)
{
    cli_add(spec, (cli_option){name, 0, CLI_DOUBLE, target, low, high, "X", help});
}

static void print_help(const cli_spec *spec)
{
    printf("gorgon %s: %s\n\nUsage: gorgon %s %s [options]\n\nOptions:\n", spec->command,
           spec->summary, spec->command, spec->positional);
    for (size_t i = 0; i < spec->n_options; i++) {
        const cli_option *o = &spec->options[i];
        char left[64];
        snprintf(left, sizeof left, "%s%c%s --%s %s", o->letter ? "-" : " ",
                 o->letter ? o->letter : ' ', o->letter ? "," : " ", o->name, o->value);
        printf("  %-28s %s\n", left, o->help);
    }
    printf("      %-24s %s\n\nExamples:\n%s", "--help", "this text", spec->examples);
}

static const cli_option *find_option(const cli_spec *spec, const char *argument, size_t length)
{
    for (size_t i = 0; i < spec->n_options; i++) {
        const cli_option *o = &spec->options[i];
        if (argument[0] == '-' && argument[1] == '-' && strlen(o->name) == length - 2 &&
            strncmp(argument + 2, o->name, length - 2) == 0)
            return o;
        if (length == 2 && argument[1] != '-' && o->letter && argument[1] == o->letter)
            return o;
    }
    return NULL;
}

static bool bad_value(const cli_spec *spec, const cli_option *o, const char *text)
{
    if (o->high > o->low)
        fprintf(stderr, "gorgon %s: --%s got '%s', expected a number from %g to %g\n",
                spec->command, o->name, text, o->low, o->high);
    else
        fprintf(stderr, "gorgon %s: --%s got '%s', expected a value\n", spec->command, o->name,
                text);
    return false;
}

static double suffix_factor(const char *end)
{
    if (strcmp(end, "k") == 0)
        return 1e3;
    if (strcmp(end, "M") == 0)
        return 1e6;
    if (strcmp(end, "G") == 0)
        return 1e9;
    return *end == '\0' ? 1.0 : 0.0;
}

static bool store_number(const cli_spec *spec, const cli_option *o, const char *text)
{
    char *end = NULL;
    errno = 0;
    if (o->kind == CLI_U64 || o->kind == CLI_SIZE) {
        unsigned long long value = strtoull(text, &end, 10);
        double factor = end == text ? 0.0 : suffix_factor(end);
        double scaled = (double)value * factor;
        if (text[0] == '-' || errno || factor == 0.0 || scaled < o->low || scaled > o->high)
            return bad_value(spec, o, text);
        value *= (unsigned long long)factor;
        if (o->kind == CLI_U64)
            *(uint64_t *)o->target = value;
        else
            *(size_t *)o->target = (size_t)value;
        return true;
    }
    double value = strtod(text, &end);
    if (end == text || *end || errno || !(value >= o->low && value <= o->high))
        return bad_value(spec, o, text);
    *(double *)o->target = value;
    return true;
}

static bool store(const cli_spec *spec, const cli_option *o, const char *text)
{
    if (o->kind == CLI_STRING) {
        *(const char **)o->target = text;
        return true;
    }
    if (o->kind == CLI_LIST) {
        cli_list *list = o->target;
        if (list->n == CLI_MAX_LIST) {
            fprintf(stderr, "gorgon %s: --%s given more than %d times\n", spec->command, o->name,
                    CLI_MAX_LIST);
            return false;
        }
        list->values[list->n++] = text;
        return true;
    }
    return store_number(spec, o, text);
}

// One option at argv[*i]; advances past a separate value.
static bool parse_option(const cli_spec *spec, int argc, char **argv, int *i)
{
    const char *argument = argv[*i];
    const char *equals = argument[1] == '-' ? strchr(argument, '=') : NULL;
    size_t length = equals ? (size_t)(equals - argument) : strlen(argument);
    const cli_option *o = find_option(spec, argument, length);
    if (!o) {
        fprintf(stderr, "gorgon %s: unknown option '%s'; see gorgon %s --help\n", spec->command,
                argument, spec->command);
        return false;
    }
    if (o->kind == CLI_FLAG) {
        if (equals) {
            fprintf(stderr, "gorgon %s: --%s takes no value\n", spec->command, o->name);
            return false;
        }
        *(bool *)o->target = true;
        return true;
    }
    if (equals)
        return store(spec, o, equals + 1);
    if (*i + 1 >= argc) {
        fprintf(stderr, "gorgon %s: --%s needs a value\n", spec->command, o->name);
        return false;
    }
    return store(spec, o, argv[++*i]);
}

cli_parsed cli_parse(const cli_spec *spec, int argc, char **argv, const char **positional,
                     size_t *n_positional)
{
    bool only_positional = false;
    *n_positional = 0;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (!only_positional && (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0)) {
            print_help(spec);
            return CLI_PARSED_HELP;
        }
        if (!only_positional && strcmp(a, "--") == 0) {
            only_positional = true;
        } else if (!only_positional && a[0] == '-' && a[1] != '\0') {
            if (!parse_option(spec, argc, argv, &i))
                return CLI_PARSED_ERROR;
        } else if (*n_positional < spec->max_positional) {
            positional[(*n_positional)++] = a;
        } else {
            fprintf(stderr, "gorgon %s: unexpected argument '%s'\n", spec->command, a);
            return CLI_PARSED_ERROR;
        }
    }
    if (*n_positional < spec->min_positional) {
        fprintf(stderr, "gorgon %s: missing %s; see gorgon %s --help\n", spec->command,
                spec->positional, spec->command);
        return CLI_PARSED_ERROR;
    }
    return CLI_PARSED;
}
