// The decoder layer's memory, and what it does row by row: norms, attention, activation. Products
// and their order are in head_layer.c.
#ifndef GG_TRAINERS_HEAD_LAYER_H
#define GG_TRAINERS_HEAD_LAYER_H

#include "recipe.h"

struct gg_layer_work {
    size_t lanes;
    size_t row_slots; // max_rows * lanes slots, lane k of row r at r * lanes + k; then context rows
    // [positions][head_dim / 2]; back_sine = -sine. Row 0 is at position `window`.
    float *cosine, *sine, *back_sine;
    uint32_t *positions; // of context rows
    // [slots][d]. The output begins as h; n_h = n(h); k is rotated.
    float *output, *n_h, *k, *v, *dk, *dv;
    // [row_slots][d]. n_y = n(y); q is rotated, going back it becomes its own gradient.
    float *n_y, *q, *attended;
    // [row_slots][n_ffn]; going back, gate and up become their gradients
    float *gate, *up, *active;
    float *scale_h, *scale_y; // [slots], [row_slots] 1 / rms
    float *weights;           // [n_attention][row_slots][window] of the attention
    float *back;              // [rows][d or n_ffn] a gradient between two products
};

// One lane of every row, or all context rows.
typedef struct gg_layer_pass {
    const gg_head_pass *p;
    gg_layer_work *l;
    size_t first, step, n;     // slots: one of each row
    size_t lane;               // of rows
    const uint32_t *positions; // [n], NULL: those of the lane
    bool more;                 // gradients of matrices are there already
    gg_rows d;                 // backward: gradient of the residual stream
} gg_layer_pass;

// The lane's part of an array of the layer.
gg_rows gg_layer_rows(const gg_layer_pass *t, float *x, size_t columns);
void gg_layer_copy(const gg_layer_pass *t, gg_operand h); // to the output
// n = output / rms, scales = 1 / rms; back, d joins what the gradient of n, in l->back, is to it.
void gg_layer_norm(const gg_layer_pass *t, float *n, float *scales);
void gg_layer_norm_back(const gg_layer_pass *t, float *n, float *scales);
// Rotates all attention heads of x, which is k or dk.
void gg_layer_rotate(const gg_layer_pass *t, float *x, const float *sine);
// From q, k (which are rotated here) and v to what is attended; back, from its gradient in l->back
// to those of q and k before their rotation, and of v.
void gg_layer_attend(const gg_layer_pass *t);
void gg_layer_attend_back(const gg_layer_pass *t);
// active = silu(gate) * up; back, from its gradient in l->back to those of gate and up, in place.
void gg_layer_activate(const gg_layer_pass *t);
void gg_layer_activate_back(const gg_layer_pass *t);

#endif
