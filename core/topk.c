// The k largest values of a long vector: maxima of blocks of 64 first, so that every pick looks at
// n / 64 numbers and one block.
#include "core/kernels.h"

enum {
    BLOCK = 64,
};

typedef struct pick {
    float value;
    size_t id;
} pick;

// Value first, then the lower id: true if (value, id) comes after `last` in that order.
static bool comes_after(float value, size_t id, pick last)
{
    return value < last.value || (value == last.value && id > last.id);
}

// Largest value of a block that comes after `last` (every value does if last is NULL).
static pick best_of_block(const float *x, size_t n, size_t block, const pick *last)
{
    const size_t end = n - block * BLOCK < BLOCK ? n : (block + 1) * BLOCK;
    pick best = {-__builtin_inff(), n};
    for (size_t i = block * BLOCK; i < end; i++) {
        if (x[i] > best.value && (!last || comes_after(x[i], i, *last)))
            best = (pick){x[i], i};
    }
    return best;
}

// -inf and NaN come last, by id.
static size_t fill_rest(const float *x, size_t n, size_t k, size_t count, uint32_t *ids,
                        float *values)
{
    for (size_t i = 0; i < n && count < k; i++) {
        if (!(x[i] > -__builtin_inff())) {
            ids[count] = (uint32_t)i;
            values[count++] = x[i];
        }
    }
    return count;
}

size_t gg_top_k(const gg_kernels *kernels, const float *x, size_t n, size_t k, uint32_t *ids,
                float *values, float *scratch)
{
    k = k < n ? k : n;
    if (k == 0)
        return 0;
    const size_t n_blocks = (n - 1) / BLOCK + 1;
    kernels->block_max(x, n, scratch);
    pick last = {0};
    for (size_t count = 0; count < k; count++) {
        const size_t block = kernels->argmax(scratch, n_blocks);
        if (!(scratch[block] > -__builtin_inff()))
            return fill_rest(x, n, k, count, ids, values);
        last = best_of_block(x, n, block, count ? &last : NULL);
        ids[count] = (uint32_t)last.id;
        values[count] = last.value;
        scratch[block] = best_of_block(x, n, block, &last).value;
    }
    return k;
}
