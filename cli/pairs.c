// See pairs.h: decoding and counting.
#include "pairs.h"

#include <stdlib.h>
#include <string.h>

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
static pairs_group *group_of(pairs_table *table, const char *name)
{
    for (size_t i = 0; i < table->n; i++) {
        if (strcmp(table->rows[i].name, name) == 0)
            return &table->rows[i];
    }
    if (table->n == PAIRS_MAX_GROUPS) {
        cli_complain("prompts: more than %d categories", PAIRS_MAX_GROUPS);
        return NULL;
    }
    table->rows[table->n] = (pairs_group){.name = name, .same_output = true};
    return &table->rows[table->n++];
}

bool pairs_choose(const cli_prompts *prompts, size_t limit, bool **chosen, size_t *n_chosen)
{
    pairs_table seen = {.n = 0};
    *n_chosen = 0;
    *chosen = calloc(prompts->n, sizeof **chosen);
    if (!*chosen)
        return cli_complain("out of memory");
    for (size_t i = 0; i < prompts->n; i++) {
        pairs_group *task = group_of(&seen, task_of(prompts->items[i].category));
        if (!task)
            return false;
        (*chosen)[i] = limit == 0 || task->runs < limit;
        task->runs += (*chosen)[i];
        *n_chosen += (*chosen)[i];
    }
    return true;
}

bool pairs_result_init(pairs_result *result)
{
    *result = (pairs_result){.all = {.name = "all", .same_output = true},
                             .without_loops = {.name = "without loops", .same_output = true},
                             .differing = json_array()};
    return result->differing || cli_complain("out of memory");
}

static void clear_table(pairs_table *table)
{
    for (size_t i = 0; i < table->n; i++)
        json_decref(table->rows[i].speedups);
}

void pairs_result_clear(pairs_result *result)
{
    json_decref(result->differing);
    json_decref(result->all.speedups);
    json_decref(result->without_loops.speedups);
    clear_table(&result->tasks);
    clear_table(&result->categories);
    *result = (pairs_result){.n_proposers = 0};
}

bool pairs_open(cli_session *session, const gorgon_decoder_options *options,
                pairs_decoders *decoders)
{
    gorgon_error err = {0};
    gorgon_decoder_options speculative = *options;
    speculative.record_logits = true;
    gorgon_decoder_options plain = speculative;
    plain.propose = "";
    plain.heads = NULL;
    plain.tree = "off";
    if (gorgon_decoder_create(session->engine, &speculative, &decoders->speculative, &err) ==
            GORGON_OK &&
        gorgon_decoder_create(session->engine, &plain, &decoders->plain, &err) == GORGON_OK)
        return true;
    return cli_fail(&err);
}

void pairs_close(pairs_decoders *decoders)
{
    gorgon_decoder_free(decoders->plain);
    gorgon_decoder_free(decoders->speculative);
    *decoders = (pairs_decoders){NULL, NULL};
}

gorgon_stream *pairs_decode(gorgon_decoder *decoder, const gorgon_request *request)
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

gorgon_request pairs_request(const cli_prompts *prompts, size_t index)
{
    const cli_prompt *p = &prompts->items[index];
    gorgon_request request = cli_request(&p->settings, p->ids, p->n_ids);
    request.sampling.completion = index;
    return request;
}

bool pairs_warm(gorgon_decoder *decoder, const cli_prompt *prompt)
{
    enum { WARM_TOKENS = 8 };
    gorgon_request request = cli_request(&prompt->settings, prompt->ids, prompt->n_ids);
    request.max_tokens = WARM_TOKENS;
    gorgon_stream *stream = pairs_decode(decoder, &request);
    gorgon_stream_free(stream);
    gorgon_decoder_reset_telemetry(decoder);
    return stream != NULL;
}

bool pairs_warm_up(const pairs_decoders *decoders, const cli_prompt *prompt)
{
    return pairs_warm(decoders->plain, prompt) && pairs_warm(decoders->speculative, prompt);
}

static bool same(const gorgon_stream_result *a, const gorgon_stream_result *b)
{
    return a->n_ids == b->n_ids && memcmp(a->ids, b->ids, a->n_ids * sizeof *a->ids) == 0 &&
           a->text_length == b->text_length && memcmp(a->text, b->text, a->text_length) == 0 &&
           a->logits_hash == b->logits_hash && a->stop == b->stop;
}

static void add_rate(pairs_rate *rate, const gorgon_stream_result *r)
{
    rate->tokens += cli_decoded_tokens(r);
    rate->passes += (double)r->passes;
    rate->seconds += r->decode_s;
    rate->draft_s += r->draft_s;
}

static void add_speedup(pairs_group *group, const gorgon_stream_result *plain,
                        const gorgon_stream_result *speculative)
{
    if (plain->decode_s <= 0 || speculative->decode_s <= 0 || cli_decoded_tokens(plain) <= 0)
        return;
    if (!group->speedups)
        group->speedups = json_array();
    json_array_append_new(group->speedups, json_real(plain->decode_s / speculative->decode_s));
}

bool pairs_add(const cli_prompts *prompts, size_t index, const gorgon_stream *plain,
               const gorgon_stream *speculative, pairs_result *result)
{
    const cli_prompt *p = &prompts->items[index];
    const char *category = p->category[0] ? p->category : "other";
    pairs_group *groups[] = {&result->all, group_of(&result->tasks, task_of(p->category)),
                             group_of(&result->categories, category), &result->without_loops};
    gorgon_stream_result a, b;
    gorgon_stream_describe(plain, &a);
    gorgon_stream_describe(speculative, &b);
    bool equal = same(&a, &b), loops = gorgon_loop_cut(a.ids, a.n_ids) < a.n_ids;
    for (size_t i = 0; i < sizeof groups / sizeof groups[0] - loops; i++) {
        if (!groups[i])
            return false;
        add_rate(&groups[i]->plain, &a);
        add_rate(&groups[i]->speculative, &b);
        add_speedup(groups[i], &a, &b);
        groups[i]->runs++;
        groups[i]->same_output = groups[i]->same_output && equal;
    }
    if (equal)
        return true;
    json_t *id = json_object_get(p->line, "id");
    json_array_append_new(result->differing,
                          id ? json_incref(id) : json_integer((json_int_t)index));
    cli_complain("prompt %zu: plain and speculative decoding differ", index);
    return true;
}

bool pairs_run(const pairs_decoders *decoders, const cli_prompts *prompts, size_t index, bool swap,
               pairs_result *result)
{
    gorgon_request request = pairs_request(prompts, index);
    gorgon_decoder *const both[2] = {decoders->plain, decoders->speculative};
    gorgon_stream *streams[2] = {NULL, NULL};
    bool good = true;
    for (size_t i = 0; i < 2 && good; i++) {
        size_t which = swap ? 1 - i : i;
        streams[which] = pairs_decode(both[which], &request);
        good = streams[which] != NULL;
    }
    good = good && pairs_add(prompts, index, streams[0], streams[1], result);
    gorgon_stream_free(streams[0]);
    gorgon_stream_free(streams[1]);
    return good;
}

void pairs_take_telemetry(const pairs_decoders *decoders, pairs_result *result)
{
    result->n_proposers =
        gorgon_decoder_telemetry(decoders->speculative, result->telemetry, PAIRS_MAX_PROPOSERS);
}
