// The limits of the machine: reading memory, and multiply-adds.
#include "gorgon/machine.h"

#include <string.h>

#include "core/alloc.h"
#include "core/engine.h"
#include "core/error.h"
#include "core/limits.h"
#include "core/system.h"

enum {
    READ_BYTES = 256 << 20,
    LANES = 8, // independent sums, so that additions do not wait for each other
    READS = 4,
    PEAK_STEPS = 5000, // of the first run; the others take as many as fill run_s
    PEAK_RUNS = 6,
};
static const double run_s = 0.015;

typedef struct read_job {
    uint64_t *words; // [n]
    size_t n;
    uint64_t sums[GG_MAX_THREADS * LANES]; // keeps the reads alive
} read_job;

// Each thread touches its own share first, so that the pages lie on its own node.
static void fill_share(void *context, size_t thread, size_t n_threads)
{
    read_job *job = context;
    size_t begin, end;
    gg_team_share(job->n, 4096, thread, n_threads, &begin, &end);
    memset(job->words + begin, 1, (end - begin) * sizeof *job->words);
}

static void read_share(void *context, size_t thread, size_t n_threads)
{
    read_job *job = context;
    size_t begin, end;
    gg_team_share(job->n, 4096, thread, n_threads, &begin, &end);
    uint64_t sum[LANES] = {0};
    for (size_t i = begin; i + LANES <= end; i += LANES) {
        for (size_t k = 0; k < LANES; k++)
            sum[k] += job->words[i + k];
    }
    memcpy(job->sums + thread * LANES, sum, sizeof sum);
}

gorgon_status gorgon_measure_bandwidth(gorgon_engine *engine, double *gb_s, gorgon_error *err)
{
    gg_team *team = gg_engine_team(engine);
    *gb_s = 0.0;
    read_job *job = gg_alloc(1, sizeof *job);
    gorgon_status status = GORGON_OK;
    if (job) {
        job->n = READ_BYTES / sizeof *job->words;
        job->words = gg_alloc_uninit(job->n, sizeof *job->words);
    }
    if (!job || !job->words)
        status = gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for reading %d MB to measure",
                         READ_BYTES >> 20);
    else
        gg_team_run(team, fill_share, job);
    for (size_t i = 0; i < READS && status == GORGON_OK; i++) {
        double begin = gg_now();
        gg_team_run(team, read_share, job);
        double rate = (double)READ_BYTES / (gg_now() - begin) / 1e9;
        *gb_s = rate > *gb_s ? rate : *gb_s;
    }
    if (job)
        gg_free(job->words);
    gg_free(job);
    return status;
}

typedef size_t (*multiply_fn)(size_t steps, uint32_t *seed);

typedef struct peak_job {
    multiply_fn multiply;
    size_t steps;                // per thread
    size_t done[GG_MAX_THREADS]; // multiply-adds
} peak_job;

static void multiply(void *context, size_t thread, size_t n_threads)
{
    (void)n_threads;
    peak_job *job = context;
    uint32_t seed = (uint32_t)thread + 5;
    job->done[thread] = job->multiply(job->steps, &seed) + (seed & 1);
}

static gorgon_status measure(gorgon_engine *engine, multiply_fn fn, double *gmac_s,
                             gorgon_error *err)
{
    gg_team *team = gg_engine_team(engine);
    peak_job *job = gg_alloc(1, sizeof *job);
    *gmac_s = 0.0;
    if (!job)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for measuring multiply-adds");
    job->multiply = fn;
    job->steps = PEAK_STEPS;
    for (size_t i = 0; i < PEAK_RUNS; i++) {
        double begin = gg_now(), work = 0.0;
        gg_team_run(team, multiply, job);
        double took = gg_now() - begin;
        for (size_t t = 0; t < gg_team_size(team); t++)
            work += (double)job->done[t];
        double rate = work / took / 1e9;
        *gmac_s = rate > *gmac_s ? rate : *gmac_s;
        if (i == 0 && took < run_s)
            job->steps = (size_t)((double)PEAK_STEPS * run_s / (took > 1e-6 ? took : 1e-6));
    }
    gg_free(job);
    return GORGON_OK;
}

gorgon_status gorgon_measure_peak(gorgon_engine *engine, double *gmac_s, gorgon_error *err)
{
    return measure(engine, gg_engine_kernels(engine)->multiply_adds, gmac_s, err);
}

gorgon_status gorgon_measure_float_peak(gorgon_engine *engine, double *gmac_s, gorgon_error *err)
{
    return measure(engine, gg_engine_kernels(engine)->float_multiply_adds, gmac_s, err);
}
