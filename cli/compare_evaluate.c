// Decoding the prompts with the proposers of one contestant: tokens per pass for fixed sizes of the
// tree, and rates with the planner's own, in turn with plain decoding.
#include <stdlib.h>
#include <string.h>

#include "compare.h"

const size_t compare_sizes[COMPARE_SIZES] = {1, 3, 7, COMPARE_NODES, 31};

typedef struct evaluation {
    compare *c;
    const char *label;
    gorgon_decoder_options options;
    size_t done, total; // decoded prompts
    double began;
} evaluation;

static bool advance(evaluation *e)
{
    char stage[COMPARE_NAME + 64];
    snprintf(stage, sizeof stage, "%s: evaluate", e->label);
    double elapsed = cli_seconds() - e->began;
    gorgon_progress p = {stage, "prompts", ++e->done, e->total, 0, -1, e->options.propose};
    p.rate = elapsed > 0 ? (double)e->done / elapsed : 0;
    p.eta_s = p.rate > 0 ? (double)(e->total - e->done) / p.rate : -1;
    return cli_progress(NULL, &p);
}

// What every speculative output is compared with.
static bool decode_reference(compare *c)
{
    gorgon_error err = {0};
    gorgon_decoder_options options;
    if (c->reference)
        return true;
    gorgon_decoder_options_init(&options);
    options.tree = "off";
    options.record_logits = true;
    c->reference = calloc(c->prompts.n, sizeof *c->reference);
    if (!c->reference)
        return cli_complain("out of memory");
    if (gorgon_decoder_create(c->session.engine, &options, &c->plain, &err) != GORGON_OK)
        return cli_fail(&err);
    for (size_t i = 0; i < c->prompts.n; i++) {
        gorgon_request request = pairs_request(&c->prompts, i);
        if (c->chosen[i] && !(c->reference[i] = pairs_decode(c->plain, &request)))
            return false;
    }
    return true;
}

static bool decode_all(evaluation *e, gorgon_decoder *decoder, pairs_result *result)
{
    compare *c = e->c;
    for (size_t i = 0; i < c->prompts.n; i++) {
        if (!c->chosen[i])
            continue;
        gorgon_request request = pairs_request(&c->prompts, i);
        gorgon_stream *stream = pairs_decode(decoder, &request);
        bool good = stream && pairs_add(&c->prompts, i, c->reference[i], stream, result);
        gorgon_stream_free(stream);
        if (!good || !advance(e))
            return false;
    }
    return true;
}

static json_t *counts_json(const pairs_rate *r)
{
    return json_pack("{s:I,s:I,s:f}", "tokens", (json_int_t)r->tokens, "passes",
                     (json_int_t)r->passes, "tokens_per_pass", pairs_tokens_per_pass(r));
}

static json_t *tree_json(size_t nodes, const pairs_result *r)
{
    const pairs_rate *rate = &r->all.speculative;
    json_t *out = counts_json(rate), *tasks = json_object();
    for (size_t i = 0; i < r->tasks.n; i++)
        json_object_set_new(tasks, r->tasks.rows[i].name,
                            counts_json(&r->tasks.rows[i].speculative));
    json_object_set_new(out, "nodes", json_integer((json_int_t)nodes));
    json_object_set_new(out, "draft_ms",
                        json_real(rate->passes > 0 ? 1e3 * rate->draft_s / rate->passes : 0));
    json_object_set_new(out, "same_output", json_boolean(r->all.same_output));
    json_object_set(out, "differing", r->differing);
    json_object_set_new(out, "tasks", tasks);
    if (nodes == compare_sizes[COMPARE_SIZES - 1])
        json_object_set_new(out, "acceptance", pairs_acceptance_json(r));
    return out;
}

// A decoder of its own for every size: no figure depends on what was decoded before.
static json_t *measure_tree(evaluation *e, size_t nodes)
{
    char tree[24];
    gorgon_error err = {0};
    pairs_decoders decoders = {NULL, NULL};
    pairs_result result;
    gorgon_decoder_options options = e->options;
    snprintf(tree, sizeof tree, "%zu", nodes);
    options.tree = tree;
    options.record_logits = true;
    json_t *out = NULL;
    if (!pairs_result_init(&result))
        return NULL;
    if (gorgon_decoder_create(e->c->session.engine, &options, &decoders.speculative, &err) !=
        GORGON_OK)
        cli_fail(&err);
    else if (decode_all(e, decoders.speculative, &result)) {
        pairs_take_telemetry(&decoders, &result);
        out = tree_json(nodes, &result);
    }
    pairs_close(&decoders);
    pairs_result_clear(&result);
    return out;
}

static bool run_pairs(evaluation *e, const pairs_decoders *decoders, pairs_result *result)
{
    compare *c = e->c;
    bool swap = false;
    for (size_t i = 0; i < c->prompts.n; i++) {
        if (!c->chosen[i])
            continue;
        if (!pairs_run(decoders, &c->prompts, i, swap, result) || !advance(e))
            return false;
        swap = !swap;
    }
    pairs_take_telemetry(decoders, result);
    return true;
}

static json_t *measure_rate(evaluation *e)
{
    compare *c = e->c;
    pairs_decoders decoders = {NULL, NULL};
    pairs_result result;
    size_t first = 0;
    json_t *out = NULL;
    while (!c->chosen[first])
        first++;
    if (!pairs_result_init(&result))
        return NULL;
    if (pairs_open(&c->session, &e->options, &decoders) &&
        pairs_warm_up(&decoders, &c->prompts.items[first]) && run_pairs(e, &decoders, &result)) {
        out = json_object();
        pairs_put_group(out, &result.all);
        json_object_set(out, "differing", result.differing);
        json_object_set_new(out, "tasks", pairs_table_json(&result.tasks));
        json_object_set_new(out, "acceptance", pairs_acceptance_json(&result));
    }
    pairs_close(&decoders);
    pairs_result_clear(&result);
    return out;
}

// All figures of one list of proposers.
static json_t *measure_mix(evaluation *e)
{
    json_t *rate = measure_rate(e), *trees = json_array();
    bool good = rate != NULL;
    for (size_t i = 0; i < COMPARE_SIZES && good; i++) {
        json_t *tree = measure_tree(e, compare_sizes[i]);
        good = tree && json_array_append_new(trees, tree) == 0;
    }
    json_t *out = good ? json_pack("{s:s,s:O,s:O}", "propose", e->options.propose, "trees", trees,
                                   "auto", rate)
                       : NULL;
    json_decref(rate);
    json_decref(trees);
    return out;
}

static json_t *find_mix(const json_t *mixes, const char *propose)
{
    size_t i;
    json_t *mix;
    json_array_foreach(mixes, i, mix)
    {
        const char *name = json_string_value(json_object_get(mix, "propose"));
        if (name && strcmp(name, propose) == 0)
            return mix;
    }
    return NULL;
}

// From the record, or measured now and put there; a further reference to it goes into `wanted`.
static bool add_mix(evaluation *e, const char *path, json_t *record, const char *propose,
                    json_t *wanted)
{
    json_t *mixes = json_object_get(record, "mixes"), *mix = find_mix(mixes, propose);
    if (mix) {
        e->total -= e->c->n_chosen * (COMPARE_SIZES + 1);
        return json_array_append(wanted, mix) == 0;
    }
    e->options.propose = propose;
    mix = decode_reference(e->c) ? measure_mix(e) : NULL;
    if (!mix || json_array_append_new(mixes, mix) != 0 || json_array_append(wanted, mix) != 0)
        return false;
    json_object_set_new(record, "commit", json_string(GORGON_COMMIT));
    json_object_set_new(record, "machine", pairs_machine_json(&e->c->session));
    return compare_save(path, record);
}

static bool add_mixes(evaluation *e, const char *path, json_t *record, json_t *wanted)
{
    compare *c = e->c;
    bool heads = e->options.heads != NULL;
    e->total = c->n_chosen * (COMPARE_SIZES + 1) * (c->n_lists + heads);
    if (heads && !add_mix(e, path, record, "heads", wanted))
        return false;
    for (size_t i = 0; i < c->n_lists; i++) {
        cli_text propose = {0};
        cli_text_put(&propose, "%s%s", heads ? "heads," : "", c->lists[i]);
        bool good = propose.failed ? cli_complain("out of memory")
                                   : add_mix(e, path, record, propose.data, wanted);
        cli_text_clear(&propose);
        if (!good)
            return false;
    }
    return true;
}

// FNV-1a over the chosen prompts: tokens, place, and the lines with their settings and categories.
static uint64_t hash_bytes(uint64_t hash, const void *data, size_t n)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t prompts_hash(const compare *c)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < c->prompts.n; i++) {
        const cli_prompt *p = &c->prompts.items[i];
        if (!c->chosen[i])
            continue;
        char *line = json_dumps(p->line, JSON_COMPACT | JSON_SORT_KEYS);
        hash = hash_bytes(hash, &i, sizeof i);
        hash = hash_bytes(hash, p->ids, p->n_ids * sizeof *p->ids);
        hash = hash_bytes(hash, line ? line : "", line ? strlen(line) + 1 : 0);
        free(line);
    }
    return hash;
}

static json_t *datastore_json(const gorgon_datastore *store)
{
    gorgon_datastore_info i;
    if (!store)
        return json_null();
    gorgon_datastore_describe(store, &i);
    return json_pack("{s:s,s:I,s:I,s:I}", "path", i.path, "texts", (json_int_t)i.texts, "tokens",
                     (json_int_t)i.tokens, "bytes", (json_int_t)i.file_bytes);
}

static bool identify(const compare *c, json_t *made_from)
{
    char hash[20];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)prompts_hash(c));
    return json_object_set_new(made_from, "prompts", json_string(hash)) == 0 &&
           json_object_set_new(made_from, "datastore", datastore_json(c->session.datastore)) == 0 &&
           json_object_set_new(made_from, "machine", pairs_machine_json(&c->session)) == 0 &&
           json_object_set_new(made_from, "answer_tokens",
                               json_integer((json_int_t)c->common.tokens)) == 0;
}

json_t *compare_evaluate(compare *c, const char *label, const char *directory, const char *heads,
                         json_t *made_from)
{
    char path[COMPARE_PATH];
    evaluation e = {.c = c, .label = label, .began = cli_seconds()};
    cli_session session = {.model = c->session.model};
    cli_common common = c->common;
    common.heads = heads;
    gorgon_decoder_options_init(&e.options);
    e.options.cost_cache = c->common.cost_cache;
    e.options.datastore = c->session.datastore;
    json_t *record = NULL, *wanted = json_array();
    bool good = wanted && identify(c, made_from) &&
                compare_path(path, "%s/evaluate.json", directory) &&
                cli_open_heads(&session, &common);
    if (good) {
        record = compare_load(path, made_from);
        if (!json_is_array(json_object_get(record, "mixes"))) {
            json_decref(record);
            record = json_pack("{s:O,s:[]}", "made_from", made_from, "mixes");
        }
        e.options.heads = session.heads;
        good = record && add_mixes(&e, path, record, wanted);
        cli_progress_end();
    }
    // The file may know of further lists.
    json_object_set_new(record, "mixes", wanted);
    json_decref(made_from);
    gorgon_heads_free(session.heads);
    if (good)
        return record;
    json_decref(record);
    return NULL;
}
