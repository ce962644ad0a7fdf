// Head sets in memory and on disk (GGUF side-car). Trainers fill a gg_head_set and write it.
#ifndef GG_HEADS_HEAD_SET_H
#define GG_HEADS_HEAD_SET_H

#include "core/gguf.h"
#include "core/model.h"
#include "gorgon/heads.h"

#define GG_HEADS_ROOT_EPS 1e-12f // keeps an all-zero embedding finite

// Heads that have weights of their own.
static inline size_t gg_head_cells(bool recurrent, size_t n_heads)
{
    return recurrent ? 1 : n_heads;
}

// Medusa head k (0-based) predicts the token k + 2 places after the row's own token, i.e. k + 1
// after the decided root token. With d = d_model, x = hidden, e = embedding(root) / rms(embedding)
// (rms(v) = sqrt(mean(v^2) + GG_HEADS_ROOT_EPS)):
//   block 0:  z0 = x + silu(W0 x + R e + b0)      (R only with root_embedding)
//   block j:  zj = zj-1 + silu(Wj zj-1 + bj)
//   logits  = output . z_last                     (base's output rows of draft_ids, or own)
// Recurrent: head 0 alone has weights and serves every depth k < n_heads (and further ones, less
// well): what its block 0 gives at depth k is the x of depth k + 1, e there belongs to the token
// drafted at depth k. Needs the root embedding; no own output.
typedef struct gg_head_set {
    bool recurrent;
    size_t n_heads, n_blocks, d_model, n_draft;
    bool root_embedding, own_output;
    gg_dtype weight_type; // of weights as stored: F32, F16 or Q8_0
    uint32_t *draft_ids;  // [n_draft] ascending token ids, NULL when n_draft is 0
    // Stored rows in GGUF layout, borrowed from the mapping. All values are finite.
    const uint8_t **weight; // [cells * n_blocks], each [d, d]; row o = output o
    const float **bias;     // [cells * n_blocks], each [d], parts of bias_values
    float *bias_values;     // [cells * n_blocks * d]
    const uint8_t **root;   // [cells], each [d, d]; NULL without root_embedding
    const uint8_t **output; // [cells], each [n_draft or n_vocab, d]; NULL unless own_output
    const char *training_json, *accuracy_json; // "" if absent
    float *calibration; // [n_calibration], opaque to heads/, defined by tree/calibration.h
    size_t n_calibration;
} gg_head_set;

// gorgon_heads_open over a caller's buffer, which must outlive the heads (fuzzing, embedded data).
gorgon_status gg_heads_open_memory(const void *data, size_t size, const char *label,
                                   gorgon_heads **out, gorgon_error *err);
const gg_head_set *gg_heads_set(const gorgon_heads *heads, size_t set); // NULL if out of range

// What a trainer hands over to be written; all arrays are borrowed during the call.
typedef struct gg_head_set_source {
    bool recurrent;
    size_t n_heads, n_blocks, d_model, n_draft;
    bool root_embedding;
    gg_dtype weight_type;                      // F32, F16 or Q8_0; converted on writing
    const uint32_t *draft_ids;                 // [n_draft] or NULL
    const float *const *weight;                // [cells * n_blocks] of [d, d]
    const float *const *bias;                  // [cells * n_blocks] of [d]
    const float *const *root;                  // [cells] of [d, d], or NULL
    const char *training_json, *accuracy_json; // NULL = none
    const float *calibration;
    size_t n_calibration;
} gg_head_set_source;

// Writes a heads file with these sets for `model` (fingerprint and name are taken from it).
gorgon_status gg_heads_write(const char *path, const gorgon_model *model,
                             const gg_head_set_source *sets, size_t n_sets, gorgon_error *err);
// Rewrites `path` with another calibration (and accuracy table, unless NULL) for one set;
// everything else is copied bit for bit.
gorgon_status gg_heads_set_calibration(const char *path, size_t set, const float *calibration,
                                       size_t n, const char *accuracy_json, gorgon_error *err);

#endif
