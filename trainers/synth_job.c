// Stages of a synthesis job. Prompts grow by concatenation: what the model wrote stays as the ids
// it wrote, never re-tokenised.
#include "synth_job.h"

#include <string.h>

#include "core/alloc.h"
#include "core/engine.h"
#include "core/error.h"
#include "gorgon/tokenizer.h"

enum { MIN_RECORDS = 6, MIN_ROOM = 48 };

// Stands for a message's content while a template is rendered, to find where content goes.
static const char MARK[] = "\x02";

// A sequence being written: the ids so far and the features of the positions the model continued.
typedef struct builder {
    gorgon_token *ids; // [capacity]
    size_t n, capacity;
    gg_cache_sequence features; // positions, hidden, targets: [capacity]
} builder;

struct gg_synth_job {
    gg_job_settings settings;
    gg_plan plan;
    const gorgon_synth_text *given; // the user's text that the job is about, or NULL
    size_t stage;
    bool over, stage_records;
    size_t stage_begin; // first generated id of the stage
    size_t stage_records_begin;
    float temperature; // of the current sequence
    builder current;
    gg_cache_sequence done[GG_JOB_MAX_SEQUENCES];
    size_t n_done;
    char message[GG_PLAN_MAX_MESSAGE];
    size_t d_model;
};

static void free_sequence(gg_cache_sequence *s)
{
    gg_free(s->tokens);
    gg_free(s->positions);
    gg_free(s->hidden);
    gg_free(s->target_ids);
    gg_free(s->target_logprob);
    *s = (gg_cache_sequence){0};
}

static void free_builder(builder *b)
{
    gg_free(b->ids);
    free_sequence(&b->features);
    *b = (builder){0};
}

static gorgon_status start_builder(gg_synth_job *job, gorgon_error *err)
{
    builder *b = &job->current;
    size_t n = job->settings.max_sequence + 1;
    free_builder(b);
    b->capacity = n;
    b->ids = gg_alloc(n, sizeof *b->ids);
    gg_cache_sequence *f = &b->features;
    f->positions = gg_alloc(n, sizeof *f->positions);
    f->hidden = gg_alloc_uninit(n * job->d_model, sizeof *f->hidden);
    f->target_ids = gg_alloc_uninit(n * GG_TARGETS, sizeof *f->target_ids);
    f->target_logprob = gg_alloc_uninit(n * GG_TARGETS, sizeof *f->target_logprob);
    if (!b->ids || !f->positions || !f->hidden || !f->target_ids || !f->target_logprob)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for a sequence of %zu", n);
    return GORGON_OK;
}

// Of the first n jobs, how many are about the user's texts.
static uint64_t data_jobs(double share, uint64_t n)
{
    return (uint64_t)(share * (double)n);
}

// The user's text that belongs to job `index`, or NULL: they are spread evenly, each used once.
static const gorgon_synth_text *given_text(const gg_job_settings *s, uint64_t index)
{
    uint64_t item = data_jobs(s->data_share, index);
    return item < data_jobs(s->data_share, index + 1) && item < s->n_data ? &s->data[item] : NULL;
}

static void plan_given(gg_synth_job *job)
{
    const gorgon_synth_text *given = job->given;
    gg_plan *plan = &job->plan;
    bool several = given->chat && given->n_turns > 1;
    plan->kind = several ? GG_PLAN_TURNS : GG_PLAN_INSTRUCTION;
    plan->n_turns = given->n_turns < GG_PLAN_MAX_TURNS ? given->n_turns : GG_PLAN_MAX_TURNS;
}

gorgon_status gg_job_create(const gg_job_settings *settings, uint64_t index, gg_synth_job **out,
                            gorgon_error *err)
{
    gg_synth_job *job = gg_alloc(1, sizeof *job);
    *out = job;
    if (!job)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for a synthesis job");
    job->settings = *settings;
    job->plan = gg_plan_make(settings->seed, index, settings->greedy_share);
    job->d_model = gg_model_geometry(gg_engine_model(settings->engine))->d_model;
    job->given = given_text(settings, index);
    if (job->given)
        plan_given(job);
    return GORGON_OK;
}

void gg_job_free(gg_synth_job *job)
{
    if (!job)
        return;
    free_builder(&job->current);
    for (size_t i = 0; i < job->n_done; i++)
        free_sequence(&job->done[i]);
    gg_free(job);
}

// Feature capture: a row whose logits were computed is one whose next token the model chose.
static void capture_row(void *context, const gorgon_committed_row *row)
{
    gg_synth_job *job = context;
    gg_cache_sequence *f = &job->current.features;
    if (!job->stage_records || !row->logits || f->n_records >= job->current.capacity)
        return;
    size_t i = f->n_records++;
    gorgon_engine *engine = job->settings.engine;
    float values[GG_TARGETS];
    gorgon_token ids[GG_TARGETS];
    float lse = gorgon_engine_log_sum_exp(engine, row->logits);
    gorgon_engine_top_k(engine, row->logits, GG_TARGETS, ids, values);
    for (size_t k = 0; k < GG_TARGETS; k++) {
        f->target_ids[i * GG_TARGETS + k] = (uint32_t)ids[k];
        f->target_logprob[i * GG_TARGETS + k] = values[k] - lse;
    }
    f->positions[i] = (uint32_t)row->position;
    gg_engine_kernels(engine)->to_f16(row->hidden, job->d_model, f->hidden + i * job->d_model);
}

// Ids up to the end token that the text begins with, white space before it included; 0 if it begins
// with none.
static size_t end_length(const gorgon_tokenizer *tokenizer, const gorgon_token *ids, size_t n)
{
    const size_t most = 3;
    for (size_t i = 0; i < n && i < most; i++) {
        if (gorgon_tokenizer_is_end(tokenizer, ids[i]))
            return i + 1;
    }
    return 0;
}

// Appends text[0, length) to the current ids; *fits is false when there is no room for an answer.
// rendered: the text comes from a chat template, whose control tokens count.
static gorgon_status append_text(gg_synth_job *job, const char *text, size_t length, bool rendered,
                                 bool after_end, bool *fits, gorgon_error *err)
{
    const gorgon_tokenizer *tokenizer =
        gorgon_model_tokenizer(gg_engine_model(job->settings.engine));
    gorgon_token *ids = NULL;
    size_t n = 0;
    builder *b = &job->current;
    gorgon_status status =
        b->n == 0 ? gorgon_tokenizer_prompt(tokenizer, text, length, rendered, &ids, &n, err)
                  : gorgon_tokenizer_encode(tokenizer, text, length, rendered, &ids, &n, err);
    if (status != GORGON_OK)
        return status;
    const size_t skip = after_end ? end_length(tokenizer, ids, n) : 0;
    *fits = b->n + (n - skip) + MIN_ROOM <= job->settings.max_sequence;
    if (*fits) {
        memcpy(b->ids + b->n, ids + skip, (n - skip) * sizeof *ids);
        b->n += n - skip;
    }
    gorgon_free(ids);
    return GORGON_OK;
}

static gorgon_status render(const gg_synth_job *job, const gorgon_message *messages, size_t n,
                            char **text, gorgon_error *err)
{
    const gorgon_tokenizer *tokenizer =
        gorgon_model_tokenizer(gg_engine_model(job->settings.engine));
    return gorgon_tokenizer_chat(tokenizer, messages, n, true, text, err);
}

// A new conversation whose only message is job->message.
static gorgon_status open_conversation(gg_synth_job *job, bool *fits, gorgon_error *err)
{
    gorgon_message message = {"user", job->message};
    char *text = NULL;
    gorgon_status status = start_builder(job, err);
    if (status == GORGON_OK)
        status = render(job, &message, 1, &text, err);
    if (status == GORGON_OK)
        status = append_text(job, text, strlen(text), true, false, fits, err);
    gorgon_free(text);
    return status;
}

// A prompt that ends where a user's message begins, so that the model writes that message.
static gorgon_status open_own_turn(gg_synth_job *job, bool *fits, gorgon_error *err)
{
    gorgon_message message = {"user", MARK};
    char *text = NULL;
    gorgon_status status = start_builder(job, err);
    if (status == GORGON_OK)
        status = render(job, &message, 1, &text, err);
    if (status == GORGON_OK) {
        const char *mark = strstr(text, MARK);
        status = append_text(job, text, mark ? (size_t)(mark - text) : 0, true, false, fits, err);
    }
    gorgon_free(text);
    return status;
}

// What the template puts between an assistant's answer and the next one, with job->message as the
// user's turn, appended to the ids. The answer already ended with its end token.
static gorgon_status continue_conversation(gg_synth_job *job, bool *fits, gorgon_error *err)
{
    gorgon_message messages[] = {{"user", "x"}, {"assistant", MARK}, {"user", job->message}};
    char *text = NULL;
    gorgon_status status = render(job, messages, 3, &text, err);
    if (status == GORGON_OK) {
        const char *rest = strstr(text, MARK);
        rest = rest ? rest + strlen(MARK) : text + strlen(text);
        status = append_text(job, rest, strlen(rest), true, true, fits, err);
    }
    gorgon_free(text);
    return status;
}

// Moves the current sequence to the finished ones, or drops it when it is too short.
static void close_sequence(gg_synth_job *job)
{
    builder *b = &job->current;
    if (b->features.n_records >= MIN_RECORDS && job->n_done < GG_JOB_MAX_SEQUENCES) {
        gg_cache_sequence *s = &job->done[job->n_done];
        *s = b->features;
        s->index = 2 * job->plan.index + job->n_done++;
        s->tokens = b->ids;
        s->n_tokens = (uint32_t)b->n;
        s->temperature = job->temperature;
        s->seed = job->settings.seed;
        s->completion = job->plan.index;
        *b = (builder){0};
    }
    free_builder(b);
}

// A prompt that is a passage of the user's as it stands, for the model to go on from.
static gorgon_status open_passage(gg_synth_job *job, const char *passage, bool *fits,
                                  gorgon_error *err)
{
    gorgon_status status = start_builder(job, err);
    if (status == GORGON_OK)
        status = append_text(job, passage, strlen(passage), false, false, fits, err);
    *fits = *fits && job->current.n > 0;
    return status;
}

static gorgon_status prepare_given(gg_synth_job *job, bool *fits, gorgon_error *err)
{
    const gorgon_synth_text *given = job->given;
    const char *turn = given->turns[job->stage];
    const size_t length = strlen(turn);
    *fits = length > 0 && length < GG_PLAN_MAX_MESSAGE;
    const bool goes_on = (given - job->settings.data) % 2 == 0; // or a task on the passage
    if (*fits && !given->chat && goes_on)
        return open_passage(job, turn, fits, err);
    if (*fits && !given->chat)
        *fits = gg_plan_task_on(&job->plan, turn, job->message);
    else if (*fits)
        memcpy(job->message, turn, length + 1);
    if (!*fits)
        return GORGON_OK;
    return job->stage == 0 ? open_conversation(job, fits, err)
                           : continue_conversation(job, fits, err);
}

// Prepares the stage's prompt and limits; *fits false ends the job.
static gorgon_status prepare(gg_synth_job *job, gorgon_request *request, bool *fits,
                             gorgon_error *err)
{
    const gg_plan *plan = &job->plan;
    bool first = job->stage == 0;
    job->stage_records = true;
    job->temperature = plan->greedy ? 0.0f : job->settings.temperature;
    request->max_tokens = plan->answer_tokens;
    *fits = true;
    if (job->given)
        return prepare_given(job, fits, err);
    switch (plan->kind) {
    case GG_PLAN_OWN_TURN:
        if (first) {
            job->stage_records = false;
            job->temperature = 1.0f;
            request->max_tokens = 96;
            return open_own_turn(job, fits, err);
        }
        return open_conversation(job, fits, err);
    case GG_PLAN_PASSAGE:
        if (first) {
            job->temperature = job->settings.temperature;
            request->max_tokens = plan->passage_tokens;
            gg_plan_opening(plan, job->message);
        }
        return open_conversation(job, fits, err);
    case GG_PLAN_INSTRUCTION:
    case GG_PLAN_TURNS:
        break;
    }
    if (first) {
        gg_plan_opening(plan, job->message);
        return open_conversation(job, fits, err);
    }
    gg_plan_follow_up(plan, job->stage, job->message);
    return continue_conversation(job, fits, err);
}

gorgon_status gg_job_request(gg_synth_job *job, gorgon_request *request, bool *more,
                             gorgon_error *err)
{
    bool fits = false;
    *more = false;
    if (job->over)
        return GORGON_OK;
    gorgon_request_init(request);
    gorgon_status status = prepare(job, request, &fits, err);
    if (status != GORGON_OK)
        return status;
    if (!fits) {
        close_sequence(job);
        job->over = true;
        return GORGON_OK;
    }
    builder *b = &job->current;
    size_t room = job->settings.max_sequence - b->n;
    request->prompt = b->ids;
    request->n_prompt = b->n;
    request->max_tokens = request->max_tokens < room ? request->max_tokens : room;
    request->sampling.temperature = job->temperature;
    request->sampling.seed = job->settings.seed;
    request->sampling.completion = job->plan.index;
    request->on_row = capture_row;
    request->on_tokens = NULL;
    request->context = job;
    job->stage_begin = b->n;
    job->stage_records_begin = b->features.n_records;
    *more = true;
    return GORGON_OK;
}

// Cuts the stage's text where it starts to repeat itself; the features go with it.
static void cut_loop(gg_synth_job *job, bool *looped)
{
    builder *b = &job->current;
    size_t generated = b->n - job->stage_begin;
    size_t kept = gorgon_loop_cut(b->ids + job->stage_begin, generated);
    *looped = kept < generated;
    if (!*looped)
        return;
    b->n = job->stage_begin + kept;
    gg_cache_sequence *f = &b->features;
    while (f->n_records > job->stage_records_begin && f->positions[f->n_records - 1] + 1 >= b->n)
        f->n_records--;
}

// The text of the stage becomes job->message: a user's turn, or a task on a passage.
static gorgon_status take_text(gg_synth_job *job, const char *text, size_t length, bool *good,
                               gorgon_error *err)
{
    const size_t shortest = 8;
    while (length > 0 && (text[length - 1] == ' ' || text[length - 1] == '\n'))
        length--;
    length = gorgon_utf8_complete(text, length);
    *good = length >= shortest && length < GG_PLAN_MAX_MESSAGE && !memchr(text, 0, length);
    if (!*good)
        return GORGON_OK;
    char *copy = gg_alloc(length + 1, 1);
    if (!copy)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for a message");
    memcpy(copy, text, length);
    if (job->plan.kind == GG_PLAN_PASSAGE)
        *good = gg_plan_task_on(&job->plan, copy, job->message);
    else
        memcpy(job->message, copy, length + 1);
    gg_free(copy);
    return GORGON_OK;
}

gorgon_status gg_job_finish_stage(gg_synth_job *job, const gorgon_stream_result *result,
                                  gorgon_error *err)
{
    builder *b = &job->current;
    size_t n = result->n_ids;
    bool looped = false, good = true;
    if (b->n + n > b->capacity)
        n = b->capacity - b->n;
    memcpy(b->ids + b->n, result->ids, n * sizeof *b->ids);
    b->n += n;
    cut_loop(job, &looped);
    bool ended = result->stop == GORGON_STOP_END && !looped;
    size_t stage = job->stage++;
    bool composes =
        stage == 0 && (job->plan.kind == GG_PLAN_OWN_TURN || job->plan.kind == GG_PLAN_PASSAGE);
    if (composes) {
        gorgon_status status =
            take_text(job, result->text, looped ? 0 : result->text_length, &good, err);
        if (job->stage_records)
            close_sequence(job);
        else
            free_builder(b);
        job->over = !good || (job->plan.kind == GG_PLAN_OWN_TURN && !ended);
        return status;
    }
    bool last = job->plan.kind != GG_PLAN_TURNS || job->stage == job->plan.n_turns;
    if (last || !ended) {
        close_sequence(job);
        job->over = true;
    }
    return GORGON_OK;
}

const gg_cache_sequence *gg_job_sequences(const gg_synth_job *job, size_t *n)
{
    *n = job->n_done;
    return job->done;
}

uint64_t gg_job_index(const gg_synth_job *job)
{
    return job->plan.index;
}

uint64_t gg_job_records(const gg_synth_job *job)
{
    uint64_t n = job->current.features.n_records;
    for (size_t i = 0; i < job->n_done; i++)
        n += job->done[i].n_records;
    return n;
}
