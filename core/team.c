// Thread team: regions, barriers and the three-step wait (spin, yield, sleep) that both share.
// Every wait is "until this word differs from the value I saw", so one routine serves them all.
#include "core/team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#define GG_TEAM_X86 1
#else
#define GG_TEAM_X86 0
#endif

#include "core/alloc.h"
#include "core/error.h"
#include "core/limits.h"
#include "core/system.h"

enum {
    SPIN_NS = 30 * 1000,   // busy wait: longer than a barrier, shorter than a time slice
    YIELD_NS = 600 * 1000, // then offer the core, then sleep
    PAUSES = 16,           // between two looks at the clock
};

// Pieces of a thread's share that have been taken.
typedef struct share {
    _Alignas(64) atomic_size_t taken;
} share;

typedef struct worker {
    gg_team *team;
    size_t thread;
    pthread_t handle;
} worker;

struct gg_team {
    // Words that waiters poll, each on its own cache line.
    _Alignas(64) atomic_uint region;   // counts regions; a change starts the workers
    _Alignas(64) atomic_uint finished; // follows region when the last worker has left fn
    _Alignas(64) atomic_uint phase;    // counts barriers
    _Alignas(64) atomic_size_t arrived;
    _Alignas(64) atomic_size_t running; // workers still inside fn
    _Alignas(64) atomic_size_t sleepers;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    // Written by the caller before `region` changes, read by the workers after.
    gg_team_fn fn;
    void *context;
    bool quit;
    size_t n_threads;
    size_t n_started; // workers that exist: n_threads - 1 unless creation failed
    int64_t spin_ns;
    worker *workers; // [n_threads - 1]
    share *shares;   // [n_threads]
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void relax(void)
{
#if GG_TEAM_X86
    _mm_pause();
#endif
}

// Float environment of a region; returns what was set before.
static unsigned float_enter(void)
{
#if GG_TEAM_X86
    unsigned before = _mm_getcsr();
    _mm_setcsr(0x1f80);
    return before;
#else
    return 0;
#endif
}

static void float_leave(unsigned before)
{
#if GG_TEAM_X86
    _mm_setcsr(before);
#else
    (void)before;
#endif
}

// `sleepers` and the words are sequentially consistent: either the waker sees the sleeper, or the
// sleeper sees the new value before it waits.
static void sleep_while(gg_team *team, atomic_uint *word, unsigned old)
{
    pthread_mutex_lock(&team->mutex);
    atomic_fetch_add(&team->sleepers, 1);
    while (atomic_load(word) == old)
        pthread_cond_wait(&team->wake, &team->mutex);
    atomic_fetch_sub(&team->sleepers, 1);
    pthread_mutex_unlock(&team->mutex);
}

static void wait_while(gg_team *team, atomic_uint *word, unsigned old)
{
    int64_t start = 0;
    for (;;) {
        for (int i = 0; i < PAUSES; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != old)
                return;
            relax();
        }
        int64_t now = now_ns();
        if (start == 0)
            start = now;
        if (now - start >= YIELD_NS)
            break;
        if (now - start >= team->spin_ns)
            sched_yield();
    }
    sleep_while(team, word, old);
}

static void set_and_wake(gg_team *team, atomic_uint *word, unsigned value)
{
    atomic_store(word, value);
    if (atomic_load(&team->sleepers) == 0)
        return;
    pthread_mutex_lock(&team->mutex);
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->mutex);
}

static void *worker_main(void *argument)
{
    const worker *self = argument;
    gg_team *team = self->team;
    unsigned region = 0;
    float_enter();
    for (;;) {
        wait_while(team, &team->region, region);
        region++;
        if (team->quit)
            return NULL;
        float_enter(); // the last fn may have changed it
        team->fn(team->context, self->thread, team->n_threads);
        if (atomic_fetch_sub_explicit(&team->running, 1, memory_order_acq_rel) == 1)
            set_and_wake(team, &team->finished, region);
    }
}

// Workers take no signals: handlers stay with the threads the program itself started.
static gorgon_status start_workers(gg_team *team, gorgon_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = 0;
    while (team->n_started + 1 < team->n_threads && failure == 0) {
        worker *w = &team->workers[team->n_started];
        *w = (worker){.team = team, .thread = team->n_started + 1};
        failure = pthread_create(&w->handle, NULL, worker_main, w);
        if (failure == 0)
            team->n_started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failure == 0)
        return GORGON_OK;
    return gg_fail(err, GORGON_ERROR_LIMIT, "thread team: worker %zu of %zu not started, error %d",
                   team->n_started + 1, team->n_threads - 1, failure);
}

gorgon_status gg_team_create(size_t n_threads, gg_team **out, gorgon_error *err)
{
    *out = NULL;
    if (n_threads < 1 || n_threads > GG_MAX_THREADS)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "thread team: %zu threads, expected 1 to %d",
                       n_threads, GG_MAX_THREADS);
    gg_team *team = gg_alloc(1, sizeof *team);
    worker *workers = gg_alloc(n_threads - 1, sizeof *workers);
    share *shares = gg_alloc(n_threads, sizeof *shares);
    if (!team || !workers || !shares) {
        gg_free(team);
        gg_free(workers);
        gg_free(shares);
        return gg_fail(err, GORGON_ERROR_MEMORY, "thread team: no memory for %zu threads",
                       n_threads);
    }
    team->workers = workers;
    team->shares = shares;
    team->n_threads = n_threads;
    // With fewer processors than threads a spinning waiter only delays the one it waits for.
    team->spin_ns = n_threads > gg_processors() ? 0 : SPIN_NS;
    atomic_init(&team->region, 0);
    atomic_init(&team->finished, 0);
    atomic_init(&team->phase, 0);
    atomic_init(&team->arrived, 0);
    atomic_init(&team->running, 0);
    for (size_t i = 0; i < n_threads; i++)
        atomic_init(&shares[i].taken, 0);
    atomic_init(&team->sleepers, 0);
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->wake, NULL);
    gorgon_status status = start_workers(team, err);
    if (status != GORGON_OK) {
        gg_team_free(team);
        return status;
    }
    *out = team;
    return GORGON_OK;
}

void gg_team_free(gg_team *team)
{
    if (!team)
        return;
    team->quit = true;
    set_and_wake(team, &team->region, atomic_load(&team->region) + 1);
    for (size_t i = 0; i < team->n_started; i++)
        pthread_join(team->workers[i].handle, NULL);
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->mutex);
    gg_free(team->workers);
    gg_free(team->shares);
    gg_free(team);
}

size_t gg_team_size(const gg_team *team)
{
    return team->n_threads;
}

static void begin_phase(gg_team *team)
{
    for (size_t i = 0; i < team->n_threads; i++)
        atomic_store_explicit(&team->shares[i].taken, 0, memory_order_relaxed);
}

void gg_team_run(gg_team *team, gg_team_fn fn, void *context)
{
    unsigned before = float_enter();
    begin_phase(team);
    if (team->n_threads == 1) {
        fn(context, 0, 1);
        float_leave(before);
        return;
    }
    team->fn = fn;
    team->context = context;
    unsigned region = atomic_load_explicit(&team->region, memory_order_relaxed);
    atomic_store_explicit(&team->running, team->n_threads - 1, memory_order_relaxed);
    set_and_wake(team, &team->region, region + 1);
    fn(context, 0, team->n_threads);
    wait_while(team, &team->finished, region);
    float_leave(before);
}

void gg_team_barrier(gg_team *team)
{
    if (team->n_threads == 1) {
        begin_phase(team);
        return;
    }
    // Read before arriving: the phase cannot end until this thread has arrived.
    unsigned phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 < team->n_threads) {
        wait_while(team, &team->phase, phase);
        return;
    }
    atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
    begin_phase(team);
    set_and_wake(team, &team->phase, phase + 1);
}

bool gg_team_take(gg_team *team, size_t n, size_t thread, size_t *piece)
{
    for (size_t i = 0; i < team->n_threads; i++) {
        size_t owner = (thread + i) % team->n_threads, begin, end;
        gg_team_share(n, 1, owner, team->n_threads, &begin, &end);
        atomic_size_t *taken = &team->shares[owner].taken;
        if (atomic_load_explicit(taken, memory_order_relaxed) >= end - begin)
            continue;
        *piece = begin + atomic_fetch_add_explicit(taken, 1, memory_order_relaxed);
        if (*piece < end)
            return true;
    }
    return false;
}

void gg_team_share(size_t n, size_t grain, size_t thread, size_t n_threads, size_t *begin,
                   size_t *end)
{
    size_t units = n / grain + (n % grain != 0);
    size_t per = units / n_threads, extra = units % n_threads; // the first `extra` get one more
    size_t first = thread * per + (thread < extra ? thread : extra);
    size_t last = first + per + (thread < extra);
    *begin = first * grain < n ? first * grain : n;
    *end = last * grain < n ? last * grain : n;
}
