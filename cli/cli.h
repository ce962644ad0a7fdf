// What the subcommands share: the flags of DESIGN's table, opening model, heads and engine, JSON
// lines in and out, progress, Ctrl-C.
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <jansson.h>
#include <stdio.h>

#include "args.h"
#include "gorgon/datastore.h"
#include "gorgon/decode.h"
#include "gorgon/engine.h"
#include "gorgon/heads.h"
#include "gorgon/output.h"
#include "gorgon/trainers.h"

#if defined(__GNUC__)
#define CLI_PRINTF(text, args) __attribute__((format(printf, text, args)))
#else
#define CLI_PRINTF(text, args)
#endif

enum { CLI_OK = 0, CLI_DIFFERS = 1, CLI_BAD = 2, CLI_INTERRUPTED = 130 };

// Flags shared by the commands that run a model.
typedef struct cli_common {
    size_t threads, context, tokens, head_set;
    double temperature, top_p, min_p;
    size_t top_k;
    uint64_t seed;
    const char *heads, *datastore, *propose, *tree, *rule, *activations, *cost_cache, *quant;
    const char *chat_template;
    cli_list stop;
    bool json, ignore_end;
} cli_common;

void cli_common_init(cli_common *common);
void cli_add_engine_flags(cli_spec *spec, cli_common *common); // -t --ctx --activations --quant ..
void cli_add_quant_flag(cli_spec *spec, cli_common *common);
void cli_add_decode_flags(cli_spec *spec, cli_common *common);   // --heads --datastore --propose ..
void cli_add_sampling_flags(cli_spec *spec, cli_common *common); // -n --temp ... --stop

void cli_add_chat_template(cli_spec *spec, cli_common *common);
// The template that --chat-template asks for: a known name's or a file's; allocated with malloc.
// NULL after a message that lists the names.
char *cli_chat_template(const char *name);

// A model with its engine, files to draft with and decoder as the flags ask. Zero-initialise;
// cli_close frees.
typedef struct cli_session {
    gorgon_model *model;
    gorgon_engine *engine;
    gorgon_heads *heads;
    gorgon_datastore *datastore;
    gorgon_decoder *decoder;
} cli_session;

bool cli_open_model(cli_session *session, const cli_common *common, const char *path);
bool cli_open_heads(cli_session *session, const cli_common *common);
bool cli_open_drafting(cli_session *session, const cli_common *common); // heads and datastore
// max_sequences streams at once, of at most `positions` each; 0 = the context.
bool cli_open_engine(cli_session *session, const cli_common *common, size_t max_sequences,
                     size_t positions);
// What the flags say; the session's heads and datastore are used.
gorgon_decoder_options cli_decoder_options(const cli_session *session, const cli_common *common);
bool cli_open_decoder(cli_session *session, const cli_common *common, size_t max_streams);
void cli_close(cli_session *session);
gorgon_sampling cli_sampling(const cli_common *common);

// The context that the flags ask for.
size_t cli_context(const gorgon_model *model, const cli_common *common);

// Prints "gorgon: <message>" on stderr and returns false.
bool cli_fail(const gorgon_error *err);
bool cli_complain(const char *format, ...) CLI_PRINTF(1, 2);

// JSON lines: next object of a stream; false at the end or on a bad line (then *bad is true and
// the line number and reason are on stderr). NULL path = standard input.
typedef struct cli_lines {
    FILE *stream;
    const char *label;
    size_t line;
    char *buffer;
    size_t capacity;
} cli_lines;
bool cli_lines_open(cli_lines *lines, const char *path);
json_t *cli_lines_next(cli_lines *lines, bool *bad);
void cli_lines_close(cli_lines *lines);
// Reports a problem of the current line: "FILE:LINE: ..."; without lines (NULL) it is as
// cli_complain. Returns false.
bool cli_line_error(const cli_lines *lines, const char *format, ...) CLI_PRINTF(2, 3);
// A whole file ("-" = standard input), NUL-terminated, at most 64 MB; NULL after a message.
char *cli_read_file(const char *path, size_t *length);

// Token ids of a JSON array; allocated with malloc. False (with a message) if it is not one.
bool cli_ids_from_json(const cli_lines *lines, const json_t *array, size_t n_vocab,
                       gorgon_token **ids, size_t *n);
json_t *cli_ids_to_json(const gorgon_token *ids, size_t n);
// "messages" of the current line, an array of {role, content}: allocated with malloc, *n of them,
// texts borrowed from the line. NULL after a message.
gorgon_message *cli_messages_from_json(const cli_lines *lines, const json_t *line, size_t *n);
// What lies at a path of keys, each shorter than CLI_JSON_KEY, and indices with dots between
// ("seeds.0.train"; borrowed), NULL if nothing does; as a number, 0 if it is none; as text, "".
enum { CLI_JSON_KEY = 64 };
json_t *cli_json_at(const json_t *root, const char *keys);
double cli_json_number(const json_t *root, const char *keys);
const char *cli_json_text(const json_t *root, const char *keys);
enum { CLI_JSON_FORMAT = JSON_COMPACT | JSON_REAL_PRECISION(9) };
// Prints one JSON line and frees it. False when stdout cannot be written.
bool cli_print_json(json_t *object);
// Replaces the file by one line of text, whole or not at all. cli_check_output tells before the
// work whether that can succeed.
bool cli_write_file(const char *path, const char *line);
bool cli_check_output(const char *path);
bool cli_flush(void); // false with a message when stdout failed (full disk, closed pipe)

// Ctrl-C: the first sets a flag that loops and progress callbacks poll, the second ends at once.
void cli_catch_interrupt(void);
bool cli_interrupted(void);
// For options.progress: a bar with rate and ETA on a terminal, a line now and then elsewhere.
bool cli_progress(void *context, const gorgon_progress *progress);
void cli_progress_end(void);
double cli_seconds(void); // monotonic clock

// Environment, read here and nowhere else.
const char *cli_environment_cpu(void); // GORGON_CPU or NULL
// Proposers where the user names none.
#define CLI_PROPOSE_WITHOUT_HEADS "lookup,recycling"
#define CLI_PROPOSE_WITH_HEADS    "heads," CLI_PROPOSE_WITHOUT_HEADS
// Default file of measured pass costs below the user's cache directory; NULL if there is none.
const char *cli_default_cost_cache(void);

// What a base model is and needs, to stdout; opened as the flags ask.
bool cli_report_model(const char *path, bool json, const cli_common *common);
// What a heads file holds: sets, accuracy, training record, to stdout; in JSON also the members of
// `more` (borrowed, NULL = none).
bool cli_report_heads(const char *path, bool json, json_t *more);
// Draws the loss of a set's training (SVG); false after a message, also if the file tells none.
bool cli_plot_training(const char *heads, size_t set, const char *path);
// What a datastore holds, checksums compared.
bool cli_report_datastore(const char *path, bool json);

// The subcommands; argv[0] is the command's name. Each returns an exit code.
typedef int (*cli_command_fn)(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_batch(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_index(int argc, char **argv);
int cmd_attach(int argc, char **argv);
int cmd_synth(int argc, char **argv);
int cmd_train(int argc, char **argv);
int cmd_calibrate(int argc, char **argv);
int cmd_compare(int argc, char **argv);

#endif
