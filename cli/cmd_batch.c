// gorgon batch: many prompts, decoded several at once, one JSON line each.
#include <stdlib.h>
#include <string.h>

#include "decode_common.h"
#include "prompts.h"

typedef struct batch_flags {
    const char *prompts, *out;
    size_t batch;
    bool chat;
} batch_flags;

typedef struct batch_run {
    cli_session *session;
    const cli_prompts *prompts;
    const cli_common *common;
    size_t batch;
    gorgon_stream **streams; // [batch] NULL = free
    size_t *index;           // [batch] which prompt
    json_t **results;        // [prompts] NULL until done
    size_t next, done, passes;
    double tokens, began;
} batch_run;

static bool submit(batch_run *run, size_t place)
{
    gorgon_error err = {0};
    const cli_prompt *p = &run->prompts->items[run->next];
    gorgon_request request = cli_request(&p->settings, p->ids, p->n_ids);
    // The noise belongs to the line, so that neither --batch nor the order of arrival matters.
    request.sampling.completion = run->next;
    if (gorgon_decoder_submit(run->session->decoder, &request, &run->streams[place], &err) !=
        GORGON_OK)
        return cli_fail(&err);
    run->index[place] = run->next++;
    return true;
}

static bool fill(batch_run *run)
{
    for (size_t i = 0; i < run->batch && run->next < run->prompts->n; i++) {
        if (!run->streams[i] && !submit(run, i))
            return false;
    }
    return true;
}

static bool keep_result(batch_run *run, size_t place)
{
    size_t index = run->index[place];
    const cli_prompt *p = &run->prompts->items[index];
    json_t *id = json_object_get(p->line, "id");
    json_t *out = json_object();
    json_t *fields = cli_result_json(run->streams[place], run->session, run->common);
    json_object_set_new(out, "id", id ? json_incref(id) : json_integer((json_int_t)index));
    if (p->category[0])
        json_object_set_new(out, "category", json_string(p->category));
    bool good = json_object_update(out, fields) == 0;
    json_decref(fields);
    run->results[index] = out;
    return good || cli_complain("out of memory");
}

static bool collect(batch_run *run)
{
    for (size_t i = 0; i < run->batch; i++) {
        gorgon_stream_result r;
        if (!run->streams[i])
            continue;
        gorgon_stream_describe(run->streams[i], &r);
        if (r.stop == GORGON_STOP_NONE)
            continue;
        if (!keep_result(run, i))
            return false;
        gorgon_stream_free(run->streams[i]);
        run->streams[i] = NULL;
        run->tokens += (double)r.n_ids;
        run->done++;
    }
    return true;
}

static void show(const batch_run *run)
{
    char line[64];
    if (run->done == run->prompts->n)
        return; // the closing line says it
    double elapsed = cli_seconds() - run->began, total = (double)run->prompts->n;
    double rate = elapsed > 0 ? (double)run->done / elapsed : 0;
    snprintf(line, sizeof line, "%.0f tokens, %.1f/s", run->tokens,
             elapsed > 0 ? run->tokens / elapsed : 0);
    gorgon_progress p = {"batch",   "prompts",
                         run->done, run->prompts->n,
                         rate,      rate > 0 ? (total - (double)run->done) / rate : -1,
                         line};
    cli_progress(NULL, &p);
}

static bool decode_all(batch_run *run)
{
    gorgon_error err = {0};
    run->began = cli_seconds();
    while (run->done < run->prompts->n && !cli_interrupted()) {
        size_t active = 0;
        if (!fill(run))
            return false;
        if (gorgon_decoder_step(run->session->decoder, &active, &err) != GORGON_OK)
            return cli_fail(&err);
        run->passes++;
        if (!collect(run))
            return false;
        show(run);
    }
    return true;
}

static bool write_results(const batch_run *run, const char *path)
{
    gorgon_error err = {0};
    gorgon_output *out = NULL;
    gorgon_status status = gorgon_output_create(path, &out, &err);
    for (size_t i = 0; i < run->prompts->n && status == GORGON_OK; i++) {
        char *text = json_dumps(run->results[i], CLI_JSON_FORMAT);
        if (!text) {
            gorgon_output_discard(out);
            return cli_complain("out of memory");
        }
        status = gorgon_output_write(out, text, strlen(text), &err);
        if (status == GORGON_OK)
            status = gorgon_output_write(out, "\n", 1, &err);
        free(text);
    }
    if (status == GORGON_OK)
        return gorgon_output_commit(out, &err) == GORGON_OK || cli_fail(&err);
    gorgon_output_discard(out);
    return cli_fail(&err);
}

static bool report(const batch_run *run, const batch_flags *flags)
{
    double elapsed = cli_seconds() - run->began;
    double rate = elapsed > 0 ? run->tokens / elapsed : 0;
    if (run->common->json)
        return cli_print_json(json_pack("{s:s,s:I,s:I,s:I,s:I,s:f,s:f}", "out", flags->out,
                                        "prompts", (json_int_t)run->prompts->n, "batch",
                                        (json_int_t)run->batch, "tokens", (json_int_t)run->tokens,
                                        "passes", (json_int_t)run->passes, "seconds", elapsed,
                                        "tokens_per_s", rate));
    fprintf(stderr, "%zu prompts, %.0f tokens in %.2f s (%.1f tokens/s), prompts included: %s\n",
            run->prompts->n, run->tokens, elapsed, rate, flags->out);
    return true;
}

static bool run_batch(cli_session *s, const cli_common *common, const batch_flags *flags,
                      const cli_prompts *prompts, int *code)
{
    size_t batch = flags->batch < prompts->n ? flags->batch : prompts->n;
    if (!cli_open_engine(s, common, batch, cli_prompts_positions(prompts)) ||
        !cli_open_decoder(s, common, batch))
        return false;
    batch_run run = {.session = s, .prompts = prompts, .common = common, .batch = batch};
    run.streams = calloc(batch, sizeof *run.streams);
    run.index = calloc(batch, sizeof *run.index);
    run.results = calloc(prompts->n, sizeof *run.results);
    bool good = run.streams && run.index && run.results;
    if (!good)
        cli_complain("out of memory");
    good = good && decode_all(&run);
    cli_progress_end();
    if (good && cli_interrupted()) {
        *code = CLI_INTERRUPTED;
        cli_complain("interrupted; %s is left as it was", flags->out);
    } else {
        good = good && write_results(&run, flags->out) && report(&run, flags);
    }
    for (size_t i = 0; run.streams && i < batch; i++)
        gorgon_stream_free(run.streams[i]);
    for (size_t i = 0; run.results && i < prompts->n; i++)
        json_decref(run.results[i]);
    free(run.streams);
    free(run.index);
    free(run.results);
    return good;
}

int cmd_batch(int argc, char **argv)
{
    batch_flags flags = {.batch = 8};
    cli_common common;
    const char *path = NULL;
    size_t n = 0;
    cli_common_init(&common);
    cli_spec spec = {
        .command = "batch",
        .summary = "decode many prompts, one JSON line each, in the order of the input",
        .positional = "MODEL",
        .min_positional = 1,
        .max_positional = 1,
        .examples =
            "  gorgon batch model.gguf --heads heads.gguf --chat --prompts bench/prompts.jsonl "
            "--out out.jsonl\n"
            "  echo '{\"id\":\"a\",\"prompt\":\"Once upon\",\"tokens\":32,\"temp\":0.8,"
            "\"seed\":7}' | gorgon batch model.gguf --prompts - --out out.jsonl\n",
    };
    cli_add_string(&spec, "prompts", 0, &flags.prompts, "IN",
                   "JSON lines {id, turns|prompt|ids, tokens?, temp?, seed?, ..}, - = stdin");
    cli_add_string(&spec, "out", 'o', &flags.out, "OUT", "file to write");
    cli_add_size(&spec, "batch", 0, &flags.batch, 1, 64, "prompts decoded at once (default 8)");
    cli_add_flag(&spec, "chat", &flags.chat, "prompts as a user's message in the chat template");
    cli_add_chat_template(&spec, &common);
    cli_add_sampling_flags(&spec, &common);
    cli_add_decode_flags(&spec, &common);
    cli_add_engine_flags(&spec, &common);
    cli_parsed parsed = cli_parse(&spec, argc, argv, &path, &n);
    if (parsed != CLI_PARSED)
        return parsed == CLI_PARSED_HELP ? CLI_OK : CLI_BAD;
    if (!flags.prompts || !flags.out) {
        cli_complain("batch: missing %s; see gorgon batch --help",
                     flags.prompts ? "--out OUT" : "--prompts IN");
        return CLI_BAD;
    }
    if (!cli_check_output(flags.out))
        return CLI_BAD;
    cli_catch_interrupt();
    cli_session session = {0};
    cli_prompts prompts = {0};
    int code = CLI_OK;
    bool good = cli_open_model(&session, &common, path) && cli_open_drafting(&session, &common) &&
                cli_prompts_read(flags.prompts, session.model, &common, flags.chat, &prompts) &&
                run_batch(&session, &common, &flags, &prompts, &code);
    cli_close(&session);
    cli_prompts_clear(&prompts);
    return good ? code : CLI_BAD;
}
