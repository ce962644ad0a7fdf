// The `gorgon` command: picks a subcommand.
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

static const struct {
    const char *name;
    cli_command_fn run;
    const char *summary;
} commands[] = {
    {"info", cmd_info, "what a checkpoint, heads file or datastore holds"},
    {"run", cmd_run, "decode one prompt, streaming"},
    {"batch", cmd_batch, "decode many prompts, one JSON line each"},
    {"eval", cmd_eval, "logits, hidden states and perplexity as JSON"},
    {"tokenize", cmd_tokenize, "text to ids and back"},
    {"bench", cmd_bench, "plain against speculative decoding, paired in one run"},
    {"index", cmd_index, "make a datastore of any text, to draft from"},
    {"convert", cmd_convert, "heads between the formats of trainers and engines"},
    {"attach", cmd_attach, "make heads for a checkpoint: synth, train, calibrate"},
    {"synth", cmd_synth, "let the model write its training text"},
    {"train", cmd_train, "train heads on a feature cache"},
    {"compare", cmd_compare, "architectures on one text under one budget: a page and its JSON"},
    {"calibrate", cmd_calibrate, "fit acceptance probabilities of heads and proposers"},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *stream)
{
    fputs("gorgon: faster decoding of one language model by its own prediction heads\n\n"
          "Usage: gorgon COMMAND [options]\n\nCommands:\n",
          stream);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(stream, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("\n`gorgon COMMAND --help` explains a command with examples.\n"
          "GORGON_CPU=scalar|avx2|avxvnni|avx512|amx lowers the CPU level.\n",
          stream);
}

int main(int argc, char **argv)
{
    signal(SIGXFSZ, SIG_IGN); // a file size limit is an error of write, as a full disk is
    if (argc < 2) {
        print_usage(stderr);
        return CLI_BAD;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return cli_flush() ? CLI_OK : CLI_BAD;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("gorgon " GORGON_VERSION);
        return cli_flush() ? CLI_OK : CLI_BAD;
    }
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            int code = commands[i].run(argc - 1, argv + 1);
            return code == CLI_OK && !cli_flush() ? CLI_BAD : code;
        }
    }
    fprintf(stderr, "gorgon: unknown command '%s'; see gorgon --help\n", argv[1]);
    return CLI_BAD;
}
