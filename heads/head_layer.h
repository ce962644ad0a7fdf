// The decoder layer of hydra++ and eagle heads (formulas: heads/head_set.h), packed for serving,
// with the workspace of a batch: rows of any number of sequences run through it together.
#ifndef GG_HEADS_HEAD_LAYER_H
#define GG_HEADS_HEAD_LAYER_H

#include "packed.h"

// Keys (rotated) and values of one sequence by slot, in elements of gg_engine_kv_bytes bytes.
typedef struct gg_layer_memory {
    uint8_t *k;          // [n_attention] tiles as gg_engine_put_key has them
    uint8_t *v;          // [n_slots][d]
    size_t k_head_bytes; // of one attention head's tiles
    size_t k_bytes, v_bytes;
} gg_layer_memory;

// Slots are empty. On error gg_layer_memory_clear is due as well.
gorgon_status gg_layer_memory_create(const gorgon_engine *engine, const gg_head_shape *shape,
                                     size_t n_slots, gg_layer_memory *m, gorgon_error *err);
void gg_layer_memory_clear(gg_layer_memory *m);
void gg_layer_memory_copy(gg_layer_memory *to, const gg_layer_memory *from); // of the same sizes

// A row of a batch.
typedef struct gg_layer_row {
    const gg_layer_memory *memory; // of its sequence
    size_t position;
    size_t slot;   // that takes its key and value
    size_t n_seen; // 0: the output is not wanted
} gg_layer_row;

typedef struct gg_packed_layer {
    gorgon_engine *engine;
    const gg_head_shape *shape; // NULL: the heads have no such layer
    size_t head_dim;
    gg_matrix qkv;     // [3d, d]
    gg_matrix output;  // [d, d]
    gg_matrix gate_up; // [2 n_ffn, d]
    gg_matrix down;    // [d, n_ffn]

    gg_layer_row *rows; // [max_rows], filled by the caller
    // [max_rows][window]: the n_seen slots that a row attends to, its own among them, also filled
    // by the caller.
    uint32_t *seen;
    size_t *wanted;    // [max_rows] rows with an output
    double *frequency; // [head_dim / 2] radians per position
    float *ones;       // [d]
    float *normed;     // [max_rows][d]
    float *vectors;    // [max_rows][3d] queries, keys, values
    float *attended;   // [max_rows][d]
    float *inner;      // [max_rows][2 n_ffn]
    float *product;    // [max_rows][d]
    float *scratch;    // [threads][n_scratch]
    size_t n_scratch;
} gg_packed_layer;

// Packs the layer of the packer's set, which must outlive it. gg_packed_layer_clear is due also
// after an error.
gorgon_status gg_packed_layer_create(gorgon_engine *engine, gg_packer *p, size_t max_rows,
                                     gg_packed_layer *l);
void gg_packed_layer_clear(gg_packed_layer *l);

// x[n][d]: what goes in at l->rows[0 .. n). All keys and values are stored before any row attends.
// y: the outputs of the rows that want one, in order; returns how many. Does not allocate.
size_t gg_packed_layer_run(const gg_packed_layer *l, const float *x, size_t n, float *y);

#endif
