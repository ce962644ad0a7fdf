// The element types that GGUF files may name, whether or not this build can compute with them.
#ifndef GG_CORE_GGUF_TYPES_H
#define GG_CORE_GGUF_TYPES_H

#include <stddef.h>
#include <stdint.h>

typedef struct gg_gguf_type {
    const char *name; // "Q4_1"
    uint16_t block;   // elements per block; a row is a whole number of blocks
    uint16_t bytes;   // per block
} gg_gguf_type;

// NULL when no current GGML type has this id.
const gg_gguf_type *gg_gguf_type_get(uint32_t id);

// Bytes of a tensor of this type and shape. Returns NULL on success, else what is wrong:
// a dimension of 0, an overflow, or a row that is no whole number of blocks.
const char *gg_gguf_type_span(const gg_gguf_type *type, const uint64_t *dims, size_t n_dims,
                              size_t *bytes);

#endif
