// The datastore's file in memory, shared by its reader, writer and sorter.
#ifndef GG_HEADS_DATASTORE_FORMAT_H
#define GG_HEADS_DATASTORE_FORMAT_H

#include "core/file.h"
#include "gorgon/datastore.h"

enum {
    GG_STORE_HEADER = 128, // bytes
    GG_STORE_VERSION = 1,
    // Offsets within the header.
    GG_STORE_AT_TOKENS_CRC = 64,
    GG_STORE_AT_PLACES_CRC = 68,
    GG_STORE_AT_ZERO = 72,
    GG_STORE_AT_CRC = 124,
};
#define GG_STORE_MAGIC "GGSTORE" // and its zero: 8 bytes

// Tokens of all texts, a separator before the first text and after each.
typedef struct gg_store_text {
    const uint8_t *bytes; // [n * width], little-endian
    size_t width;         // bytes per token, 2 or 4
    size_t n;
} gg_store_text;

// The separator has all bits set: it is larger than any token.
static inline uint32_t gg_store_separator(size_t width)
{
    return width == 2 ? UINT32_C(0xffff) : UINT32_C(0xffffffff);
}

static inline size_t gg_store_width(uint32_t n_vocab)
{
    return n_vocab < 0x10000 ? 2 : 4;
}

static inline uint32_t gg_store_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint32_t gg_store_token(const gg_store_text *t, size_t i)
{
    const uint8_t *p = t->bytes + i * t->width;
    return t->width == 2 ? (uint32_t)p[0] | (uint32_t)p[1] << 8 : gg_store_u32(p);
}

struct gorgon_datastore {
    gg_mapping mapping; // empty over a caller's buffer
    char *label;
    gorgon_datastore_info info;
    gg_store_text text;
    const uint8_t *places; // [n_places] u32: indices into the text
    size_t n_places;
    uint32_t tokens_crc, places_crc; // as the header says
};

#endif
