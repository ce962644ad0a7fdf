// Stored matrices of a set of heads, packed for serving, and their products. Served weights are
// Q8_0 whatever the file stores: int8 is the fast path, and heads only propose. An engine with
// float activations keeps the stored values.
#ifndef GG_HEADS_PACKED_H
#define GG_HEADS_PACKED_H

#include "core/engine.h"
#include "heads/head_set.h"

// Turns stored rows, one or two side by side, into rows of packed matrices.
typedef struct gg_packer {
    const gg_head_set *set;
    bool int8;
    float *values;  // [widest]
    uint8_t *bytes; // one packed row
    gg_matrix row;  // [1, n_in of the part at hand], to get at stored values
    gorgon_error *err;
} gg_packer;

// widest: most inputs of a packed row. gg_packer_clear is due also after an error.
gorgon_status gg_packer_create(const gorgon_engine *engine, const gg_head_set *set, size_t widest,
                               gg_packer *p, gorgon_error *err);
void gg_packer_clear(gg_packer *p);

// A stored matrix of `n_in` columns.
typedef struct gg_stored {
    const uint8_t *rows; // NULL: the set has no such part
    size_t n_in;
} gg_stored;
gg_stored gg_stored_part(const gg_head_set *set, gg_head_role role, size_t head, size_t block);
// The values of a stored row.
gorgon_status gg_packer_values(gg_packer *p, const uint8_t *row, size_t n, float *values);

// What rows of n_in values, stored as the given type, are packed as.
gg_dtype gg_packer_type(const gg_packer *p, gg_dtype stored_as, size_t n_in);
// n_out rows from output row `at` of w on: those of left, followed by those of right (rows NULL:
// nothing).
gorgon_status gg_pack_rows(gg_packer *p, gg_matrix *w, size_t at, size_t n_out, gg_stored left,
                           gg_stored right);
// Creates the matrix of one part.
gorgon_status gg_pack_part(gg_packer *p, gg_head_role role, size_t head, size_t block, size_t n_out,
                           gg_matrix *w);

// gg_engine_linear for any number of rows.
void gg_packed_linear(gorgon_engine *engine, const gg_matrix *w, const float *x, size_t ldx,
                      size_t rows, float *y, size_t ldy);

#endif
