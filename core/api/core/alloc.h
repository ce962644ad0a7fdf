// Overflow-checked allocation. Every array in gorgon comes from here.
#ifndef GG_CORE_ALLOC_H
#define GG_CORE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// n * size zeroed bytes, aligned to 64; NULL when the product overflows, is out of memory, or the
// test hook below says so. n * size == 0 gives a valid pointer. Free with gg_free.
void *gg_alloc(size_t n, size_t size);
// The same without zeroing: large blocks cost memory only where they are written.
void *gg_alloc_uninit(size_t n, size_t size);
// Grows (or shrinks) to n * size bytes; old_n elements are kept, new ones are zeroed. On failure
// NULL is returned and the old block stays valid.
void *gg_realloc(void *block, size_t old_n, size_t n, size_t size);
void gg_free(void *block); // NULL is legal
char *gg_strdup(const char *text);

// Checked arithmetic: false on overflow, *out untouched.
bool gg_mul(size_t a, size_t b, size_t *out);
bool gg_add(size_t a, size_t b, size_t *out);

// Test hook: fail the n-th allocation from now on this thread (1 = next; 0 = never). Returns how
// many allocations this thread has made since the hook was last set, which also serves the
// "no allocation in a pass" test.
size_t gg_alloc_fail_at(size_t n);

#endif
