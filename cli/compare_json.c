// The comparison as one JSON object: what was compared and how, a summary with means over seeds,
// and every contestant's records.
#include <stdlib.h>
#include <string.h>

#include "compare.h"

// Names from outside: as far as they are UTF-8.
static json_t *text_json(const char *text)
{
    json_t *out = json_stringn(text, gorgon_utf8_complete(text, strlen(text)));
    return out ? out : json_string("?");
}

// What a heads file says as JSON; null if it says nothing.
static json_t *embedded(const char *text)
{
    json_t *value = text[0] ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    return value ? value : json_null();
}

json_t *compare_describe_heads(uint64_t seed, const char *directory, json_t *trained,
                               json_t *calibrated, json_t *evaluated)
{
    char path[COMPARE_PATH];
    gorgon_error err = {0};
    gorgon_heads *heads = NULL;
    gorgon_head_set_info info;
    json_t *out = NULL;
    if (compare_path(path, "%s/heads.gguf", directory)) {
        if (gorgon_heads_open(path, &heads, &err) != GORGON_OK ||
            gorgon_heads_describe(heads, 0, &info, &err) != GORGON_OK)
            cli_fail(&err);
        else
            out = json_pack(
                "{s:I,s:o,s:s,s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:O,s:O,s:O?,s:O?,s:O?}", "seed",
                (json_int_t)seed, "heads", text_json(path), "kind", info.kind, "n_heads",
                (json_int_t)info.n_heads, "n_blocks", (json_int_t)info.n_blocks, "draft_vocab",
                (json_int_t)info.n_draft, "parameters", (json_int_t)info.n_parameters, "file_bytes",
                (json_int_t)gorgon_heads_file_bytes(heads), "training",
                embedded(info.training_json), "accuracy", embedded(info.accuracy_json), "train",
                trained, "calibrate", calibrated, "mixes", json_object_get(evaluated, "mixes"),
                "machine", json_object_get(evaluated, "machine"), "commit",
                json_object_get(evaluated, "commit"));
    }
    if (heads && !out && !err.message[0])
        cli_complain("out of memory");
    gorgon_heads_free(heads);
    json_decref(trained);
    json_decref(calibrated);
    json_decref(evaluated);
    return out;
}

// Mean, least and most of a number over the seeds: of the seed itself (mix < 0) or of one mix.
static json_t *spread(const json_t *seeds, int mix, const char *keys)
{
    double sum = 0, low = 0, high = 0;
    size_t n = json_array_size(seeds);
    for (size_t i = 0; i < n; i++) {
        char prefix[32];
        const json_t *from = json_array_get(seeds, i);
        snprintf(prefix, sizeof prefix, "mixes.%d", mix);
        double x = cli_json_number(mix < 0 ? from : cli_json_at(from, prefix), keys);
        sum += x;
        low = i == 0 || x < low ? x : low;
        high = i == 0 || x > high ? x : high;
    }
    return json_pack("{s:f,s:f,s:f}", "mean", n > 0 ? sum / (double)n : 0, "min", low, "max", high);
}

static json_t *trees_summary(const json_t *seeds, int mix)
{
    json_t *out = json_array();
    for (size_t i = 0; i < COMPARE_SIZES; i++) {
        char tokens[64], draft[64];
        snprintf(tokens, sizeof tokens, "trees.%zu.tokens_per_pass", i);
        snprintf(draft, sizeof draft, "trees.%zu.draft_ms", i);
        json_array_append_new(out, json_pack("{s:I,s:o,s:o}", "nodes", (json_int_t)compare_sizes[i],
                                             "tokens_per_pass", spread(seeds, mix, tokens),
                                             "draft_ms", spread(seeds, mix, draft)));
    }
    return out;
}

static bool same_output(const json_t *mix)
{
    size_t i;
    json_t *tree;
    bool same = json_is_true(cli_json_at(mix, "auto.same_output"));
    json_array_foreach(json_object_get(mix, "trees"), i, tree)
    {
        same = same && json_is_true(json_object_get(tree, "same_output"));
    }
    return same;
}

static json_t *summary_row(const json_t *contestant, int mix, bool *all_same)
{
    char prefix[32];
    const json_t *seeds = json_object_get(contestant, "seeds");
    const json_t *propose = NULL;
    bool same = true;
    snprintf(prefix, sizeof prefix, "mixes.%d", mix);
    for (size_t i = 0; i < json_array_size(seeds); i++) {
        const json_t *one = cli_json_at(json_array_get(seeds, i), prefix);
        propose = json_object_get(one, "propose");
        same = same && same_output(one);
    }
    *all_same = *all_same && same;
    json_t *row = json_pack("{s:O,s:O,s:I,s:b}", "name", json_object_get(contestant, "name"),
                            "architecture", json_object_get(contestant, "architecture"), "seeds",
                            (json_int_t)json_array_size(seeds), "same_output", same);
    json_object_set_new(row, "propose", json_string(json_string_value(propose)));
    json_object_set_new(row, "parameters", spread(seeds, -1, "parameters"));
    json_object_set_new(row, "train_seconds", spread(seeds, -1, "train.seconds"));
    json_object_set_new(row, "calibrate_seconds", spread(seeds, -1, "calibrate.seconds"));
    json_object_set_new(row, "trees", trees_summary(seeds, mix));
    static const char *const figures[][2] = {
        {"tokens_per_pass", "auto.speculative.tokens_per_pass"},
        {"tokens_per_s", "auto.speculative.tokens_per_s"},
        {"plain_tokens_per_s", "auto.plain.tokens_per_s"},
        {"speedup", "auto.speculative.speedup"},
        {"median_speedup", "auto.speculative.median_speedup"}};
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++)
        json_object_set_new(row, figures[i][0], spread(seeds, mix, figures[i][1]));
    return row;
}

static json_t *summary(const json_t *contestants, bool *all_same)
{
    size_t i;
    json_t *contestant, *out = json_array();
    json_array_foreach(contestants, i, contestant)
    {
        size_t n = json_array_size(cli_json_at(contestant, "seeds.0.mixes"));
        for (size_t mix = 0; mix < n; mix++)
            json_array_append_new(out, summary_row(contestant, (int)mix, all_same));
    }
    return out;
}

static json_t *model_json(const compare *c)
{
    gorgon_model_info info;
    gorgon_model_describe(c->session.model, &info);
    json_t *out = compare_model_json(c);
    json_object_set_new(out, "file", text_json(info.path));
    json_object_set_new(out, "name", text_json(info.name));
    json_object_set_new(out, "matrix_type", json_string(info.matrix_type));
    json_object_set_new(out, "parameters", json_integer((json_int_t)info.n_parameters));
    return out;
}

static json_t *budget_json(const compare *c)
{
    json_t *out = json_object();
    if (c->minutes > 0)
        json_object_set_new(out, "minutes", json_real(c->minutes));
    else
        json_object_set_new(out, "epochs", json_real(c->train.epochs));
    if (c->parameters > 0)
        json_object_set_new(out, "parameters", json_integer((json_int_t)c->parameters));
    return out;
}

json_t *compare_json(compare *c, json_t *contestants)
{
    bool same = true;
    json_t *rows = summary(contestants, &same), *cache = compare_cache_json(c);
    json_t *out = json_pack("{s:s,s:I,s:s,s:s}", "format", "gorgon-compare", "version",
                            (json_int_t)1, "gorgon", GORGON_VERSION, "commit", GORGON_COMMIT);
    json_object_set_new(out, "command", text_json(c->command));
    json_object_set_new(out, "model", model_json(c));
    json_object_set_new(cache, "directory", text_json(c->cache));
    json_object_set_new(out, "cache", cache);
    json_object_set_new(out, "budget", budget_json(c));
    json_object_set_new(out, "prompts",
                        json_pack("{s:o,s:I,s:I}", "file", text_json(c->prompts_path), "count",
                                  (json_int_t)c->n_chosen, "answer_tokens",
                                  (json_int_t)c->common.tokens));
    json_object_set_new(out, "machine", pairs_machine_json(&c->session));
    json_object_set_new(out, "same_output", json_boolean(same));
    json_object_set_new(out, "summary", rows);
    json_object_set_new(out, "contestants", contestants);
    return out;
}
