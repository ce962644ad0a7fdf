// config.json of a Hugging Face checkpoint: which family it is, its geometry, and what of it goes
// into the metadata of a GGUF file. Facts: huggingface/transformers, configuration_*.py and
// modeling_*.py of the families; key names: ggml-org/llama.cpp, gguf-py/gguf/constants.py.
#ifndef GG_CORE_HF_CONFIG_H
#define GG_CORE_HF_CONFIG_H

#include "core/gguf.h"
#include "core/json.h"

// How the checkpoint of a family differs from its GGUF file.
typedef struct gg_hf_family {
    const char *model_type;   // of config.json
    const char *architecture; // of the GGUF file
    const char *activation;   // the only one that the family's forward pass computes
    bool interleaved;         // rows of q and k: halves (j, j + d/2) there, neighbours in GGUF
    bool norms_less_one;      // norm weights are stored less 1
    bool four_norms;          // a layer has norms before and after attention and feed-forward
    bool windows;             // sliding_window counts without use_sliding_window
    bool long_rope;           // the rotation may be longrope (and nothing else) and of a part
    // Where config.json says nothing.
    double norm_eps, rope_base;
    size_t window, query_width; // query_width 0: the width of a head
} gg_hf_family;

enum { GG_HF_MAX_HEAD = 1024 };

// A vector of a GGUF file: what each frequency of the rotation is divided by.
typedef struct gg_hf_divisors {
    const char *name;
    float values[GG_HF_MAX_HEAD / 2];
} gg_hf_divisors;

typedef struct gg_hf_config {
    const gg_hf_family *family;
    size_t n_layers, d_model, d_ff, n_heads, n_kv_heads, head_dim, n_vocab, context_length;
    size_t query_width;           // scores are divided by its square root
    size_t window, window_period; // 0: none; layers, of which the last has no window
    double norm_eps, rope_base, rope_base_window;
    double rotated;          // share of a head that turns
    double rope_factor;      // of linear scaling, 1: none
    double rope_magnitude;   // of longrope, which queries and keys are multiplied by, 1: none
    size_t original_context; // of longrope, 0: none
    size_t n_divisors;       // vectors of them: llama 3's one, longrope's two
    gg_hf_divisors divisors[2];
    bool tied;
} gg_hf_config;

// Reads and range-checks it. What would change the result and cannot be carried over is refused
// (UNSUPPORTED), in one line that names it.
gorgon_status gg_hf_config_open(const char *path, gg_hf_config *out, gorgon_error *err);
// Puts "general.architecture", "<architecture>.block_count" and so on.
gorgon_status gg_hf_config_put(const gg_hf_config *config, gg_gguf_writer *w, gorgon_error *err);
// Elements of a head that turn; each of the divisors has half as many.
size_t gg_hf_rotary_width(const gg_hf_config *config);

#endif
