// Stages of a contestant that make its heads, and the records they leave.
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "compare.h"

#define SAVE_SECONDS  5.0 // between saved running times
#define PROBE_SECONDS 15.0

// A stage that is running: its name on the screen, and its time over all runs.
typedef struct stage {
    const char *path; // of the record; NULL: none is kept meanwhile
    json_t *record;
    char label[COMPARE_NAME + 48];
    double began, before, saved; // before: seconds of earlier runs
} stage;

bool compare_directory(const compare *c, const compare_architecture *a, uint64_t seed,
                       char path[COMPARE_PATH])
{
    bool good = a ? compare_path(path, "%s/%s-seed%" PRIu64, c->out, a->slug, seed)
                  : compare_path(path, "%s/untrained", c->out);
    if (good && mkdir(path, 0777) != 0 && errno != EEXIST)
        return cli_complain("%s: %s", path, strerror(errno));
    return good;
}

// A damaged record is as good as none: its stage runs again.
json_t *compare_load(const char *path, const json_t *made_from)
{
    json_t *record = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    if (record && json_equal(json_object_get(record, "made_from"), made_from))
        return record;
    json_decref(record);
    return NULL;
}

// With all digits: made_from is compared with what was read back.
bool compare_save(const char *path, json_t *record)
{
    char *text = json_dumps(record, JSON_COMPACT | JSON_REAL_PRECISION(17));
    bool good = text ? cli_write_file(path, text) : cli_complain("out of memory");
    free(text);
    return good;
}

static double stage_seconds(const stage *s)
{
    return s->before + cli_seconds() - s->began;
}

static bool save_stage(stage *s, bool done)
{
    json_object_set_new(s->record, "seconds", json_real(stage_seconds(s)));
    json_object_set_new(s->record, "done", json_boolean(done));
    if (done)
        json_object_set_new(s->record, "commit", json_string(GORGON_COMMIT));
    s->saved = cli_seconds();
    return compare_save(s->path, s->record);
}

static bool on_progress(void *context, const gorgon_progress *p)
{
    stage *s = context;
    gorgon_progress shown = *p;
    shown.stage = s->label;
    if (s->path && cli_seconds() - s->saved > SAVE_SECONDS && !save_stage(s, false))
        return false;
    return cli_progress(NULL, &shown);
}

// Continues the record at `path` or begins a new one, which takes made_from over. *done says that
// there is nothing left to do. False after a message.
static bool begin_stage(stage *s, const char *path, json_t *made_from, const char *name,
                        const compare_architecture *a, uint64_t seed, bool *done)
{
    *s = (stage){.path = path, .record = compare_load(path, made_from)};
    snprintf(s->label, sizeof s->label, "%s, seed %" PRIu64 ": %s", a->name, seed, name);
    *done = json_is_true(json_object_get(s->record, "done"));
    if (!s->record)
        s->record = json_pack("{s:O}", "made_from", made_from);
    json_decref(made_from);
    if (!s->record)
        return cli_complain("out of memory");
    s->before = cli_json_number(s->record, "seconds");
    s->began = cli_seconds();
    if (*done || save_stage(s, false))
        return true;
    json_decref(s->record);
    s->record = NULL;
    return false;
}

// The record when the stage is done; NULL after a message, or when interrupted.
static json_t *end_stage(stage *s, gorgon_status status, const gorgon_error *err)
{
    cli_progress_end();
    if (save_stage(s, status == GORGON_OK) && status == GORGON_OK) {
        fprintf(stderr, "%s: done after %.0f s\n", s->label, stage_seconds(s));
        return s->record;
    }
    json_decref(s->record);
    if (status != GORGON_OK && status != GORGON_ERROR_CANCELLED)
        cli_fail(err);
    return NULL;
}

bool compare_make_cache(compare *c)
{
    gorgon_error err = {0};
    gorgon_status status = gorgon_cache_describe(c->session.model, c->cache, &c->cache_info, &err);
    if (status == GORGON_OK && (!c->cache_info.complete || c->tokens > c->cache_info.tokens)) {
        gorgon_synth_options options;
        gorgon_synth_options_init(&options);
        options.cache = c->cache;
        options.tokens = c->tokens > 0 ? c->tokens : options.tokens;
        options.seed = c->seed;
        options.threads = c->common.threads;
        options.cpu_level = cli_environment_cpu();
        options.progress = cli_progress;
        status = gorgon_synth(c->session.model, &options, &err);
        cli_progress_end();
        if (status == GORGON_OK)
            status = gorgon_cache_describe(c->session.model, c->cache, &c->cache_info, &err);
    }
    if (status == GORGON_OK || status == GORGON_ERROR_CANCELLED)
        return status == GORGON_OK;
    return cli_fail(&err);
}

static json_t *hex(uint64_t value)
{
    return json_sprintf("%016" PRIx64, value);
}

json_t *compare_model_json(const compare *c)
{
    gorgon_fingerprint f = gorgon_model_fingerprint(c->session.model);
    return json_pack("{s:o,s:o}", "vocabulary", hex(f.vocabulary), "tensors", hex(f.tensors));
}

json_t *compare_cache_json(const compare *c)
{
    const gorgon_cache_info *i = &c->cache_info;
    return json_pack("{s:o,s:o,s:I,s:I}", "seed", hex(i->seed), "options_hash",
                     hex(i->options_hash), "sequences", (json_int_t)i->sequences, "tokens",
                     (json_int_t)i->tokens);
}

// Everything that trained heads depend on.
static json_t *training_identity(const compare *c, const compare_architecture *a, uint64_t seed)
{
    const gorgon_train_options *o = &a->train;
    json_t *budget = c->minutes > 0 ? json_pack("{s:f}", "minutes", c->minutes)
                                    : json_pack("{s:f}", "epochs", o->epochs);
    return json_pack("{s:s,s:s,s:o,s:o,s:I,s:I,s:I,s:I,s:f,s:f,s:s,s:o,s:o}", "gorgon",
                     GORGON_VERSION, "architecture", o->architecture, "seed", hex(seed), "budget",
                     budget, "n_heads", (json_int_t)o->n_heads, "n_blocks", (json_int_t)o->n_blocks,
                     "draft_vocab", (json_int_t)o->draft_vocab, "batch", (json_int_t)o->batch,
                     "learning_rate", o->learning_rate, "held_out", o->held_out, "weight_type",
                     o->weight_type, "model", compare_model_json(c), "cache",
                     compare_cache_json(c));
}

typedef struct probe {
    stage stage;
    double began;
    uint64_t first, done, total;
    double most_s, seconds;
} probe;

static bool on_probe(void *context, const gorgon_progress *p)
{
    probe *b = context;
    double now = cli_seconds();
    if (b->total == 0) {
        b->began = now;
        b->first = p->done;
        b->total = p->total;
    }
    if (p->done > b->done) {
        b->done = p->done;
        b->seconds = now - b->began;
    }
    return on_progress(&b->stage, p) && b->seconds < b->most_s;
}

// How many epochs the minutes are good for, from the rate of a short run that is thrown away: the
// schedule of the learning rate has to know its length.
static bool choose_epochs(const compare *c, gorgon_train_options options, const char *directory,
                          const stage *training, double *epochs)
{
    char state[COMPARE_PATH], out[COMPARE_PATH];
    gorgon_error err = {0};
    probe b = {.most_s = 3.0 * c->minutes < PROBE_SECONDS ? 3.0 * c->minutes : PROBE_SECONDS};
    if (!compare_path(state, "%s/probe.state", directory) ||
        !compare_path(out, "%s/probe.gguf", directory))
        return false;
    snprintf(b.stage.label, sizeof b.stage.label, "%.*s (rate)", COMPARE_NAME + 40,
             training->label);
    options.state = state;
    options.out = out;
    options.progress = on_probe;
    options.context = &b;
    remove(state);
    gorgon_status status = gorgon_train(c->session.engine, &options, &err);
    remove(state);
    remove(out);
    if (status != GORGON_OK && status != GORGON_ERROR_CANCELLED)
        return cli_fail(&err);
    if (cli_interrupted())
        return false;
    double steps = b.done > b.first ? (double)(b.done - b.first) / b.seconds * 60.0 * c->minutes
                                    : (double)b.total;
    char rounded[32];
    snprintf(rounded, sizeof rounded, "%.3g", options.epochs * steps / (double)b.total);
    *epochs = strtod(rounded, NULL);
    *epochs = *epochs > 1e-6 ? *epochs : 1e-6;
    return true;
}

// The epochs of the record; chosen and noted there at the first run.
static bool settle_epochs(const compare *c, stage *s, const char *directory,
                          gorgon_train_options *options)
{
    const json_t *known = json_object_get(s->record, "epochs");
    if (json_is_real(known))
        options->epochs = json_real_value(known);
    else if (c->minutes > 0 && !choose_epochs(c, *options, directory, s, &options->epochs))
        return false;
    s->began = known ? s->began : cli_seconds(); // the probe's time is not training's
    json_object_set_new(s->record, "epochs", json_real(options->epochs));
    return save_stage(s, false);
}

json_t *compare_train(compare *c, const compare_architecture *a, uint64_t seed,
                      const char *directory)
{
    char path[COMPARE_PATH], state[COMPARE_PATH], out[COMPARE_PATH], calibrated[COMPARE_PATH];
    gorgon_error err = {0};
    stage s;
    bool done;
    if (!compare_path(path, "%s/train.json", directory) ||
        !compare_path(state, "%s/train.state", directory) ||
        !compare_path(out, "%s/heads.gguf", directory) ||
        !compare_path(calibrated, "%s/calibrate.json", directory) ||
        !begin_stage(&s, path, training_identity(c, a, seed), "train", a, seed, &done))
        return NULL;
    if (done && gorgon_heads_probe(out))
        return s.record;
    if (done)
        s.before = 0;   // its heads are gone
    remove(calibrated); // new heads come without calibration
    gorgon_train_options options = a->train;
    options.cache = c->cache;
    options.state = state;
    options.out = out;
    options.seed = seed;
    if (!settle_epochs(c, &s, directory, &options)) {
        json_decref(s.record);
        return NULL;
    }
    options.progress = on_progress;
    options.context = &s;
    return end_stage(&s, gorgon_train(c->session.engine, &options, &err), &err);
}

json_t *compare_calibrate(compare *c, const compare_architecture *a, uint64_t seed,
                          const char *directory, const json_t *trained)
{
    char path[COMPARE_PATH], heads[COMPARE_PATH];
    gorgon_error err = {0};
    stage s;
    bool done;
    if (!compare_path(path, "%s/calibrate.json", directory) ||
        !compare_path(heads, "%s/heads.gguf", directory))
        return NULL;
    json_t *made_from =
        json_pack("{s:O?,s:f,s:I}", "train", json_object_get(trained, "made_from"), "epochs",
                  cli_json_number(trained, "epochs"), "positions", (json_int_t)c->positions);
    if (!begin_stage(&s, path, made_from, "calibrate", a, seed, &done))
        return NULL;
    if (done)
        return s.record;
    gorgon_calibrate_options options;
    gorgon_calibrate_options_init(&options);
    options.cache = c->cache;
    options.heads = heads;
    options.max_positions = c->positions;
    options.held_out = a->train.held_out;
    options.progress = on_progress;
    options.context = &s;
    return end_stage(&s, gorgon_calibrate(c->session.engine, &options, &err), &err);
}
