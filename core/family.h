// Families of models: what tells one from another, in one table, and their metadata.
#ifndef GG_CORE_FAMILY_H
#define GG_CORE_FAMILY_H

#include "core/gguf.h"
#include "model_impl.h"

// Whether files of a family hold something.
typedef enum gg_presence {
    GG_ABSENT, // and are refused if they do
    GG_REQUIRED,
    GG_OPTIONAL,
} gg_presence;

// All that differs between families; the pass itself knows layers with optional parts only.
struct gg_family {
    const char *name;         // general.architecture, and the prefix of the family's keys
    bool fused;               // attn_qkv holds q, k and v; ffn_up holds gate and up
    bool split_pairs;         // rope turns elements (j, j + n/2) of a head, not (2j, 2j + 1)
    gg_presence biases;       // of q, k and v
    gg_presence head_norms;   // of every head of q and k
    gg_presence post_norms;   // of what attention and feed-forward add
    gg_presence rope_factors; // rope_freqs.weight
    gg_presence long_rope;    // rope_factors_short.weight, rope_factors_long.weight
    gg_presence window;       // attention.sliding_window
    size_t window_period;     // of so many layers the last has no window; 0: all layers have it
    float window_rope_base;   // of layers with a window, unscaled; 0: they turn as the others do
    gg_activation activation;
    bool scaled_embedding;      // by sqrt(d_model)
    size_t wide_query_n_layers; // the model of this depth divides q by sqrt(d_model / n_heads)
};

// Reads all metadata of the model's family: architecture, name, geometry but for n_vocab, and the
// windows of the layers, which it allocates. A key of the family that it does not know may change
// what the model computes and is refused. Errors: FORMAT, UNSUPPORTED, MEMORY.
gorgon_status gg_family_read(const gg_gguf *file, gorgon_model *model, gorgon_error *err);

#endif
