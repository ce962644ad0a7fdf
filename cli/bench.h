// What the parts of `gorgon bench` share: what is measured and how it is grouped.
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "decode_common.h"
#include "prompts.h"

enum {
    BENCH_MAX_GROUPS = 64,
    BENCH_MAX_PROPOSERS = 16,
    BENCH_COSTS = 7, // 1, 2, 4, .. 64 rows
};

typedef struct bench_rate {
    double tokens, passes, seconds; // of decoding: the token that the prompt gives is not counted
} bench_rate;

// Prompts that are reported together.
typedef struct bench_group {
    const char *name;
    size_t runs; // prompts x repeats
    bench_rate plain, speculative;
    json_t *speedups; // of single runs; NULL before the first
    bool same_output;
} bench_group;

typedef struct bench_table {
    bench_group rows[BENCH_MAX_GROUPS];
    size_t n;
} bench_table;

typedef struct bench_cost {
    size_t rows;
    double ms;
    // The limits: reading the weights, their multiply-adds, those of attention; and the larger of
    // the first two with the third.
    double read_limit_ms, work_limit_ms, attention_limit_ms, limit_ms;
} bench_cost;

typedef struct bench_result {
    double bandwidth_gb_s, peak_gmac_s, float_peak_gmac_s;
    uint64_t weight_bytes, weight_macs; // read per pass; multiplied per row
    size_t context;                     // positions before the rows of the measured passes
    bench_cost costs[BENCH_COSTS];
    size_t n_costs;
    bench_group all;
    bench_table tasks, categories;
    gorgon_telemetry telemetry[BENCH_MAX_PROPOSERS];
    size_t n_proposers;
    json_t *differing; // ids of the prompts whose outputs differ
} bench_result;

// Limits of the machine and cost of passes after `context` positions, on an idle engine.
bool bench_measure(cli_session *session, const char *path, size_t context, bench_result *result);

double bench_median(double *x, size_t n); // sorts x; n > 0
double bench_tokens_per_s(const bench_rate *rate);
double bench_tokens_per_pass(const bench_rate *rate);
double bench_speedup(const bench_group *group);
// Over runs: unlike the ratio of sums it stands a burst of stolen processor time.
double bench_median_speedup(const bench_group *group);

json_t *bench_json(const cli_session *session, const cli_common *common,
                   const bench_result *result);
// The curve of the pass against both limits as an SVG file; false after a message.
bool bench_plot(const cli_session *session, const char *path, const bench_result *result);
void bench_print(const cli_session *session, const cli_common *common, const bench_result *result);

#endif
