// Head sets in memory and on disk (GGUF side-car). Trainers fill a gg_head_set and write it.
#ifndef GG_HEADS_HEAD_SET_H
#define GG_HEADS_HEAD_SET_H

#include "core/gguf.h"
#include "core/limits.h"
#include "core/model.h"
#include "gorgon/heads.h"

#define GG_HEADS_ROOT_EPS  1e-12f // keeps an all-zero vector finite when it is divided by its rms
#define GG_HEADS_ROPE_BASE 10000.0

// Architectures of heads. With d = d_model, x = the hidden state before the root (the decided
// token), e_0 = the root's embedding / rms of it (rms(v) = sqrt(mean(v^2) + GG_HEADS_ROOT_EPS)),
// e_i the same of the token drafted i places after the root. Head k (0-based) predicts the token
// that stands k + 1 places after the root; logits = output . z_last (base's output rows of
// draft_ids, or own).
//
// medusa (arXiv 2401.10774):
//   z_0 = x + silu(W_0 x + R e_0 + b_0), z_j = z_j-1 + silu(W_j z_j-1 + b_j)
// Of any kind, as its shape says: without all b; with P [x; e's that R sees] + p for the x that
// block 0 adds to; with e's that are not divided by their rms; with c added to own logits.
//
// linear (after ProphetNet, 2001.04063), one block:
//   z = x + W x + R e_0 + b
//
// markov: as medusa, then the token before, D [rank, d], U [d, rank]:
//   z_last = z_j + U D e_k
//
// hydra (2402.05109): as medusa, with this in block 0:
//   R [e_0; ..; e_k]
//
// recurrent (after ReDrafter, 2403.09919): head 0 alone has weights and serves every depth
// k < n_heads (and further ones, less well); what its block 0 gives at depth k is the x of depth
// k + 1, e_k its e.
//
// Two kinds have a decoder layer without norm weights and biases. With n(v) = v / rms(v), rope_p
// the rotation of pairs (2j, 2j + 1) of each attention head by
// p * GG_HEADS_ROPE_BASE^(-2j / head_dim), and past the h of the window - 1 positions before, as
// far as there are any:
//   q = rope_p(Wq n(h)), k = rope_p(Wk n(h)), v = Wv n(h) at the position p of h
//   a = per attention head, over past and h itself, softmax(q . k / sqrt(head_dim)) v
//   y = h + Wo a
//   layer(h, past) = y + Wdown (silu(Wgate n(y)) * Wup n(y))
//
// hydra++ (2402.05109, with its prefix layer): as hydra, but x is
//   layer(x, past), past: the hidden states of the rows before
//
// eagle (after 2401.15077, rolled out in training as in 2408.15766): head 0 alone has weights and
// serves every depth, with one block:
//   h_k = x_k + W x_k + R e_k + b, z = layer(h_k, past); x_0 = x, x_k+1 = z of depth k
// where past is h_0 of the rows before, each of its own hidden state and the token after it, then
// h_0 to h_k-1 of the draft. The position of h_k is that of the row before the root + k.
typedef enum gg_head_kind {
    GG_HEADS_MEDUSA,
    GG_HEADS_LINEAR,
    GG_HEADS_MARKOV,
    GG_HEADS_HYDRA,
    GG_HEADS_HYDRA_PREFIX,
    GG_HEADS_RECURRENT,
    GG_HEADS_EAGLE,
    GG_HEAD_KINDS
} gg_head_kind;

typedef enum gg_head_layer {
    GG_LAYER_NONE,
    GG_LAYER_PREFIX, // once per step, on the hidden states of committed rows
    GG_LAYER_CELL,   // at every depth
} gg_head_layer;

typedef struct gg_head_traits {
    const char *name;    // in heads files and on the command line
    bool one_cell;       // one head with weights for all depths
    bool follows;        // sees the drafted tokens: needs the root's embedding
    bool base_output;    // has no own output
    bool sees_all;       // block 0 sees the root and all tokens drafted before, else one of them
    bool activated;      // blocks have an activation; else there is one block
    bool has_rank;       // low-rank part for the token before
    gg_head_layer layer; // has a decoder layer, and where
} gg_head_traits;
const gg_head_traits *gg_head_traits_of(gg_head_kind kind);
bool gg_head_kind_find(const char *name, gg_head_kind *kind); // false: no such kind

typedef struct gg_head_shape {
    gg_head_kind kind;
    size_t n_heads, n_blocks, d_model;
    size_t n_draft; // 0: the whole vocabulary
    size_t rank;    // of markov's low-rank part, else 0
    // Of the decoder layer, else 0: attention heads, into which d_model divides evenly, each even;
    // width of the feed-forward part; positions attended to, the own one included.
    size_t n_attention, n_ffn, window;
    bool root_embedding, own_output;
    bool shared_output; // own output: one, head 0's, serves all heads
    bool output_bias;   // own output: a bias is added to it
    bool bias_free;     // blocks have no bias
    bool residual;      // block 0 adds to P [x; e's] + p instead of x
    bool raw_embedding; // e's are embeddings as they are
} gg_head_shape;

// What is wrong with the shape by itself (a kind's demands), or NULL.
const char *gg_head_shape_fault(const gg_head_shape *shape);
size_t gg_head_cells(const gg_head_shape *shape); // heads that have weights of their own
// Embeddings that cell k sees beside its x: columns of its root matrix / d.
size_t gg_head_tokens(const gg_head_shape *shape, size_t cell);

// A matrix or vector of weights.
typedef enum gg_head_role {
    GG_PART_WEIGHT,        // [d, d] of a block
    GG_PART_BIAS,          // [d] of a block
    GG_PART_ROOT,          // [d, tokens * d] of block 0
    GG_PART_OUTPUT,        // [n_draft or n_vocab, d]
    GG_PART_DOWN,          // [rank, d]
    GG_PART_UP,            // [d, rank]
    GG_PART_OUTPUT_BIAS,   // [n_draft or n_vocab]
    GG_PART_RESIDUAL,      // [d, (1 + tokens) * d] of block 0
    GG_PART_RESIDUAL_BIAS, // [d]
    // Of the decoder layer, which belongs to head 0:
    GG_PART_ATTN_Q, // [d, d]
    GG_PART_ATTN_K,
    GG_PART_ATTN_V,
    GG_PART_ATTN_OUTPUT,
    GG_PART_FFN_GATE, // [n_ffn, d]
    GG_PART_FFN_UP,   // [n_ffn, d]
    GG_PART_FFN_DOWN, // [d, n_ffn]
} gg_head_role;
typedef struct gg_head_part {
    gg_head_role role;
    size_t head, block;
    size_t n_out, n_in; // n_in 0: a vector, stored as F32
} gg_head_part;
enum {
    GG_HEADS_MAX_RANK = 4096,
    GG_HEADS_MAX_WINDOW = 1024,
    GG_HEADS_MAX_FFN = 1 << 16,
    GG_MAX_HEAD_PARTS = GG_MAX_DRAFT_HEADS * (2 * GG_MAX_HEAD_BLOCKS + 7) + 7
};
// All parts of a set, head by head; returns how many.
size_t gg_head_parts(const gg_head_shape *shape, size_t n_vocab,
                     gg_head_part parts[GG_MAX_HEAD_PARTS]);
// Index of one of n parts; n: it is not among them.
size_t gg_head_part_find(const gg_head_part *parts, size_t n, gg_head_role role, size_t head,
                         size_t block);

// What the base found likely after the contexts that its own text holds most often: token recycling
// begins with it. Contexts ascend by token before, then token; -1: whatever token before.
enum { GG_SUCCESSORS = 8, GG_HEADS_MAX_CONTEXTS = 1 << 17 };
typedef struct gg_successors {
    size_t n;
    int32_t *contexts;   // [n][2] token before, token
    int32_t *next;       // [n][GG_SUCCESSORS] likeliest first, -1 after the last
    uint16_t *log_share; // [n][GG_SUCCESSORS] f16: nats, of their common probability
} gg_successors;
// Zeros. Clear with gg_successors_clear, also after an error (MEMORY).
gorgon_status gg_successors_create(size_t n, gg_successors *out, gorgon_error *err);
void gg_successors_clear(gg_successors *s);

typedef struct gg_head_set {
    gg_head_shape shape;
    gg_dtype weight_type; // of matrices as stored: F32, F16, BF16 or Q8_0
    uint32_t *draft_ids;  // [n_draft] token ids, each once, NULL when n_draft is 0
    size_t n_parts;
    gg_head_part *parts; // [n_parts]
    // [n_parts] matrices: stored rows in GGUF layout, borrowed from the mapping, or from `copies`
    // where the file has another layout; vectors: floats in `vectors`. All values are finite.
    const void **data;
    void **copies; // [n_parts], entries may be NULL
    float *vectors;
    const char *training_json, *accuracy_json; // "" if absent
    float *calibration; // [n_calibration], opaque to heads/, defined by tree/calibration.h
    size_t n_calibration;
    gg_successors successors; // n is 0 if the file has none
} gg_head_set;

// The data of a part, NULL if the set has no such part. block is 0 where it means nothing.
const void *gg_head_data(const gg_head_set *set, gg_head_role role, size_t head, size_t block);

// gorgon_heads_open over a caller's buffer, which must outlive the heads (fuzzing, embedded data).
gorgon_status gg_heads_open_memory(const void *data, size_t size, const char *label,
                                   gorgon_heads **out, gorgon_error *err);
const gg_head_set *gg_heads_set(const gorgon_heads *heads, size_t set); // NULL if out of range

// What a trainer hands over to be written; all arrays are borrowed during the call.
typedef struct gg_head_set_source {
    gg_head_shape shape;
    gg_dtype weight_type;                      // F32, F16, BF16 or Q8_0
    const uint32_t *draft_ids;                 // [n_draft] or NULL
    const float *const *data;                  // in the order of gg_head_parts, converted
    const void *const *stored;                 // instead of data: as gg_head_set.data has them
    const char *training_json, *accuracy_json; // NULL = none
    const float *calibration;
    size_t n_calibration;
    const gg_successors *successors; // NULL = none
} gg_head_set_source;

// Writes a heads file with these sets for the base of that name and fingerprint.
gorgon_status gg_heads_write_for(const char *path, const char *base_name,
                                 const gorgon_fingerprint *base, const gg_head_set_source *sets,
                                 size_t n_sets, gorgon_error *err);
// The same for `model` (fingerprint and name are taken from it).
gorgon_status gg_heads_write(const char *path, const gorgon_model *model,
                             const gg_head_set_source *sets, size_t n_sets, gorgon_error *err);
// UNSUPPORTED unless the heads came from a side-car, which alone can take a calibration.
gorgon_status gg_heads_check_side_car(const gorgon_heads *heads, gorgon_error *err);
// Rewrites `path` with another calibration (and accuracy table, unless NULL) for one set;
// everything else is copied bit for bit.
gorgon_status gg_heads_set_calibration(const char *path, size_t set, const float *calibration,
                                       size_t n, const char *accuracy_json, gorgon_error *err);

#endif
