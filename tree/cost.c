// See cost.h. The cache file is in cost_cache.c.
#include "cost.h"

#include <stdlib.h>
#include <string.h>

#include "core/system.h"

enum {
    K = GG_COST_KNOTS,
    PREFIX = 8, // committed positions before the measured rows
    REPEATS = 4,
    MAX_ROWS = 1 << (K - 1),
    // Measured for one tree a pass; with many small ones real passes correct it.
    ALL_LOGITS = 8, // rows up to which a tree usually gets the logits of all its rows
    WALK = 6,       // rows that get them in larger ones: those of the likely walk
};
static const double total_budget_s = 0.28;
static const double knot_budget_s = 0.035;

static double clamp(double x, double low, double high)
{
    if (!(x > low))
        return low;
    return x < high ? x : high;
}

static void refresh(gg_cost *cost)
{
    for (size_t k = 0; k < K; k++) {
        double s = cost->base_s[k] * cost->bucket[k];
        cost->table_s[k] = k > 0 && s < cost->table_s[k - 1] ? cost->table_s[k - 1] : s;
    }
}

void gg_cost_reset(gg_cost *cost)
{
    cost->machine = 1.0;
    cost->bias = 0.0;
    cost->n_observed = 0;
    for (size_t k = 0; k < K; k++)
        cost->bucket[k] = 1.0;
    refresh(cost);
}

// Attention does n_layers * n_heads * head_dim * 2 multiply-adds per attended position, in floats:
// two ninths of the rate at which the products go (measured with 4 to 32 rows at 1,000 positions).
static double guess_position_s(const gg_cost *cost, const gorgon_engine *engine)
{
    const gg_geometry *g = gg_model_geometry(gg_engine_model(engine));
    gorgon_model_info info;
    gorgon_model_describe(gg_engine_model(engine), &info);
    double row_s = (cost->base_s[K - 1] - cost->base_s[K - 2]) / (1 << (K - 2));
    double rate = (double)info.n_parameters / (row_s > 1e-9 ? row_s : 1e-9);
    double work = 2.0 * (double)(g->n_layers * g->n_heads * g->head_dim);
    return work / (rate / 4.5);
}

void gg_cost_guess(gg_cost *cost, const gorgon_engine *engine)
{
    const double bytes_per_s = 20e9, share_per_row = 0.12;
    gorgon_model_info info;
    gorgon_model_describe(gg_engine_model(engine), &info);
    memset(cost, 0, sizeof *cost);
    double one = (double)info.file_bytes / bytes_per_s + 1e-5;
    for (size_t k = 0; k < K; k++)
        cost->base_s[k] = one * (1.0 + share_per_row * (double)((1 << k) - 1));
    cost->position_s = guess_position_s(cost, engine);
    gg_cost_reset(cost);
}

// Best time of passes that continue the committed prefix by a chain of n rows; 0 if one failed.
static double time_rows(gorgon_engine *engine, const gorgon_row *rows, size_t n, double budget_s)
{
    double begin = gg_now(), best = 0.0;
    for (size_t i = 0; i < REPEATS; i++) {
        double before = gg_now();
        if (gorgon_engine_pass(engine, rows, n, NULL) != GORGON_OK)
            return 0.0;
        double after = gg_now();
        if (i == 0 || after - before < best)
            best = after - before;
        bool once_is_enough = after - begin > 2.0 * budget_s;
        if (once_is_enough || (i > 0 && after - begin > budget_s))
            break;
    }
    return best;
}

// Any ordinary ids do: the time does not depend on them.
static gorgon_token filler(size_t i, size_t n_vocab)
{
    return (gorgon_token)((i * 97 + 3) % n_vocab);
}

// Returns how many knots were measured.
static size_t measure_knots(gg_cost *cost, gorgon_engine *engine, gorgon_sequence *scratch)
{
    size_t n_vocab = gg_model_geometry(gg_engine_model(engine))->n_vocab;
    gorgon_token prefix[PREFIX];
    gorgon_row rows[MAX_ROWS];
    for (size_t i = 0; i < PREFIX; i++)
        prefix[i] = filler(i, n_vocab);
    for (size_t i = 0; i < MAX_ROWS; i++)
        rows[i] = (gorgon_row){scratch, filler(PREFIX + i, n_vocab), (int32_t)i - 1, 0};
    size_t last_row = 0;
    double begin = gg_now();
    if (gorgon_engine_prefill(engine, scratch, prefix, PREFIX, &last_row, NULL) != GORGON_OK)
        return 0;
    for (size_t k = 0; k < K; k++) {
        size_t n = (size_t)1 << k;
        double used = gg_now() - begin;
        bool fits =
            n <= gorgon_engine_max_logit_rows(engine) && n <= gorgon_engine_max_rows(engine);
        if (!fits || (k > 0 && used + 3.2 * cost->base_s[k - 1] > total_budget_s))
            return k;
        for (size_t i = 0; i < n; i++)
            rows[i].outputs = n <= ALL_LOGITS || i < WALK ? GORGON_WANT_LOGITS : 0;
        cost->base_s[k] = time_rows(engine, rows, n, knot_budget_s);
        if (cost->base_s[k] <= 0.0)
            return k;
    }
    return K;
}

// Knots that were not measured follow the last known slope, or 12 % of a row if there is none.
static void extend(gg_cost *cost, size_t known)
{
    for (size_t k = known; k < K; k++) {
        double width = (double)(1 << (k - 1));
        double slope = 0.12 * cost->base_s[0];
        if (known >= 2)
            slope =
                (cost->base_s[known - 1] - cost->base_s[known - 2]) / (double)(1 << (known - 2));
        cost->base_s[k] = cost->base_s[k - 1] + width * (slope > 0.0 ? slope : 0.0);
    }
}

void gg_cost_measure(gg_cost *cost, gorgon_engine *engine)
{
    gg_cost_guess(cost, engine);
    gorgon_sequence *scratch = NULL;
    if (gorgon_sequence_create(engine, &scratch, NULL) != GORGON_OK)
        return;
    gg_cost measured = {0};
    size_t known = measure_knots(&measured, engine, scratch);
    gorgon_sequence_free(scratch);
    if (known == 0)
        return;
    measured.measured = known == K;
    extend(&measured, known);
    for (size_t k = 1; k < K; k++) { // timing noise aside, more rows never cost less
        if (measured.base_s[k] < measured.base_s[k - 1])
            measured.base_s[k] = measured.base_s[k - 1];
    }
    measured.position_s = guess_position_s(&measured, engine);
    *cost = measured;
    gg_cost_reset(cost);
}

// The knot at or below `rows` and how far (0 to 1, beyond 1 past the last) it is to the next.
static size_t locate(size_t rows, double *fraction)
{
    size_t k = 0;
    while (k + 2 < K && ((size_t)1 << (k + 1)) <= rows)
        k++;
    double low = (double)((size_t)1 << k);
    *fraction = rows > 1 ? ((double)rows - low) / low : 0.0;
    return k;
}

// What the pass takes while the machine is as fast as when it was measured.
static double at_rest(const gg_cost *cost, size_t rows, double attended)
{
    double fraction;
    size_t k = locate(rows, &fraction);
    double a = cost->table_s[k], b = cost->table_s[k + 1];
    return a + (b - a) * fraction + cost->position_s * attended;
}

double gg_cost_seconds(const gg_cost *cost, size_t rows, double attended)
{
    return at_rest(cost, rows, attended) * cost->machine;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of_recent(const gg_cost *cost)
{
    double sorted[GG_COST_RECENT];
    size_t n = cost->n_observed < GG_COST_RECENT ? cost->n_observed : GG_COST_RECENT;
    memcpy(sorted, cost->recent, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare);
    return n % 2 ? sorted[n / 2] : 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]);
}

// A factor by which something differs from what was measured: a step towards what was seen, and
// a little of the way back.
static void correct(double *factor, double step)
{
    const double pull = 0.001;
    *factor = clamp(*factor * (1.0 + step) - pull * (*factor - 1.0), 0.25, 4.0);
}

void gg_cost_observe(gg_cost *cost, size_t rows, double attended, double seconds)
{
    const double pace = 0.05, largest = 0.1, pace_bias = 1.0 / 64.0;
    double fraction;
    double rest = at_rest(cost, rows, attended);
    size_t knot = locate(rows, &fraction);
    // Against the passes before it, less what all sizes have in common: slow passes are further
    // from the median than fast ones.
    double error = clamp(seconds / (rest * cost->machine) - 1.0, -largest, largest);
    double step = pace * clamp(error - cost->bias, -largest, largest);
    cost->bias += pace_bias * (error - cost->bias);
    fraction = fraction < 1.0 ? fraction : 1.0;
    for (size_t k = 0; k < K; k++) {
        double share = k == knot ? 1.0 - fraction : k == knot + 1 ? fraction : 0.0;
        correct(&cost->bucket[k], share * step);
    }
    cost->recent[cost->n_observed++ % GG_COST_RECENT] = clamp(seconds / rest, 0.02, 50.0);
    cost->machine = median_of_recent(cost);
    refresh(cost);
}
