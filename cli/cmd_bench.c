// gorgon bench: plain and speculative decoding, alternating in one run, on the same prompts.
#include <stdlib.h>
#include <string.h>

#include "bench.h"

typedef struct bench_flags {
    const char *prompts, *plot;
    size_t limit, repeat, context;
    bool raw;
} bench_flags;

typedef struct bench_run {
    cli_session *session;
    gorgon_decoder *plain;
    const bench_flags *flags;
    cli_prompts prompts;
    bool *chosen; // [prompts]
    size_t n_chosen;
    bench_result result;
} bench_run;

// The eight categories of MT-bench are one task; every other category is its own.
static const char *task_of(const char *category)
{
    static const char *const conversation[] = {"writing", "roleplay",   "reasoning", "math",
                                               "coding",  "extraction", "stem",      "humanities"};
    for (size_t i = 0; i < sizeof conversation / sizeof conversation[0]; i++) {
        if (strcmp(category, conversation[i]) == 0)
            return "conversation";
    }
    return category[0] ? category : "other";
}

// The row of that name, made at its first use; NULL when the table is full.
static bench_group *group_of(bench_table *table, const char *name)
{
    for (size_t i = 0; i < table->n; i++) {
        if (strcmp(table->rows[i].name, name) == 0)
            return &table->rows[i];
    }
    if (table->n == BENCH_MAX_GROUPS) {
        cli_complain("bench: more than %d categories", BENCH_MAX_GROUPS);
        return NULL;
    }
    table->rows[table->n] = (bench_group){.name = name, .same_output = true};
    return &table->rows[table->n++];
}

// The first `limit` prompts of each task.
static bool choose_prompts(bench_run *run)
{
    bench_table seen = {.n = 0};
    run->chosen = calloc(run->prompts.n, sizeof *run->chosen);
    if (!run->chosen)
        return cli_complain("out of memory");
    for (size_t i = 0; i < run->prompts.n; i++) {
        bench_group *task = group_of(&seen, task_of(run->prompts.items[i].category));
        if (!task)
            return false;
        run->chosen[i] = run->flags->limit == 0 || task->runs < run->flags->limit;
        task->runs += run->chosen[i];
        run->n_chosen += run->chosen[i];
    }
    return true;
}

// Runs one request to its end; NULL after a message or when interrupted.
static gorgon_stream *decode(gorgon_decoder *decoder, const gorgon_request *request)
{
    gorgon_error err = {0};
    gorgon_stream *stream = NULL;
    size_t active = 1;
    if (gorgon_decoder_submit(decoder, request, &stream, &err) != GORGON_OK) {
        cli_fail(&err);
        return NULL;
    }
    while (active > 0 && !cli_interrupted()) {
        if (gorgon_decoder_step(decoder, &active, &err) != GORGON_OK) {
            cli_fail(&err);
            break;
        }
    }
    if (active == 0)
        return stream;
    gorgon_stream_free(stream);
    return NULL;
}

static bool same(const gorgon_stream_result *a, const gorgon_stream_result *b)
{
    return a->n_ids == b->n_ids && memcmp(a->ids, b->ids, a->n_ids * sizeof *a->ids) == 0 &&
           a->text_length == b->text_length && memcmp(a->text, b->text, a->text_length) == 0 &&
           a->logits_hash == b->logits_hash && a->stop == b->stop;
}

static void add_rate(bench_rate *rate, const gorgon_stream_result *r)
{
    rate->tokens += cli_decoded_tokens(r);
    rate->passes += (double)r->passes;
    rate->seconds += r->decode_s;
}

static void add_speedup(bench_group *group, const gorgon_stream_result *plain,
                        const gorgon_stream_result *speculative)
{
    if (plain->decode_s <= 0 || speculative->decode_s <= 0 || cli_decoded_tokens(plain) <= 0)
        return;
    if (!group->speedups)
        group->speedups = json_array();
    json_array_append_new(group->speedups, json_real(plain->decode_s / speculative->decode_s));
}

static void clear_speedups(bench_table *table)
{
    for (size_t i = 0; i < table->n; i++)
        json_decref(table->rows[i].speedups);
}

static bool add_pair(bench_run *run, const cli_prompt *p, size_t index,
                     const gorgon_stream_result *plain, const gorgon_stream_result *speculative)
{
    const char *category = p->category[0] ? p->category : "other";
    bench_group *groups[] = {&run->result.all, group_of(&run->result.tasks, task_of(p->category)),
                             group_of(&run->result.categories, category)};
    bool equal = same(plain, speculative);
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        if (!groups[i])
            return false;
        add_rate(&groups[i]->plain, plain);
        add_rate(&groups[i]->speculative, speculative);
        add_speedup(groups[i], plain, speculative);
        groups[i]->runs++;
        groups[i]->same_output = groups[i]->same_output && equal;
    }
    if (equal)
        return true;
    json_t *id = json_object_get(p->line, "id");
    json_array_append_new(run->result.differing,
                          id ? json_incref(id) : json_integer((json_int_t)index));
    cli_complain("prompt %zu: plain and speculative decoding differ", index);
    return true;
}

// One prompt both ways; `swap` says that speculative decoding goes first.
static bool run_pair(bench_run *run, size_t index, bool swap)
{
    const cli_prompt *p = &run->prompts.items[index];
    gorgon_request request = cli_request(&p->settings, p->ids, p->n_ids);
    request.sampling.completion = index;
    gorgon_decoder *decoders[2] = {run->plain, run->session->decoder};
    gorgon_stream *streams[2] = {NULL, NULL};
    gorgon_stream_result results[2];
    bool good = true;
    for (size_t i = 0; i < 2 && good; i++) {
        size_t which = swap ? 1 - i : i;
        streams[which] = decode(decoders[which], &request);
        good = streams[which] != NULL;
        if (good)
            gorgon_stream_describe(streams[which], &results[which]);
    }
    good = good && add_pair(run, p, index, &results[0], &results[1]);
    gorgon_stream_free(streams[0]);
    gorgon_stream_free(streams[1]);
    return good;
}

static void show(const bench_run *run, size_t done, size_t total, double began)
{
    char line[80];
    double elapsed = cli_seconds() - began, rate = elapsed > 0 ? (double)done / elapsed : 0;
    snprintf(line, sizeof line, "speed-up %.2f, same output: %s", bench_speedup(&run->result.all),
             run->result.all.same_output ? "yes" : "NO");
    gorgon_progress p = {"bench", "prompts", done, total, rate, 0, line};
    p.eta_s = rate > 0 ? (double)(total - done) / rate : -1;
    cli_progress(NULL, &p);
}

// A few tokens that are not counted: they touch memory and wake the processor.
static bool warm_up(bench_run *run)
{
    enum { WARM_TOKENS = 8 };
    const cli_prompt *p = &run->prompts.items[0];
    gorgon_request request = cli_request(&p->settings, p->ids, p->n_ids);
    request.max_tokens = WARM_TOKENS;
    gorgon_decoder *decoders[2] = {run->plain, run->session->decoder};
    for (size_t i = 0; i < 2; i++) {
        gorgon_stream *stream = decode(decoders[i], &request);
        if (!stream)
            return false;
        gorgon_stream_free(stream);
    }
    gorgon_decoder_reset_telemetry(run->session->decoder);
    return true;
}

static bool run_all(bench_run *run)
{
    size_t done = 0, total = run->n_chosen * run->flags->repeat;
    double began = cli_seconds();
    run->result.all = (bench_group){.name = "all", .same_output = true};
    if (!warm_up(run))
        return false;
    for (size_t repeat = 0; repeat < run->flags->repeat; repeat++) {
        bool swap = repeat % 2 == 1;
        for (size_t i = 0; i < run->prompts.n; i++) {
            if (!run->chosen[i])
                continue;
            if (!run_pair(run, i, swap))
                return false;
            swap = !swap;
            show(run, ++done, total, began);
        }
    }
    cli_progress_end();
    run->result.n_proposers =
        gorgon_decoder_telemetry(run->session->decoder, run->result.telemetry, BENCH_MAX_PROPOSERS);
    return true;
}

// Two decoders on one engine, so that the planner of the speculative one keeps what it learns.
static bool open_decoders(bench_run *run, const cli_common *common)
{
    gorgon_error err = {0};
    cli_session *s = run->session;
    gorgon_decoder_options options = cli_decoder_options(s, common);
    options.record_logits = true;
    gorgon_decoder_options plain = options;
    plain.propose = "";
    plain.heads = NULL;
    plain.tree = "off";
    if (gorgon_decoder_create(s->engine, &options, &s->decoder, &err) != GORGON_OK ||
        gorgon_decoder_create(s->engine, &plain, &run->plain, &err) != GORGON_OK)
        return cli_fail(&err);
    return true;
}

static bool open_prompts(bench_run *run, const cli_common *common)
{
    bool chat = gorgon_tokenizer_has_chat(gorgon_model_tokenizer(run->session->model));
    return cli_prompts_read(run->flags->prompts, run->session->model, common,
                            chat && !run->flags->raw, &run->prompts) &&
           choose_prompts(run);
}

static bool bench(bench_run *run, const cli_common *common, const char *path)
{
    enum { MEASURED_ROWS = 64 };
    cli_session *s = run->session;
    if (!cli_open_model(s, common, path) || !cli_open_drafting(s, common) ||
        !open_prompts(run, common))
        return false;
    size_t positions = cli_prompts_positions(&run->prompts);
    if (positions < run->flags->context + MEASURED_ROWS)
        positions = run->flags->context + MEASURED_ROWS;
    if (!cli_open_engine(s, common, 1, positions) || !open_decoders(run, common))
        return false;
    if (!bench_measure(s, path, run->flags->context, &run->result) || cli_interrupted())
        return false;
    if (run->flags->plot && !bench_plot(s, run->flags->plot, &run->result))
        return false;
    if (!run_all(run))
        return false;
    if (common->json)
        return cli_print_json(bench_json(s, common, &run->result));
    bench_print(s, common, &run->result);
    return true;
}

int cmd_bench(int argc, char **argv)
{
    bench_flags flags = {.prompts = "bench/prompts.jsonl", .repeat = 1, .context = 128};
    cli_common common;
    const char *path = NULL;
    size_t n = 0;
    cli_common_init(&common);
    common.tokens = 128;
    cli_spec spec = {
        .command = "bench",
        .summary = "plain against speculative decoding, paired in one run; exit code 1 if the "
                   "outputs differ",
        .positional = "MODEL",
        .min_positional = 1,
        .max_positional = 1,
        .examples = "  gorgon bench model.gguf --heads heads.gguf --prompts bench/prompts.jsonl\n"
                    "  gorgon bench model.gguf --propose lookup --tree 8 --limit 2 -n 64 --json\n",
    };
    cli_add_string(&spec, "prompts", 0, &flags.prompts, "FILE",
                   "prompts as `batch` reads them (default: bench/prompts.jsonl)");
    cli_add_size(&spec, "limit", 0, &flags.limit, 0, 1 << 20, "only the first N of each task");
    cli_add_size(&spec, "repeat", 0, &flags.repeat, 1, 1000,
                 "times that every prompt is run; recycling then knows the answers");
    cli_add_size(&spec, "context", 0, &flags.context, 0, 1 << 20,
                 "positions before the passes whose cost is measured (default 128)");
    cli_add_string(&spec, "plot", 0, &flags.plot, "FILE.svg",
                   "draw the cost of a pass against the machine's limits");
    cli_add_flag(&spec, "raw", &flags.raw, "prompts as plain text, not through the chat template");
    cli_add_sampling_flags(&spec, &common);
    cli_add_decode_flags(&spec, &common);
    cli_add_engine_flags(&spec, &common);
    cli_parsed parsed = cli_parse(&spec, argc, argv, &path, &n);
    if (parsed != CLI_PARSED)
        return parsed == CLI_PARSED_HELP ? CLI_OK : CLI_BAD;
    cli_catch_interrupt();
    cli_session session = {0};
    bench_run run = {.session = &session, .flags = &flags};
    run.result.differing = json_array();
    bool good = (!flags.plot || cli_check_output(flags.plot)) && bench(&run, &common, path);
    bool same_output = run.result.all.same_output;
    gorgon_decoder_free(run.plain);
    cli_close(&session);
    cli_prompts_clear(&run.prompts);
    free(run.chosen);
    json_decref(run.result.differing);
    json_decref(run.result.all.speedups);
    clear_speedups(&run.result.tasks);
    clear_speedups(&run.result.categories);
    if (cli_interrupted())
        return CLI_INTERRUPTED;
    if (!good)
        return CLI_BAD;
    return same_output ? CLI_OK : CLI_DIFFERS;
}
