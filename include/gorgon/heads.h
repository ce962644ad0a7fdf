// Heads files: trained prediction heads beside the base checkpoint, in gorgon's GGUF side-car or as
// other trainers write them. Formats, with the formulas of every kind: docs/formats.md.
#ifndef GORGON_HEADS_H
#define GORGON_HEADS_H

#include "gorgon/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gorgon_heads gorgon_heads;

typedef struct gorgon_head_set_info {
    // "medusa", "linear", "markov", "hydra", "hydra++", "recurrent" or "eagle"
    const char *kind;
    size_t n_heads, n_blocks, d_model;
    size_t n_draft; // draft vocabulary size; 0 = the whole vocabulary
    size_t rank;    // of markov's part for the token before, else 0
    // Of the decoder layer of hydra++ and eagle, else 0: attention heads, width of the feed-forward
    // part, positions attended to.
    size_t n_attention, n_ffn, window;
    bool root_embedding; // second input: embedding of the known root token
    bool own_output;     // heads bring their own output matrices
    bool shared_output;  // one of these for all heads
    bool output_bias;    // and a bias is added
    bool bias_free;      // blocks have no bias
    bool residual;       // block 0 adds to a mapping of its input, not to the hidden state
    bool raw_embedding;  // embeddings are not divided by their root mean square
    uint64_t n_parameters;
    const char *weight_type;   // "F16"
    const char *training_json; // training record (JSON object), "" if absent
    const char *accuracy_json; // held-out accuracy table (JSON), "" if absent
    bool calibrated;
} gorgon_head_set_info;

// True for what can be nothing but heads: a GGUF whose architecture says so, a torch archive or
// safetensors, an index of them; a directory with a file named after heads, or with tensors that
// are. Does not validate it.
bool gorgon_heads_probe(const char *path);
// Opens and validates a heads file of any format, told apart by content: gorgon's GGUF side-car,
// FasterDecoding's Medusa heads (also inside a merged checkpoint), vLLM's, Hydra's, ModelOpt's; a
// file, an index of several, or a directory with one. Heads, layers and sizes are counted from the
// tensors; what a config.json beside them says otherwise becomes a warning. *out is owned by the
// caller, immutable and shareable.
gorgon_status gorgon_heads_open(const char *path, gorgon_heads **out, gorgon_error *err);
void gorgon_heads_free(gorgon_heads *heads);          // NULL is legal
size_t gorgon_heads_count(const gorgon_heads *heads); // sets in the file, at least 1
gorgon_status gorgon_heads_describe(const gorgon_heads *heads, size_t set,
                                    gorgon_head_set_info *info, gorgon_error *err);
const char *gorgon_heads_path(const gorgon_heads *heads);
const char *gorgon_heads_format(const gorgon_heads *heads);    // "FasterDecoding Medusa"
const char *gorgon_heads_container(const gorgon_heads *heads); // "GGUF", "safetensors", ..
size_t gorgon_heads_tensors(const gorgon_heads *heads);        // in the file, used or not
// What config.json says about the heads: a JSON object of its keys that mean something here, ""
// if there is none. Borrowed, as all texts here are.
const char *gorgon_heads_config(const gorgon_heads *heads);
// What is odd in the file: a contradiction between config and tensors, tensors that are not used.
// A line for people; NULL after the last.
const char *gorgon_heads_warning(const gorgon_heads *heads, size_t index);
const char *gorgon_heads_base_name(const gorgon_heads *heads); // name of the base, or ""
uint64_t gorgon_heads_file_bytes(const gorgon_heads *heads);
// Of the base; what a file does not tell is 0. The width is always known.
gorgon_fingerprint gorgon_heads_fingerprint(const gorgon_heads *heads);
// GORGON_ERROR_MISMATCH when known geometry or vocabulary differ. *warning (may be NULL) becomes
// true when the tensors differ: the same model in another quantisation.
gorgon_status gorgon_heads_check(const gorgon_heads *heads, const gorgon_model *model,
                                 bool *warning, gorgon_error *err);

typedef struct gorgon_convert_options {
    // "gguf": the side-car, a file, with all sets. "fasterdecoding", "fasterdecoding-v2", "vllm": a
    // directory with weights in safetensors and config.json, made if need be; one that is there
    // may hold nothing else.
    const char *to;
    size_t set; // that is written where a format holds one
    // The base, or NULL: its fingerprint goes into a side-car, its output matrix into formats that
    // have output matrices when the heads have none.
    const gorgon_model *model;
} gorgon_convert_options;

// Writes heads in another format, whole or not at all; tensors keep their bits, but for Q8_0, which
// becomes F32 in safetensors. UNSUPPORTED: the format cannot say what the heads are; MISMATCH: they
// are not the model's; ARGUMENT, IO, MEMORY.
gorgon_status gorgon_heads_convert(const gorgon_heads *heads, const gorgon_convert_options *options,
                                   const char *path, gorgon_error *err);

// Logits of all heads of a set for hidden[d_model] and the decided next token `root`, without the
// draft proposer around them: logits is [n_heads][n_draft or n_vocab], ids [n_draft or n_vocab]
// (head logits' token ids; may be NULL). Heads that see drafted tokens take their own likeliest
// ones for them. Those with a decoder layer (hydra++, eagle) attend to no row before this one, as
// if a text began with it; in a draft they see what was committed before. Used by `gorgon eval
// --heads`.
gorgon_status gorgon_heads_logits(gorgon_engine *engine, const gorgon_heads *heads, size_t set,
                                  const float *hidden, gorgon_token root, float *logits,
                                  gorgon_token *ids, gorgon_error *err);

#ifdef __cplusplus
}
#endif

#endif
