// The model's insides, for forward, heads and trainers.
#ifndef GG_CORE_MODEL_H
#define GG_CORE_MODEL_H

#include "core/kernels.h"
#include "gorgon/model.h"

typedef struct gg_geometry {
    size_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, n_vocab;
    size_t context_length;
    float rope_base, norm_eps;
} gg_geometry;

typedef struct gg_layer {
    float *attn_norm, *ffn_norm; // [d_model]
    gg_matrix q;                 // [n_heads * head_dim, d_model]
    gg_matrix k, v;              // [n_kv_heads * head_dim, d_model]
    gg_matrix o;                 // [d_model, n_heads * head_dim]
    gg_matrix gate, up;          // [d_ff, d_model]
    gg_matrix down;              // [d_model, d_ff]
} gg_layer;

const gg_geometry *gg_model_geometry(const gorgon_model *model);
const gg_layer *gg_model_layer(const gorgon_model *model, size_t layer);
const gg_matrix *gg_model_embedding(const gorgon_model *model); // [n_vocab, d_model]
const gg_matrix *gg_model_output(const gorgon_model *model);    // [n_vocab, d_model], maybe tied
const float *gg_model_output_norm(const gorgon_model *model);   // [d_model]
// Token embedding as floats, y[d_model].
void gg_model_embed(const gorgon_model *model, gorgon_token token, float *y);

#endif
