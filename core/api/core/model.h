// The model's insides, for forward, heads and trainers.
#ifndef GG_CORE_MODEL_H
#define GG_CORE_MODEL_H

#include "core/kernels.h"
#include "gorgon/model.h"

typedef enum gg_activation {
    GG_SILU,
    GG_GELU, // the tanh form
} gg_activation;

// How heads turn with the position: pair j of n_rotary / 2 by
// position * base^(-2j / n_rotary) / (divisor * its own divisor), times magnitude.
typedef struct gg_rope {
    float base, divisor, magnitude;
    float *divisors; // [n_rotary / 2], NULL: all 1
    // Instead of divisors where the engine's context is longer than original_context; or NULL.
    float *long_divisors;
    size_t original_context;
} gg_rope;

enum { GG_MAX_ROPES = 2 };

typedef struct gg_geometry {
    size_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, n_vocab;
    size_t context_length;
    size_t n_rotary; // the first elements of a head, which turn; even
    float norm_eps;
    float query_scale, embedding_scale;
    gg_activation activation; // of the gate
    size_t n_ropes;
    gg_rope rope[GG_MAX_ROPES];
} gg_geometry;

// Heads of q and k lie in the order of Llama's GGUF files, whatever the family: elements 2j and
// 2j + 1 are the pair that turns together. So do q_bias, k_bias, q_norm and k_norm.
typedef struct gg_layer {
    float *attn_norm, *ffn_norm;           // [d_model]
    float *attn_post_norm, *ffn_post_norm; // [d_model] of what is added to the residual, or NULL
    float *q_bias, *k_bias, *v_bias;       // [outputs of q, k, v] or NULL
    float *q_norm, *k_norm;                // [head_dim] of every head, or NULL
    gg_matrix q;                           // [n_heads * head_dim, d_model]
    gg_matrix k, v;                        // [n_kv_heads * head_dim, d_model]
    gg_matrix o;                           // [d_model, n_heads * head_dim]
    gg_matrix gate, up;                    // [d_ff, d_model]
    gg_matrix down;                        // [d_model, d_ff]
    size_t window;                         // positions that a row sees, itself the last; 0: all
    size_t rope;                           // which of the geometry's
} gg_layer;

const gg_geometry *gg_model_geometry(const gorgon_model *model);
const gg_layer *gg_model_layer(const gorgon_model *model, size_t layer);
const gg_matrix *gg_model_embedding(const gorgon_model *model); // [n_vocab, d_model]
const gg_matrix *gg_model_output(const gorgon_model *model);    // [n_vocab, d_model], maybe tied
const float *gg_model_output_norm(const gorgon_model *model);   // [d_model]
// What the token brings into the first layer, y[d_model]: its row of the embedding times
// embedding_scale, as the model's own software has it in the embedding module.
void gg_model_embed(const gorgon_model *model, gorgon_token token, float *y);
// Positions that a row with `positions` of them before it attends to, mean over the layers.
double gg_model_attended(const gorgon_model *model, double positions);

#endif
