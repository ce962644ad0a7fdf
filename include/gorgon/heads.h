// Heads files: trained prediction heads in a GGUF side-car beside the base checkpoint.
// Normative description, with the formulas of every kind: docs/formats.md.
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
    uint64_t n_parameters;
    const char *weight_type;   // "F16"
    const char *training_json; // training record (JSON object), "" if absent
    const char *accuracy_json; // held-out accuracy table (JSON), "" if absent
    bool calibrated;
} gorgon_head_set_info;

// True when the file is a GGUF whose architecture says it holds heads; does not validate it.
bool gorgon_heads_probe(const char *path);
// Opens and validates a heads file. *out is owned by the caller, immutable and shareable.
gorgon_status gorgon_heads_open(const char *path, gorgon_heads **out, gorgon_error *err);
void gorgon_heads_free(gorgon_heads *heads);          // NULL is legal
size_t gorgon_heads_count(const gorgon_heads *heads); // sets in the file, at least 1
gorgon_status gorgon_heads_describe(const gorgon_heads *heads, size_t set,
                                    gorgon_head_set_info *info, gorgon_error *err);
const char *gorgon_heads_path(const gorgon_heads *heads);
const char *gorgon_heads_base_name(const gorgon_heads *heads); // general.name of the base, or ""
uint64_t gorgon_heads_file_bytes(const gorgon_heads *heads);
gorgon_fingerprint gorgon_heads_fingerprint(const gorgon_heads *heads);
// GORGON_ERROR_MISMATCH when geometry or vocabulary differ. *warning (may be NULL) becomes true
// when the tensors differ: the same model in another quantisation.
gorgon_status gorgon_heads_check(const gorgon_heads *heads, const gorgon_model *model,
                                 bool *warning, gorgon_error *err);

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
