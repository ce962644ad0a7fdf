// Stress of the thread team, a plain program so that it also runs under the thread sanitizer:
// create, run, barrier, idle, free; shares; float environment. Exit code 0 when all holds.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "core/alloc.h"
#include "core/limits.h"
#include "core/team.h"

enum { MAX_THREADS = 8, ROUNDS = 40 };

typedef struct job {
    gg_team *team;
    uint64_t cell[2][MAX_THREADS]; // plain memory: only the barriers order the accesses
    uint64_t errors[MAX_THREADS];
    unsigned mxcsr[MAX_THREADS];
    uint64_t seed;
} job;

static int failures;

static void check(int ok, const char *what)
{
    if (ok)
        return;
    failures++;
    fprintf(stderr, "team_stress: %s\n", what);
}

static void nap(long ns)
{
    struct timespec t = {.tv_sec = 0, .tv_nsec = ns};
    nanosleep(&t, NULL);
}

// Each round every thread writes its own cell, and after the barrier sums everybody's.
static void rounds(void *context, size_t thread, size_t n_threads)
{
    job *j = context;
    for (uint64_t r = 0; r < ROUNDS; r++) {
        uint64_t *cell = j->cell[r % 2];
        cell[thread] = j->seed + r * (thread + 1);
        if (r % 16 == 5 && thread == r % n_threads)
            nap(r == 5 ? 2000000 : 1000); // the first makes the others sleep inside a barrier
        gg_team_barrier(j->team);
        uint64_t sum = 0, expected = 0;
        for (size_t t = 0; t < n_threads; t++) {
            sum += cell[t];
            expected += j->seed + r * (t + 1);
        }
        j->errors[thread] += sum != expected;
    }
}

static void count_up(void *context, size_t thread, size_t n_threads)
{
    job *j = context;
    (void)n_threads;
    j->cell[0][thread]++;
}

static void test_regions(size_t n_threads)
{
    gg_team *team = NULL;
    gorgon_error err = {0};
    check(gg_team_create(n_threads, &team, &err) == GORGON_OK && team, "create");
    if (!team)
        return;
    check(gg_team_size(team) == n_threads, "size");
    job j = {.team = team};
    for (uint64_t run = 0; run < 20; run++) {
        j.seed = run * 1000003;
        gg_team_run(team, rounds, &j);
        if (run % 8 == 3)
            nap(3000000); // long enough for the workers to fall asleep
    }
    for (size_t t = 0; t < n_threads; t++)
        check(j.errors[t] == 0, "a barrier let a stale value through");
    job k = {.team = team};
    for (int run = 0; run < 1000; run++)
        gg_team_run(team, count_up, &k);
    for (size_t t = 0; t < n_threads; t++)
        check(k.cell[0][t] == 1000, "a region ran a thread too often or too rarely");
    gg_team_free(team);
}

enum { PIECES = 37 };

typedef struct pieces {
    gg_team *team;
    uint8_t taken[ROUNDS][PIECES];
} pieces;

// Takes all pieces of every round; a slow thread leaves its own to the others.
static void take_pieces(void *context, size_t thread, size_t n_threads)
{
    pieces *p = context;
    for (size_t r = 0; r < ROUNDS; r++) {
        size_t piece;
        while (gg_team_take(p->team, r % (PIECES + 1), thread, &piece)) {
            p->taken[r][piece]++;
            if (r % 16 == 5 && thread == r % n_threads)
                nap(100000);
        }
        gg_team_barrier(p->team);
    }
}

static void test_pieces(size_t n_threads)
{
    pieces p = {.team = NULL};
    check(gg_team_create(n_threads, &p.team, NULL) == GORGON_OK, "create for pieces");
    gg_team_run(p.team, take_pieces, &p);
    for (size_t r = 0; r < ROUNDS; r++) {
        for (size_t i = 0; i < PIECES; i++)
            check(p.taken[r][i] == (i < r % (PIECES + 1)), "a piece not given out once");
    }
    gg_team_free(p.team);
}

static void test_create_free(void)
{
    gorgon_error err = {0};
    gg_team *team = NULL;
    for (size_t i = 0; i < 200; i++) {
        check(gg_team_create(1 + i % MAX_THREADS, &team, NULL) == GORGON_OK, "create in a loop");
        job j = {.team = team};
        if (i % 3 == 0)
            gg_team_run(team, count_up, &j);
        gg_team_free(team);
    }
    gg_team_free(NULL);
    check(gg_team_create(0, &team, &err) == GORGON_ERROR_ARGUMENT && !team, "0 threads");
    check(gg_team_create(GG_MAX_THREADS + 1, &team, NULL) == GORGON_ERROR_ARGUMENT, "too many");
    for (size_t n = 1; n <= 3; n++) {
        gg_alloc_fail_at(n);
        check(gg_team_create(4, &team, NULL) == GORGON_ERROR_MEMORY && !team, "failed allocation");
        gg_alloc_fail_at(0);
    }
}

// Two teams of two threads each, driven in turn, as two engines in one process.
static void test_two_teams(void)
{
    gg_team *a = NULL, *b = NULL;
    check(gg_team_create(2, &a, NULL) == GORGON_OK, "first team");
    check(gg_team_create(3, &b, NULL) == GORGON_OK, "second team");
    job ja = {.team = a}, jb = {.team = b};
    for (int run = 0; run < 20; run++) {
        gg_team_run(a, rounds, &ja);
        gg_team_run(b, rounds, &jb);
    }
    check(ja.errors[0] + ja.errors[1] + jb.errors[0] + jb.errors[1] + jb.errors[2] == 0, "teams");
    gg_team_free(a);
    gg_team_free(b);
}

static void test_share(void)
{
    for (size_t n = 0; n <= 70; n++) {
        for (size_t grain = 1; grain <= 17; grain += 4) {
            for (size_t threads = 1; threads <= 9; threads++) {
                size_t next = 0, least = SIZE_MAX, most = 0;
                for (size_t t = 0; t < threads; t++) {
                    size_t begin, end;
                    gg_team_share(n, grain, t, threads, &begin, &end);
                    check(begin == next && end >= begin && end <= n, "shares leave no gap");
                    check(begin % grain == 0 || begin == n, "shares begin on the grain");
                    size_t units = (end - begin + grain - 1) / grain;
                    least = units < least ? units : least;
                    most = units > most ? units : most;
                    next = end;
                }
                check(next == n, "shares cover everything");
                check(most - least <= 1, "shares are even");
            }
        }
    }
}

#if defined(__x86_64__)
static void read_mxcsr(void *context, size_t thread, size_t n_threads)
{
    job *j = context;
    (void)n_threads;
    j->mxcsr[thread] = _mm_getcsr() & 0xffc0u; // without the sticky exception flags
    _mm_setcsr(0x9fc0);                        // a body that leaves flush-to-zero on
}

static void test_float_environment(void)
{
    for (size_t n_threads = 1; n_threads <= 3; n_threads += 2) {
        _mm_setcsr(0xffc0); // flush-to-zero, denormals-are-zero, toward zero
        gg_team *team = NULL;
        check(gg_team_create(n_threads, &team, NULL) == GORGON_OK, "create");
        job j = {.team = team};
        for (int run = 0; run < 3; run++) {
            gg_team_run(team, read_mxcsr, &j);
            for (size_t t = 0; t < n_threads; t++)
                check(j.mxcsr[t] == 0x1f80, "MXCSR inside a region");
            check((_mm_getcsr() & 0xffc0u) == 0xffc0u, "MXCSR of the caller is restored");
        }
        gg_team_free(team);
        _mm_setcsr(0x1f80);
    }
}
#else
static void test_float_environment(void)
{
}
#endif

int main(void)
{
    test_share();
    test_create_free();
    for (size_t n = 1; n <= MAX_THREADS; n = n < 4 ? n + 1 : n * 2)
        test_regions(n);
    for (size_t n = 1; n <= MAX_THREADS; n++)
        test_pieces(n);
    test_two_teams();
    test_float_environment();
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
