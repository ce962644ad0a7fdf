// Sorted strings, narrowed byte by byte: no memory beyond the entries, O(log n) a step.
#include "prefix_set.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"

static int compare_entries(const void *a, const void *b)
{
    const gg_prefix_entry *x = a, *y = b;
    int order = memcmp(x->bytes, y->bytes, x->length < y->length ? x->length : y->length);
    if (order == 0)
        order = (x->length > y->length) - (x->length < y->length);
    return order != 0 ? order : (x->id > y->id) - (x->id < y->id);
}

void gg_prefix_set_fill(gg_prefix_set *set, gg_prefix_entry *entries, size_t n)
{
    if (n > 0) // entries may be NULL
        qsort(entries, n, sizeof *entries, compare_entries);
    set->entries = entries;
    set->n = n;
    size_t at = 0;
    for (size_t b = 0; b < 256; b++) {
        while (at < n && (uint8_t)entries[at].bytes[0] < b)
            at++;
        set->starts[b] = at;
    }
    set->starts[256] = n;
}

void gg_prefix_set_clear(gg_prefix_set *set)
{
    gg_free(set->entries);
    *set = (gg_prefix_set){0};
}

// First entry of [low, high) whose byte at `depth` is at least `byte` (int, so that 256 means the
// end). All share their first `depth` bytes; one that ends there sorts before all bytes.
static size_t bound(const gg_prefix_set *set, size_t low, size_t high, size_t depth, int byte)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const gg_prefix_entry *entry = &set->entries[middle];
        int at = entry->length > depth ? (uint8_t)entry->bytes[depth] : -1;
        if (at < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool gg_prefix_step(const gg_prefix_set *set, gg_prefix_walk *walk, char byte)
{
    const int b = (uint8_t)byte;
    if (walk->depth == 0) {
        walk->low = set->starts[b];
        walk->high = set->starts[b + 1];
    } else {
        walk->low = bound(set, walk->low, walk->high, walk->depth, b);
        walk->high = bound(set, walk->low, walk->high, walk->depth, b + 1);
    }
    walk->depth++;
    return walk->low < walk->high;
}

const gg_prefix_entry *gg_prefix_here(const gg_prefix_set *set, const gg_prefix_walk *walk)
{
    const gg_prefix_entry *entry = &set->entries[walk->low];
    return entry->length == walk->depth ? entry : NULL;
}
