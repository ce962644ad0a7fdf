// Chunk files of the feature cache, parsed from memory: header, parts, checksums, sequences.
// Most inputs fail at a checksum; so each is tried as it is, then once more with them mended.
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <zlib.h>

#include "core/alloc.h"
#include "trainers/cache.h"

enum { HEADER = 256, PARTS = 6, FIRST_PART = 80, PART_ENTRY = 24 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_u32(uint8_t *p, uint32_t v)
{
    for (size_t i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t v = 0;
    for (size_t i = 0; i < 8; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static void mend_checksums(uint8_t *data, size_t size)
{
    size_t at = HEADER;
    for (size_t i = 0; i < PARTS; i++) {
        uint8_t *entry = data + FIRST_PART + PART_ENTRY * i;
        uint64_t stored = get_u64(entry + 8);
        if (stored > size - at)
            break;
        put_u32(entry + 4, (uint32_t)crc32_z(0, data + at, (size_t)stored));
        at += (size_t)stored;
    }
    put_u32(data + HEADER - 4, (uint32_t)crc32_z(0, data, HEADER - 4));
}

static void parse(const uint8_t *data, size_t size)
{
    static const gg_cache_extent extents[] = {GG_CACHE_TEXT, GG_CACHE_HIDDEN};
    for (size_t i = 0; i < 2; i++) {
        gg_cache_sequence *sequences;
        size_t n;
        gorgon_error err = {0};
        if (gg_cache_chunk_parse(data, size, "fuzz", extents[i], &sequences, &n, &err) == GORGON_OK)
            gg_cache_chunk_free(sequences, n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    parse(data, size);
    if (size < HEADER)
        return 0;
    uint8_t *copy = gg_alloc(size, 1);
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    mend_checksums(copy, size);
    parse(copy, size);
    gg_free(copy);
    return 0;
}
