// See prompts.h.
#include "prompts.h"

#include <stdlib.h>
#include <string.h>

#include "decode_common.h"

static bool take_integer(const cli_lines *lines, const json_t *line, const char *key,
                         json_int_t low, json_int_t high, json_int_t *out)
{
    const json_t *value = json_object_get(line, key);
    if (!value)
        return true;
    *out = json_integer_value(value);
    if (json_is_integer(value) && *out >= low && *out <= high)
        return true;
    return cli_line_error(lines, "\"%s\": expected an integer from %lld to %lld", key,
                          (long long)low, (long long)high);
}

static bool take_number(const cli_lines *lines, const json_t *line, const char *key, double high,
                        bool zero, double *out)
{
    const json_t *value = json_object_get(line, key);
    if (!value)
        return true;
    *out = json_number_value(value);
    if (json_is_number(value) && *out >= 0 && *out <= high && (zero || *out > 0))
        return true;
    return cli_line_error(lines, "\"%s\": expected a number %s 0, at most %g", key,
                          zero ? "from" : "above", high);
}

// One text or an array of texts; they replace those of the flags.
static bool take_stop(const cli_lines *lines, const json_t *line, cli_list *stop)
{
    const json_t *value = json_object_get(line, "stop");
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    if (!value)
        return true;
    if (n > CLI_MAX_LIST)
        return cli_line_error(lines, "\"stop\": %zu texts, expected at most %d", n, CLI_MAX_LIST);
    stop->n = n;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        stop->values[i] = json_string_value(item);
        if (json_string_length(item) == 0 || strlen(stop->values[i]) != json_string_length(item))
            return cli_line_error(lines, "\"stop\": expected a text, or an array of texts");
    }
    return true;
}

static bool take_settings(const cli_lines *lines, const json_t *line, cli_common *c)
{
    json_int_t tokens = (json_int_t)c->tokens, top_k = (json_int_t)c->top_k, seed = -1;
    const json_t *ignore_end = json_object_get(line, "ignore_end");
    if (!take_integer(lines, line, "tokens", 1, 1 << 20, &tokens) ||
        !take_integer(lines, line, "top_k", 0, 1 << 20, &top_k) ||
        !take_integer(lines, line, "seed", 0, INT64_MAX, &seed) ||
        !take_number(lines, line, "temp", 100, true, &c->temperature) ||
        !take_number(lines, line, "top_p", 1, false, &c->top_p) ||
        !take_number(lines, line, "min_p", 1, true, &c->min_p) || !take_stop(lines, line, &c->stop))
        return false;
    if (ignore_end && !json_is_boolean(ignore_end))
        return cli_line_error(lines, "\"ignore_end\": expected true or false");
    c->tokens = (size_t)tokens;
    c->top_k = (size_t)top_k;
    if (seed >= 0)
        c->seed = (uint64_t)seed;
    if (ignore_end)
        c->ignore_end = json_is_true(ignore_end);
    return true;
}

static bool take_ids(const cli_lines *lines, const gorgon_model *model, const json_t *line,
                     bool chat, cli_prompt *p)
{
    const json_t *ids = json_object_get(line, "ids"), *text = json_object_get(line, "prompt");
    const json_t *turns = json_object_get(line, "turns");
    if (!ids + !text + !turns != 2)
        return cli_line_error(lines, "expected one of \"turns\", \"prompt\" and \"ids\"");
    if (ids) {
        size_t n_vocab = gorgon_tokenizer_size(gorgon_model_tokenizer(model));
        if (!cli_ids_from_json(lines, ids, n_vocab, &p->ids, &p->n_ids))
            return false;
        return p->n_ids > 0 || cli_line_error(lines, "\"ids\" is empty, expected a token at least");
    }
    if (turns)
        text = json_array_get(turns, 0);
    if (!json_is_string(text))
        return cli_line_error(lines, turns ? "\"turns\": expected an array of texts"
                                           : "\"prompt\": expected a text");
    return cli_prompt_ids(model, lines, json_string_value(text), json_string_length(text), chat,
                          &p->ids, &p->n_ids);
}

static bool take_line(const cli_lines *lines, const gorgon_model *model, const cli_common *common,
                      bool chat, cli_prompt *p)
{
    size_t context = cli_context(model, common);
    const char *category = json_string_value(json_object_get(p->line, "category"));
    p->category = category ? category : "";
    p->settings = *common;
    if (!take_settings(lines, p->line, &p->settings) || !take_ids(lines, model, p->line, chat, p))
        return false;
    return p->n_ids <= context ||
           cli_line_error(lines, "prompt has %zu tokens, the context holds %zu positions", p->n_ids,
                          context);
}

// Room for one more item, zeroed.
static cli_prompt *add_item(const cli_lines *lines, cli_prompts *out)
{
    if (out->n == out->capacity) {
        size_t wanted = out->capacity ? 2 * out->capacity : 64;
        cli_prompt *grown = realloc(out->items, wanted * sizeof *grown);
        if (!grown) {
            cli_line_error(lines, "out of memory");
            return NULL;
        }
        out->items = grown;
        out->capacity = wanted;
    }
    cli_prompt *item = &out->items[out->n++];
    memset(item, 0, sizeof *item);
    return item;
}

bool cli_prompts_add(const cli_lines *lines, const gorgon_model *model, const cli_common *common,
                     bool chat, json_t *line, cli_prompts *out)
{
    if (!line)
        return cli_line_error(lines, "out of memory");
    cli_prompt *item = add_item(lines, out);
    if (!item) {
        json_decref(line);
        return false;
    }
    item->line = line;
    return take_line(lines, model, common, chat, item);
}

bool cli_prompts_read(const char *path, const gorgon_model *model, const cli_common *common,
                      bool chat, cli_prompts *out)
{
    cli_lines lines;
    bool bad = false;
    json_t *line = NULL;
    if (!cli_lines_open(&lines, path))
        return false;
    while (!bad && (line = cli_lines_next(&lines, &bad)) != NULL)
        bad = !cli_prompts_add(&lines, model, common, chat, line, out);
    if (!bad && out->n == 0)
        bad = !cli_complain("%s: no prompts in it", lines.label);
    cli_lines_close(&lines);
    return !bad;
}

void cli_prompts_clear(cli_prompts *prompts)
{
    for (size_t i = 0; i < prompts->n; i++) {
        json_decref(prompts->items[i].line);
        free(prompts->items[i].ids);
    }
    free(prompts->items);
    *prompts = (cli_prompts){0};
}

size_t cli_prompts_positions(const cli_prompts *prompts)
{
    size_t most = 0;
    for (size_t i = 0; i < prompts->n; i++) {
        size_t positions = prompts->items[i].n_ids + prompts->items[i].settings.tokens;
        most = positions > most ? positions : most;
    }
    return most;
}
