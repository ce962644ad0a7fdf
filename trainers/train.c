// gorgon_train: heads of any kind on a frozen base from a feature cache. A step is a pure function
// of the state before it, the options and the cache, so a run that was stopped continues bit for
// bit.
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
#include "train_curve.h"
#include "train_options.h"
#include "train_record.h"
#include "train_successors.h"
#include "trainers/adamw.h"

enum {
    POINTS = 10,         // evaluations during training
    QUICK_EVAL = 4096,   // positions of each
    FINAL_EVAL = 1 << 15 // positions at the end
};
#define DATA_BUDGET (UINT64_C(3) << 30) // bytes of records in memory

typedef struct training {
    gorgon_train_options options;
    gg_head_shape shape; // n_draft as wanted, settled by the maker of batches
    gg_dtype weight_type;
    gorgon_engine *engine;
    char *state_path;
    gg_cache *cache;
    gg_train_data *data;
    gg_batch_maker maker;
    gg_head_layout layout;
    gg_head_trainer *trainer;
    gg_train_buffers buffers;
    gg_train_state state;
    float *gradient;
    double *partial;
    gg_train_scores scores;
    gg_train_curve curve;
    uint64_t steps, first_step; // of the whole run; done before this call
    uint64_t chosen_step;       // that the written heads are of
    double started;             // gg_now
    double last_loss, last_rate;
} training;

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
    const char *directory = t->options.cache;
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
                              .n_heads = t->shape.n_heads,
                              .held_out = t->options.held_out,
                              .seed = t->options.seed,
                              .budget_bytes = DATA_BUDGET,
                              .piece = gg_head_piece(&t->shape)};
    return gg_train_data_open(&source, &t->data, err);
}

static gorgon_status name_state(training *t, gorgon_error *err)
{
    const gorgon_train_options *o = &t->options;
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
    const gorgon_train_options *o = &t->options;
    const gg_head_shape *shape = &t->shape;
    gg_cache_identity id = gg_cache_identity_of(t->cache);
    const uint64_t words[] = {o->seed,
                              shape->kind,
                              shape->n_heads,
                              shape->n_blocks,
                              shape->rank,
                              shape->n_attention,
                              shape->n_ffn,
                              shape->window,
                              shape->root_embedding,
                              shape->own_output,
                              shape->n_draft,
                              real_bits(o->epochs),
                              o->batch,
                              real_bits(o->learning_rate),
                              real_bits(o->warmup_share),
                              real_bits(o->weight_decay),
                              real_bits(o->clip),
                              real_bits(o->head_decay),
                              o->hard_targets,
                              real_bits(o->held_out),
                              o->patience,
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
    size_t batch = t->options.batch, pairs = batch * t->shape.n_heads;
    gg_train_buffers *b = &t->buffers;
    const bool whole = gg_batch_create(&t->shape, batch, &b->batch);
    b->loss = gg_alloc(pairs, sizeof *b->loss);
    b->rank = gg_alloc(pairs, sizeof *b->rank);
    t->gradient = gg_alloc(t->layout.n, sizeof *t->gradient);
    t->partial = gg_alloc(gg_adamw_partials(t->layout.n), sizeof *t->partial);
    if (whole && b->loss && b->rank && t->gradient && t->partial)
        return GORGON_OK;
    return out_of_memory(err);
}

static gorgon_status begin_or_resume(training *t, gorgon_error *err)
{
    bool resumed;
    gorgon_status status = gg_train_state_create(t->layout.n, identity_of(t), &t->state, err);
    if (status != GORGON_OK)
        return status;
    gg_head_begin(&t->shape, t->maker.output, t->options.seed, t->state.parameters);
    return gg_train_state_load(&t->state, t->state_path, &resumed, err);
}

// Patience needs something to wait for.
static gorgon_status check_held_out(const training *t, gorgon_error *err)
{
    const uint32_t *records;
    size_t n;
    gg_train_data_held_out(t->data, &records, &n);
    if (n > 0 || t->options.patience == 0)
        return GORGON_OK;
    return gg_fail(
        err, GORGON_ERROR_ARGUMENT,
        "training: patience is %zu, but no position is held out; expected held_out above "
        "%g, or 0 points of patience",
        t->options.patience, t->options.held_out);
}

static gorgon_status set_up(training *t, gorgon_error *err)
{
    const gorgon_train_options *o = &t->options;
    gg_batch_maker wanted = {.engine = t->engine,
                             .shape = t->shape,
                             .hard_targets = o->hard_targets,
                             .head_decay = o->head_decay};
    gorgon_status status = check_output(o->out, err);
    if (status == GORGON_OK)
        status = open_cache(t, err);
    if (status == GORGON_OK)
        status = check_held_out(t, err);
    if (status == GORGON_OK)
        status = name_state(t, err);
    if (status == GORGON_OK)
        status = gg_batch_maker_create(&wanted, gg_train_data_counts(t->data), &t->maker, err);
    if (status != GORGON_OK)
        return status;
    t->shape = t->maker.shape;
    gg_head_layout_of(&t->shape, &t->layout);
    status = create_buffers(t, err);
    if (status == GORGON_OK)
        status = gg_head_trainer_create(gg_engine_team(t->engine), gg_engine_kernels(t->engine),
                                        &t->shape, t->maker.output, t->maker.n_out, o->batch,
                                        &t->trainer, err);
    if (status == GORGON_OK)
        status = begin_or_resume(t, err);
    if (status == GORGON_OK)
        status = gg_train_curve_open(o->curve, t->shape.n_heads, t->state.step, &t->curve, err);
    double steps = o->epochs * (double)gg_train_data_positions(t->data) / (double)o->batch;
    t->steps = steps < 1.0 ? 1 : (uint64_t)ceil(steps);
    t->first_step = t->state.step;
    t->started = gg_now();
    return status;
}

static gorgon_status update(training *t, gorgon_error *err)
{
    const gorgon_train_options *o = &t->options;
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

static gorgon_status run_step(training *t, gorgon_error *err)
{
    gg_train_buffers *b = &t->buffers;
    gorgon_status status = gg_batch_take(&t->maker, t->data, t->state.step, &b->batch, err);
    gg_head_batch batch = gg_batch_rows(&b->batch);
    batch.gradient = t->gradient;
    batch.loss = b->loss;
    if (status == GORGON_OK)
        status = gg_head_trainer_run(t->trainer, t->state.parameters, &batch, err);
    if (status == GORGON_OK)
        status = update(t, err);
    if (status != GORGON_OK)
        return status;
    t->last_loss = 0.0;
    for (size_t i = 0; i < batch.rows * t->shape.n_heads; i++)
        t->last_loss += (double)batch.targets[i].weight * b->loss[i];
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

// Without held-out positions there is no best point.
static void keep_best(training *t)
{
    gg_train_state *s = &t->state;
    const gg_train_point *last = &s->history[s->n_history - 1];
    if (t->scores.positions == 0 || (s->best_step > 0 && last->accepted <= s->best_accepted))
        return;
    s->best_step = last->step;
    s->best_accepted = last->accepted;
    memcpy(s->best, s->parameters, s->n * sizeof *s->best);
}

static gorgon_status add_point(training *t, gorgon_error *err)
{
    gg_train_state *s = &t->state;
    gorgon_status status = evaluate(t, QUICK_EVAL, err);
    if (status != GORGON_OK || s->n_history >= GG_TRAIN_HISTORY)
        return status;
    s->history[s->n_history++] =
        (gg_train_point){s->step, s->loss_sum / (double)(s->loss_steps ? s->loss_steps : 1),
                         t->scores.loss, gg_train_accepted(&t->scores, t->shape.n_heads)};
    s->loss_sum = 0.0;
    s->loss_steps = 0;
    keep_best(t);
    return GORGON_OK;
}

// As many points as the user is patient for have passed since the best one.
static bool out_of_patience(const training *t)
{
    const gg_train_state *s = &t->state;
    size_t since = 0;
    for (size_t i = 0; i < s->n_history; i++)
        since += s->history[i].step > s->best_step;
    return t->options.patience > 0 && s->best_step > 0 && since >= t->options.patience;
}

static void swap_best(training *t)
{
    float *best = t->state.best;
    t->state.best = t->state.parameters;
    t->state.parameters = best;
}

// Scores the heads and leaves those of the best point where the last are worse. Points look at
// few positions: an earlier one that seems better has to be so on many.
static gorgon_status choose_parameters(training *t, gorgon_error *err)
{
    const gg_train_state *s = &t->state;
    const size_t n_heads = t->shape.n_heads;
    t->chosen_step = s->step;
    gorgon_status status = evaluate(t, FINAL_EVAL, err);
    if (status != GORGON_OK || s->best_step == 0 ||
        s->history[s->n_history - 1].accepted >= s->best_accepted)
        return status;
    const gg_train_scores last = t->scores;
    swap_best(t);
    status = evaluate(t, FINAL_EVAL, err);
    if (gg_train_accepted(&t->scores, n_heads) > gg_train_accepted(&last, n_heads)) {
        t->chosen_step = s->best_step;
        return status;
    }
    swap_best(t);
    t->scores = last;
    return status;
}

// "loss 3.402, held-out 3.377, accepted 0.431, top-1/10 %: 33.9/64.8 20.1/49.8"
static void describe(const training *t, bool scored, char *line, size_t size)
{
    int used = snprintf(line, size, "loss %.3f", t->last_loss);
    if (!scored || t->scores.positions == 0)
        return;
    used += snprintf(line + used, size - (size_t)used,
                     ", held-out %.3f, accepted %.3f, top-1/10 %%:", t->scores.loss,
                     gg_train_accepted(&t->scores, t->shape.n_heads));
    for (size_t k = 0; k < t->shape.n_heads && (size_t)used + 32 < size; k++)
        used += snprintf(line + used, size - (size_t)used, " %.1f/%.1f",
                         100.0 * gg_train_accuracy(&t->scores, k, 1),
                         100.0 * gg_train_accuracy(&t->scores, k, 10));
}

// False: the caller wants to stop.
static bool report(const training *t, bool scored)
{
    if (!t->options.progress)
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
    return t->options.progress(t->options.context, &progress);
}

// The curve before the state: a curve may know steps that the state lost, not the other way round.
static gorgon_status save(const training *t, gorgon_error *err)
{
    gorgon_status status = gg_train_curve_save(&t->curve, err);
    return status == GORGON_OK ? gg_train_state_save(&t->state, t->state_path, err) : status;
}

static gorgon_status run_steps(training *t, gorgon_error *err)
{
    uint64_t every = t->options.checkpoint_steps;
    while (t->state.step < t->steps && !out_of_patience(t)) {
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
        bool due = t->state.step == t->steps || out_of_patience(t) ||
                   (every > 0 && t->state.step % every == 0);
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
    for (size_t i = 0; i < t->shape.n_draft; i++)
        inside += counts[t->maker.draft_ids[i]];
    return t->shape.n_draft == 0 ? 1.0 : (double)inside / (double)gg_train_data_records(t->data);
}

static gorgon_status write_set(const training *t, const char *record, const char *accuracy,
                               gorgon_error *err)
{
    gg_successors successors;
    const float *data[GG_MAX_HEAD_PARTS];
    for (size_t i = 0; i < t->layout.n_parts; i++)
        data[i] = t->state.parameters + t->layout.at[i];
    const gg_head_set_source set = {.shape = t->shape,
                                    .weight_type = t->weight_type,
                                    .draft_ids = t->shape.n_draft > 0 ? t->maker.draft_ids : NULL,
                                    .data = data,
                                    .training_json = record,
                                    .accuracy_json = accuracy,
                                    .successors = &successors};
    gorgon_status status = gg_train_successors(t->cache, t->options.held_out, &successors, err);
    if (status == GORGON_OK)
        status = gg_heads_write(t->options.out, gg_engine_model(t->engine), &set, 1, err);
    gg_successors_clear(&successors);
    return status;
}

static gorgon_status write_heads(const training *t, gorgon_error *err)
{
    gg_train_facts facts = {.options = &t->options,
                            .model = gg_engine_model(t->engine),
                            .cache = t->cache,
                            .state = &t->state,
                            .maker = &t->maker,
                            .records = gg_train_data_records(t->data),
                            .positions = gg_train_data_positions(t->data),
                            .chosen_step = t->chosen_step,
                            .coverage = coverage(t)};
    bool scored = t->scores.positions > 0;
    char *record = gg_train_record_json(&facts);
    char *accuracy = scored ? gg_train_accuracy_json(&t->scores, t->shape.n_heads) : NULL;
    gorgon_status status = GORGON_OK;
    if (!record || (scored && !accuracy))
        status = out_of_memory(err);
    else
        status = write_set(t, record, accuracy, err);
    free(record);
    free(accuracy);
    return status;
}

static void clear(training *t)
{
    gg_free(t->state_path);
    gg_head_trainer_free(t->trainer);
    gg_batch_maker_clear(&t->maker);
    gg_train_state_clear(&t->state);
    gg_train_curve_clear(&t->curve);
    gg_train_data_free(t->data);
    gg_cache_free(t->cache);
    gg_batch_clear(&t->buffers.batch);
    gg_free(t->buffers.loss);
    gg_free(t->buffers.rank);
    gg_free(t->gradient);
    gg_free(t->partial);
}

gorgon_status gorgon_train(gorgon_engine *engine, const gorgon_train_options *options,
                           gorgon_error *err)
{
    gg_train_plan plan;
    gorgon_status status = gg_train_plan_make(options, gg_engine_model(engine), &plan, err);
    training t = {.engine = engine,
                  .options = plan.options,
                  .shape = plan.shape,
                  .weight_type = plan.weight_type};
    if (status == GORGON_OK)
        status = set_up(&t, err);
    if (status == GORGON_OK)
        status = run_steps(&t, err);
    if (status == GORGON_OK)
        status = choose_parameters(&t, err);
    if (status == GORGON_OK)
        status = write_heads(&t, err);
    if (status == GORGON_OK)
        report(&t, true);
    clear(&t);
    return status;
}
