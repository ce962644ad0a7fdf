// The limits of the machine: reading memory, and multiply-adds on cached data.
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
    PEAK_ROWS = 16,
    PEAK_INPUTS = 512, // a tile and the rows fill about half of a first-level cache
    PEAK_CALLS = 50,   // of the first run; the others take as many as fill run_s
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

typedef struct peak_job {
    const gg_kernels *kernels;
    gg_matrix w;    // a tile per thread
    gg_qrows a;     // [PEAK_ROWS]
    float *y;       // [threads][PEAK_ROWS][GG_TILE]
    size_t outputs; // GG_TILE x threads
    size_t calls;   // per thread
} peak_job;

static void multiply(void *context, size_t thread, size_t n_threads)
{
    (void)n_threads;
    peak_job *job = context;
    for (size_t i = 0; i < job->calls; i++)
        job->kernels->matmul_q(&job->w, thread, thread + 1, &job->a, PEAK_ROWS, job->y,
                               job->outputs);
}

static gorgon_status create_job(peak_job *job, size_t threads, gorgon_error *err)
{
    uint8_t row[PEAK_INPUTS / GG_BLOCK * 34]; // blocks of an f16 scale and 32 int8
    float x[PEAK_INPUTS];
    size_t blocks = PEAK_ROWS * PEAK_INPUTS / GG_BLOCK;
    job->outputs = GG_TILE * threads;
    gorgon_status status = gg_matrix_create(GG_Q8_0, job->outputs, PEAK_INPUTS, &job->w, err);
    if (status != GORGON_OK)
        return status;
    job->a = (gg_qrows){.n_in = PEAK_INPUTS};
    job->a.q = gg_alloc(PEAK_ROWS * PEAK_INPUTS, sizeof *job->a.q);
    job->a.d = gg_alloc(blocks, sizeof *job->a.d);
    job->a.s = gg_alloc(blocks, sizeof *job->a.s);
    job->a.sum = gg_alloc(blocks, sizeof *job->a.sum);
    job->y = gg_alloc(PEAK_ROWS * job->outputs, sizeof *job->y);
    if (!job->a.q || !job->a.d || !job->a.s || !job->a.sum || !job->y)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for measuring multiply-adds");
    for (size_t i = 0; i < PEAK_INPUTS; i++)
        x[i] = (float)((int)(i * 37 % 101) - 50) / 50.0f;
    gg_quantize_row(GG_Q8_0, x, PEAK_INPUTS, row);
    for (size_t i = 0; i < job->outputs; i++)
        gg_matrix_pack_row(&job->w, i, row);
    job->kernels->quantize(x, 0, PEAK_ROWS, &job->a);
    return GORGON_OK;
}

gorgon_status gorgon_measure_peak(gorgon_engine *engine, double *gmac_s, gorgon_error *err)
{
    gg_team *team = gg_engine_team(engine);
    size_t threads = gg_team_size(team);
    peak_job job = {.kernels = gg_engine_kernels(engine), .calls = PEAK_CALLS};
    *gmac_s = 0.0;
    gorgon_status status = create_job(&job, threads, err);
    double call_work = (double)(PEAK_ROWS * PEAK_INPUTS * job.outputs);
    for (size_t i = 0; i < PEAK_RUNS && status == GORGON_OK; i++) {
        double begin = gg_now();
        gg_team_run(team, multiply, &job);
        double took = gg_now() - begin, rate = call_work * (double)job.calls / took / 1e9;
        *gmac_s = rate > *gmac_s ? rate : *gmac_s;
        if (i == 0 && took < run_s)
            job.calls = (size_t)((double)PEAK_CALLS * run_s / (took > 1e-6 ? took : 1e-6));
    }
    gg_matrix_clear(&job.w);
    gg_free(job.a.q);
    gg_free(job.a.d);
    gg_free(job.a.s);
    gg_free(job.a.sum);
    gg_free(job.y);
    return status;
}
