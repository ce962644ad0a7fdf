// Processor count and clock.
#define _GNU_SOURCE // sched_getaffinity: a container's processors, not the machine's
#include "core/system.h"

#include <sched.h>
#include <time.h>

#include "core/limits.h"

size_t gg_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    int n = CPU_COUNT(&set);
    if (n < 1)
        return 1;
    return n > GG_MAX_THREADS ? GG_MAX_THREADS : (size_t)n;
}

double gg_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
