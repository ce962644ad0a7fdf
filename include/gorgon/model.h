// A checkpoint in memory: weights, tokenizer, geometry. Immutable once opened; share it freely.
#ifndef GORGON_MODEL_H
#define GORGON_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gorgon/status.h"
#include "gorgon/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gorgon_model gorgon_model;

// What a checkpoint is, counted from its tensors. Strings are borrowed from the model.
typedef struct gorgon_model_info {
    const char *path;
    const char *architecture; // "llama", "qwen2", "qwen3", "gemma3", "phi3"
    const char *name;         // general.name or ""
    size_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, n_vocab;
    size_t context_length;          // trained context, positions
    size_t window, n_window_layers; // sliding window in positions, and how many layers have it
    float rope_base, norm_eps;      // rope_base: of layers without a window
    bool tied_output;               // the output matrix is the token embedding
    uint64_t n_parameters;          // elements of all tensors, a tied output counted once
    uint64_t file_bytes;
    uint64_t memory_bytes;      // packed weights and tables held by the model
    uint64_t kv_position_bytes; // KV memory of one position over all layers
    const char *matrix_type;    // type of most layer matrices, "Q4_1"
    const char *output_type;    // type of the output matrix
} gorgon_model_info;

// What heads remember of their base, to be checked when they are attached.
typedef struct gorgon_fingerprint {
    uint64_t vocabulary; // hash of all tokens' bytes and kinds
    uint64_t tensors;    // hash of sampled tensor data: changes with quantisation
    uint32_t n_layers, d_model, n_vocab;
} gorgon_fingerprint;

// Opens a GGUF checkpoint (llama and mistral, qwen2, qwen3, gemma3 text, phi3; F32, F16, BF16, Q4_0
// to Q8_0, IQ4_NL and Q2_K to Q6_K tensors) and packs its weights for the kernels, using `threads`
// threads (0 = all processors). *out is owned by the caller.
// Errors: IO, FORMAT, UNSUPPORTED, MEMORY; the message names file, item, expected and got.
gorgon_status gorgon_model_open(const char *path, size_t threads, gorgon_model **out,
                                gorgon_error *err);
void gorgon_model_free(gorgon_model *model); // NULL is legal; no engine may still use it

void gorgon_model_describe(const gorgon_model *model, gorgon_model_info *info);
const gorgon_tokenizer *gorgon_model_tokenizer(const gorgon_model *model); // borrowed
gorgon_fingerprint gorgon_model_fingerprint(const gorgon_model *model);

// Callback of gorgon_tensors_visit: type name, GGUF dims (fastest first), bytes.
typedef void (*gorgon_tensor_fn)(void *context, const char *name, const char *type,
                                 const uint64_t *dims, size_t n_dims, uint64_t bytes);
// Lists the tensors of any GGUF file without loading them.
gorgon_status gorgon_tensors_visit(const char *path, gorgon_tensor_fn fn, void *context,
                                   gorgon_error *err);

#ifdef __cplusplus
}
#endif

#endif
