// What the parts of `gorgon bench` share: what is measured and how it is grouped.
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "pairs.h"

enum { BENCH_COSTS = 7 }; // 1, 2, 4, .. 64 rows

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
    pairs_result pairs;
} bench_result;

// Limits of the machine and cost of passes after `context` positions, on an idle engine.
bool bench_measure(cli_session *session, const char *path, size_t context, bench_result *result);

json_t *bench_json(const cli_session *session, const cli_common *common,
                   const bench_result *result);
// The curve of the pass against both limits as an SVG file; false after a message.
bool bench_plot(const cli_session *session, const char *path, const bench_result *result);
void bench_print(const cli_session *session, const cli_common *common, const bench_result *result);

#endif
