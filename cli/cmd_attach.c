// gorgon attach, and its stages synth, train and calibrate: heads for a checkpoint from nothing.
#include <stdlib.h>
#include <string.h>

#include "advice.h"
#include "data.h"

enum { TOKENS_TO_TRAIN = 200000, TOKENS_TO_CHECK = 25000 };

typedef struct attach_flags {
    cli_common common;
    gorgon_synth_options synth;
    gorgon_train_options train;
    gorgon_calibrate_options calibrate;
    const char *out, *heads, *cache, *plot;
    cli_list data;
    cli_data texts; // of the files in data
    double temperature;
    uint64_t seed;
    size_t trial; // questions
    gorgon_self_check check;
    bool no_root, keep_cache;
} attach_flags;

static void init_flags(attach_flags *f)
{
    memset(f, 0, sizeof *f);
    cli_common_init(&f->common);
    gorgon_synth_options_init(&f->synth);
    gorgon_train_options_init(&f->train);
    gorgon_calibrate_options_init(&f->calibrate);
    f->synth.progress = f->train.progress = f->calibrate.progress = cli_progress;
    f->synth.tokens = 0; // settled when it is known what they are for
    f->temperature = (double)f->synth.temperature;
    f->seed = 1;
    f->trial = 12;
}

static void add_common_flags(cli_spec *spec, attach_flags *f)
{
    cli_add_string(spec, "cache", 0, &f->cache, "DIR",
                   "feature cache: made by synth, read by train and calibrate");
    cli_add_size(spec, "threads", 't', &f->common.threads, 0, 256, "threads, 0 = all processors");
    cli_add_quant_flag(spec, &f->common);
    cli_add_chat_template(spec, &f->common);
    cli_add_flag(spec, "json", &f->common.json, "one JSON object on stdout");
}

static void add_seed_flag(cli_spec *spec, attach_flags *f)
{
    cli_add_u64(spec, "seed", &f->seed, 0, 1.8e19, "seed of text and training (default 1)");
}

static void add_synth_flags(cli_spec *spec, attach_flags *f)
{
    gorgon_synth_options *o = &f->synth;
    cli_add(spec, (cli_option){"tokens", 'n', CLI_U64, &o->tokens, 1, 1e12, "N",
                               "answer tokens to write, e.g. 2M (default 200k; for heads that are "
                               "there 25k)"});
    cli_add_u64(spec, "cache-limit", &o->cache_limit, 0, 1e15,
                "bytes of hidden states to keep; beyond it they are recomputed");
    cli_add_size(spec, "max-sequence", 0, &o->max_sequence, 128, 1 << 20,
                 "positions per conversation (default 1024)");
    cli_add_double(spec, "greedy-share", &o->greedy_share, 0, 1,
                   "share of greedy answers, the others are sampled (default 0.5)");
    cli_add_double(spec, "temp", &f->temperature, 0, 10, "of sampled answers (default 0.7)");
    cli_add(spec, (cli_option){"data", 0, CLI_LIST, &f->data, 0, 0, "FILE",
                               "texts of your own to write about, plain or .jsonl with turns, "
                               "messages, prompt or text (may be repeated)"});
    cli_add_double(spec, "data-share", &o->data_share, 0, 1,
                   "of the conversations, while there is data (default 0.5)");
    cli_add_string(spec, "text", 0, &o->text_path, "FILE", "also write the text as JSON lines");
}

static void add_train_flags(cli_spec *spec, attach_flags *f)
{
    gorgon_train_options *o = &f->train;
    cli_add_string(
        spec, "arch", 0, &o->architecture, "NAME",
        "medusa or linear; markov, hydra, hydra++, recurrent and eagle see the drafted tokens "
        "(default medusa; of attach hydra++)");
    cli_add_size(spec, "n-heads", 0, &o->n_heads, 0, 16,
                 "depths (default 4; recurrent and eagle 5)");
    cli_add_size(spec, "blocks", 0, &o->n_blocks, 0, 8,
                 "residual blocks per head (default 1; recurrent 2)");
    cli_add_size(spec, "rank", 0, &o->rank, 0, 4096,
                 "of markov's matrices for the last token (default 128)");
    cli_add_flag(spec, "no-root", &f->no_root, "heads do not see the known root token");
    cli_add_flag(spec, "own-output", &o->own_output,
                 "medusa, linear: heads train output matrices of their own");
    cli_add_size(spec, "draft-vocab", 0, &o->draft_vocab, 0, 1 << 20,
                 "most frequent ids that heads propose, 0 = all (default 4096)");
    cli_add_double(spec, "epochs", &o->epochs, 1e-6, 1e6, "passes over the text (default 2)");
    cli_add_size(spec, "step-batch", 0, &o->batch, 1, 1 << 16, "positions per step (default 512)");
    cli_add_double(spec, "learning-rate", &o->learning_rate, 0, 1, "peak rate (default 1.5e-3)");
    cli_add_double(spec, "warmup", &o->warmup_share, 0, 1, "share of all steps (default 0.03)");
    cli_add_double(spec, "weight-decay", &o->weight_decay, 0, 10, "of AdamW (default 0.01)");
    cli_add_double(spec, "clip", &o->clip, 0, 1e9, "largest gradient norm (default 1)");
    cli_add_double(spec, "head-decay", &o->head_decay, 1e-3, 1,
                   "loss of head k counts X^k (default 0.8)");
    cli_add_flag(spec, "hard-targets", &o->hard_targets,
                 "learn the token instead of the base's likeliest tokens");
    cli_add_size(
        spec, "patience", 0, &o->patience, 0, 10,
        "stop when N of the ten evaluations in a row show no longer expected accepted length "
        "(default 0: never)");
    cli_add_string(spec, "weight-type", 0, &o->weight_type, "TYPE",
                   "F16, F32 or Q8_0 (default F16; of attach Q8_0)");
    cli_add_string(spec, "state", 0, &o->state, "FILE",
                   "state of the training (default: train.state in the cache)");
    cli_add_string(spec, "curve", 0, &o->curve, "FILE",
                   "write loss and held-out accuracy of every step as CSV");
    cli_add_string(spec, "plot", 0, &f->plot, "FILE.svg",
                   "draw the loss, on training and held-out text");
    cli_add_u64(spec, "checkpoint-steps", &o->checkpoint_steps, 0, 1e12,
                "steps between saved states (default 100)");
}

static void add_held_out_flag(cli_spec *spec, attach_flags *f)
{
    cli_add_double(spec, "held-out", &f->train.held_out, 0, 0.9,
                   "share of conversations kept for evaluation (default 0.05)");
}

static void add_calibrate_flags(cli_spec *spec, attach_flags *f)
{
    cli_add_size(spec, "positions", 0, &f->calibrate.max_positions, 1, 1 << 30,
                 "held-out positions to calibrate on at most (default 20000)");
    cli_add_size(spec, "set", 0, &f->calibrate.set, 0, 31, "which set of the heads file");
}

// Flags that feed several options.
static void settle_flags(attach_flags *f)
{
    f->synth.seed = f->train.seed = f->seed;
    f->synth.temperature = (float)f->temperature;
    f->synth.cache = f->train.cache = f->calibrate.cache = f->cache;
    if (f->synth.tokens == 0)
        f->synth.tokens = f->heads ? TOKENS_TO_CHECK : TOKENS_TO_TRAIN;
    f->synth.data = f->texts.items;
    f->synth.n_data = f->texts.n;
    f->train.root_embedding = !f->no_root;
    f->train.out = f->out;
    f->calibrate.heads = f->out;
    f->calibrate.held_out = f->train.held_out;
}

static bool check_needed(const cli_spec *spec, const attach_flags *f, const char *const *needed)
{
    for (size_t i = 0; needed[i]; i += 2) {
        const char *value = strcmp(needed[i], "out") == 0 ? f->out : f->cache;
        if (!value)
            return cli_complain("%s: missing %s; see gorgon %s --help", spec->command,
                                needed[i + 1], spec->command);
    }
    return true;
}

// Parses, checks what must be there and opens the model. The exit code in *code when false.
static bool begin(const cli_spec *spec, int argc, char **argv, attach_flags *f,
                  const char *const *needed, cli_session *session, int *code)
{
    const char *path = NULL;
    size_t n = 0;
    cli_parsed parsed = cli_parse(spec, argc, argv, &path, &n);
    *code = parsed == CLI_PARSED_HELP ? CLI_OK : CLI_BAD;
    if (parsed != CLI_PARSED || !check_needed(spec, f, needed))
        return false;
    bool good = cli_data_read(&f->data, &f->texts);
    settle_flags(f);
    cli_catch_interrupt();
    good = good && (!f->plot || cli_check_output(f->plot)) &&
           cli_open_model(session, &f->common, path);
    if (!good)
        cli_data_clear(&f->texts);
    return good;
}

static bool open_engine(cli_session *session, const attach_flags *f)
{
    gorgon_error err = {0};
    gorgon_engine_options options;
    gorgon_engine_options_init(&options);
    options.threads = f->common.threads;
    options.cpu_level = cli_environment_cpu();
    if (gorgon_engine_create(session->model, &options, &session->engine, &err) != GORGON_OK)
        return cli_fail(&err);
    return true;
}

static int finish(gorgon_status status, const gorgon_error *err)
{
    cli_progress_end();
    if (status == GORGON_OK)
        return CLI_OK;
    if (status == GORGON_ERROR_CANCELLED) {
        cli_complain("interrupted; the same command continues");
        return CLI_INTERRUPTED;
    }
    cli_fail(err);
    return CLI_BAD;
}

static bool report_training(const attach_flags *f, json_t *more)
{
    return (!f->plot || cli_plot_training(f->out, 0, f->plot)) &&
           cli_report_heads(f->out, f->common.json, more);
}

static json_t *check_json(const gorgon_self_check *c)
{
    json_t *heads = json_array(), *shares = json_object();
    for (size_t k = 0; k < c->n_heads; k++)
        json_array_append_new(heads, json_real(c->head[k]));
    for (size_t w = 0; w < GORGON_WIRINGS; w++)
        json_object_set_new(shares, gorgon_wiring_name((gorgon_wiring)w),
                            c->share[w] < 0.0 ? json_null() : json_real(c->share[w]));
    return json_pack("{s:I,s:s,s:s,s:o,s:o}", "positions", (json_int_t)c->positions, "verdict",
                     gorgon_wiring_name(c->verdict), "text", gorgon_wiring_text(c->verdict),
                     "shares", shares, "heads", heads);
}

// What was found out about heads from elsewhere, in words.
static void print_check(const attach_flags *f)
{
    const gorgon_self_check *c = &f->check;
    const bool sound = c->verdict == GORGON_WIRING_SOUND;
    printf("%s: %s%s. Of their first choices at %zu places of this model's own text ", f->heads,
           sound ? "" : "warning: ", gorgon_wiring_text(c->verdict), c->positions);
    printf("%.1f %% came true", 100 * c->share[GORGON_WIRING_SOUND]);
    if (c->verdict == GORGON_WIRING_FOREIGN)
        printf("; always naming the commonest token would give %.1f %%.\n",
               100 * c->share[GORGON_WIRING_FOREIGN]);
    else if (!sound)
        printf(", %.1f %% if they are taken so.\n", 100 * c->share[c->verdict]);
    else
        printf(".\n");
}

// The heads are complete, whatever becomes of the trial.
static int report(const cli_session *session, const attach_flags *f)
{
    gorgon_model_info info;
    gorgon_model_describe(session->model, &info);
    json_t *advice = NULL, *more = json_object();
    if (f->heads) {
        if (!f->common.json)
            print_check(f);
        json_object_set_new(more, "self_check", check_json(&f->check));
    }
    if (f->trial > 0)
        advice = cli_advise(session, &f->common, f->out, f->seed, f->trial);
    if (advice)
        json_object_set(more, "advice", advice);
    bool good = report_training(f, more);
    if (advice && !f->common.json)
        cli_print_advice(advice, info.path, f->out);
    const bool tried = advice || f->trial == 0;
    const bool same = !advice || json_is_true(json_object_get(advice, "same_output"));
    json_decref(advice);
    json_decref(more);
    if (!tried && cli_interrupted()) {
        cli_complain("interrupted in the trial; the heads are complete");
        return CLI_INTERRUPTED;
    }
    return !good || !tried ? CLI_BAD : same ? CLI_OK : CLI_DIFFERS;
}

int cmd_attach(int argc, char **argv)
{
    static const char *const needed[] = {"out", "-o HEADS", NULL};
    attach_flags f;
    init_flags(&f);
    gorgon_attach_options options;
    gorgon_attach_options_init(&options);
    f.train.architecture = options.train.architecture;
    f.train.weight_type = options.train.weight_type;
    cli_spec spec = {
        .command = "attach",
        .summary = "make heads for a checkpoint: the model writes its training text, heads are "
                   "trained on it, calibrated and tried out, with advice on how to use them; "
                   "interrupted, the same command continues",
        .positional = "MODEL",
        .min_positional = 1,
        .max_positional = 1,
        .examples =
            "  gorgon attach model.gguf -o heads.gguf\n"
            "  gorgon attach model.gguf --heads medusa_lm_head.pt -o heads.gguf\n"
            "  gorgon attach model.gguf -o heads.gguf --tokens 2M --n-heads 4 "
            "--draft-vocab 8192 --seed 1\n"
            "  gorgon attach model.gguf -o heads.gguf --data questions.jsonl --data manual.txt\n",
    };
    cli_add_string(&spec, "out", 'o', &f.out, "HEADS", "heads file to write");
    cli_add_string(&spec, "heads", 0, &f.heads, "FILE",
                   "heads from elsewhere to check and calibrate instead of training some");
    add_seed_flag(&spec, &f);
    add_synth_flags(&spec, &f);
    add_train_flags(&spec, &f);
    add_held_out_flag(&spec, &f);
    add_calibrate_flags(&spec, &f);
    cli_add_flag(&spec, "keep-cache", &f.keep_cache, "keep the text and features at the end");
    cli_add_size(&spec, "trial", 0, &f.trial, 0, 1000,
                 "questions to try the heads on at the end, for advice (default 12)");
    add_common_flags(&spec, &f);
    cli_session session = {0};
    int code;
    if (!begin(&spec, argc, argv, &f, needed, &session, &code))
        return code;
    gorgon_error err = {0};
    options.out = f.out;
    options.heads = f.heads;
    options.check = &f.check;
    options.synth = f.synth;
    options.train = f.train;
    options.calibrate = f.calibrate;
    options.keep_cache = f.keep_cache;
    options.threads = f.common.threads;
    options.cpu_level = cli_environment_cpu();
    code = finish(gorgon_attach(session.model, &options, &err), &err);
    if (code == CLI_OK)
        code = report(&session, &f);
    cli_close(&session);
    cli_data_clear(&f.texts);
    return code;
}

int cmd_synth(int argc, char **argv)
{
    static const char *const needed[] = {"cache", "--cache DIR", NULL};
    attach_flags f;
    init_flags(&f);
    cli_spec spec = {
        .command = "synth",
        .summary = "let the model write its training text, with its hidden states, into a cache",
        .positional = "MODEL",
        .min_positional = 1,
        .max_positional = 1,
        .examples = "  gorgon synth model.gguf --cache features --tokens 200k\n"
                    "  gorgon synth model.gguf --cache features --tokens 2M --cache-limit 2G "
                    "--text text.jsonl\n",
    };
    add_seed_flag(&spec, &f);
    add_synth_flags(&spec, &f);
    add_common_flags(&spec, &f);
    cli_session session = {0};
    gorgon_error err = {0};
    int code;
    if (!begin(&spec, argc, argv, &f, needed, &session, &code))
        return code;
    f.synth.threads = f.common.threads;
    f.synth.cpu_level = cli_environment_cpu();
    code = finish(gorgon_synth(session.model, &f.synth, &err), &err);
    cli_close(&session);
    cli_data_clear(&f.texts);
    if (code == CLI_OK && f.common.json &&
        !cli_print_json(json_pack("{s:s,s:I,s:I}", "cache", f.cache, "tokens",
                                  (json_int_t)f.synth.tokens, "seed", (json_int_t)f.seed)))
        code = CLI_BAD;
    return code;
}

int cmd_train(int argc, char **argv)
{
    static const char *const needed[] = {"cache", "--cache DIR", "out", "-o HEADS", NULL};
    attach_flags f;
    init_flags(&f);
    cli_spec spec = {
        .command = "train",
        .summary = "train heads on a feature cache",
        .positional = "MODEL",
        .min_positional = 1,
        .max_positional = 1,
        .examples = "  gorgon train model.gguf --cache features -o heads.gguf\n"
                    "  gorgon train model.gguf --cache features -o heads.gguf --arch hydra "
                    "--epochs 3 --weight-type Q8_0\n",
    };
    cli_add_string(&spec, "out", 'o', &f.out, "HEADS", "heads file to write");
    add_seed_flag(&spec, &f);
    add_train_flags(&spec, &f);
    add_held_out_flag(&spec, &f);
    add_common_flags(&spec, &f);
    cli_session session = {0};
    gorgon_error err = {0};
    int code;
    if (!begin(&spec, argc, argv, &f, needed, &session, &code))
        return code;
    if (open_engine(&session, &f))
        code = finish(gorgon_train(session.engine, &f.train, &err), &err);
    cli_close(&session);
    if (code == CLI_OK && !report_training(&f, NULL))
        code = CLI_BAD;
    return code;
}

int cmd_calibrate(int argc, char **argv)
{
    static const char *const needed[] = {"cache", "--cache DIR", "out", "--heads HEADS", NULL};
    attach_flags f;
    init_flags(&f);
    cli_spec spec = {
        .command = "calibrate",
        .summary = "fit the acceptance probabilities of heads and lookup on held-out text",
        .positional = "MODEL",
        .min_positional = 1,
        .max_positional = 1,
        .examples = "  gorgon calibrate model.gguf --cache features --heads heads.gguf\n"
                    "  gorgon calibrate model.gguf --cache features --heads heads.gguf "
                    "--positions 5000 --json\n",
    };
    cli_add_string(&spec, "heads", 0, &f.out, "HEADS", "heads file, rewritten with the result");
    add_calibrate_flags(&spec, &f);
    add_held_out_flag(&spec, &f);
    add_common_flags(&spec, &f);
    cli_session session = {0};
    gorgon_error err = {0};
    int code;
    if (!begin(&spec, argc, argv, &f, needed, &session, &code))
        return code;
    if (open_engine(&session, &f))
        code = finish(gorgon_calibrate(session.engine, &f.calibrate, &err), &err);
    cli_close(&session);
    if (code == CLI_OK && !cli_report_heads(f.out, f.common.json, NULL))
        code = CLI_BAD;
    return code;
}
