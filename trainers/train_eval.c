// Evaluation on held-out positions, a batch at a time.
#include "train_eval.h"

#include "core/alloc.h"
#include "core/error.h"

double gg_train_accuracy(const gg_train_scores *scores, size_t head, size_t top)
{
    uint64_t hits = 0;
    for (size_t i = 0; i < top && i < GG_TRAIN_TOP; i++)
        hits += scores->hits[head][i];
    return scores->pairs[head] > 0 ? (double)hits / (double)scores->pairs[head] : 0.0;
}

double gg_train_accepted(const gg_train_scores *scores, size_t n_heads)
{
    double path = 1.0, sum = 0.0;
    for (size_t k = 0; k < n_heads && scores->reached[k] > 0; k++) {
        path *= (double)scores->accepted[k] / (double)scores->reached[k];
        sum += path;
    }
    return sum;
}

static void count_batch(const gg_feature_store *store, const uint32_t *records, size_t n,
                        size_t n_heads, const gg_train_buffers *b, gg_train_scores *scores)
{
    for (size_t i = 0; i < n; i++) {
        bool on_path = true;
        for (size_t k = 0; k < n_heads; k++) {
            size_t pair = i * n_heads + k;
            scores->loss += (double)b->batch.targets[pair].weight * b->loss[pair];
            if (k >= store->run[records[i]])
                continue;
            uint32_t rank = b->rank[pair];
            scores->pairs[k]++;
            scores->hits[k][rank < GG_TRAIN_TOP ? rank : GG_TRAIN_TOP]++;
            scores->reached[k] += on_path;
            on_path = on_path && rank == 0;
            scores->accepted[k] += on_path;
        }
    }
}

gorgon_status gg_train_evaluate(gg_head_trainer *trainer, const float *parameters,
                                const gg_batch_maker *maker, const gg_feature_store *store,
                                const uint32_t *records, size_t n, size_t most,
                                gg_train_buffers *buffers, gg_train_scores *scores,
                                gorgon_error *err)
{
    size_t total = n < most ? n : most, heads = maker->shape.n_heads;
    const size_t piece = gg_head_piece(&maker->shape), most_rows = buffers->batch.most;
    *scores = (gg_train_scores){.positions = total};
    uint32_t *chosen = gg_alloc(most_rows, sizeof *chosen);
    if (!chosen)
        return gg_fail(err, GORGON_ERROR_MEMORY, "evaluation: out of memory");
    gorgon_status status = GORGON_OK;
    for (size_t at = 0; at < total && status == GORGON_OK; at += most_rows) {
        size_t rows = total - at < most_rows ? total - at : most_rows;
        for (size_t i = 0; i < rows; i++) {
            const size_t within = (at + i) % piece, first = at + i - within;
            chosen[i] = records[(size_t)((uint64_t)first * n / total) + within];
        }
        buffers->batch.rows = buffers->batch.context_rows = 0;
        gg_batch_fill(maker, store, chosen, rows, total, &buffers->batch);
        gg_head_batch batch = gg_batch_rows(&buffers->batch);
        batch.loss = buffers->loss;
        batch.rank = buffers->rank;
        status = gg_head_trainer_run(trainer, parameters, &batch, err);
        if (status == GORGON_OK)
            count_batch(store, chosen, rows, heads, buffers, scores);
    }
    gg_free(chosen);
    return status;
}
