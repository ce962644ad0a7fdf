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
    size_t short_context;           // engines of at most so many positions take the short of two
                                    // sets of rotary factors (longrope); 0: there is one set
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

typedef struct gorgon_model_options {
    size_t threads;       // for loading, 0 = all processors
    const char *quantize; // "q8_0", "q4_0" or "q4_k": F32, F16 and BF16 matrices are packed as this
                          // type; those whose rows do not fit it as Q8_0, or as they are if rows
                          // are no multiple of 32. NULL: every matrix stays as the file has it
} gorgon_model_options;

void gorgon_model_options_init(gorgon_model_options *options); // all processors, as the file has it

// Opens a checkpoint (llama and mistral, qwen2, qwen3, gemma3 text, phi3; tensors of F32 F16 BF16
// Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 IQ4_NL Q2_K Q3_K Q4_K Q5_K Q6_K, each its own) and packs its weights for
// the kernels: a GGUF file, or a Hugging Face directory with config.json, tokenizer.json and
// safetensors. Of a file split into NAME-00001-of-00003.gguf and so on path is any part; the others
// are looked for beside it. *out is owned by the caller. A model that was quantised while opening
// has another fingerprint. Errors: IO, FORMAT, UNSUPPORTED, MEMORY, ARGUMENT (an unknown word); the
// message names file, item, expected and got.
gorgon_status gorgon_model_open_with(const char *path, const gorgon_model_options *options,
                                     gorgon_model **out, gorgon_error *err);
// The same with default options but for the number of threads.
gorgon_status gorgon_model_open(const char *path, size_t threads, gorgon_model **out,
                                gorgon_error *err);
// Writes a Hugging Face directory as a GGUF file that this and other software reads, whole or not
// at all; weights keep their type and values. The directory is opened first,
// so that what is written can be run. Errors as above.
gorgon_status gorgon_model_convert(const char *directory, const char *path, gorgon_error *err);
void gorgon_model_free(gorgon_model *model); // NULL is legal; no engine may still use it

void gorgon_model_describe(const gorgon_model *model, gorgon_model_info *info);
const gorgon_tokenizer *gorgon_model_tokenizer(const gorgon_model *model); // borrowed
// Another chat template (Jinja source) for the model's tokenizer; before the model is shared.
gorgon_status gorgon_model_set_chat(gorgon_model *model, const char *source, gorgon_error *err);
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
