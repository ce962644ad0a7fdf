// What the kernels on AMX tiles share.
#ifndef GG_KERNELS_TILES_H
#define GG_KERNELS_TILES_H

#include <stdatomic.h>

#include "kernels/simd_avx512.h" // the lanes

enum { TILE_LINE = 64 }; // bytes of a full row of a tile

// What LDTILECFG reads.
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

// Tile instructions are opaque to the compiler, which must not move loads and stores across them.
INLINE void order_memory(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

INLINE void load_config(const tile_config *c)
{
    __asm__ volatile("ldtilecfg (%0)" : : "r"(c) : "memory");
}

// All eight tiles of full size.
INLINE void configure_full(void)
{
    tile_config c = {.palette = 1};
    for (size_t i = 0; i < 8; i++) {
        c.rows[i] = 16;
        c.row_bytes[i] = TILE_LINE;
    }
    load_config(&c);
}

#endif
