// gorgon_train: Medusa or recurrent heads on a frozen base (arXiv 2401.10774) from a feature cache.
// A step is a pure function of the state before it, the options and the cache, so a run that was
// stopped continues bit for bit.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/engine.h"
#include "core/error.h"
#include "core/file.h"
#include "core/limits.h"
#include "core/system.h"
#include "gorgon/trainers.h"
#include "heads/head_set.h"
#include "train_curve.h"
#include "train_record.h"
#include "trainers/adamw.h"

enum {
    POINTS = 10,         // evaluations during training
    QUICK_EVAL = 4096,   // positions of each
    FINAL_EVAL = 1 << 15 // positions of the last
};
#define DATA_BUDGET (UINT64_C(3) << 30) // bytes of records in memory

typedef struct training {
    const gorgon_train_options *options;
    gorgon_engine *engine;
    char *state_path;
    gg_dtype weight_type;
    bool recurrent;
    gg_cache *cache;
    gg_train_data *data;
    gg_batch_maker maker;
    gg_medusa_layout layout;
    gg_medusa_trainer *trainer;
    gg_train_buffers buffers;
    gg_train_state state;
    float *gradient;
    double *partial;
    gg_train_scores scores;
    gg_train_curve curve;
    uint64_t steps, first_step; // of the whole run; done before this call
    double started;             // gg_now
    double last_loss, last_rate;
} training;

void gorgon_train_options_init(gorgon_train_options *options)
{
    *options = (gorgon_train_options){
        .seed = 1,
        .architecture = "medusa",
        .n_heads = 4,
        .n_blocks = 1,
        .root_embedding = true,
        .draft_vocab = 4096,
        .epochs = 2.0,
        .batch = 512,
        .learning_rate = 1.5e-3,
        .warmup_share = 0.03,
        .weight_decay = 0.01,
        .clip = 1.0,
        .head_decay = 0.8,
        .held_out = 0.05,
        .weight_type = "F16",
        .checkpoint_steps = 100,
    };
}

static gorgon_status check_count(const char *name, uint64_t value, uint64_t least, uint64_t most,
                                 gorgon_error *err)
{
    if (value >= least && value <= most)
        return GORGON_OK;
    return gg_fail(err, GORGON_ERROR_ARGUMENT, "training: %s is %llu, expected %llu to %llu", name,
                   (unsigned long long)value, (unsigned long long)least, (unsigned long long)most);
}

// Written so that NaN fails.
static gorgon_status check_real(const char *name, double value, double least, double most,
                                gorgon_error *err)
{
    if (value >= least && value <= most)
        return GORGON_OK;
    return gg_fail(err, GORGON_ERROR_ARGUMENT, "training: %s is %g, expected %g to %g", name, value,
                   least, most);
}

static gorgon_status check_options(training *t, gorgon_error *err)
{
    const gorgon_train_options *o = t->options;
    const char *architecture = o->architecture ? o->architecture : "";
    t->recurrent = strcmp(architecture, "recurrent") == 0;
    if (!t->recurrent && strcmp(architecture, "medusa") != 0)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "training: architecture is '%.40s', expected medusa or recurrent",
                       architecture);
    if (t->recurrent && !o->root_embedding)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "training: recurrent heads see the root token: root_embedding must be on");
    if (!o->cache || !o->out)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "training: no %s given",
                       o->cache ? "heads file to write" : "feature cache");
    const struct {
        const char *name;
        uint64_t value, least, most;
    } counts[] = {{"n_heads", o->n_heads, 1, GG_MAX_DRAFT_HEADS},
                  {"n_blocks", o->n_blocks, 1, GG_MAX_HEAD_BLOCKS},
                  {"batch", o->batch, 1, 1 << 16},
                  {"draft_vocab", o->draft_vocab, 0, GG_MAX_VOCAB}};
    const struct {
        const char *name;
        double value, least, most;
    } reals[] = {{"epochs", o->epochs, 1e-6, 1e6},
                 {"learning_rate", o->learning_rate, 0.0, 1.0},
                 {"warmup_share", o->warmup_share, 0.0, 1.0},
                 {"weight_decay", o->weight_decay, 0.0, 10.0},
                 {"clip", o->clip, 0.0, 1e9},
                 {"head_decay", o->head_decay, 1e-3, 1.0},
                 {"held_out", o->held_out, 0.0, 0.9}};
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < sizeof counts / sizeof *counts && status == GORGON_OK; i++)
        status = check_count(counts[i].name, counts[i].value, counts[i].least, counts[i].most, err);
    for (size_t i = 0; i < sizeof reals / sizeof *reals && status == GORGON_OK; i++)
        status = check_real(reals[i].name, reals[i].value, reals[i].least, reals[i].most, err);
    static const gg_dtype types[] = {GG_F16, GG_F32, GG_Q8_0};
    for (size_t i = 0; i < sizeof types / sizeof *types && status == GORGON_OK; i++) {
        t->weight_type = types[i];
        if (o->weight_type && strcmp(o->weight_type, gg_dtype_name(types[i])) == 0)
            return GORGON_OK;
    }
    if (status != GORGON_OK)
        return status;
    return gg_fail(err, GORGON_ERROR_ARGUMENT,
                   "training: weight_type is '%s', expected F16, F32 or Q8_0",
                   o->weight_type ? o->weight_type : "");
}

// An unwritable target is found before the work, not after it.
static gorgon_status check_output(const char *path, gorgon_error *err)
{
    gorgon_output *out;
    gorgon_status status = gorgon_output_create(path, &out, err);
    if (status == GORGON_OK)
        gorgon_output_discard(out);
    return status;
}

static gorgon_status out_of_memory(gorgon_error *err)
{
    return gg_fail(err, GORGON_ERROR_MEMORY, "training: out of memory");
}

static gorgon_status open_cache(training *t, gorgon_error *err)
{
    const char *directory = t->options->cache;
    gorgon_status status = gg_cache_open_existing(
        directory, gorgon_model_fingerprint(gg_engine_model(t->engine)), &t->cache, err);
    if (status == GORGON_OK && !gg_cache_complete(t->cache))
        status = gg_fail(err, GORGON_ERROR_MISMATCH,
                         "feature cache '%s' is incomplete: run `gorgon synth` until it finishes",
                         directory);
    if (status != GORGON_OK)
        return status;
    gg_train_source source = {.engine = t->engine,
                              .cache = t->cache,
                              .n_heads = t->options->n_heads,
                              .held_out = t->options->held_out,
                              .seed = t->options->seed,
                              .budget_bytes = DATA_BUDGET};
    return gg_train_data_open(&source, &t->data, err);
}

static gorgon_status name_state(training *t, gorgon_error *err)
{
    const gorgon_train_options *o = t->options;
    size_t n = strlen(o->cache) + sizeof GG_TRAIN_STATE_NAME + 1;
    t->state_path = o->state ? gg_strdup(o->state) : gg_alloc(n, 1);
    if (!t->state_path)
        return out_of_memory(err);
    if (!o->state)
        snprintf(t->state_path, n, "%s/%s", o->cache, GG_TRAIN_STATE_NAME);
    return check_output(t->state_path, err);
}

static uint64_t real_bits(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

// Everything that the course of the training depends on.
static uint64_t identity_of(const training *t)
{
    const gorgon_train_options *o = t->options;
    gg_cache_identity id = gg_cache_identity_of(t->cache);
    const uint64_t words[] = {o->seed,
                              o->n_heads,
                              o->n_blocks,
                              o->root_embedding + 2 * (uint64_t)t->recurrent,
                              t->maker.n_draft,
                              real_bits(o->epochs),
                              o->batch,
                              real_bits(o->learning_rate),
                              real_bits(o->warmup_share),
                              real_bits(o->weight_decay),
                              real_bits(o->clip),
                              real_bits(o->head_decay),
                              o->hard_targets,
                              real_bits(o->held_out),
                              id.base.vocabulary,
                              id.base.tensors,
                              id.seed,
                              id.options_hash,
                              gg_cache_sequences(t->cache),
                              gg_cache_records(t->cache)};
    return gg_hash(words, sizeof words, 1);
}

static gorgon_status create_buffers(training *t, gorgon_error *err)
{
    size_t batch = t->options->batch, pairs = batch * t->options->n_heads;
    gg_train_buffers *b = &t->buffers;
    b->batch = batch;
    b->input = gg_alloc(batch * t->layout.input, sizeof *b->input);
    b->targets = gg_alloc(pairs, sizeof *b->targets);
    b->loss = gg_alloc(pairs, sizeof *b->loss);
    b->rank = gg_alloc(pairs, sizeof *b->rank);
    t->gradient = gg_alloc(t->layout.n, sizeof *t->gradient);
    t->partial = gg_alloc(gg_adamw_partials(t->layout.n), sizeof *t->partial);
    if (b->input && b->targets && b->loss && b->rank && t->gradient && t->partial)
        return GORGON_OK;
    return out_of_memory(err);
}

static gorgon_status set_up(training *t, gorgon_error *err)
{
    const gorgon_train_options *o = t->options;
    gg_medusa_shape shape = {.n_heads = o->n_heads,
                             .n_blocks = o->n_blocks,
                             .d = gg_model_geometry(gg_engine_model(t->engine))->d_model,
                             .root_embedding = o->root_embedding,
                             .recurrent = t->recurrent};
    gg_batch_maker wanted = {.engine = t->engine,
                             .shape = shape,
                             .hard_targets = o->hard_targets,
                             .head_decay = o->head_decay,
                             .n_draft = o->draft_vocab};
    gorgon_status status = check_output(o->out, err);
    if (status == GORGON_OK)
        status = open_cache(t, err);
    if (status == GORGON_OK)
        status = name_state(t, err);
    if (status == GORGON_OK)
        status = gg_batch_maker_create(&wanted, gg_train_data_counts(t->data), &t->maker, err);
    if (status != GORGON_OK)
        return status;
    t->layout = gg_medusa_layout_of(&shape);
    status = create_buffers(t, err);
    if (status == GORGON_OK)
        status =
            gg_medusa_trainer_create(gg_engine_team(t->engine), gg_engine_kernels(t->engine),
                                     &t->maker.shape, t->maker.output, o->batch, &t->trainer, err);
    if (status == GORGON_OK)
        status = gg_train_state_create(t->layout.n, identity_of(t), &t->state, err);
    bool resumed;
    if (status == GORGON_OK)
        status = gg_train_state_load(&t->state, t->state_path, &resumed, err);
    if (status == GORGON_OK)
        status = gg_train_curve_open(o->curve, o->n_heads, t->state.step, &t->curve, err);
    double steps = o->epochs * (double)gg_train_data_positions(t->data) / (double)o->batch;
    t->steps = steps < 1.0 ? 1 : (uint64_t)ceil(steps);
    t->first_step = t->state.step;
    t->started = gg_now();
    return status;
}

static gorgon_status fill_batch(training *t, gorgon_error *err)
{
    size_t batch = t->options->batch, heads = t->options->n_heads;
    for (size_t at = 0; at < batch;) {
        const gg_feature_store *store;
        const uint32_t *records;
        size_t got;
        gorgon_status status = gg_train_data_take(t->data, t->state.step * batch + at, batch - at,
                                                  &store, &records, &got, err);
        if (status != GORGON_OK)
            return status;
        gg_batch_fill(&t->maker, store, records, got, batch,
                      t->buffers.input + at * t->layout.input, t->buffers.targets + at * heads);
        at += got;
    }
    return GORGON_OK;
}

static gorgon_status update(training *t, gorgon_error *err)
{
    const gorgon_train_options *o = t->options;
    gg_train_state *s = &t->state;
    uint64_t step = s->step + 1;
    uint64_t warmup = (uint64_t)ceil(o->warmup_share * (double)t->steps);
    double rate = gg_learning_rate(o->learning_rate, warmup, t->steps, step);
    gg_adamw_options adamw = {.beta1 = 0.9,
                              .beta2 = 0.999,
                              .epsilon = 1e-8,
                              .weight_decay = o->weight_decay,
                              .clip = o->clip,
                              .n_decayed = t->layout.n_weights};
    gg_adamw vectors = {t->layout.n, s->parameters, s->first, s->second, t->gradient, t->partial};
    double norm = gg_adamw_step(gg_engine_team(t->engine), gg_engine_kernels(t->engine), &adamw,
                                &vectors, step, rate);
    if (!isfinite(norm))
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "training: the gradient of step %llu is not finite; expected a learning "
                       "rate below %g",
                       (unsigned long long)step, o->learning_rate);
    s->step = step;
    t->last_rate = rate;
    return GORGON_OK;
}

// Weights start at zero: every block begins as the identity, and so each head as the base's own
// guess; the gradient does not vanish there because silu'(0) = 1/2.
static gorgon_status run_step(training *t, gorgon_error *err)
{
    gg_train_buffers *b = &t->buffers;
    gg_medusa_batch batch = {.rows = b->batch,
                             .input = b->input,
                             .targets = b->targets,
                             .gradient = t->gradient,
                             .loss = b->loss};
    gorgon_status status = fill_batch(t, err);
    if (status == GORGON_OK)
        status = gg_medusa_trainer_run(t->trainer, t->state.parameters, &batch, err);
    if (status == GORGON_OK)
        status = update(t, err);
    if (status != GORGON_OK)
        return status;
    t->last_loss = 0.0;
    for (size_t i = 0; i < b->batch * t->options->n_heads; i++)
        t->last_loss += (double)b->targets[i].weight * b->loss[i];
    t->state.loss_sum += t->last_loss;
    t->state.loss_steps++;
    return GORGON_OK;
}

static gorgon_status evaluate(training *t, size_t most, gorgon_error *err)
{
    const uint32_t *records;
    size_t n;
    const gg_feature_store *store = gg_train_data_held_out(t->data, &records, &n);
    return gg_train_evaluate(t->trainer, t->state.parameters, &t->maker, store, records, n, most,
                             &t->buffers, &t->scores, err);
}

static bool point_due(const training *t)
{
    uint64_t step = t->state.step;
    return step * POINTS / t->steps > (step - 1) * POINTS / t->steps;
}

static gorgon_status add_point(training *t, gorgon_error *err)
{
    gg_train_state *s = &t->state;
    gorgon_status status = evaluate(t, QUICK_EVAL, err);
    if (status != GORGON_OK || s->n_history >= GG_TRAIN_HISTORY)
        return status;
    s->history[s->n_history++] = (gg_train_point){
        s->step, s->loss_sum / (double)(s->loss_steps ? s->loss_steps : 1), t->scores.loss};
    s->loss_sum = 0.0;
    s->loss_steps = 0;
    return GORGON_OK;
}

// "loss 3.402, held-out 3.377, top-1/10 %: 33.9/64.8 20.1/49.8"
static void describe(const training *t, bool scored, char *line, size_t size)
{
    int used = snprintf(line, size, "loss %.3f", t->last_loss);
    if (!scored || t->scores.positions == 0)
        return;
    used +=
        snprintf(line + used, size - (size_t)used, ", held-out %.3f, top-1/10 %%:", t->scores.loss);
    for (size_t k = 0; k < t->options->n_heads && (size_t)used + 32 < size; k++)
        used += snprintf(line + used, size - (size_t)used, " %.1f/%.1f",
                         100.0 * gg_train_accuracy(&t->scores, k, 1),
                         100.0 * gg_train_accuracy(&t->scores, k, 10));
}

// False: the caller wants to stop.
static bool report(const training *t, bool scored)
{
    if (!t->options->progress)
        return true;
    char line[512];
    double elapsed = gg_now() - t->started;
    uint64_t done = t->state.step - t->first_step;
    gorgon_progress progress = {.stage = "train", .unit = "steps", .line = line};
    describe(t, scored, line, sizeof line);
    progress.done = t->state.step;
    progress.total = t->steps;
    progress.rate = elapsed > 0.0 ? (double)done / elapsed : 0.0;
    progress.eta_s = progress.rate > 0.0 ? (double)(t->steps - t->state.step) / progress.rate : 0.0;
    return t->options->progress(t->options->context, &progress);
}

// The curve before the state: a curve may know steps that the state lost, not the other way round.
static gorgon_status save(const training *t, gorgon_error *err)
{
    gorgon_status status = gg_train_curve_save(&t->curve, err);
    return status == GORGON_OK ? gg_train_state_save(&t->state, t->state_path, err) : status;
}

static gorgon_status run_steps(training *t, gorgon_error *err)
{
    uint64_t every = t->options->checkpoint_steps;
    while (t->state.step < t->steps) {
        gorgon_status status = run_step(t, err);
        bool point = status == GORGON_OK && point_due(t);
        if (point)
            status = add_point(t, err);
        if (status == GORGON_OK)
            status = gg_train_curve_add(&t->curve, t->state.step, t->last_rate, t->last_loss,
                                        point ? &t->scores : NULL, err);
        if (status != GORGON_OK)
            return status;
        bool stop = !report(t, point);
        bool due = t->state.step == t->steps || (every > 0 && t->state.step % every == 0);
        if (stop || due)
            status = save(t, err);
        if (status != GORGON_OK)
            return status;
        if (stop)
            return gg_fail(err, GORGON_ERROR_CANCELLED, "training stopped after step %llu of %llu",
                           (unsigned long long)t->state.step, (unsigned long long)t->steps);
    }
    return GORGON_OK;
}

static double coverage(const training *t)
{
    const uint64_t *counts = gg_train_data_counts(t->data);
    uint64_t inside = 0;
    for (size_t i = 0; i < t->maker.n_draft; i++)
        inside += counts[t->maker.draft_ids[i]];
    return t->maker.n_draft == 0 ? 1.0 : (double)inside / (double)gg_train_data_records(t->data);
}

// Weights of block 0 lie in one row with the root weights; files keep them apart.
static void split_weights(const training *t, float *weights, float *roots)
{
    const gg_medusa_shape *s = &t->maker.shape;
    size_t d = s->d, width = t->layout.first;
    for (size_t h = 0; h < gg_medusa_cells(s); h++) {
        const float *from = t->state.parameters + gg_medusa_weight_at(s, 0, h);
        for (size_t o = 0; o < d; o++) {
            memcpy(weights + (h * d + o) * d, from + o * width, d * sizeof(float));
            if (s->root_embedding)
                memcpy(roots + (h * d + o) * d, from + o * width + d, d * sizeof(float));
        }
    }
}

static gorgon_status write_set(const training *t, float *weights, float *roots, const char *record,
                               const char *accuracy, gorgon_error *err)
{
    enum { MOST = GG_MAX_DRAFT_HEADS * GG_MAX_HEAD_BLOCKS };
    const gg_medusa_shape *s = &t->maker.shape;
    const float *weight[MOST], *bias[MOST], *root[GG_MAX_DRAFT_HEADS];
    split_weights(t, weights, roots);
    for (size_t h = 0; h < gg_medusa_cells(s); h++) {
        root[h] = roots + h * s->d * s->d;
        for (size_t j = 0; j < s->n_blocks; j++) {
            weight[h * s->n_blocks + j] = j == 0
                                              ? weights + h * s->d * s->d
                                              : t->state.parameters + gg_medusa_weight_at(s, j, h);
            bias[h * s->n_blocks + j] = t->state.parameters + gg_medusa_bias_at(s, j, h);
        }
    }
    gg_head_set_source set = {.recurrent = s->recurrent,
                              .n_heads = s->n_heads,
                              .n_blocks = s->n_blocks,
                              .d_model = s->d,
                              .n_draft = t->maker.n_draft,
                              .root_embedding = s->root_embedding,
                              .weight_type = t->weight_type,
                              .draft_ids = t->maker.n_draft > 0 ? t->maker.draft_ids : NULL,
                              .weight = weight,
                              .bias = bias,
                              .root = s->root_embedding ? root : NULL,
                              .training_json = record,
                              .accuracy_json = accuracy};
    return gg_heads_write(t->options->out, gg_engine_model(t->engine), &set, 1, err);
}

static gorgon_status write_heads(const training *t, gorgon_error *err)
{
    const gg_medusa_shape *s = &t->maker.shape;
    gg_train_facts facts = {.options = t->options,
                            .model = gg_engine_model(t->engine),
                            .cache = t->cache,
                            .state = &t->state,
                            .maker = &t->maker,
                            .records = gg_train_data_records(t->data),
                            .positions = gg_train_data_positions(t->data),
                            .steps = t->steps,
                            .coverage = coverage(t)};
    bool scored = t->scores.positions > 0;
    char *record = gg_train_record_json(&facts);
    char *accuracy = scored ? gg_train_accuracy_json(&t->scores, s->n_heads) : NULL;
    size_t n = s->n_heads * s->d * s->d;
    float *weights = gg_alloc(n, sizeof *weights), *roots = gg_alloc(n, sizeof *roots);
    gorgon_status status = GORGON_OK;
    if (!record || (scored && !accuracy) || !weights || !roots)
        status = out_of_memory(err);
    else
        status = write_set(t, weights, roots, record, accuracy, err);
    gg_free(weights);
    gg_free(roots);
    free(record);
    free(accuracy);
    return status;
}

static void clear(training *t)
{
    gg_free(t->state_path);
    gg_medusa_trainer_free(t->trainer);
    gg_batch_maker_clear(&t->maker);
    gg_train_state_clear(&t->state);
    gg_train_curve_clear(&t->curve);
    gg_train_data_free(t->data);
    gg_cache_free(t->cache);
    gg_free(t->buffers.input);
    gg_free(t->buffers.targets);
    gg_free(t->buffers.loss);
    gg_free(t->buffers.rank);
    gg_free(t->gradient);
    gg_free(t->partial);
}

gorgon_status gorgon_train(gorgon_engine *engine, const gorgon_train_options *options,
                           gorgon_error *err)
{
    training t = {.options = options, .engine = engine};
    gorgon_status status = check_options(&t, err);
    if (status == GORGON_OK)
        status = set_up(&t, err);
    if (status == GORGON_OK)
        status = run_steps(&t, err);
    if (status == GORGON_OK)
        status = evaluate(&t, FINAL_EVAL, err);
    if (status == GORGON_OK)
        status = write_heads(&t, err);
    if (status == GORGON_OK)
        report(&t, true);
    clear(&t);
    return status;
}
