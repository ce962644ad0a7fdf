// Overflow-checked, 64-byte aligned, zeroed allocation with a per-thread failure hook for tests.
#define _DEFAULT_SOURCE // madvise
#include "core/alloc.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static _Thread_local size_t fail_at;
static _Thread_local size_t count;

size_t gg_alloc_fail_at(size_t n)
{
    size_t made = count;
    count = 0;
    fail_at = n;
    return made;
}

bool gg_mul(size_t a, size_t b, size_t *out)
{
    if (a != 0 && b > SIZE_MAX / a)
        return false;
    *out = a * b;
    return true;
}

bool gg_add(size_t a, size_t b, size_t *out)
{
    if (b > SIZE_MAX - a)
        return false;
    *out = a + b;
    return true;
}

// Large blocks lie in large pages where the system has them: a fraction of the page faults.
static void *map_large(size_t bytes)
{
    const size_t page = (size_t)2 << 20;
    if (bytes < 4 * page || bytes > SIZE_MAX - page)
        return NULL;
    void *block = aligned_alloc(page, (bytes + page - 1) / page * page);
#ifdef MADV_HUGEPAGE
    if (block)
        madvise(block, bytes / page * page, MADV_HUGEPAGE); // advice: may fail
#endif
    return block;
}

// Uninitialised block of n * size bytes rounded up to whole cache lines; *bytes gets the length.
static void *raw_alloc(size_t n, size_t size, size_t *bytes)
{
    count++;
    if (fail_at != 0 && count == fail_at)
        return NULL;
    if (!gg_mul(n, size, bytes) || *bytes > SIZE_MAX - 64)
        return NULL;
    *bytes = (*bytes + 63) / 64 * 64;
    if (*bytes == 0)
        *bytes = 64;
    void *block = map_large(*bytes);
    return block ? block : aligned_alloc(64, *bytes);
}

void *gg_alloc(size_t n, size_t size)
{
    size_t bytes;
    void *block = raw_alloc(n, size, &bytes);
    if (block)
        memset(block, 0, bytes);
    return block;
}

void *gg_alloc_uninit(size_t n, size_t size)
{
    size_t bytes;
    return raw_alloc(n, size, &bytes);
}

void *gg_realloc(void *block, size_t old_n, size_t n, size_t size)
{
    size_t bytes;
    void *grown = raw_alloc(n, size, &bytes);
    if (!grown)
        return NULL;
    size_t kept = (old_n < n ? old_n : n) * size;
    if (kept)
        memcpy(grown, block, kept);
    memset((char *)grown + kept, 0, bytes - kept);
    free(block);
    return grown;
}

void gg_free(void *block)
{
    free(block);
}

char *gg_strdup(const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = gg_alloc(n, 1);
    if (copy)
        memcpy(copy, text, n);
    return copy;
}
