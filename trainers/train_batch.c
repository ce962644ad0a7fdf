// Draft vocabulary and batches.
#include "train_batch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/math.h"
#include "heads/head_set.h"

typedef struct candidate {
    uint64_t count;
    uint32_t id;
} candidate;

static int more_frequent(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    return x->id < y->id ? -1 : 1;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static gorgon_status choose_vocabulary(gg_batch_maker *maker, const uint64_t *counts,
                                       size_t n_vocab, gorgon_error *err)
{
    candidate *all = gg_alloc(n_vocab, sizeof *all);
    if (!all)
        return gg_fail(err, GORGON_ERROR_MEMORY, "draft vocabulary: out of memory");
    for (size_t i = 0; i < n_vocab; i++)
        all[i] = (candidate){.count = counts[i], .id = (uint32_t)i};
    qsort(all, n_vocab, sizeof *all, more_frequent);
    for (size_t i = 0; i < maker->shape.n_draft; i++)
        maker->draft_ids[i] = all[i].id;
    gg_free(all);
    qsort(maker->draft_ids, maker->shape.n_draft, sizeof *maker->draft_ids, ascending);
    return GORGON_OK;
}

static void copy_output(gg_batch_maker *maker, size_t n_vocab)
{
    const gg_matrix *output = gg_model_output(gg_engine_model(maker->engine));
    for (size_t i = 0; i < n_vocab; i++)
        maker->row_of[i] = maker->shape.n_draft > 0 ? GG_HEAD_ABSENT : (int32_t)i;
    for (size_t row = 0; row < maker->n_out; row++) {
        size_t id = maker->shape.n_draft > 0 ? maker->draft_ids[row] : row;
        maker->row_of[id] = (int32_t)row;
        gg_matrix_row(output, id, maker->output + row * maker->shape.d_model);
    }
}

gorgon_status gg_batch_maker_create(const gg_batch_maker *wanted, const uint64_t *counts,
                                    gg_batch_maker *maker, gorgon_error *err)
{
    size_t n_vocab = gg_model_geometry(gg_engine_model(wanted->engine))->n_vocab;
    size_t d = wanted->shape.d_model;
    *maker = (gg_batch_maker){.engine = wanted->engine,
                              .shape = wanted->shape,
                              .hard_targets = wanted->hard_targets,
                              .head_decay = wanted->head_decay};
    if (maker->shape.n_draft >= n_vocab)
        maker->shape.n_draft = 0;
    maker->n_out = maker->shape.n_draft > 0 ? maker->shape.n_draft : n_vocab;
    maker->draft_ids = gg_alloc(maker->shape.n_draft, sizeof *maker->draft_ids);
    maker->row_of = gg_alloc(n_vocab, sizeof *maker->row_of);
    maker->output = gg_alloc(maker->n_out * d, sizeof *maker->output);
    maker->ones = gg_alloc(d, sizeof *maker->ones);
    gorgon_status status = GORGON_OK;
    if (!maker->draft_ids || !maker->row_of || !maker->output || !maker->ones)
        status = gg_fail(err, GORGON_ERROR_MEMORY, "draft vocabulary: no memory for %zu rows",
                         maker->n_out);
    if (status == GORGON_OK && maker->shape.n_draft > 0)
        status = choose_vocabulary(maker, counts, n_vocab, err);
    if (status != GORGON_OK) {
        gg_batch_maker_clear(maker);
        return status;
    }
    for (size_t i = 0; i < d; i++)
        maker->ones[i] = 1.0f;
    copy_output(maker, n_vocab);
    return GORGON_OK;
}

void gg_batch_maker_clear(gg_batch_maker *maker)
{
    gg_free(maker->draft_ids);
    gg_free(maker->row_of);
    gg_free(maker->output);
    gg_free(maker->ones);
    *maker = (gg_batch_maker){0};
}

// The base's top tokens inside the draft vocabulary, renormalised; none of them: n stays 0.
static void soft_target(const gg_batch_maker *maker, const uint32_t *ids, const float *logprob,
                        gg_head_target *target)
{
    double p[GG_TARGETS], sum = 0.0;
    for (size_t i = 0; i < GG_TARGETS; i++) {
        int32_t row = maker->row_of[ids[i]];
        double mass = gg_exp((double)logprob[i]);
        if (row == GG_HEAD_ABSENT || mass <= 0.0)
            continue;
        p[target->n] = mass;
        target->ids[target->n++] = (uint32_t)row;
        sum += mass;
    }
    for (uint32_t i = 0; i < target->n; i++)
        target->p[i] = (float)(p[i] / sum);
}

bool gg_batch_create(const gg_head_shape *shape, size_t most, gg_batch *batch)
{
    const size_t most_context = gg_head_most_context(shape, most);
    *batch = (gg_batch){.most = most, .most_context = most_context};
    batch->input = gg_alloc(most * gg_head_input(shape), sizeof *batch->input);
    batch->targets = gg_alloc(most * shape->n_heads, sizeof *batch->targets);
    batch->past = gg_alloc(most, sizeof *batch->past);
    batch->context = gg_alloc(most_context * gg_head_context(shape), sizeof *batch->context);
    batch->context_records = gg_alloc(most_context, sizeof *batch->context_records);
    return batch->input && batch->targets && batch->past && batch->context &&
           batch->context_records;
}

void gg_batch_clear(gg_batch *batch)
{
    gg_free(batch->input);
    gg_free(batch->targets);
    gg_free(batch->past);
    gg_free(batch->context);
    gg_free(batch->context_records);
    *batch = (gg_batch){0};
}

gg_head_batch gg_batch_rows(const gg_batch *batch)
{
    return (gg_head_batch){.rows = batch->rows,
                           .input = batch->input,
                           .targets = batch->targets,
                           .context_rows = batch->context_rows,
                           .context = batch->context,
                           .past = batch->past};
}

typedef struct fill_work {
    const gg_batch_maker *maker;
    const gg_feature_store *store;
    const uint32_t *records; // of rows from `first` on
    size_t first, first_context;
    gg_batch *batch;
    float weight; // of head 0
} fill_work;

// The record before it is the position before it.
static bool continues(const gg_feature_store *store, uint32_t record)
{
    return record > 0 && store->run[record - 1] > 0;
}

// Adds the records before this one, in their order, up to the window's length and the room.
static gg_head_past find_context(const fill_work *w, uint32_t record)
{
    gg_batch *b = w->batch;
    uint32_t n = 0;
    while (n + 1 < w->maker->shape.window && b->context_rows + n < b->most_context &&
           continues(w->store, record - n))
        n++;
    for (uint32_t i = 0; i < n; i++)
        b->context_records[b->context_rows++] = record - n + i;
    return (gg_head_past){.context = n, .end = (uint32_t)b->context_rows};
}

static void find_past(const fill_work *w, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        gg_head_past *past = &w->batch->past[w->first + i];
        if (i > 0 && w->records[i] == w->records[i - 1] + 1 && continues(w->store, w->records[i])) {
            *past = past[-1];
            past->rows++;
        } else {
            *past = find_context(w, w->records[i]);
        }
    }
}

static void fill_targets(const fill_work *w, size_t i)
{
    const gg_batch_maker *maker = w->maker;
    const gg_feature_store *store = w->store;
    size_t record = w->records[i], heads = maker->shape.n_heads;
    float weight = w->weight;
    for (size_t k = 0; k < heads; k++) {
        gg_head_target *t = &w->batch->targets[(w->first + i) * heads + k];
        *t = (gg_head_target){.weight = weight, .truth = GG_HEAD_ABSENT};
        weight *= (float)maker->head_decay;
        if (k >= store->run[record])
            continue;
        size_t at = record + 1 + k;
        t->truth = maker->row_of[store->next[at]];
        if (!maker->hard_targets) {
            soft_target(maker, store->ids + at * GG_TARGETS, store->logprob + at * GG_TARGETS, t);
        } else if (t->truth != GG_HEAD_ABSENT) {
            t->n = 1;
            t->ids[0] = (uint32_t)t->truth;
            t->p[0] = 1.0f;
        }
    }
}

// The hidden state, then embeddings: the root's always, the next ones while they have targets.
static void fill_position(const fill_work *w, size_t record, size_t width, float *x)
{
    const gg_kernels *kernels = gg_engine_kernels(w->maker->engine);
    const gorgon_model *model = gg_engine_model(w->maker->engine);
    const size_t d = w->maker->shape.d_model;
    kernels->from_f16(w->store->hidden + record * d, d, x);
    for (size_t k = 0; (k + 1) * d < width; k++) {
        float *e = x + (1 + k) * d;
        if (k > 0 && k >= w->store->run[record]) {
            memset(e, 0, d * sizeof *e);
            continue;
        }
        gg_model_embed(model, (gorgon_token)w->store->next[record + k], e);
        kernels->rms_norm(e, w->maker->ones, GG_HEADS_ROOT_EPS, d, e);
    }
}

static void fill_part(void *context, size_t thread, size_t n_threads)
{
    const fill_work *w = context;
    const gg_batch *b = w->batch;
    const size_t width = gg_head_input(&w->maker->shape);
    const size_t context_width = gg_head_context(&w->maker->shape);
    size_t begin, end;
    gg_team_share(b->rows - w->first, 1, thread, n_threads, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        fill_position(w, w->records[i], width, b->input + (w->first + i) * width);
        fill_targets(w, i);
    }
    gg_team_share(b->context_rows - w->first_context, 1, thread, n_threads, &begin, &end);
    for (size_t i = w->first_context + begin; i < w->first_context + end; i++)
        fill_position(w, b->context_records[i], context_width, b->context + i * context_width);
}

void gg_batch_fill(const gg_batch_maker *maker, const gg_feature_store *store,
                   const uint32_t *records, size_t n, size_t positions, gg_batch *batch)
{
    fill_work work = {.maker = maker,
                      .store = store,
                      .records = records,
                      .first = batch->rows,
                      .first_context = batch->context_rows,
                      .batch = batch,
                      .weight = 1.0f / (float)positions};
    assert(n <= batch->most - batch->rows);
    find_past(&work, n);
    batch->rows += n;
    gg_team_run(gg_engine_team(maker->engine), fill_part, &work);
}

gorgon_status gg_batch_take(const gg_batch_maker *maker, gg_train_data *data, uint64_t step,
                            gg_batch *batch, gorgon_error *err)
{
    batch->rows = batch->context_rows = 0;
    while (batch->rows < batch->most) {
        const gg_feature_store *store;
        const uint32_t *records;
        size_t got;
        gorgon_status status =
            gg_train_data_take(data, step * batch->most + batch->rows, batch->most - batch->rows,
                               &store, &records, &got, err);
        if (status != GORGON_OK)
            return status;
        gg_batch_fill(maker, store, records, got, batch->most, batch);
    }
    return GORGON_OK;
}
