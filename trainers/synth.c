// Text synthesis: lanes, an engine each, lead jobs side by side; the caller writes
// their sequences to the feature cache in index order. Lanes share no barrier, so one that has to
// wait for its processor holds up no other. Kill it anywhere: whole chunks stay, the rest is made
// again and comes out the same, because a job's text depends on (seed, index) only.
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/alloc.h"
#include "core/engine.h"
#include "core/error.h"
#include "core/file.h"
#include "core/limits.h"
#include "core/system.h"
#include "core/team.h"
#include "gorgon/trainers.h"
#include "hash_set.h"
#include "synth_job.h"
#include "synth_text.h"
#include "trainers/cache.h"

enum {
    BATCH = 64,         // jobs side by side, in all lanes
    LANE_LEAST = 8,     // jobs of a lane, however many lanes there are
    MAX_LANES = 16,     // with more threads than this, lanes have several
    CHUNK_JOBS = 32,    // jobs per cache chunk
    WINDOW_JOBS = 512,  // how far jobs may run ahead of the first unwritten chunk
    LOOP_CHECK = 32,    // tokens between two looks for a loop
    DEDUPE_TOKENS = 24, // of an answer
};

typedef struct slot {
    gg_synth_job *job;
    gorgon_stream *stream;
} slot;

typedef struct synth synth;

// One engine's share of the work. Only `records` is read by others, under the lock.
typedef struct lane {
    synth *owner;
    gorgon_engine *engine;
    gorgon_decoder *decoder;
    gg_job_settings settings;
    slot slots[BATCH];
    size_t n_slots;
    uint64_t records; // of its unfinished jobs
    gorgon_status status;
    gorgon_error err;
} lane;

struct synth {
    const gorgon_model *model;
    const gorgon_synth_options *options;
    gg_cache *cache;
    gg_hash_set *seen;
    double started, last_report;
    uint64_t records_at_start;
    gorgon_error *err;
    lane *lanes; // [n_lanes]
    size_t n_lanes;

    pthread_mutex_t lock;                // of everything below
    pthread_cond_t changed;              // a job was parked, a chunk taken, or it is time to stop
    gg_synth_job *finished[WINDOW_JOBS]; // ring: job i at i % WINDOW_JOBS
    uint64_t chunk_first, next_index;
    bool stop;
};

void gorgon_synth_options_init(gorgon_synth_options *options)
{
    *options = (gorgon_synth_options){
        .tokens = 200000,
        .seed = 1,
        .max_sequence = 1024,
        .greedy_share = 0.5,
        .data_share = 0.5,
        .temperature = 0.7f,
    };
}

static gorgon_status check_options(const synth *s)
{
    const gorgon_synth_options *o = s->options;
    if (!o->cache)
        return gg_fail(s->err, GORGON_ERROR_ARGUMENT, "synth: no cache directory given");
    if (o->tokens == 0)
        return gg_fail(s->err, GORGON_ERROR_ARGUMENT, "synth: tokens is 0, expected at least 1");
    if (o->threads > GG_MAX_THREADS)
        return gg_fail(s->err, GORGON_ERROR_ARGUMENT, "synth: %zu threads, expected at most %d",
                       o->threads, GG_MAX_THREADS);
    gorgon_model_info info;
    gorgon_model_describe(s->model, &info);
    if (o->max_sequence < 128 || o->max_sequence > info.context_length)
        return gg_fail(s->err, GORGON_ERROR_ARGUMENT,
                       "synth: sequences of %zu positions, expected 128 to %zu", o->max_sequence,
                       (size_t)info.context_length);
    if (!(o->greedy_share >= 0 && o->greedy_share <= 1))
        return gg_fail(s->err, GORGON_ERROR_ARGUMENT, "synth: greedy share %g, expected 0 to 1",
                       o->greedy_share);
    if (!(o->temperature > 0 && o->temperature <= 10))
        return gg_fail(s->err, GORGON_ERROR_ARGUMENT,
                       "synth: temperature %g, expected above 0 to 10", (double)o->temperature);
    if (!(o->data_share >= 0 && o->data_share <= 1))
        return gg_fail(s->err, GORGON_ERROR_ARGUMENT, "synth: data share %g, expected 0 to 1",
                       o->data_share);
    if (!gorgon_tokenizer_has_chat(gorgon_model_tokenizer(s->model)))
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
    hash = gg_hash(&o->temperature, sizeof o->temperature, hash);
    if (o->n_data > 0)
        hash = gg_hash(&o->data_share, sizeof o->data_share, hash);
    for (size_t i = 0; i < o->n_data; i++) {
        for (size_t k = 0; k < o->data[i].n_turns; k++)
            hash = gg_hash(o->data[i].turns[k], strlen(o->data[i].turns[k]) + 1, hash);
        hash = gg_hash(&o->data[i].chat, sizeof o->data[i].chat, hash);
    }
    return hash;
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
        status = gg_cache_read(s->cache, c, GG_CACHE_TEXT, &sequences, &n, s->err);
        for (size_t i = 0; i < n && status == GORGON_OK; i++)
            status = gg_hash_set_add(s->seen, dedupe_key(&sequences[i]), NULL, s->err);
        gg_cache_chunk_free(sequences, n);
    }
    return status;
}

// Records that are not in the cache yet; the lock is held.
static uint64_t records_in_flight(const synth *s)
{
    uint64_t n = 0;
    for (size_t i = 0; i < s->n_lanes; i++)
        n += s->lanes[i].records;
    for (size_t i = 0; i < WINDOW_JOBS; i++)
        n += s->finished[i] ? gg_job_records(s->finished[i]) : 0;
    return n;
}

static gorgon_status report(synth *s, uint64_t in_flight)
{
    double now = gg_now();
    if (!s->options->progress || now - s->last_report < 0.2)
        return GORGON_OK;
    s->last_report = now;
    uint64_t done = gg_cache_records(s->cache) + in_flight;
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

// The number of the next job; false while jobs are too far ahead, or when it is time to stop.
static bool take_index(synth *s, uint64_t *index)
{
    pthread_mutex_lock(&s->lock);
    bool taken = !s->stop && s->next_index < s->chunk_first + WINDOW_JOBS;
    if (taken)
        *index = s->next_index++;
    pthread_mutex_unlock(&s->lock);
    return taken;
}

// Records of the lane's unfinished jobs; has_jobs is NULL or tells whether there are any.
static uint64_t records_of(const lane *l, bool *has_jobs)
{
    uint64_t n = 0;
    bool any = false;
    for (size_t i = 0; i < l->n_slots; i++) {
        any = any || l->slots[i].job;
        n += l->slots[i].job ? gg_job_records(l->slots[i].job) : 0;
    }
    if (has_jobs)
        *has_jobs = any;
    return n;
}

// Takes a finished job from the slot and hands it to the writer.
static void park(lane *l, slot *sl)
{
    synth *s = l->owner;
    gg_synth_job *job = sl->job;
    sl->job = NULL;
    uint64_t rest = records_of(l, NULL);
    pthread_mutex_lock(&s->lock);
    l->records = rest;
    s->finished[gg_job_index(job) % WINDOW_JOBS] = job;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

// Starts the slot's next stage, or parks its finished job.
static gorgon_status advance(lane *l, slot *sl)
{
    gorgon_request request;
    bool more = false;
    gorgon_status status = gg_job_request(sl->job, &request, &more, &l->err);
    if (status != GORGON_OK)
        return status;
    if (more)
        return gorgon_decoder_submit(l->decoder, &request, &sl->stream, &l->err);
    park(l, sl);
    return GORGON_OK;
}

static gorgon_status fill_slots(lane *l)
{
    gorgon_status status = GORGON_OK;
    uint64_t index;
    for (size_t i = 0; i < l->n_slots && status == GORGON_OK; i++) {
        slot *sl = &l->slots[i];
        while (!sl->job && status == GORGON_OK && take_index(l->owner, &index)) {
            status = gg_job_create(&l->settings, index, &sl->job, &l->err);
            if (status == GORGON_OK)
                status = advance(l, sl);
        }
    }
    return status;
}

// Ends the stages whose streams have stopped or fallen into a loop.
static gorgon_status collect(lane *l)
{
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < l->n_slots && status == GORGON_OK; i++) {
        slot *sl = &l->slots[i];
        if (!sl->stream)
            continue;
        gorgon_stream_result result;
        gorgon_stream_describe(sl->stream, &result);
        bool loops = result.n_ids > 0 && result.n_ids % LOOP_CHECK == 0 &&
                     gorgon_loop_cut(result.ids, result.n_ids) < result.n_ids;
        if (result.stop == GORGON_STOP_NONE && !loops)
            continue;
        status = gg_job_finish_stage(sl->job, &result, &l->err);
        gorgon_stream_free(sl->stream);
        sl->stream = NULL;
        if (status == GORGON_OK)
            status = advance(l, sl);
    }
    return status;
}

// Tells how far the lane is; without a job it waits until the window moves. True: go on.
static bool go_on(lane *l)
{
    bool busy;
    uint64_t records = records_of(l, &busy);
    synth *s = l->owner;
    pthread_mutex_lock(&s->lock);
    l->records = records;
    while (!busy && !s->stop && s->next_index >= s->chunk_first + WINDOW_JOBS)
        pthread_cond_wait(&s->changed, &s->lock);
    bool stop = s->stop;
    pthread_mutex_unlock(&s->lock);
    return !stop;
}

static void run_lane(lane *l)
{
    size_t active = 0;
    while (l->status == GORGON_OK && go_on(l)) {
        l->status = fill_slots(l);
        if (l->status == GORGON_OK)
            l->status = gorgon_decoder_step(l->decoder, &active, &l->err);
        if (l->status == GORGON_OK)
            l->status = collect(l);
    }
    synth *s = l->owner;
    pthread_mutex_lock(&s->lock);
    s->stop = s->stop || l->status != GORGON_OK;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static bool chunk_ready(const synth *s)
{
    for (uint64_t i = s->chunk_first; i < s->chunk_first + CHUNK_JOBS; i++) {
        if (!s->finished[i % WINDOW_JOBS])
            return false;
    }
    return true;
}

// Writes the first chunk of the window, whose jobs belong to nobody else any more.
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
    return status;
}

static void move_window(synth *s)
{
    for (uint64_t i = s->chunk_first; i < s->chunk_first + CHUNK_JOBS; i++) {
        gg_job_free(s->finished[i % WINDOW_JOBS]);
        s->finished[i % WINDOW_JOBS] = NULL;
    }
    s->chunk_first += CHUNK_JOBS;
    pthread_cond_broadcast(&s->changed);
}

// Waits for a parked job, a fifth of a second at most.
static void wait_for_change(synth *s)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 200 * 1000 * 1000;
    until.tv_sec += until.tv_nsec / (1000 * 1000 * 1000);
    until.tv_nsec %= 1000 * 1000 * 1000;
    pthread_cond_timedwait(&s->changed, &s->lock, &until);
}

// The caller's part: writes chunks and reports until there are enough tokens or something failed.
static gorgon_status write_until_done(synth *s)
{
    gorgon_status status = GORGON_OK;
    pthread_mutex_lock(&s->lock);
    while (status == GORGON_OK && !s->stop && gg_cache_records(s->cache) < s->options->tokens) {
        bool ready = chunk_ready(s);
        if (!ready)
            wait_for_change(s);
        uint64_t in_flight = records_in_flight(s);
        pthread_mutex_unlock(&s->lock);
        status = ready ? write_chunk(s) : report(s, in_flight);
        pthread_mutex_lock(&s->lock);
        if (ready && status == GORGON_OK)
            move_window(s);
    }
    s->stop = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return status;
}

typedef struct region {
    synth *synth;
    gorgon_status status; // of the writer
} region;

// Thread 0 writes, the others are lanes.
static void run_thread(void *context, size_t thread, size_t n_threads)
{
    (void)n_threads;
    region *r = context;
    if (thread == 0)
        r->status = write_until_done(r->synth);
    else
        run_lane(&r->synth->lanes[thread - 1]);
}

static gorgon_status create_lane(synth *s, lane *l, size_t threads)
{
    const gorgon_synth_options *o = s->options;
    gorgon_engine_options engine;
    gorgon_decoder_options decoding;
    gorgon_engine_options_init(&engine);
    gorgon_decoder_options_init(&decoding);
    l->owner = s;
    l->n_slots = BATCH / s->n_lanes > LANE_LEAST ? BATCH / s->n_lanes : LANE_LEAST;
    engine.threads = threads;
    engine.cpu_level = o->cpu_level;
    engine.context = o->max_sequence;
    engine.max_sequences = l->n_slots;
    engine.kv_positions = l->n_slots * ((o->max_sequence + 63) / 64 * 64);
    engine.max_rows = 4 * l->n_slots;
    engine.max_logit_rows = 2 * l->n_slots;
    decoding.tree = "off";
    decoding.max_streams = l->n_slots;
    gorgon_status status = gorgon_engine_create(s->model, &engine, &l->engine, s->err);
    if (status == GORGON_OK)
        status = gorgon_decoder_create(l->engine, &decoding, &l->decoder, s->err);
    l->settings = (gg_job_settings){
        .engine = l->engine,
        .seed = o->seed,
        .greedy_share = o->greedy_share,
        .temperature = o->temperature,
        .max_sequence = o->max_sequence,
        .data = o->data,
        .n_data = o->n_data,
        .data_share = o->data_share,
    };
    return status;
}

static void clear_lane(lane *l)
{
    for (size_t i = 0; i < l->n_slots; i++) {
        gorgon_stream_free(l->slots[i].stream);
        gg_job_free(l->slots[i].job);
    }
    gorgon_decoder_free(l->decoder);
    gorgon_engine_free(l->engine);
}

static gorgon_status create_lanes(synth *s)
{
    size_t n = s->options->threads > 0 ? s->options->threads : gg_processors();
    size_t lanes = n < MAX_LANES ? n : MAX_LANES;
    s->lanes = gg_alloc(lanes, sizeof *s->lanes);
    if (!s->lanes)
        return gg_fail(s->err, GORGON_ERROR_MEMORY, "synth: out of memory for %zu lanes", lanes);
    s->n_lanes = lanes;
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < lanes && status == GORGON_OK; i++)
        status = create_lane(s, &s->lanes[i], n / lanes + (i < n % lanes));
    return status;
}

static gorgon_status run_lanes(synth *s)
{
    gg_team *team = NULL;
    region r = {.synth = s};
    gorgon_status status = create_lanes(s);
    if (status == GORGON_OK)
        status = gg_team_create(s->n_lanes + 1, &team, s->err);
    if (status == GORGON_OK) {
        gg_team_run(team, run_thread, &r);
        status = r.status;
    }
    gg_team_free(team);
    for (size_t i = 0; i < s->n_lanes && status == GORGON_OK; i++) {
        if (s->lanes[i].status != GORGON_OK)
            status = gg_fail(s->err, s->lanes[i].status, "%s", s->lanes[i].err.message);
    }
    return status;
}

static void release(synth *s)
{
    for (size_t i = 0; i < s->n_lanes; i++)
        clear_lane(&s->lanes[i]);
    for (size_t i = 0; i < WINDOW_JOBS; i++)
        gg_job_free(s->finished[i]);
    gg_free(s->lanes);
    gg_hash_set_free(s->seen);
    gg_cache_free(s->cache);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
}

static gorgon_status write_text(synth *s)
{
    gorgon_status status = gg_cache_extend(s->cache, s->err);
    if (status == GORGON_OK)
        status = recall_seen(s);
    s->chunk_first = s->next_index = gg_cache_next_index(s->cache) / 2;
    s->records_at_start = gg_cache_records(s->cache);
    s->started = gg_now();
    return status == GORGON_OK ? run_lanes(s) : status;
}

static gorgon_status run(synth *s)
{
    gg_cache_identity identity = {
        .base = gorgon_model_fingerprint(s->model),
        .seed = s->options->seed,
        .options_hash = options_hash(s->options),
    };
    gorgon_status status =
        gg_cache_open(s->options->cache, &identity, s->options->cache_limit, &s->cache, s->err);
    if (status == GORGON_OK && gg_cache_records(s->cache) < s->options->tokens)
        status = write_text(s);
    if (status == GORGON_OK && !gg_cache_complete(s->cache))
        status = gg_cache_finish(s->cache, s->err);
    if (status == GORGON_OK && s->options->text_path)
        status = gg_synth_write_text(s->model, s->cache, s->options->text_path, s->err);
    return status;
}

gorgon_status gorgon_synth(const gorgon_model *model, const gorgon_synth_options *options,
                           gorgon_error *err)
{
    synth *s = gg_alloc(1, sizeof *s);
    if (!s)
        return gg_fail(err, GORGON_ERROR_MEMORY, "synth: out of memory");
    s->model = model;
    s->options = options;
    s->err = err;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    gorgon_status status = check_options(s);
    if (status == GORGON_OK)
        status = run(s);
    release(s);
    gg_free(s);
    return status;
}
