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
    pairs_decoders decoders;
    const bench_flags *flags;
    cli_prompts prompts;
    bool *chosen; // [prompts]
    size_t n_chosen;
    bench_result result;
} bench_run;

static void show(const bench_run *run, size_t done, size_t total, double began)
{
    char line[80];
    double elapsed = cli_seconds() - began, rate = elapsed > 0 ? (double)done / elapsed : 0;
    snprintf(line, sizeof line, "speed-up %.2f, same output: %s",
             pairs_speedup(&run->result.pairs.all),
             run->result.pairs.all.same_output ? "yes" : "NO");
    gorgon_progress p = {"bench", "prompts", done, total, rate, 0, line};
    p.eta_s = rate > 0 ? (double)(total - done) / rate : -1;
    cli_progress(NULL, &p);
}

static bool run_all(bench_run *run)
{
    size_t done = 0, total = run->n_chosen * run->flags->repeat;
    double began = cli_seconds();
    if (!pairs_warm_up(&run->decoders, &run->prompts.items[0]))
        return false;
    for (size_t repeat = 0; repeat < run->flags->repeat; repeat++) {
        bool swap = repeat % 2 == 1;
        for (size_t i = 0; i < run->prompts.n; i++) {
            if (!run->chosen[i])
                continue;
            if (!pairs_run(&run->decoders, &run->prompts, i, swap, &run->result.pairs))
                return false;
            swap = !swap;
            show(run, ++done, total, began);
        }
    }
    cli_progress_end();
    pairs_take_telemetry(&run->decoders, &run->result.pairs);
    return true;
}

static bool open_prompts(bench_run *run, const cli_common *common)
{
    bool chat = gorgon_tokenizer_has_chat(gorgon_model_tokenizer(run->session->model));
    return cli_prompts_read(run->flags->prompts, run->session->model, common,
                            chat && !run->flags->raw, &run->prompts) &&
           pairs_choose(&run->prompts, run->flags->limit, &run->chosen, &run->n_chosen);
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
    if (!cli_open_engine(s, common, 1, positions))
        return false;
    gorgon_decoder_options options = cli_decoder_options(s, common);
    if (!pairs_open(s, &options, &run->decoders))
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
    cli_add_chat_template(&spec, &common);
    cli_add_sampling_flags(&spec, &common);
    cli_add_decode_flags(&spec, &common);
    cli_add_engine_flags(&spec, &common);
    cli_parsed parsed = cli_parse(&spec, argc, argv, &path, &n);
    if (parsed != CLI_PARSED)
        return parsed == CLI_PARSED_HELP ? CLI_OK : CLI_BAD;
    cli_catch_interrupt();
    cli_session session = {0};
    bench_run run = {.session = &session, .flags = &flags};
    bool good = pairs_result_init(&run.result.pairs) &&
                (!flags.plot || cli_check_output(flags.plot)) && bench(&run, &common, path);
    bool same_output = run.result.pairs.all.same_output;
    pairs_close(&run.decoders);
    cli_close(&session);
    cli_prompts_clear(&run.prompts);
    free(run.chosen);
    pairs_result_clear(&run.result.pairs);
    if (cli_interrupted())
        return CLI_INTERRUPTED;
    if (!good)
        return CLI_BAD;
    return same_output ? CLI_OK : CLI_DIFFERS;
}
