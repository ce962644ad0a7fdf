// gorgon info: what checkpoints, heads files, datastores and feature caches hold.
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"

typedef struct amount {
    char text[24];
} amount;

// "134.5 M", or with a unit "98.4 MB".
static amount amount_of(uint64_t n, const char *unit)
{
    static const struct {
        double size;
        const char *prefix;
    } steps[] = {{1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
    amount a;
    snprintf(a.text, sizeof a.text, "%u%s%s", (unsigned)n, *unit ? " " : "", unit);
    for (size_t i = sizeof steps / sizeof *steps; i-- > 0;) {
        if ((double)n >= steps[i].size)
            snprintf(a.text, sizeof a.text, "%.*f %s%s", i == 0 ? 2 : 1, (double)n / steps[i].size,
                     steps[i].prefix, unit);
    }
    return a;
}

static const char *plural(size_t n)
{
    return n == 1 ? "" : "s";
}

static bool is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static bool holds(const char *directory, const char *name)
{
    char path[4096];
    struct stat info;
    const int n = snprintf(path, sizeof path, "%s/%s", directory, name);
    return n > 0 && (size_t)n < sizeof path && stat(path, &info) == 0;
}

static json_t *model_json(const gorgon_model_info *i)
{
    return json_pack(
        "{s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:b,s:I,s:I,s:I,s:I,"
        "s:s,s:s}",
        "kind", "checkpoint", "path", i->path, "architecture", i->architecture, "name", i->name,
        "layers", (json_int_t)i->n_layers, "d_model", (json_int_t)i->d_model, "attention_heads",
        (json_int_t)i->n_heads, "kv_heads", (json_int_t)i->n_kv_heads, "head_dim",
        (json_int_t)i->head_dim, "d_ff", (json_int_t)i->d_ff, "vocabulary", (json_int_t)i->n_vocab,
        "context", (json_int_t)i->context_length, "window", (json_int_t)i->window, "window_layers",
        (json_int_t)i->n_window_layers, "short_context", (json_int_t)i->short_context, "rope_base",
        (double)i->rope_base, "tied_output", (int)i->tied_output, "parameters",
        (json_int_t)i->n_parameters, "file_bytes", (json_int_t)i->file_bytes, "memory_bytes",
        (json_int_t)i->memory_bytes, "kv_bytes_per_position", (json_int_t)i->kv_position_bytes,
        "matrix_type", i->matrix_type, "output_type", i->output_type);
}

static void print_model(const gorgon_model_info *i)
{
    printf("%s: %s, %s \"%s\"\n", i->path,
           is_directory(i->path) ? "Hugging Face checkpoint" : "GGUF checkpoint", i->architecture,
           i->name);
    printf("  %s parameters in %zu layer%s of width %zu (feed-forward %zu)\n",
           amount_of(i->n_parameters, "").text, i->n_layers, plural(i->n_layers), i->d_model,
           i->d_ff);
    printf("  attention: %zu head%s of %zu over %zu KV head%s, rotary base %.10g\n", i->n_heads,
           plural(i->n_heads), i->head_dim, i->n_kv_heads, plural(i->n_kv_heads),
           (double)i->rope_base);
    if (i->short_context > 0)
        printf("  rotary factors: short ones up to --ctx %zu, long ones beyond\n",
               i->short_context);
    if (i->n_window_layers > 0)
        printf("  sliding window: %zu positions in %zu of the layers\n", i->window,
               i->n_window_layers);
    printf("  vocabulary: %zu tokens, output %s (%s)\n", i->n_vocab,
           i->tied_output ? "tied to the embedding" : "of its own", i->output_type);
    printf("  context: %zu positions, %s of KV each\n", i->context_length,
           amount_of(i->kv_position_bytes, "B").text);
    printf("  weights: mostly %s, %s on disk, %s in memory\n", i->matrix_type,
           amount_of(i->file_bytes, "B").text, amount_of(i->memory_bytes, "B").text);
}

typedef struct type_count {
    char name[16];
    size_t tensors;
    uint64_t bytes;
} type_count;

typedef struct type_table {
    type_count rows[32];
    size_t n;
} type_table;

static void count_type(void *context, const char *name, const char *type, const uint64_t *dims,
                       size_t n_dims, uint64_t bytes)
{
    (void)name;
    (void)dims;
    (void)n_dims;
    type_table *table = context;
    size_t i = 0;
    while (i < table->n && strcmp(table->rows[i].name, type) != 0)
        i++;
    if (i == sizeof table->rows / sizeof table->rows[0])
        return;
    if (i == table->n) {
        snprintf(table->rows[i].name, sizeof table->rows[i].name, "%s", type);
        table->n++;
    }
    table->rows[i].tensors++;
    table->rows[i].bytes += bytes;
}

// Tokens per pass when a chain of first choices is verified: a head counts only where all before it
// were right, taken as independent.
static double chain_tokens(const json_t *accuracy)
{
    const json_t *heads = json_object_get(accuracy, "heads");
    double tokens = 1, path = 1;
    for (size_t h = 0; h < json_array_size(heads); h++) {
        const json_t *top = json_object_get(json_array_get(heads, h), "top");
        path *= json_number_value(json_array_get(top, 0));
        tokens += path;
    }
    return tokens;
}

static json_t *set_json(const gorgon_head_set_info *s)
{
    json_t *out =
        json_pack("{s:s,s:I,s:I,s:I,s:I,s:b,s:b,s:b,s:b,s:b,s:b,s:b,s:I,s:s,s:b}", "kind", s->kind,
                  "heads", (json_int_t)s->n_heads, "blocks", (json_int_t)s->n_blocks, "d_model",
                  (json_int_t)s->d_model, "draft_vocabulary", (json_int_t)s->n_draft,
                  "root_embedding", (int)s->root_embedding, "own_output", (int)s->own_output,
                  "shared_output", (int)s->shared_output, "output_bias", (int)s->output_bias,
                  "bias_free", (int)s->bias_free, "residual", (int)s->residual, "raw_embedding",
                  (int)s->raw_embedding, "parameters", (json_int_t)s->n_parameters, "weight_type",
                  s->weight_type, "calibrated", (int)s->calibrated);
    if (s->rank)
        json_object_set_new(out, "rank", json_integer((json_int_t)s->rank));
    if (s->window)
        json_object_set_new(out, "layer",
                            json_pack("{s:I,s:I,s:I}", "attention_heads",
                                      (json_int_t)s->n_attention, "d_ff", (json_int_t)s->n_ffn,
                                      "window", (json_int_t)s->window));
    json_t *training = json_loads(s->training_json, 0, NULL);
    json_object_set_new(out, "training", training ? training : json_null());
    json_t *accuracy = json_loads(s->accuracy_json, 0, NULL);
    if (accuracy)
        json_object_set_new(out, "chain_tokens_per_pass", json_real(chain_tokens(accuracy)));
    json_object_set_new(out, "accuracy", accuracy ? accuracy : json_null());
    return out;
}

static void print_accuracy(const char *accuracy_json)
{
    json_t *accuracy = json_loads(accuracy_json, 0, NULL);
    const json_t *heads = json_object_get(accuracy, "heads");
    for (size_t h = 0; h < json_array_size(heads); h++) {
        const json_t *row = json_object_get(json_array_get(heads, h), "top");
        printf("    head %zu: top-1 %.1f %%, top-3 %.1f %%, top-10 %.1f %%\n", h + 1,
               100 * json_number_value(json_array_get(row, 0)),
               100 * json_number_value(json_array_get(row, 2)),
               100 * json_number_value(json_array_get(row, 9)));
    }
    if (accuracy)
        printf(
            "    estimate: %.2f tokens per pass from the first choices alone, on held-out text\n",
            chain_tokens(accuracy));
    json_decref(accuracy);
}

// The record in short; --json has all of it.
static void print_training(const char *training_json)
{
    json_t *record = json_loads(training_json, 0, NULL);
    const json_t *options = json_object_get(record, "options");
    const json_t *data = json_object_get(record, "data");
    const char *recipe = json_string_value(json_object_get(record, "recipe"));
    const char *seed = json_string_value(json_object_get(options, "seed"));
    if (recipe)
        printf(
            "    trained: %s, %s positions of self-made text, %lld steps, epochs %g, seed %llu\n",
            recipe,
            amount_of((uint64_t)json_integer_value(json_object_get(data, "trained_positions")), "")
                .text,
            (long long)json_integer_value(json_object_get(record, "steps")),
            json_number_value(json_object_get(options, "epochs")),
            seed ? strtoull(seed, NULL, 16) : 0);
    json_decref(record);
}

// What goes in, what comes out.
static void print_wiring(const gorgon_head_set_info *s)
{
    printf("    input: hidden state%s%s%s%s; output: %s%s over ",
           s->root_embedding ? " and the root token's embedding" : "",
           s->raw_embedding ? " as it is" : "", s->residual ? ", mapped" : "",
           s->bias_free ? "; blocks without bias" : "",
           !s->own_output     ? "the base's"
           : s->shared_output ? "one matrix for all heads"
                              : "own matrices",
           s->output_bias ? " and biases" : "");
    if (s->n_draft)
        printf("a draft vocabulary of %zu ids", s->n_draft);
    else
        printf("all ids");
    printf("; %s\n", s->calibrated ? "calibrated" : "not calibrated");
}

static void print_set(size_t index, const gorgon_head_set_info *s)
{
    printf("  set %zu: %s, %zu head%s of %zu block%s, %s parameters (%s)\n", index, s->kind,
           s->n_heads, plural(s->n_heads), s->n_blocks, plural(s->n_blocks),
           amount_of(s->n_parameters, "").text, s->weight_type);
    if (s->window)
        printf(
            "    decoder layer: %zu attention head%s, feed-forward %zu, window of %zu positions\n",
            s->n_attention, plural(s->n_attention), s->n_ffn, s->window);
    print_wiring(s);
    print_accuracy(s->accuracy_json);
    print_training(s->training_json);
}

static void print_base(const gorgon_heads *heads)
{
    const gorgon_fingerprint f = gorgon_heads_fingerprint(heads);
    const char *name = gorgon_heads_base_name(heads);
    if (*name)
        printf("heads for \"%s\"", name);
    else
        printf("heads for a model that they do not name");
    printf(" (width %u", f.d_model);
    if (f.n_layers)
        printf(", %u layers", f.n_layers);
    if (f.n_vocab)
        printf(", %u tokens", f.n_vocab);
    printf(")");
}

// The config's claims, one key after another.
static void print_config(const gorgon_heads *heads)
{
    json_t *config = json_loads(gorgon_heads_config(heads), 0, NULL), *value;
    const char *key, *separator = "  config.json says: ";
    json_object_foreach(config, key, value)
    {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        printf("%s%s %s", separator, key, text ? text : "?");
        separator = ", ";
        free(text);
    }
    if (json_object_size(config) > 0)
        putchar('\n');
    json_decref(config);
    for (size_t i = 0; gorgon_heads_warning(heads, i); i++)
        printf("  warning: %s\n", gorgon_heads_warning(heads, i));
}

static json_t *heads_json(const gorgon_heads *heads, const char *path, json_t *sets)
{
    json_t *warnings = json_array();
    json_t *config = json_loads(gorgon_heads_config(heads), 0, NULL);
    for (size_t i = 0; gorgon_heads_warning(heads, i); i++)
        json_array_append_new(warnings, json_string(gorgon_heads_warning(heads, i)));
    return json_pack("{s:s,s:s,s:s,s:s,s:I,s:s,s:I,s:O,s:o*,s:o}", "kind", "heads", "path", path,
                     "format", gorgon_heads_format(heads), "container",
                     gorgon_heads_container(heads), "tensors",
                     (json_int_t)gorgon_heads_tensors(heads), "base", gorgon_heads_base_name(heads),
                     "file_bytes", (json_int_t)gorgon_heads_file_bytes(heads), "sets", sets,
                     "config", config, "warnings", warnings);
}

bool cli_report_heads(const char *path, bool json, json_t *more)
{
    gorgon_error err = {0};
    gorgon_heads *heads = NULL;
    if (gorgon_heads_open(path, &heads, &err) != GORGON_OK)
        return cli_fail(&err);
    json_t *sets = json_array();
    if (!json) {
        printf("%s: ", path);
        print_base(heads);
        printf(", %s, %s of %zu tensors, %s\n", gorgon_heads_format(heads),
               gorgon_heads_container(heads), gorgon_heads_tensors(heads),
               amount_of(gorgon_heads_file_bytes(heads), "B").text);
    }
    for (size_t i = 0; i < gorgon_heads_count(heads); i++) {
        gorgon_head_set_info set;
        if (gorgon_heads_describe(heads, i, &set, &err) != GORGON_OK)
            continue;
        if (json)
            json_array_append_new(sets, set_json(&set));
        else
            print_set(i, &set);
    }
    bool good = true;
    if (json) {
        json_t *report = heads_json(heads, path, sets);
        json_object_update(report, more);
        good = cli_print_json(report);
    } else {
        print_config(heads);
    }
    json_decref(sets);
    gorgon_heads_free(heads);
    return good;
}

bool cli_report_datastore(const char *path, bool json)
{
    gorgon_error err = {0};
    gorgon_datastore *store = NULL;
    if (gorgon_datastore_open(path, &store, &err) != GORGON_OK ||
        gorgon_datastore_verify(store, &err) != GORGON_OK) {
        gorgon_datastore_free(store);
        return cli_fail(&err);
    }
    gorgon_datastore_info i;
    gorgon_datastore_describe(store, &i);
    bool good = true;
    if (json) {
        char vocabulary[17];
        snprintf(vocabulary, sizeof vocabulary, "%016llx", (unsigned long long)i.vocabulary);
        good = cli_print_json(
            json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I}", "kind", "datastore", "path", path,
                      "vocabulary", vocabulary, "vocabulary_size", (json_int_t)i.n_vocab, "texts",
                      (json_int_t)i.texts, "tokens", (json_int_t)i.tokens, "places",
                      (json_int_t)i.places, "file_bytes", (json_int_t)i.file_bytes));
    } else {
        printf("%s: datastore, %llu tokens of %llu texts, %s, checksums right\n", path,
               (unsigned long long)i.tokens, (unsigned long long)i.texts,
               amount_of(i.file_bytes, "B").text);
        printf("  for models with vocabulary %016llx of %u tokens\n",
               (unsigned long long)i.vocabulary, (unsigned)i.n_vocab);
    }
    gorgon_datastore_free(store);
    return good;
}

static json_t *types_json(const type_table *types)
{
    json_t *list = json_array();
    for (size_t i = 0; i < types->n; i++)
        json_array_append_new(list, json_pack("{s:s,s:I,s:I}", "type", types->rows[i].name,
                                              "tensors", (json_int_t)types->rows[i].tensors,
                                              "bytes", (json_int_t)types->rows[i].bytes));
    return list;
}

static void print_types(const type_table *types)
{
    for (size_t i = 0; i < types->n; i++)
        printf("%s%zu %s (%s)", i > 0 ? ", " : "  tensors: ", types->rows[i].tensors,
               types->rows[i].name, amount_of(types->rows[i].bytes, "B").text);
    putchar('\n');
}

// Printed, or in *out for JSON (the caller's).
static bool describe_model(const char *path, const cli_common *common, json_t **out)
{
    gorgon_error err = {0};
    cli_session session = {0};
    type_table types = {0};
    if (!cli_open_model(&session, common, path))
        return false;
    if (gorgon_tensors_visit(path, count_type, &types, &err) != GORGON_OK) {
        cli_close(&session);
        return cli_fail(&err);
    }
    gorgon_model_info info;
    gorgon_model_describe(session.model, &info);
    const bool chat = gorgon_tokenizer_has_chat(gorgon_model_tokenizer(session.model));
    if (out) {
        *out = model_json(&info);
        json_object_set_new(*out, "tensor_types", types_json(&types));
        json_object_set_new(*out, "cpu_level", json_string(gorgon_cpu_best_level()));
        json_object_set_new(*out, "chat_template", json_boolean(chat));
    } else {
        print_model(&info);
        print_types(&types);
        printf("  chat template: %s\n", chat ? "known" : "none known");
        printf("  this CPU: level %s\n", gorgon_cpu_best_level());
    }
    cli_close(&session);
    return true;
}

bool cli_report_model(const char *path, bool json, const cli_common *common)
{
    json_t *report = NULL;
    return describe_model(path, common, json ? &report : NULL) && (!json || cli_print_json(report));
}

// Heads in the files of their base (FasterDecoding v1.0): both.
static bool report_merged(const char *path, bool json, const cli_common *common)
{
    json_t *model = NULL, *more = NULL;
    if (!describe_model(path, common, json ? &model : NULL))
        return false;
    if (json)
        more = json_pack("{s:o}", "checkpoint", model);
    const bool good = cli_report_heads(path, json, more);
    json_decref(more);
    return good;
}

static bool report_cache(const char *path, bool json)
{
    gorgon_error err = {0};
    gorgon_cache_info i;
    if (gorgon_cache_describe(NULL, path, &i, &err) != GORGON_OK)
        return cli_fail(&err);
    char seed[17], vocabulary[17];
    snprintf(seed, sizeof seed, "%016llx", (unsigned long long)i.seed);
    snprintf(vocabulary, sizeof vocabulary, "%016llx", (unsigned long long)i.base.vocabulary);
    if (json)
        return cli_print_json(json_pack(
            "{s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:s,s:b}", "kind", "cache", "path", path,
            "vocabulary", vocabulary, "vocabulary_size", (json_int_t)i.base.n_vocab, "layers",
            (json_int_t)i.base.n_layers, "d_model", (json_int_t)i.base.d_model, "tokens",
            (json_int_t)i.tokens, "sequences", (json_int_t)i.sequences, "file_bytes",
            (json_int_t)i.bytes, "seed", seed, "complete", (int)i.complete));
    printf("%s: feature cache, %s tokens in %llu sequences, %s, %s\n", path,
           amount_of(i.tokens, "").text, (unsigned long long)i.sequences,
           amount_of(i.bytes, "B").text, i.complete ? "complete" : "synthesis not finished");
    printf("  written by a model of %u layers of width %u, %u tokens (vocabulary %s); seed %llu\n",
           (unsigned)i.base.n_layers, (unsigned)i.base.d_model, (unsigned)i.base.n_vocab,
           vocabulary, (unsigned long long)i.seed);
    return true;
}

static bool report(const char *path, bool json, const cli_common *common)
{
    if (gorgon_heads_probe(path))
        return holds(path, "tokenizer.json") ? report_merged(path, json, common)
                                             : cli_report_heads(path, json, NULL);
    if (gorgon_datastore_probe(path))
        return cli_report_datastore(path, json);
    return holds(path, "cache.json") ? report_cache(path, json)
                                     : cli_report_model(path, json, common);
}

int cmd_info(int argc, char **argv)
{
    bool json = false, good = true;
    size_t n = 0;
    cli_common common;
    cli_common_init(&common);
    const char *paths[16], *plot = NULL;
    cli_spec spec = {
        .command = "info",
        .summary =
            "what a checkpoint, heads file, datastore or feature cache holds, counted from its "
            "content",
        .positional = "FILE...",
        .min_positional = 1,
        .max_positional = 16,
        .examples = "  gorgon info model.gguf heads.gguf\n"
                    "  gorgon info --json model.gguf | jq .parameters\n"
                    "  gorgon info heads.gguf --plot loss.svg\n",
    };
    cli_add_flag(&spec, "json", &json, "one JSON object per file");
    cli_add_size(&spec, "threads", 't', &common.threads, 0, 256, "threads for loading");
    cli_add_quant_flag(&spec, &common);
    cli_add_string(&spec, "plot", 0, &plot, "FILE.svg", "draw the training of one heads file");
    cli_parsed parsed = cli_parse(&spec, argc, argv, paths, &n);
    if (parsed != CLI_PARSED)
        return parsed == CLI_PARSED_HELP ? CLI_OK : CLI_BAD;
    if (plot && (n != 1 || !gorgon_heads_probe(paths[0])))
        good = cli_complain("info: --plot needs one heads file, got %s%s", paths[0],
                            n > 1 ? " and more" : "");
    for (size_t i = 0; i < n && good; i++)
        good = report(paths[i], json, &common);
    good = good && (!plot || cli_plot_training(paths[0], 0, plot));
    return good ? CLI_OK : CLI_BAD;
}
