// gorgon run: one prompt, streaming, with a closing summary.
#include <stdlib.h>
#include <string.h>

#include "decode_common.h"

typedef struct run_flags {
    const char *prompt, *file, *trace, *report;
    bool chat;
} run_flags;

static void print_tokens(void *context, const gorgon_token *ids, size_t n, const char *text,
                         size_t length)
{
    (void)context;
    (void)ids;
    (void)n;
    fwrite(text, 1, length, stdout);
    fflush(stdout);
}

static void print_summary(const gorgon_stream *stream, const cli_session *session)
{
    gorgon_stream_result r;
    gorgon_stream_describe(stream, &r);
    double decode = r.decode_s > 0 ? r.decode_s : 1e-9, tokens = cli_decoded_tokens(&r);
    fprintf(stderr,
            "\n%zu tokens in %zu passes (%.2f per pass), %.1f tokens/s, stop: %s; prompt of %zu "
            "in %.2f s; %zu threads, %s\n",
            r.n_ids, r.passes, r.passes ? tokens / (double)r.passes : 0.0, tokens / decode,
            gorgon_stop_name(r.stop), r.prompt_tokens, r.prefill_s,
            gorgon_engine_threads(session->engine), gorgon_engine_cpu_level(session->engine));
}

// Writes "layer tensor rows width hash" per tensor of every pass, to find where two runs part.
static void trace_tensor(void *context, size_t layer, const char *tensor, const float *data,
                         size_t rows, size_t width, size_t ld)
{
    for (size_t r = 0; r < rows; r++) {
        uint64_t hash = 0xcbf29ce484222325u; // FNV-1a
        for (size_t i = 0; i < width; i++) {
            uint32_t bits;
            memcpy(&bits, data + r * ld + i, sizeof bits);
            hash = (hash ^ bits) * 0x100000001b3u;
        }
        fprintf(context, "%zu %s %zu %016llx\n", layer, tensor, r, (unsigned long long)hash);
    }
}

// The account, where the flags want it.
static bool report(const gorgon_stream *stream, const cli_session *session,
                   const cli_common *common, const run_flags *flags)
{
    if (flags->report) {
        json_t *json = cli_result_json(stream, session, common);
        char *text = json_dumps(json, CLI_JSON_FORMAT);
        bool good = text ? cli_write_file(flags->report, text) : cli_complain("out of memory");
        free(text);
        json_decref(json);
        if (!good)
            return false;
    }
    if (common->json)
        return cli_print_json(cli_result_json(stream, session, common));
    print_summary(stream, session);
    return true;
}

static bool decode_prompt(cli_session *s, const cli_common *common, const run_flags *flags,
                          const gorgon_token *ids, size_t n_ids, int *code)
{
    gorgon_error err = {0};
    gorgon_stream *stream = NULL;
    gorgon_request request = cli_request(common, ids, n_ids);
    if (!common->json)
        request.on_tokens = print_tokens;
    if (gorgon_decoder_submit(s->decoder, &request, &stream, &err) != GORGON_OK)
        return cli_fail(&err);
    size_t active = 1;
    bool good = true;
    while (active && good && !cli_interrupted()) {
        if (gorgon_decoder_step(s->decoder, &active, &err) != GORGON_OK)
            good = cli_fail(&err);
    }
    good = good && report(stream, s, common, flags);
    if (cli_interrupted())
        *code = CLI_INTERRUPTED;
    gorgon_stream_free(stream);
    return good;
}

static bool run_prompt(cli_session *s, const cli_common *common, const run_flags *flags, int *code)
{
    size_t length = flags->prompt ? strlen(flags->prompt) : 0, n_ids = 0;
    char *text = NULL;
    gorgon_token *ids = NULL;
    if (!flags->prompt && !(text = cli_read_file(flags->file, &length)))
        return false;
    bool good = cli_prompt_ids(s->model, NULL, text ? text : flags->prompt, length, flags->chat,
                               &ids, &n_ids);
    free(text);
    good = good && decode_prompt(s, common, flags, ids, n_ids, code);
    free(ids);
    return good;
}

static bool open_trace(cli_session *s, const run_flags *flags, FILE **trace)
{
    if (!flags->trace)
        return true;
    *trace = fopen(flags->trace, "w");
    if (!*trace)
        return cli_complain("cannot write the trace %s", flags->trace);
    gorgon_engine_set_tap(s->engine, trace_tensor, *trace);
    return true;
}

int cmd_run(int argc, char **argv)
{
    run_flags flags = {0};
    cli_common common;
    const char *path = NULL;
    size_t n = 0;
    cli_common_init(&common);
    cli_spec spec = {
        .command = "run",
        .summary = "decode one prompt, streaming",
        .positional = "MODEL",
        .min_positional = 1,
        .max_positional = 1,
        .examples =
            "  gorgon run model.gguf --heads heads.gguf --chat -p 'Why is the sky blue?'\n"
            "  gorgon run model.gguf --tree off --temp 0.8 --seed 7 -n 64 -f prompt.txt --json\n",
    };
    cli_add_string(&spec, "prompt", 'p', &flags.prompt, "TEXT", "the prompt");
    cli_add_string(&spec, "file", 'f', &flags.file, "FILE", "file with the prompt, - = stdin");
    cli_add_flag(&spec, "chat", &flags.chat, "as a user's message in the chat template");
    cli_add_chat_template(&spec, &common);
    cli_add_string(&spec, "report", 0, &flags.report, "FILE",
                   "also write the JSON of --json here, while the text streams");
    cli_add_string(&spec, "trace", 0, &flags.trace, "FILE", "a hash per tensor, layer and row");
    cli_add_sampling_flags(&spec, &common);
    cli_add_decode_flags(&spec, &common);
    cli_add_engine_flags(&spec, &common);
    cli_parsed parsed = cli_parse(&spec, argc, argv, &path, &n);
    if (parsed != CLI_PARSED)
        return parsed == CLI_PARSED_HELP ? CLI_OK : CLI_BAD;
    if (!flags.prompt == !flags.file) {
        cli_complain("run: expected one of -p TEXT and -f FILE; see gorgon run --help");
        return CLI_BAD;
    }
    if (flags.report && !cli_check_output(flags.report))
        return CLI_BAD;
    cli_catch_interrupt();
    cli_session session = {0};
    FILE *trace = NULL;
    int code = CLI_OK;
    bool good = cli_open_model(&session, &common, path) && cli_open_drafting(&session, &common) &&
                cli_open_engine(&session, &common, 1, 0) &&
                cli_open_decoder(&session, &common, 1) && open_trace(&session, &flags, &trace) &&
                run_prompt(&session, &common, &flags, &code);
    cli_close(&session);
    if (trace && fclose(trace) != 0)
        good = cli_complain("cannot write the trace %s", flags.trace);
    return good ? code : CLI_BAD;
}
