// Text synthesis: keeps a batch of jobs decoding side by side, writes their sequences to the
// feature cache in index order. Kill it anywhere: whole chunks stay, the rest is made again and
// comes out the same, because a job's text depends on (seed, index) only.
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/engine.h"
#include "core/error.h"
#include "core/file.h"
#include "core/system.h"
#include "gorgon/trainers.h"
#include "hash_set.h"
#include "synth_job.h"
#include "synth_text.h"
#include "trainers/cache.h"

enum {
    BATCH = 64,         // jobs side by side
    CHUNK_JOBS = 32,    // jobs per cache chunk
    WINDOW_JOBS = 512,  // how far jobs may run ahead of the first unwritten chunk
    LOOP_CHECK = 32,    // tokens between two looks for a loop
    DEDUPE_TOKENS = 24, // of an answer
};

typedef struct slot {
    gg_synth_job *job;
    gorgon_stream *stream;
} slot;

typedef struct synth {
    const gorgon_synth_options *options;
    gorgon_engine *engine;
    gorgon_decoder *decoder;
    gg_cache *cache;
    gg_job_settings settings;
    slot slots[BATCH];
    gg_synth_job *finished[WINDOW_JOBS]; // ring: job i at i % WINDOW_JOBS
    uint64_t chunk_first, next_index;
    gg_hash_set *seen;
    double started, last_report;
    uint64_t records_at_start;
    gorgon_error *err;
} synth;

void gorgon_synth_options_init(gorgon_synth_options *options)
{
    *options = (gorgon_synth_options){
        .tokens = 200000,
        .seed = 1,
        .max_sequence = 1024,
        .greedy_share = 0.5,
        .temperature = 0.7f,
    };
}

void gorgon_synth_engine_options(const gorgon_model *model, const gorgon_synth_options *options,
                                 gorgon_engine_options *engine_options)
{
    gorgon_model_info info;
    gorgon_model_describe(model, &info);
    gorgon_engine_options_init(engine_options);
    size_t context = options->max_sequence;
    if (context > info.context_length)
        context = info.context_length;
    engine_options->context = context;
    engine_options->max_sequences = BATCH + 1;
    engine_options->kv_positions = (BATCH + 1) * ((context + 63) / 64 * 64);
    engine_options->max_rows = 256;
    engine_options->max_logit_rows = 128;
}

static gorgon_status check_options(const synth *s)
{
    const gorgon_synth_options *o = s->options;
    if (!o->cache)
        return gg_fail(s->err, GORGON_ERROR_ARGUMENT, "synth: no cache directory given");
    if (o->tokens == 0)
        return gg_fail(s->err, GORGON_ERROR_ARGUMENT, "synth: tokens is 0, expected at least 1");
    if (o->max_sequence < 128 || o->max_sequence > gorgon_engine_context(s->engine))
        return gg_fail(s->err, GORGON_ERROR_ARGUMENT,
                       "synth: sequences of %zu positions, expected 128 to %zu", o->max_sequence,
                       gorgon_engine_context(s->engine));
    if (!(o->greedy_share >= 0 && o->greedy_share <= 1))
        return gg_fail(s->err, GORGON_ERROR_ARGUMENT, "synth: greedy share %g, expected 0 to 1",
                       o->greedy_share);
    if (!(o->temperature > 0 && o->temperature <= 10))
        return gg_fail(s->err, GORGON_ERROR_ARGUMENT,
                       "synth: temperature %g, expected above 0 to 10", (double)o->temperature);
    if (!gorgon_tokenizer_has_chat(gorgon_model_tokenizer(gg_engine_model(s->engine))))
        return gg_fail(s->err, GORGON_ERROR_UNSUPPORTED,
                       "synth: this checkpoint has no chat template that gorgon knows");
    return GORGON_OK;
}

static uint64_t options_hash(const gorgon_synth_options *o)
{
    const uint64_t recipe = 1; // changes when the plans or templates change
    uint64_t hash = gg_hash(&recipe, sizeof recipe, 0);
    uint64_t length = o->max_sequence;
    hash = gg_hash(&length, sizeof length, hash);
    hash = gg_hash(&o->greedy_share, sizeof o->greedy_share, hash);
    return gg_hash(&o->temperature, sizeof o->temperature, hash);
}

// Identity of a sequence for deduplication: how its first answer begins.
static uint64_t dedupe_key(const gg_cache_sequence *s)
{
    size_t begin = s->positions[0] + 1, n = s->n_tokens - begin;
    if (n < DEDUPE_TOKENS)
        return gg_hash(s->tokens, s->n_tokens * sizeof *s->tokens, 1);
    return gg_hash(s->tokens + begin, DEDUPE_TOKENS * sizeof *s->tokens, 2);
}

// Fills the set of seen answers from the chunks of an earlier run.
static gorgon_status recall_seen(synth *s)
{
    gorgon_status status = gg_hash_set_create(&s->seen, s->err);
    for (size_t c = 0; c < gg_cache_chunks(s->cache) && status == GORGON_OK; c++) {
        gg_cache_sequence *sequences = NULL;
        size_t n = 0;
        status = gg_cache_read(s->cache, c, &sequences, &n, s->err);
        for (size_t i = 0; i < n && status == GORGON_OK; i++)
            status = gg_hash_set_add(s->seen, dedupe_key(&sequences[i]), NULL, s->err);
        gg_cache_chunk_free(sequences, n);
    }
    return status;
}

static uint64_t records_in_flight(const synth *s)
{
    uint64_t n = 0;
    for (size_t i = 0; i < BATCH; i++)
        n += s->slots[i].job ? gg_job_records(s->slots[i].job) : 0;
    for (size_t i = 0; i < WINDOW_JOBS; i++)
        n += s->finished[i] ? gg_job_records(s->finished[i]) : 0;
    return n;
}

static gorgon_status report(synth *s)
{
    double now = gg_now();
    if (!s->options->progress || now - s->last_report < 0.2)
        return GORGON_OK;
    s->last_report = now;
    uint64_t done = gg_cache_records(s->cache) + records_in_flight(s);
    double elapsed = now - s->started;
    double rate = elapsed > 0 ? (double)(done - s->records_at_start) / elapsed : 0;
    char line[64];
    snprintf(line, sizeof line, "%llu conversations",
             (unsigned long long)gg_cache_sequences(s->cache));
    gorgon_progress p = {.stage = "synth",
                         .unit = "tokens",
                         .total = s->options->tokens,
                         .done = done < s->options->tokens ? done : s->options->tokens,
                         .rate = rate,
                         .line = line};
    p.eta_s = rate > 0 ? (double)(p.total - p.done) / rate : -1;
    if (!s->options->progress(s->options->context, &p))
        return gg_fail(s->err, GORGON_ERROR_CANCELLED, "synth: stopped");
    return GORGON_OK;
}

// Starts the slot's next stage, or parks its finished job.
static gorgon_status advance(synth *s, slot *sl)
{
    gorgon_request request;
    bool more = false;
    gorgon_status status = gg_job_request(sl->job, &request, &more, s->err);
    if (status != GORGON_OK)
        return status;
    if (more)
        return gorgon_decoder_submit(s->decoder, &request, &sl->stream, s->err);
    s->finished[gg_job_index(sl->job) % WINDOW_JOBS] = sl->job;
    sl->job = NULL;
    return GORGON_OK;
}

static gorgon_status fill_slots(synth *s)
{
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < BATCH && status == GORGON_OK; i++) {
        slot *sl = &s->slots[i];
        while (!sl->job && s->next_index < s->chunk_first + WINDOW_JOBS && status == GORGON_OK) {
            status = gg_job_create(&s->settings, s->next_index++, &sl->job, s->err);
            if (status == GORGON_OK)
                status = advance(s, sl);
        }
    }
    return status;
}

// Ends the stages whose streams have stopped or fallen into a loop.
static gorgon_status collect(synth *s)
{
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < BATCH && status == GORGON_OK; i++) {
        slot *sl = &s->slots[i];
        if (!sl->stream)
            continue;
        gorgon_stream_result result;
        gorgon_stream_describe(sl->stream, &result);
        bool loops = result.n_ids > 0 && result.n_ids % LOOP_CHECK == 0 &&
                     gg_loop_cut(result.ids, result.n_ids) < result.n_ids;
        if (result.stop == GORGON_STOP_NONE && !loops)
            continue;
        status = gg_job_finish_stage(sl->job, &result, s->err);
        gorgon_stream_free(sl->stream);
        sl->stream = NULL;
        if (status == GORGON_OK)
            status = advance(s, sl);
    }
    return status;
}

static bool chunk_ready(const synth *s)
{
    for (uint64_t i = s->chunk_first; i < s->chunk_first + CHUNK_JOBS; i++) {
        if (!s->finished[i % WINDOW_JOBS])
            return false;
    }
    return true;
}

static gorgon_status write_chunk(synth *s)
{
    gg_cache_sequence list[CHUNK_JOBS * GG_JOB_MAX_SEQUENCES];
    size_t n = 0;
    gorgon_status status = GORGON_OK;
    for (uint64_t i = s->chunk_first; i < s->chunk_first + CHUNK_JOBS; i++) {
        size_t count = 0;
        const gg_cache_sequence *sequences = gg_job_sequences(s->finished[i % WINDOW_JOBS], &count);
        for (size_t k = 0; k < count && status == GORGON_OK; k++) {
            bool added = false;
            status = gg_hash_set_add(s->seen, dedupe_key(&sequences[k]), &added, s->err);
            if (added)
                list[n++] = sequences[k];
        }
    }
    if (status == GORGON_OK)
        status = gg_cache_append(s->cache, 2 * s->chunk_first, 2 * (s->chunk_first + CHUNK_JOBS),
                                 list, n, s->err);
    for (uint64_t i = s->chunk_first; i < s->chunk_first + CHUNK_JOBS; i++) {
        gg_job_free(s->finished[i % WINDOW_JOBS]);
        s->finished[i % WINDOW_JOBS] = NULL;
    }
    s->chunk_first += CHUNK_JOBS;
    return status;
}

static gorgon_status write_until_done(synth *s)
{
    gorgon_status status = GORGON_OK;
    while (status == GORGON_OK && gg_cache_records(s->cache) < s->options->tokens) {
        size_t active = 0;
        status = fill_slots(s);
        if (status == GORGON_OK)
            status = gorgon_decoder_step(s->decoder, &active, s->err);
        if (status == GORGON_OK)
            status = collect(s);
        while (status == GORGON_OK && chunk_ready(s) &&
               gg_cache_records(s->cache) < s->options->tokens)
            status = write_chunk(s);
        if (status == GORGON_OK)
            status = report(s);
    }
    return status;
}

static void release(synth *s)
{
    for (size_t i = 0; i < BATCH; i++) {
        gorgon_stream_free(s->slots[i].stream);
        gg_job_free(s->slots[i].job);
    }
    for (size_t i = 0; i < WINDOW_JOBS; i++)
        gg_job_free(s->finished[i]);
    gg_hash_set_free(s->seen);
    gorgon_decoder_free(s->decoder);
    gg_cache_free(s->cache);
}

static gorgon_status run(synth *s)
{
    gg_cache_identity identity = {
        .base = gorgon_model_fingerprint(gg_engine_model(s->engine)),
        .seed = s->options->seed,
        .options_hash = options_hash(s->options),
    };
    gorgon_status status =
        gg_cache_open(s->options->cache, &identity, s->options->cache_limit, &s->cache, s->err);
    if (status != GORGON_OK)
        return status;
    if (gg_cache_records(s->cache) < s->options->tokens) {
        if (gg_cache_complete(s->cache))
            return gg_fail(s->err, GORGON_ERROR_ARGUMENT,
                           "synth: the cache %s is complete with %llu tokens, wanted %llu: remove "
                           "it or ask for fewer",
                           s->options->cache, (unsigned long long)gg_cache_records(s->cache),
                           (unsigned long long)s->options->tokens);
        gorgon_decoder_options decoding;
        gorgon_decoder_options_init(&decoding);
        decoding.tree = "off";
        decoding.max_streams = BATCH;
        status = gorgon_decoder_create(s->engine, &decoding, &s->decoder, s->err);
        if (status == GORGON_OK)
            status = recall_seen(s);
        s->chunk_first = s->next_index = gg_cache_next_index(s->cache) / 2;
        s->records_at_start = gg_cache_records(s->cache);
        s->started = gg_now();
        if (status == GORGON_OK)
            status = write_until_done(s);
    }
    if (status == GORGON_OK && !gg_cache_complete(s->cache))
        status = gg_cache_finish(s->cache, s->err);
    if (status == GORGON_OK && s->options->text_path)
        status = gg_synth_write_text(s->engine, s->cache, s->options->text_path, s->err);
    return status;
}

gorgon_status gorgon_synth(gorgon_engine *engine, const gorgon_synth_options *options,
                           gorgon_error *err)
{
    synth *s = gg_alloc(1, sizeof *s);
    if (!s)
        return gg_fail(err, GORGON_ERROR_MEMORY, "synth: out of memory");
    s->options = options;
    s->engine = engine;
    s->err = err;
    s->settings = (gg_job_settings){
        .engine = engine,
        .seed = options->seed,
        .greedy_share = options->greedy_share,
        .temperature = options->temperature,
        .max_sequence = options->max_sequence,
    };
    gorgon_status status = check_options(s);
    if (status == GORGON_OK)
        status = run(s);
    release(s);
    gg_free(s);
    return status;
}
