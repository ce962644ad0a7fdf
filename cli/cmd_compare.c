// gorgon compare: head architectures trained, calibrated and measured on one text under one budget,
// reported as one page and its JSON.
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "compare.h"

static void init_flags(compare *c)
{
    cli_common_init(&c->common);
    gorgon_train_options_init(&c->train);
    c->common.tokens = 64;
    c->prompts_path = "bench/prompts.jsonl";
    c->seed = 1;
    c->seeds = 1;
    c->limit = 2;
    c->positions = 20000;
}

static void add_plan_flags(cli_spec *spec, compare *c)
{
    cli_add_string(
        spec, "archs", 0, &c->architectures, "A,B",
        "architectures, each with a shape of its own if wanted: "
        "medusa,recurrent:blocks=2:heads=5 (keys heads, blocks, vocab, rank; default: all)");
    cli_add_string(spec, "out", 'o', &c->out, "DIR",
                   "directory for compare.html, compare.json and all that is made on the way");
    cli_add_string(spec, "cache", 0, &c->cache, "DIR",
                   "feature cache that all share, made if need be (default: cache in -o)");
    cli_add(spec,
            (cli_option){
                "tokens", 0, CLI_U64, &c->tokens, 1, 1e12, "N",
                "answer tokens that the cache has at least (default: what is there, else 200k)"});
    cli_add_u64(spec, "seed", &c->seed, 0, 9e18, "seed of the text, first of training");
    cli_add_size(spec, "seeds", 0, &c->seeds, 1, 100, "trainings per architecture (default 1)");
}

static void add_budget_flags(cli_spec *spec, compare *c)
{
    cli_add_double(spec, "epochs", &c->epochs, 1e-6, 1e6,
                   "budget in tokens: passes over the text (default 2)");
    cli_add_double(spec, "minutes", &c->minutes, 1e-3, 1e5,
                   "budget in time instead: minutes of training for each");
    cli_add_u64(spec, "params", &c->parameters, 1, 1e12,
                "most parameters of each: as many blocks as fit, else fewer heads");
    cli_add_size(spec, "n-heads", 0, &c->train.n_heads, 1, 16,
                 "depths (default: as of `gorgon train`)");
    cli_add_size(spec, "blocks", 0, &c->train.n_blocks, 1, 8,
                 "residual blocks (default: likewise)");
    cli_add_size(spec, "draft-vocab", 0, &c->train.draft_vocab, 0, 1 << 20,
                 "most frequent ids that heads propose, 0 = all (default 4096)");
    cli_add_size(spec, "step-batch", 0, &c->train.batch, 1, 1 << 16,
                 "positions per step (default 512)");
    cli_add_double(spec, "learning-rate", &c->train.learning_rate, 0, 1,
                   "peak rate (default 1.5e-3)");
    cli_add_double(spec, "held-out", &c->train.held_out, 0, 0.9,
                   "share of conversations kept for evaluation (default 0.05)");
    cli_add_size(spec, "positions", 0, &c->positions, 1, 1 << 30,
                 "held-out positions to calibrate on at most (default 20000)");
}

static void add_evaluation_flags(cli_spec *spec, compare *c)
{
    cli_add_string(spec, "prompts", 0, &c->prompts_path, "FILE",
                   "prompts as `batch` reads them (default: bench/prompts.jsonl)");
    cli_add_size(spec, "limit", 0, &c->limit, 0, 1 << 20,
                 "only the first N of each task, 0 = all (default 2)");
    cli_add(spec, (cli_option){"answer-tokens", 'n', CLI_SIZE, &c->common.tokens, 1, 1 << 20, "N",
                               "tokens to generate per prompt at most (default 64)"});
    cli_add(spec, (cli_option){"untrained", 0, CLI_LIST, &c->untrained, 0, 0, "A,B",
                               "untrained proposers to measure alone and beside heads (may be "
                               "repeated; default: each, and all together)"});
    cli_add_string(spec, "datastore", 0, &c->common.datastore, "FILE",
                   "text to draft from, made by `gorgon index`: a further untrained proposer");
    cli_add_flag(spec, "no-untrained", &c->no_untrained, "heads only");
    cli_add_flag(spec, "raw", &c->raw, "prompts as plain text, not through the chat template");
    cli_add_chat_template(spec, &c->common);
    cli_add_string(spec, "cost-cache", 0, &c->common.cost_cache, "FILE",
                   "measured pass costs are kept here");
    cli_add_size(spec, "threads", 't', &c->common.threads, 0, 256, "threads, 0 = all processors");
    cli_add_quant_flag(spec, &c->common);
    cli_add_flag(spec, "json", &c->common.json, "one JSON object on stdout");
}

static cli_spec make_spec(compare *c)
{
    cli_spec spec = {
        .command = "compare",
        .summary = "train, calibrate and measure head architectures on one text under one budget; "
                   "writes a page and its JSON. Interrupted, the same command continues; exit "
                   "code 1 if outputs differ",
        .positional = "MODEL",
        .min_positional = 1,
        .max_positional = 1,
        .examples = "  gorgon compare model.gguf -o comparison\n"
                    "  gorgon compare model.gguf -o comparison --archs medusa,recurrent:blocks=2 "
                    "--cache features --minutes 5 --seeds 2\n"
                    "  gorgon compare model.gguf -o comparison --params 1500k --limit 1 --json\n",
    };
    add_plan_flags(&spec, c);
    add_budget_flags(&spec, c);
    add_evaluation_flags(&spec, c);
    return spec;
}

// The command as it could be typed again.
static char *quote_command(int argc, char **argv)
{
    cli_text text = {0};
    cli_text_put(&text, "gorgon");
    for (int i = 0; i < argc; i++) {
        const char *plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                            "_-+=:,./@%";
        bool quote = argv[i][0] == '\0' || argv[i][strspn(argv[i], plain)] != '\0';
        cli_text_put(&text, quote ? " '" : " ");
        for (const char *s = argv[i]; *s; s++) {
            if (*s == '\'')
                cli_text_put(&text, "'\\''");
            else
                cli_text_put(&text, "%c", *s);
        }
        cli_text_put(&text, "%s", quote ? "'" : "");
    }
    if (!text.failed)
        return text.data;
    cli_complain("out of memory");
    return NULL;
}

// Flags that others follow from, and what can be refused before anything is opened.
static bool settle_flags(compare *c)
{
    if (!c->out)
        return cli_complain("compare: missing -o DIR; see gorgon compare --help");
    if (c->minutes > 0 && c->epochs > 0)
        return cli_complain("compare: --minutes and --epochs exclude each other");
    if (c->no_untrained && c->untrained.n > 0)
        return cli_complain("compare: --untrained and --no-untrained exclude each other");
    c->train.epochs = c->epochs > 0 ? c->epochs : c->train.epochs;
    if (!c->cache) {
        if (!compare_path(c->own_cache, "%s/cache", c->out))
            return false;
        c->cache = c->own_cache;
    }
    return compare_read_architectures(c);
}

static bool open_output(const compare *c)
{
    char path[COMPARE_PATH];
    if (mkdir(c->out, 0777) != 0 && errno != EEXIST)
        return cli_complain("%s: %s", c->out, strerror(errno));
    return compare_path(path, "%s/compare.html", c->out) && cli_check_output(path);
}

// Everything that can be wrong is found here, before the long part.
static bool prepare(compare *c)
{
    bool good = cli_open_model(&c->session, &c->common, c->model_path) &&
                cli_open_drafting(&c->session, &c->common) && compare_fit_shapes(c);
    bool chat = good && gorgon_tokenizer_has_chat(gorgon_model_tokenizer(c->session.model));
    good = good &&
           cli_prompts_read(c->prompts_path, c->session.model, &c->common, chat && !c->raw,
                            &c->prompts) &&
           pairs_choose(&c->prompts, c->limit, &c->chosen, &c->n_chosen) &&
           cli_open_engine(&c->session, &c->common, 1, 0) && compare_read_lists(c);
    if (good && c->n_architectures == 0)
        return cli_complain("compare: nothing to compare");
    return good && open_output(c);
}

// One training of one architecture: NULL after a message or when interrupted.
static json_t *contest(compare *c, const compare_architecture *a, uint64_t seed)
{
    char directory[COMPARE_PATH], heads[COMPARE_PATH], label[COMPARE_NAME + 32];
    json_t *evaluated = NULL;
    snprintf(label, sizeof label, "%s, seed %" PRIu64, a->name, seed);
    if (!compare_directory(c, a, seed, directory) ||
        !compare_path(heads, "%s/heads.gguf", directory))
        return NULL;
    json_t *trained = compare_train(c, a, seed, directory);
    json_t *calibrated = trained ? compare_calibrate(c, a, seed, directory, trained) : NULL;
    if (calibrated) {
        json_t *from = json_pack("{s:O?}", "heads", json_object_get(calibrated, "made_from"));
        evaluated = compare_evaluate(c, label, directory, heads, from);
    }
    if (evaluated)
        return compare_describe_heads(seed, directory, trained, calibrated, evaluated);
    json_decref(trained);
    json_decref(calibrated);
    return NULL;
}

static json_t *contest_untrained(compare *c)
{
    char directory[COMPARE_PATH];
    json_t *from = json_pack("{s:o}", "model", compare_model_json(c));
    if (!compare_directory(c, NULL, 0, directory)) {
        json_decref(from);
        return NULL;
    }
    json_t *evaluated = compare_evaluate(c, "untrained", directory, NULL, from);
    if (evaluated)
        json_object_del(evaluated, "made_from");
    return evaluated;
}

static json_t *contest_seeds(compare *c, const compare_architecture *a)
{
    json_t *seeds = json_array();
    for (uint64_t i = 0; i < c->seeds; i++) {
        json_t *one = contest(c, a, c->seed + i);
        if (!one) {
            json_decref(seeds);
            return NULL;
        }
        json_array_append_new(seeds, one);
    }
    return json_pack("{s:s,s:s,s:o}", "name", a->name, "architecture", a->train.architecture,
                     "seeds", seeds);
}

static json_t *contest_all(compare *c)
{
    json_t *all = json_array();
    for (size_t i = 0; i < c->n_architectures; i++) {
        json_t *one = contest_seeds(c, &c->architecture[i]);
        if (!one) {
            json_decref(all);
            return NULL;
        }
        json_array_append_new(all, one);
    }
    if (c->n_lists == 0)
        return all;
    json_t *untrained = contest_untrained(c);
    if (!untrained) {
        json_decref(all);
        return NULL;
    }
    json_array_append_new(
        all, json_pack("{s:s,s:n,s:[o]}", "name", "untrained", "architecture", "seeds", untrained));
    return all;
}

static bool write_report(const compare *c, const json_t *comparison)
{
    char path[COMPARE_PATH];
    cli_text page = {0};
    char *text = json_dumps(comparison, CLI_JSON_FORMAT);
    bool good = text ? compare_path(path, "%s/compare.json", c->out) && cli_write_file(path, text)
                     : cli_complain("out of memory");
    free(text);
    if (!good)
        return false;
    compare_page(comparison, &page);
    if (!compare_path(path, "%s/compare.html", c->out) || !cli_text_write(&page, path))
        return false;
    fprintf(stderr, "written: %s\n", path);
    return true;
}

static void close_all(compare *c)
{
    for (size_t i = 0; c->reference && i < c->prompts.n; i++)
        gorgon_stream_free(c->reference[i]);
    free(c->reference);
    gorgon_decoder_free(c->plain);
    cli_close(&c->session);
    cli_prompts_clear(&c->prompts);
    free(c->chosen);
    for (size_t i = 0; i < c->n_lists; i++)
        free(c->lists[i]);
    free(c->command);
}

static int run(compare *c)
{
    int code = CLI_BAD;
    json_t *contestants = NULL, *comparison = NULL;
    if (settle_flags(c) && prepare(c) && compare_make_cache(c))
        contestants = contest_all(c);
    if (contestants)
        comparison = compare_json(c, contestants);
    if (comparison && write_report(c, comparison))
        code = json_is_true(json_object_get(comparison, "same_output")) ? CLI_OK : CLI_DIFFERS;
    if (code != CLI_BAD && c->common.json && !cli_print_json(json_incref(comparison)))
        code = CLI_BAD;
    json_decref(comparison);
    return code;
}

int cmd_compare(int argc, char **argv)
{
    const char *path = NULL;
    size_t n = 0;
    compare *c = calloc(1, sizeof *c);
    if (!c) {
        cli_complain("out of memory");
        return CLI_BAD;
    }
    init_flags(c);
    cli_spec spec = make_spec(c);
    cli_parsed parsed = cli_parse(&spec, argc, argv, &path, &n);
    int code = parsed == CLI_PARSED_HELP ? CLI_OK : CLI_BAD;
    c->model_path = path;
    if (parsed == CLI_PARSED && (c->command = quote_command(argc, argv)) != NULL) {
        cli_catch_interrupt();
        code = run(c);
        if (cli_interrupted()) {
            cli_complain("interrupted; the same command continues");
            code = CLI_INTERRUPTED;
        }
    }
    close_all(c);
    free(c);
    return code;
}
