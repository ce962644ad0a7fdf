// Limits of the machine, and the cost of a pass against them.
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "gorgon/machine.h"

enum { MOST_ROWS = 1 << (BENCH_COSTS - 1), REPEATS = 9 };

typedef struct weight_sum {
    uint64_t bytes, macs;
    uint64_t embedding_bytes, embedding_macs;
    bool own_output;
} weight_sum;

// Matrices only. The embedding is read by the pass only where it serves as the output matrix.
static void add_tensor(void *context, const char *name, const char *type, const uint64_t *dims,
                       size_t n_dims, uint64_t bytes)
{
    (void)type;
    weight_sum *sum = context;
    if (n_dims < 2)
        return;
    if (strcmp(name, "token_embd.weight") == 0) {
        sum->embedding_bytes = bytes;
        sum->embedding_macs = dims[0] * dims[1];
        return;
    }
    sum->own_output = sum->own_output || strcmp(name, "output.weight") == 0;
    sum->bytes += bytes;
    sum->macs += dims[0] * dims[1];
}

static bool count_weights(const char *path, bench_result *result)
{
    gorgon_error err = {0};
    weight_sum sum = {0};
    if (gorgon_tensors_visit(path, add_tensor, &sum, &err) != GORGON_OK)
        return cli_fail(&err);
    result->weight_bytes = sum.bytes + (sum.own_output ? 0 : sum.embedding_bytes);
    result->weight_macs = sum.macs + (sum.own_output ? 0 : sum.embedding_macs);
    return true;
}

// Every row attends to the context and to its ancestors in the pass, here all rows before it.
static double attention_ms(const cli_session *s, const bench_result *r, size_t rows)
{
    gorgon_model_info info;
    gorgon_model_describe(s->model, &info);
    double positions = (double)rows * ((double)r->context + 0.5 * (double)(rows + 1));
    double width = (double)(info.n_layers * info.n_heads * info.head_dim);
    return 2.0 * width * positions / (r->float_peak_gmac_s * 1e6);
}

static bench_cost limits(const cli_session *s, const bench_result *r, size_t rows)
{
    double read = (double)r->weight_bytes / (r->bandwidth_gb_s * 1e6);
    double work = (double)rows * (double)r->weight_macs / (r->peak_gmac_s * 1e6);
    double attention = attention_ms(s, r, rows);
    return (bench_cost){rows, 0, read, work, attention, (read > work ? read : work) + attention};
}

// Any ordinary ids do: the time does not depend on them.
static gorgon_token filler(size_t i, size_t n_vocab)
{
    return (gorgon_token)((i * 97 + 3) % n_vocab);
}

static bool time_passes(cli_session *s, const gorgon_row *rows, bench_result *r)
{
    gorgon_error err = {0};
    double ms[BENCH_COSTS][REPEATS];
    // Sizes take turns, so that a busy moment of the machine does not fall on one of them.
    for (size_t repeat = 0; repeat < REPEATS; repeat++) {
        for (size_t i = 0; i < r->n_costs; i++) {
            double begin = cli_seconds();
            if (gorgon_engine_pass(s->engine, rows, r->costs[i].rows, &err) != GORGON_OK)
                return cli_fail(&err);
            ms[i][repeat] = 1e3 * (cli_seconds() - begin);
        }
        if (cli_interrupted())
            return true;
    }
    for (size_t i = 0; i < r->n_costs; i++)
        r->costs[i].ms = pairs_median(ms[i], REPEATS);
    return true;
}

// The positions before the measured rows, a few at a time.
static bool fill_context(cli_session *s, gorgon_sequence *sequence, size_t n)
{
    gorgon_error err = {0};
    gorgon_token prefix[256];
    size_t n_vocab = gorgon_tokenizer_size(gorgon_model_tokenizer(s->model)), last_row = 0;
    for (size_t done = 0, part; done < n; done += part) {
        part = n - done < sizeof prefix / sizeof prefix[0] ? n - done
                                                           : sizeof prefix / sizeof prefix[0];
        for (size_t i = 0; i < part; i++)
            prefix[i] = filler(done + i, n_vocab);
        if (gorgon_engine_prefill(s->engine, sequence, prefix, part, &last_row, &err) != GORGON_OK)
            return cli_fail(&err);
    }
    return true;
}

static bool measure_passes(cli_session *s, gorgon_sequence *sequence, size_t wanted,
                           bench_result *r)
{
    gorgon_row rows[MOST_ROWS];
    size_t n_vocab = gorgon_tokenizer_size(gorgon_model_tokenizer(s->model));
    size_t context = gorgon_engine_context(s->engine);
    r->context = context >= wanted + MOST_ROWS ? wanted : context / 2;
    for (size_t i = 0; i < MOST_ROWS; i++)
        rows[i] = (gorgon_row){sequence, filler(r->context + i, n_vocab), (int32_t)i - 1,
                               GORGON_WANT_LOGITS};
    for (size_t i = 0; i < BENCH_COSTS; i++) {
        size_t n = (size_t)1 << i;
        if (n <= context - r->context && n <= gorgon_engine_max_logit_rows(s->engine))
            r->costs[r->n_costs++] = limits(s, r, n);
    }
    return fill_context(s, sequence, r->context) && time_passes(s, rows, r);
}

bool bench_measure(cli_session *session, const char *path, size_t context, bench_result *result)
{
    gorgon_error err = {0};
    gorgon_sequence *sequence = NULL;
    if (!count_weights(path, result))
        return false;
    if (gorgon_measure_bandwidth(session->engine, &result->bandwidth_gb_s, &err) != GORGON_OK ||
        gorgon_measure_peak(session->engine, &result->peak_gmac_s, &err) != GORGON_OK ||
        gorgon_measure_float_peak(session->engine, &result->float_peak_gmac_s, &err) != GORGON_OK ||
        gorgon_sequence_create(session->engine, &sequence, &err) != GORGON_OK)
        return cli_fail(&err);
    bool good = measure_passes(session, sequence, context, result);
    gorgon_sequence_free(sequence);
    return good;
}
