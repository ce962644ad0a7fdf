// gorgon index: a datastore of any text.
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "data.h"

enum { MAX_FILES = 1024, PIECE_BYTES = 4 << 20 }; // of a plain text that is taken at once

typedef struct index_flags {
    cli_common common;
    const char *out, *format;
    uint64_t tokens;
} index_flags;

typedef struct index_run {
    const index_flags *flags;
    const gorgon_tokenizer *tokenizer;
    gorgon_datastore_builder *builder;
    const char *const *paths; // [n_paths]
    size_t n_paths;
    uint64_t done, total; // bytes
    double began;
} index_run;

// False when interrupted.
static bool show(const index_run *run, uint64_t done)
{
    char line[48];
    const double elapsed = cli_seconds() - run->began;
    const double rate = elapsed > 0 ? (double)done / elapsed : 0;
    snprintf(
        line, sizeof line, "%llu tokens",
        (unsigned long long)(run->flags->tokens - gorgon_datastore_builder_room(run->builder)));
    const double left = run->total > done ? (double)(run->total - done) : 0;
    const gorgon_progress p = {"read", "bytes", done, run->total, rate, rate > 0 ? left / rate : -1,
                               line};
    return cli_progress(NULL, &p);
}

static bool full(const index_run *run)
{
    return gorgon_datastore_builder_room(run->builder) < 2;
}

static bool is_jsonl(const index_run *run, const char *path)
{
    return run->flags->format ? strcmp(run->flags->format, "jsonl") == 0 : cli_is_jsonl(path);
}

// Control tokens count as such: they stand in what the model reads.
static bool add_text(index_run *run, const cli_lines *lines, const char *text, size_t length)
{
    gorgon_error err = {0};
    return gorgon_datastore_builder_add(run->builder, text, length, true, &err) == GORGON_OK ||
           cli_line_error(lines, "%s", err.message);
}

static bool add_json_text(index_run *run, const cli_lines *lines, const char *key,
                          const json_t *value)
{
    if (!json_is_string(value))
        return cli_line_error(lines, "\"%s\": expected a text%s", key,
                              strcmp(key, "turns") == 0 ? " per turn" : "");
    return add_text(run, lines, json_string_value(value), json_string_length(value));
}

static bool add_turns(index_run *run, const cli_lines *lines, const json_t *turns)
{
    if (!json_is_array(turns))
        return cli_line_error(lines, "\"turns\": expected an array of texts");
    for (size_t i = 0; i < json_array_size(turns); i++) {
        if (!add_json_text(run, lines, "turns", json_array_get(turns, i)))
            return false;
    }
    return true;
}

// As the model would see the conversation, or without a template each message by itself.
static bool add_messages(index_run *run, const cli_lines *lines, const json_t *line)
{
    gorgon_error err = {0};
    size_t n = 0;
    char *text = NULL;
    bool good = true;
    gorgon_message *messages = cli_messages_from_json(lines, line, &n);
    if (!messages)
        return false;
    if (!gorgon_tokenizer_has_chat(run->tokenizer)) {
        for (size_t i = 0; i < n && good; i++)
            good = add_text(run, lines, messages[i].content, strlen(messages[i].content));
    } else if (gorgon_tokenizer_chat(run->tokenizer, messages, n, false, &text, &err) ==
               GORGON_OK) {
        good = add_text(run, lines, text, strlen(text));
    } else {
        good = cli_line_error(lines, "%s", err.message);
    }
    gorgon_free(text);
    free(messages);
    return good;
}

static bool add_line(index_run *run, const cli_lines *lines, const json_t *line)
{
    static const char *const keys[] = {"text", "prompt"};
    for (size_t i = 0; i < 2; i++) {
        const json_t *value = json_object_get(line, keys[i]);
        if (value)
            return add_json_text(run, lines, keys[i], value);
    }
    if (json_object_get(line, "messages"))
        return add_messages(run, lines, line);
    if (json_object_get(line, "turns"))
        return add_turns(run, lines, json_object_get(line, "turns"));
    return cli_line_error(lines,
                          "expected one of \"text\", \"prompt\", \"messages\" and \"turns\"");
}

static bool read_jsonl(index_run *run, const char *path)
{
    cli_lines lines;
    bool bad = false;
    json_t *line = NULL;
    if (!cli_lines_open(&lines, path))
        return false;
    while (!full(run) && !cli_interrupted() && (line = cli_lines_next(&lines, &bad)) != NULL) {
        bad = !add_line(run, &lines, line);
        json_decref(line);
        if (bad)
            break;
        const off_t at = ftello(lines.stream);
        show(run, run->done + (at > 0 ? (uint64_t)at : 0));
    }
    cli_lines_close(&lines);
    return !bad || cli_interrupted();
}

static bool add_pieces(index_run *run, FILE *stream, const char *path, char *buffer)
{
    size_t kept = 0;
    uint64_t from = 0; // of the file, where the buffer begins
    while (!full(run) && !cli_interrupted()) {
        const size_t n = kept + fread(buffer + kept, 1, PIECE_BYTES - kept, stream);
        if (ferror(stream)) // a pipe's read ends with the interrupt
            return cli_interrupted() || cli_complain("%s: %s", path, strerror(errno));
        size_t taken = n == PIECE_BYTES ? cli_text_cut(buffer, n) : n;
        taken = taken ? taken : n;
        gorgon_error err = {0};
        if (gorgon_datastore_builder_add(run->builder, buffer, taken, true, &err) != GORGON_OK)
            return cli_complain("%s: from byte %llu: %s", path, (unsigned long long)from,
                                err.message);
        if (n < PIECE_BYTES)
            return true;
        kept = n - taken;
        from += taken;
        memmove(buffer, buffer + taken, kept);
        show(run, run->done + from);
    }
    return true;
}

static bool read_plain(index_run *run, const char *path)
{
    FILE *stream = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (!stream)
        return cli_complain("%s: %s", path, strerror(errno));
    char *buffer = malloc(PIECE_BYTES);
    const bool good =
        buffer ? add_pieces(run, stream, path, buffer) : cli_complain("out of memory");
    free(buffer);
    if (stream != stdin)
        fclose(stream);
    return good;
}

// Sizes for the progress; what cannot be read must show before the long work.
static bool measure_files(index_run *run)
{
    for (size_t i = 0; i < run->n_paths; i++) {
        struct stat info;
        if (strcmp(run->paths[i], "-") == 0)
            continue;
        if (stat(run->paths[i], &info) != 0)
            return cli_complain("%s: %s", run->paths[i], strerror(errno));
        if (S_ISDIR(info.st_mode))
            return cli_complain("%s: expected a file, got a directory", run->paths[i]);
        run->total += (uint64_t)info.st_size;
    }
    return true;
}

static bool read_files(index_run *run)
{
    run->began = cli_seconds();
    for (size_t i = 0; i < run->n_paths && !full(run) && !cli_interrupted(); i++) {
        struct stat info;
        const char *path = run->paths[i];
        if (!(is_jsonl(run, path) ? read_jsonl(run, path) : read_plain(run, path)))
            return false;
        if (strcmp(path, "-") != 0 && stat(path, &info) == 0)
            run->done += (uint64_t)info.st_size;
        show(run, run->done);
    }
    return true;
}

static int failed(const gorgon_error *err)
{
    cli_fail(err);
    return CLI_BAD;
}

// An exit code.
static int build(index_run *run, const gorgon_model *model)
{
    gorgon_error err = {0};
    gorgon_datastore_options options;
    gorgon_datastore_options_init(&options);
    options.max_tokens = run->flags->tokens;
    options.threads = run->flags->common.threads;
    options.progress = cli_progress;
    if (gorgon_datastore_builder_create(model, &options, &run->builder, &err) != GORGON_OK)
        return failed(&err);
    gorgon_status status = GORGON_ERROR_CANCELLED;
    const bool good = read_files(run);
    if (good && !cli_interrupted())
        status = gorgon_datastore_builder_write(run->builder, run->flags->out, &err);
    cli_progress_end();
    const bool left_out = full(run);
    gorgon_datastore_builder_free(run->builder);
    if (!good)
        return CLI_BAD;
    if (status == GORGON_ERROR_CANCELLED) {
        cli_complain("interrupted; %s is left as it was", run->flags->out);
        return CLI_INTERRUPTED;
    }
    if (status != GORGON_OK)
        return failed(&err);
    if (left_out)
        cli_complain("warning: only the first %llu tokens were kept, see --tokens",
                     (unsigned long long)run->flags->tokens);
    return CLI_OK;
}

static bool check_flags(const index_flags *f)
{
    if (!f->out)
        return cli_complain("index: missing -o STORE; see gorgon index --help");
    if (f->format && strcmp(f->format, "text") != 0 && strcmp(f->format, "jsonl") != 0)
        return cli_complain("--format got '%s', expected text or jsonl", f->format);
    return cli_check_output(f->out);
}

static int index_files(const index_flags *flags, const char *const *paths, size_t n)
{
    cli_session session = {0};
    index_run run = {.flags = flags, .paths = paths + 1, .n_paths = n - 1};
    cli_catch_interrupt();
    int code = CLI_BAD;
    if (measure_files(&run) && cli_open_model(&session, &flags->common, paths[0])) {
        run.tokenizer = gorgon_model_tokenizer(session.model);
        code = build(&run, session.model);
    }
    cli_close(&session);
    if (code == CLI_OK && !cli_report_datastore(flags->out, flags->common.json))
        code = CLI_BAD;
    return code;
}

int cmd_index(int argc, char **argv)
{
    index_flags flags = {.tokens = UINT64_C(1) << 28};
    const char *paths[MAX_FILES + 1];
    size_t n = 0;
    cli_common_init(&flags.common);
    cli_spec spec = {
        .command = "index",
        .summary = "make a datastore of any text, for run, batch and bench --datastore; takes up "
                   "to 7 bytes of memory per token (10 with vocabularies over 65535)",
        .positional = "MODEL TEXT...",
        .min_positional = 2,
        .max_positional = MAX_FILES + 1,
        .examples =
            "  gorgon index model.gguf -o manual.store manual.md notes.txt\n"
            "  gorgon synth model.gguf --cache features -n 2M --text own.jsonl\n"
            "  gorgon index model.gguf -o own.store own.jsonl --json\n"
            "  gorgon run model.gguf --datastore own.store --chat -p 'Why is the sky blue?'\n",
    };
    cli_add_string(&spec, "out", 'o', &flags.out, "STORE", "datastore to write");
    cli_add_string(&spec, "format", 0, &flags.format, "text|jsonl",
                   "of the files; default: jsonl by extension (.jsonl, .ndjson: \"text\", "
                   "\"prompt\", \"messages\" or \"turns\" per line), else text");
    cli_add(&spec, (cli_option){"tokens", 'n', CLI_U64, &flags.tokens, 2, 2.8e9, "N",
                                "tokens to keep at most (default 268M)"});
    cli_add_size(&spec, "threads", 't', &flags.common.threads, 0, 256,
                 "threads that sort, 0 = all processors");
    cli_add_chat_template(&spec, &flags.common);
    cli_add_flag(&spec, "json", &flags.common.json, "one JSON object on stdout");
    cli_parsed parsed = cli_parse(&spec, argc, argv, paths, &n);
    if (parsed != CLI_PARSED)
        return parsed == CLI_PARSED_HELP ? CLI_OK : CLI_BAD;
    return check_flags(&flags) ? index_files(&flags, paths, n) : CLI_BAD;
}
