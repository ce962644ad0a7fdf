// gorgon eval: what the model says about given ids, for comparison with other software.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { TOP = 20, HIDDEN_SHOWN = 32, CHUNK = 64 };

// One input line and what is gathered for it.
typedef struct eval_line {
    gorgon_token *ids, *logit_ids;
    size_t n_ids, n_logit_ids;
    bool *wanted; // [n_ids] positions to report
    double nll_sum;
    size_t n_predicted;
    json_t *positions;
} eval_line;

static void free_line(eval_line *l)
{
    free(l->ids);
    free(l->logit_ids);
    free(l->wanted);
    json_decref(l->positions);
}

static bool read_positions(const cli_lines *lines, const json_t *array, eval_line *l)
{
    l->wanted = calloc(l->n_ids + 1, sizeof *l->wanted);
    if (!l->wanted)
        return cli_line_error(lines, "out of memory");
    if (!array) {
        memset(l->wanted, true, l->n_ids * sizeof *l->wanted);
        return true;
    }
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *item = json_array_get(array, i);
        json_int_t p = json_is_integer(item) ? json_integer_value(item) : -1;
        if (p < 0 || (size_t)p >= l->n_ids)
            return cli_line_error(lines, "position %lld, expected 0 to %zu", (long long)p,
                                  l->n_ids - 1);
        l->wanted[p] = true;
    }
    return true;
}

static bool read_line(const cli_lines *lines, const json_t *in, size_t n_vocab, size_t context,
                      eval_line *l)
{
    *l = (eval_line){.positions = json_array()};
    const json_t *logit_ids = json_object_get(in, "logit_ids");
    const json_t *positions = json_object_get(in, "positions");
    if (!cli_ids_from_json(lines, json_object_get(in, "ids"), n_vocab, &l->ids, &l->n_ids))
        return false;
    if (l->n_ids == 0)
        return cli_line_error(lines, "\"ids\" is empty, expected at least one token");
    if (l->n_ids > context)
        return cli_line_error(lines, "%zu ids, expected at most the context of %zu", l->n_ids,
                              context);
    if (positions && !json_is_array(positions))
        return cli_line_error(lines, "\"positions\" is not an array");
    if (logit_ids && !cli_ids_from_json(lines, logit_ids, n_vocab, &l->logit_ids, &l->n_logit_ids))
        return false;
    return read_positions(lines, positions, l);
}

static json_t *top_of(cli_session *s, const float *logits)
{
    gorgon_token ids[TOP];
    float values[TOP];
    size_t n = gorgon_engine_top_k(s->engine, logits, TOP, ids, values);
    json_t *top = json_array();
    for (size_t i = 0; i < n && isfinite(values[i]); i++)
        json_array_append_new(top, json_pack("[i,f]", ids[i], (double)values[i]));
    return top;
}

// null where a head has no logit: ids outside its draft vocabulary.
static json_t *pick_logits(const float *logits, const eval_line *l)
{
    json_t *array = json_array();
    for (size_t i = 0; i < l->n_logit_ids; i++) {
        float value = logits[l->logit_ids[i]];
        json_array_append_new(array, isfinite(value) ? json_real((double)value) : json_null());
    }
    return array;
}

static void hidden_of(const float *hidden, size_t d_model, json_t *out)
{
    double square = 0;
    json_t *first = json_array();
    for (size_t i = 0; i < d_model; i++) {
        square += (double)hidden[i] * (double)hidden[i];
        if (i < HIDDEN_SHOWN)
            json_array_append_new(first, json_real((double)hidden[i]));
    }
    json_object_set_new(out, "hidden", first);
    json_object_set_new(out, "hidden_norm", json_real(sqrt(square)));
}

// Logits of every head at a position, given the token that follows it.
static json_t *heads_of(cli_session *s, const cli_common *common, const eval_line *l,
                        const float *hidden, gorgon_token root)
{
    gorgon_error err = {0};
    gorgon_head_set_info info;
    gorgon_model_info model;
    gorgon_model_describe(s->model, &model);
    if (gorgon_heads_describe(s->heads, common->head_set, &info, &err) != GORGON_OK)
        return NULL;
    size_t n = info.n_draft ? info.n_draft : model.n_vocab;
    float *logits = malloc(info.n_heads * n * sizeof *logits);
    float *full = malloc(model.n_vocab * sizeof *full);
    gorgon_token *ids = malloc(n * sizeof *ids);
    json_t *heads = NULL;
    if (logits && full && ids &&
        gorgon_heads_logits(s->engine, s->heads, common->head_set, hidden, root, logits, ids,
                            &err) == GORGON_OK) {
        heads = json_array();
        for (size_t h = 0; h < info.n_heads; h++) {
            for (size_t i = 0; i < model.n_vocab; i++)
                full[i] = -INFINITY;
            for (size_t i = 0; i < n; i++)
                full[ids[i]] = logits[h * n + i];
            json_t *head = json_object();
            json_object_set_new(head, "top", top_of(s, full));
            json_object_set_new(head, "logits", pick_logits(full, l));
            json_array_append_new(heads, head);
        }
    } else {
        cli_fail(&err);
    }
    free(logits);
    free(full);
    free(ids);
    return heads;
}

static bool report_position(cli_session *s, const cli_common *common, eval_line *l, size_t position,
                            size_t row, size_t d_model)
{
    const float *logits = gorgon_engine_logits(s->engine, row);
    const float *hidden = gorgon_engine_hidden(s->engine, row);
    double lse = (double)gorgon_engine_log_sum_exp(s->engine, logits);
    if (position + 1 < l->n_ids) {
        l->nll_sum += lse - (double)logits[l->ids[position + 1]];
        l->n_predicted++;
    }
    if (!l->wanted[position])
        return true;
    json_t *out = json_object();
    json_object_set_new(out, "position", json_integer((json_int_t)position));
    json_object_set_new(out, "top", top_of(s, logits));
    json_object_set_new(out, "logsumexp", json_real(lse));
    json_object_set_new(out, "logits", pick_logits(logits, l));
    hidden_of(hidden, d_model, out);
    json_array_append_new(l->positions, out);
    if (!s->heads)
        return true;
    // What follows the last position is what the model would say. The heads' product reuses the
    // workspace of the pass, so hidden is copied first.
    gorgon_token root =
        position + 1 < l->n_ids ? l->ids[position + 1] : gorgon_engine_argmax(s->engine, logits);
    float *copy = malloc(d_model * sizeof *copy);
    if (!copy)
        return cli_complain("out of memory");
    memcpy(copy, hidden, d_model * sizeof *copy);
    json_t *heads = heads_of(s, common, l, copy, root);
    free(copy);
    json_object_set_new(out, "heads", heads);
    return heads != NULL;
}

static bool run_line(cli_session *s, const cli_common *common, gorgon_sequence *sequence,
                     eval_line *l)
{
    gorgon_error err = {0};
    gorgon_model_info info;
    gorgon_row rows[CHUNK];
    uint32_t path[CHUNK];
    gorgon_model_describe(s->model, &info);
    if (gorgon_sequence_truncate(sequence, 0, &err) != GORGON_OK)
        return cli_fail(&err);
    for (size_t begin = 0; begin < l->n_ids; begin += CHUNK) {
        size_t n = l->n_ids - begin < CHUNK ? l->n_ids - begin : CHUNK;
        for (size_t i = 0; i < n; i++) {
            rows[i] = (gorgon_row){sequence, l->ids[begin + i], (int32_t)i - 1, GORGON_WANT_LOGITS};
            path[i] = (uint32_t)i;
        }
        if (gorgon_engine_pass(s->engine, rows, n, &err) != GORGON_OK)
            return cli_fail(&err);
        for (size_t i = 0; i < n; i++) {
            if (!report_position(s, common, l, begin + i, i, info.d_model))
                return false;
        }
        if (gorgon_engine_commit(s->engine, sequence, path, n, &err) != GORGON_OK)
            return cli_fail(&err);
    }
    return true;
}

static bool eval_one(cli_session *s, const cli_common *common, gorgon_sequence *sequence,
                     const cli_lines *lines, const json_t *in)
{
    gorgon_model_info info;
    gorgon_model_describe(s->model, &info);
    eval_line l;
    bool good = read_line(lines, in, info.n_vocab, gorgon_engine_context(s->engine), &l) &&
                run_line(s, common, sequence, &l);
    if (good) {
        json_t *out = json_object();
        json_object_set(out, "id", json_object_get(in, "id"));
        json_object_set_new(
            out, "nll", l.n_predicted ? json_real(l.nll_sum / (double)l.n_predicted) : json_null());
        json_object_set_new(out, "tokens", json_integer((json_int_t)l.n_ids));
        json_object_set(out, "positions", l.positions);
        good = cli_print_json(out);
    }
    free_line(&l);
    return good;
}

static bool eval_all(cli_session *s, const cli_common *common, const char *ids_path)
{
    gorgon_error err = {0};
    gorgon_sequence *sequence = NULL;
    cli_lines lines;
    bool bad = true;
    if (!cli_lines_open(&lines, ids_path))
        return false;
    if (gorgon_sequence_create(s->engine, &sequence, &err) != GORGON_OK)
        cli_fail(&err);
    json_t *line = NULL;
    while (sequence && (line = cli_lines_next(&lines, &bad)) != NULL) {
        bad = !eval_one(s, common, sequence, &lines, line);
        json_decref(line);
        if (bad)
            break;
    }
    gorgon_sequence_free(sequence);
    cli_lines_close(&lines);
    return !bad;
}

int cmd_eval(int argc, char **argv)
{
    cli_common common;
    const char *ids_path = NULL, *path = NULL;
    size_t n = 0;
    cli_common_init(&common);
    cli_spec spec = {
        .command = "eval",
        .summary = "logits, hidden states and perplexity of given ids as JSON lines",
        .positional = "MODEL",
        .min_positional = 1,
        .max_positional = 1,
        .examples = "  gorgon eval model.gguf --ids in.jsonl > out.jsonl\n"
                    "  echo '{\"id\":1,\"ids\":[1,9690,198],\"positions\":[2]}' | "
                    "gorgon eval model.gguf --ids - --activations f32\n",
    };
    cli_add_string(&spec, "ids", 0, &ids_path, "FILE",
                   "JSON lines {id, ids, positions?, logit_ids?}, - = standard input");
    cli_add_string(&spec, "heads", 0, &common.heads, "FILE", "add the logits of these heads");
    cli_add_size(&spec, "set", 0, &common.head_set, 0, 31, "which set of the heads file");
    cli_add_engine_flags(&spec, &common);
    cli_parsed parsed = cli_parse(&spec, argc, argv, &path, &n);
    if (parsed != CLI_PARSED)
        return parsed == CLI_PARSED_HELP ? CLI_OK : CLI_BAD;
    if (!ids_path) {
        cli_complain("eval: missing --ids FILE; see gorgon eval --help");
        return CLI_BAD;
    }
    cli_session session = {0};
    bool good = cli_open_model(&session, &common, path) && cli_open_heads(&session, &common) &&
                cli_open_engine(&session, &common, 1, 0) && eval_all(&session, &common, ids_path);
    cli_close(&session);
    return good ? CLI_OK : CLI_BAD;
}
