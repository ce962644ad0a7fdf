// Shared flags, and opening model, heads, engine and decoder as they ask.
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

void cli_common_init(cli_common *common)
{
    *common = (cli_common){
        .tokens = 256,
        .top_p = 1.0,
        .propose = NULL,
        .tree = "auto",
        .rule = "exact",
        .activations = "int8",
        .cost_cache = cli_default_cost_cache(),
    };
}

void cli_add_quant_flag(cli_spec *spec, cli_common *c)
{
    cli_add_string(spec, "quant", 0, &c->quant, "q8_0|q4_0|q4_k",
                   "quantise matrices stored as floats while loading");
}

void cli_add_engine_flags(cli_spec *spec, cli_common *c)
{
    cli_add_size(spec, "threads", 't', &c->threads, 0, 256, "threads, 0 = all processors");
    cli_add_size(spec, "ctx", 0, &c->context, 0, 1 << 20, "positions, 0 = the model's context");
    cli_add_string(spec, "activations", 0, &c->activations, "int8|f32",
                   "int8 (served) or f32 (reference)");
    cli_add_quant_flag(spec, c);
    cli_add_flag(spec, "json", &c->json, "one JSON object on stdout");
}

void cli_add_decode_flags(cli_spec *spec, cli_common *c)
{
    cli_add_string(spec, "heads", 0, &c->heads, "FILE", "heads file to draft with");
    cli_add_size(spec, "set", 0, &c->head_set, 0, 31, "which set of the heads file");
    cli_add_string(spec, "datastore", 0, &c->datastore, "FILE",
                   "text to draft from, made by `gorgon index`");
    cli_add_string(spec, "propose", 0, &c->propose, "A,B|all|none",
                   "proposers (default: heads if there are any, lookup, recycling, and datastore "
                   "if one is given)");
    cli_add_string(spec, "tree", 0, &c->tree, "T", "auto, off, a number of draft nodes, or a file");
    cli_add_string(spec, "rule", 0, &c->rule, "RULE", "verification rule: exact");
    cli_add_string(spec, "cost-cache", 0, &c->cost_cache, "FILE",
                   "measured pass costs are kept here");
}

void cli_add_sampling_flags(cli_spec *spec, cli_common *c)
{
    cli_add_size(spec, "tokens", 'n', &c->tokens, 1, 1 << 20, "tokens to generate at most");
    cli_add_double(spec, "temp", &c->temperature, 0, 100, "temperature, 0 = greedy");
    cli_add_size(spec, "top-k", 0, &c->top_k, 0, 1 << 20, "keep the k likeliest, 0 = all");
    cli_add_double(spec, "top-p", &c->top_p, 0, 1, "keep this probability mass");
    cli_add_double(spec, "min-p", &c->min_p, 0, 1, "keep p >= this share of the likeliest");
    cli_add_u64(spec, "seed", &c->seed, 0, 1.8e19, "seed of the sampling noise");
    cli_add(spec, (cli_option){"stop", 0, CLI_LIST, &c->stop, 0, 0, "TEXT",
                               "stop at this text (may be repeated)"});
    cli_add_flag(spec, "ignore-end", &c->ignore_end, "go on after an end token");
}

void cli_add_chat_template(cli_spec *spec, cli_common *c)
{
    cli_add_string(spec, "chat-template", 0, &c->chat_template, "NAME|FILE",
                   "chat template in the place of the model's own");
}

bool cli_complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("gorgon: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return false;
}

bool cli_fail(const gorgon_error *err)
{
    return cli_complain("%s", err->message);
}

gorgon_sampling cli_sampling(const cli_common *c)
{
    gorgon_sampling s;
    gorgon_sampling_init(&s);
    s.temperature = (float)c->temperature;
    s.top_k = (uint32_t)c->top_k;
    s.top_p = (float)c->top_p;
    s.min_p = (float)c->min_p;
    s.seed = c->seed;
    return s;
}

static bool complain_of_template(const char *name)
{
    char list[400] = "";
    size_t used = 0;
    for (size_t i = 0; gorgon_chat_name(i) && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "",
                                 gorgon_chat_name(i));
    return cli_complain("--chat-template got '%s', expected a file or one of %s", name, list);
}

char *cli_chat_template(const char *name)
{
    size_t length = 0;
    const char *known = gorgon_chat_template(name);
    char *source = NULL;
    if (known) {
        source = malloc(strlen(known) + 1);
        if (source)
            memcpy(source, known, strlen(known) + 1);
        else
            cli_complain("out of memory");
        return source;
    }
    FILE *file = fopen(name, "rb");
    if (!file) {
        complain_of_template(name);
        return NULL;
    }
    fclose(file);
    source = cli_read_file(name, &length);
    if (source && strlen(source) != length) {
        cli_complain("%s: expected a chat template, got a NUL byte at offset %zu", name,
                     strlen(source));
        free(source);
        source = NULL;
    }
    return source;
}

bool cli_open_model(cli_session *session, const cli_common *common, const char *path)
{
    gorgon_error err = {0};
    const gorgon_model_options options = {.threads = common->threads, .quantize = common->quant};
    if (gorgon_model_open_with(path, &options, &session->model, &err) != GORGON_OK)
        return cli_fail(&err);
    if (!common->chat_template)
        return true;
    char *source = cli_chat_template(common->chat_template);
    bool good = source && (gorgon_model_set_chat(session->model, source, &err) == GORGON_OK ||
                           cli_fail(&err));
    free(source);
    return good;
}

bool cli_open_heads(cli_session *session, const cli_common *common)
{
    gorgon_error err = {0};
    bool warning = false;
    if (!common->heads)
        return true;
    if (gorgon_heads_open(common->heads, &session->heads, &err) != GORGON_OK ||
        gorgon_heads_check(session->heads, session->model, &warning, &err) != GORGON_OK)
        return cli_fail(&err);
    for (size_t i = 0; gorgon_heads_warning(session->heads, i); i++)
        cli_complain("warning: %s", gorgon_heads_warning(session->heads, i));
    if (warning)
        cli_complain("warning: %s was trained on another quantisation of this model",
                     common->heads);
    return true;
}

static bool open_datastore(cli_session *session, const cli_common *common)
{
    gorgon_error err = {0};
    if (!common->datastore)
        return true;
    return (gorgon_datastore_open(common->datastore, &session->datastore, &err) == GORGON_OK &&
            gorgon_datastore_check(session->datastore, session->model, &err) == GORGON_OK) ||
           cli_fail(&err);
}

bool cli_open_drafting(cli_session *session, const cli_common *common)
{
    return cli_open_heads(session, common) && open_datastore(session, common);
}

size_t cli_context(const gorgon_model *model, const cli_common *common)
{
    gorgon_model_info info;
    gorgon_model_describe(model, &info);
    return common->context ? common->context : info.context_length;
}

bool cli_open_engine(cli_session *session, const cli_common *common, size_t max_sequences,
                     size_t positions)
{
    enum { PAGE = 64, MEASURED = 256 }; // positions of a KV page; for the planner's measurements
    gorgon_error err = {0};
    gorgon_engine_options options;
    gorgon_engine_options_init(&options);
    options.threads = common->threads;
    options.cpu_level = cli_environment_cpu();
    if (strcmp(common->activations, "f32") == 0)
        options.activations = GORGON_ACTIVATIONS_F32;
    else if (strcmp(common->activations, "int8") != 0)
        return cli_complain("--activations got '%s', expected int8 or f32", common->activations);
    gorgon_model_info info;
    gorgon_model_describe(session->model, &info);
    if (common->context > info.context_length)
        return cli_complain("--ctx got %zu, expected at most %zu, the context of %s",
                            common->context, info.context_length, info.path);
    options.context = common->context;
    options.max_sequences = max_sequences + 1; // the further one for measurements
    size_t context = cli_context(session->model, common);
    if (positions == 0 || positions > context)
        positions = context;
    options.kv_positions = (positions + PAGE - 1) / PAGE * PAGE * max_sequences + MEASURED;
    if (gorgon_engine_create(session->model, &options, &session->engine, &err) != GORGON_OK)
        return cli_fail(&err);
    return true;
}

static const char *default_proposers(const cli_session *s)
{
    static const char *const names[2][2] = {
        {CLI_PROPOSE_WITHOUT_HEADS, CLI_PROPOSE_WITHOUT_HEADS ",datastore"},
        {CLI_PROPOSE_WITH_HEADS, CLI_PROPOSE_WITH_HEADS ",datastore"}};
    return names[s->heads != NULL][s->datastore != NULL];
}

gorgon_decoder_options cli_decoder_options(const cli_session *session, const cli_common *common)
{
    gorgon_decoder_options options;
    gorgon_decoder_options_init(&options);
    options.heads = session->heads;
    options.head_set = common->head_set;
    options.datastore = session->datastore;
    options.propose = common->propose ? common->propose : default_proposers(session);
    if (strcmp(options.propose, "none") == 0)
        options.propose = "";
    options.tree = common->tree;
    options.rule = common->rule;
    options.cost_cache = common->cost_cache;
    return options;
}

bool cli_open_decoder(cli_session *session, const cli_common *common, size_t max_streams)
{
    gorgon_error err = {0};
    gorgon_decoder_options options = cli_decoder_options(session, common);
    options.max_streams = max_streams;
    if (gorgon_decoder_create(session->engine, &options, &session->decoder, &err) != GORGON_OK)
        return cli_fail(&err);
    return true;
}

void cli_close(cli_session *session)
{
    gorgon_decoder_free(session->decoder);
    gorgon_engine_free(session->engine);
    gorgon_heads_free(session->heads);
    gorgon_datastore_free(session->datastore);
    gorgon_model_free(session->model);
}
