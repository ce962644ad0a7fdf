// A recipe trains one kind of heads: its file, its line in recipes.c. Here is what a recipe is, and
// what recipes are made of: products with parameters, lanes of blocks, blocks of heads.
#ifndef GG_TRAINERS_RECIPE_H
#define GG_TRAINERS_RECIPE_H

#include "trainers/blis.h"
#include "trainers/head_trainer.h"

// A run of the trainer.
typedef struct gg_head_pass {
    gg_head_trainer *m;
    const float *parameters;
    const gg_head_batch *batch;
    gg_operand hidden; // x of every row: the batch's, or what a recipe puts in its place
} gg_head_pass;

typedef struct gg_recipe {
    size_t n_heads, n_blocks; // when the user asks for no number
    size_t rank;              // likewise; at most d_model
    uint32_t random;          // matrices that begin at random, as bits 1 << role; others at zero
    // From the batch's input to z of the last block.
    gorgon_status (*forward)(const gg_head_pass *p, gorgon_error *err);
    // From dz of the last block to the whole gradient, whose vectors are zero before.
    gorgon_status (*backward)(const gg_head_pass *p, gorgon_error *err);
} gg_recipe;

extern const gg_recipe gg_recipe_medusa, gg_recipe_linear, gg_recipe_markov, gg_recipe_hydra,
    gg_recipe_hydra_prefix, gg_recipe_recurrent, gg_recipe_eagle;
const gg_recipe *gg_recipe_of(gg_head_kind kind);

typedef struct gg_layer_work gg_layer_work; // of the decoder layer

// In arrays of [max_rows][n_heads][d], lane k of a row is head k, or depth k of the one head.
struct gg_head_trainer {
    gg_team *team;
    const gg_kernels *kernels;
    const gg_recipe *recipe;
    gg_head_shape shape;
    gg_head_layout layout;
    size_t input;        // floats of an input row
    const float *output; // [n_out][d]
    size_t n_out;
    size_t max_rows, logit_rows;
    float **z;         // [n_blocks] of [max_rows][n_heads][d]: output of each block
    float **slope;     // [n_blocks] of the same: first a, the product without its bias, then silu'
    float *dz;         // [max_rows][n_heads][d]
    const float *last; // [max_rows][n_heads][d] that the logits are of: z of the last block,
                       // or what a decoder layer made of it
    gg_layer_work *layer; // NULL without one
    float *low;           // [max_rows][n_heads][rank] of the low-rank part, empty without rank
    float *dlow;          // [max_rows][rank]
    float *logits;        // [logit_rows][n_out]
    float *maxima;        // [threads][ceil(n_out / 64)]
    size_t wide;          // the larger of d and n_ffn
    float *scratch;       // [threads][2 * wide]
};

// Rows that a product reads and writes; columns are those of the matrix.
typedef struct gg_rows {
    float *data;
    size_t n, ld;
} gg_rows;
gg_rows gg_lane(const gg_head_pass *p, float *x, size_t lane); // of every row
gg_rows gg_all_lanes(const gg_head_pass *p, float *x);         // one after the other
gg_operand gg_operand_of(gg_rows rows, size_t columns);
// Of every input row: the embeddings of tokens [first, first + n).
gg_operand gg_input_tokens(const gg_head_pass *p, size_t first, size_t n);
gg_operand gg_context_hidden(const gg_head_pass *p); // of every context row; likewise its token
gg_operand gg_context_token(const gg_head_pass *p);

// A matrix of parameters, [n_out, n_in] from `at` on.
typedef struct gg_weights {
    size_t at, n_out, n_in;
} gg_weights;
gg_weights gg_weights_of(const gg_head_pass *p, gg_head_role role, size_t block, size_t head);
// Of all heads, one below the other; their widths must be the same.
gg_weights gg_weights_of_all(const gg_head_pass *p, gg_head_role role, size_t block);

// y = x w^T; gradient of w = dy^T x; dx = dy w. With `add` that is added to what is there.
gorgon_status gg_weights_apply(const gg_head_pass *p, gg_weights w, gg_operand x, gg_rows y,
                               bool add, gorgon_error *err);
gorgon_status gg_weights_gradient(const gg_head_pass *p, gg_weights w, gg_rows dy, gg_operand x,
                                  bool add, gorgon_error *err);
gorgon_status gg_weights_back(const gg_head_pass *p, gg_weights w, gg_rows dy, gg_rows dx, bool add,
                              gorgon_error *err);

// y = 1 / (1 + exp(-a)), which never overflows. y must not be a.
void gg_sigmoid(const gg_kernels *kernels, const float *a, size_t n, float *y);

// Lanes [first, first + n) of a block, and what its residual connection adds to them.
typedef struct gg_lanes {
    size_t block, first, n;
    const float *before;           // [d] of lane `first`
    size_t before_ld, before_step; // from a position, from a lane to the next
} gg_lanes;
gg_lanes gg_first_lanes(const gg_head_pass *p); // block 0, the same hidden state before each lane
gg_lanes gg_later_lanes(const gg_head_pass *p, size_t block);
// z = before + silu(slope + bias), slope = silu'; heads without activation: the identity and 1.
void gg_lanes_activate(const gg_head_pass *p, const gg_lanes *lanes);
// slope becomes d loss / d a = dz * slope; its sum joins the gradient of the bias.
void gg_lanes_differentiate(const gg_head_pass *p, const gg_lanes *lanes);

// Blocks 1 and on of heads that each have weights of their own; dz goes from the last to block 0.
gorgon_status gg_later_forward(const gg_head_pass *p, gorgon_error *err);
gorgon_status gg_later_backward(const gg_head_pass *p, gorgon_error *err);

// The decoder layer (head_layer.c), on lanes of its own: as many as depths where it works at every
// depth, else one. Lane k of row r stands k positions after the row. It attends to itself and the
// window - 1 positions before: context rows and lane 0 of rows as gg_head_past has them, then lanes
// 0 to k - 1 of r.
enum {
    GG_LAYER_RANDOM = 1 << GG_PART_ATTN_Q | 1 << GG_PART_ATTN_K | 1 << GG_PART_ATTN_V |
                      1 << GG_PART_FFN_GATE | 1 << GG_PART_FFN_UP
};
gg_layer_work *gg_layer_create(const gg_head_shape *shape, size_t max_rows); // NULL: no memory
void gg_layer_free(gg_layer_work *layer);                                    // NULL is legal
float *gg_layer_output(const gg_layer_work *layer);                          // [max_rows][lanes][d]
// Context rows, if there are any: begin makes h of each its hidden state, to which a recipe may
// add, forward their keys and values, before the lanes; backward, after them, makes h d loss / d h.
gg_rows gg_layer_context(const gg_head_pass *p); // h
void gg_layer_context_begin(const gg_head_pass *p);
gorgon_status gg_layer_context_forward(const gg_head_pass *p, gorgon_error *err);
gorgon_status gg_layer_context_backward(const gg_head_pass *p, gorgon_error *err);
// From h of every row to the lane's output; lanes in ascending order.
gorgon_status gg_layer_forward(const gg_head_pass *p, size_t lane, gg_operand h, gorgon_error *err);
// d loss / d output becomes d loss / d h; lanes in descending order, all of them. What lanes give
// to those before them through attention is kept and joins when their turn comes.
gorgon_status gg_layer_backward(const gg_head_pass *p, size_t lane, gg_rows d, gorgon_error *err);

// Recipes that others build on. A depth of the recurrent head takes its x from states, the array
// of what each depth hands to the next, and leaves z in lane k of block 0; back, it takes dz and
// adds to that of depth k - 1.
gorgon_status gg_medusa_forward(const gg_head_pass *p, gorgon_error *err);
gorgon_status gg_medusa_backward(const gg_head_pass *p, gorgon_error *err);
gorgon_status gg_hydra_forward(const gg_head_pass *p, gorgon_error *err);
gorgon_status gg_hydra_backward(const gg_head_pass *p, gorgon_error *err);
gorgon_status gg_depth_forward(const gg_head_pass *p, float *states, size_t k, gorgon_error *err);
gorgon_status gg_depth_backward(const gg_head_pass *p, float *states, size_t k, gorgon_error *err);

#endif
