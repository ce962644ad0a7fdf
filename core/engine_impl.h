// Private layout of gorgon_engine, shared by engine.c (life), kv.c (pages), batch.c and forward.c
// (passes).
#ifndef GG_CORE_ENGINE_IMPL_H
#define GG_CORE_ENGINE_IMPL_H

#include <stdbool.h>

#include "core/engine.h"

// Pages of 64 positions; a page holds K and V of all layers and KV heads, per (layer, KV head):
// K [4][head_dim][16], then V [64][head_dim]. Elements are f16, or f32 on the reference path.
typedef struct gg_kv_pool {
    uint8_t *data; // [n_pages][page_bytes]
    size_t n_pages;
    size_t element; // bytes: 2 or 4
    size_t page_bytes;
    size_t head_bytes;    // per (layer, KV head): 2 * 64 * head_dim elements
    uint32_t *references; // [n_pages] sequences that hold the page
    uint32_t *free_list;  // [n_free]
    size_t n_free;
} gg_kv_pool;

struct gorgon_sequence {
    gorgon_engine *engine;
    uint32_t *pages; // [ceil(context / 64)]
    size_t n_pages;
    size_t length; // committed positions
};

// Rows of the current (or last) pass. slots are row indices.
typedef struct gg_batch {
    gorgon_row *rows; // [max_rows]
    size_t n_rows;
    uint32_t *position;    // [max_rows]
    size_t *chain_begin;   // [max_rows] into chains
    uint32_t *chain_count; // [max_rows] ancestors in this pass, the row itself included
    uint32_t *chains;
    size_t n_chains;
    uint32_t *attend_begin; // [max_rows + 1] first rows of the parts that attend together
    size_t n_attend;
    uint32_t *logit_rows; // [max_logit_rows] rows that want logits
    size_t n_logit_rows;
    int32_t *logit_index; // [max_rows] index into logits or -1
    size_t layer_begin, layer_end;
} gg_batch;

struct gorgon_engine {
    const gorgon_model *model;
    const gg_kernels *kernels;
    gg_team *team;
    gorgon_activations activations;
    size_t context, max_rows, max_logit_rows, max_sequences, n_sequences;
    float *rope_cos, *rope_sin; // [n_ropes][context][head_dim / 2]
    gg_kv_pool pool;
    gg_batch batch;

    // Workspace, rows side by side.
    float *x;           // [max_rows][d_model] residual stream
    float *input;       // [max_rows][widest] float input of the next product
    gg_qrows quantized; // the same quantised, [max_rows][widest]
    size_t widest;
    gg_qrows quantized_inner; // what attention or gate and up give, [max_rows]
    float *q;                 // [max_rows][n_heads * head_dim]
    float *k, *v;             // [max_rows][n_kv_heads * head_dim]
    float *attention;         // [max_rows][n_heads * head_dim]
    float *gate, *up;         // [max_rows][d_ff]
    float *product;           // [max_rows][d_model] what o and down give, before it is added
    float *hidden;            // [max_rows][d_model]
    float *logits;            // [max_logit_rows + 1][n_vocab], the last for single tokens
    uint8_t *slot_k;          // [n_layers][n_kv_heads][slot_tiles][head_dim][16] elements
    uint8_t *slot_v;          // [n_layers][max_rows][n_kv_heads * head_dim] elements
    size_t slot_tiles;        // ceil(max_rows / 16)
    float *attend_scratch;    // [threads][attend_scratch_n]
    size_t attend_scratch_n;
    const uint16_t **page_pointers; // [threads][2][pages per sequence]
    float *top_k_scratch;           // [ceil(n_vocab / 64)]

    gorgon_tap_fn tap;
    void *tap_context;
    uint64_t memory_bytes;
};

// batch.c
// Checks the rows of a pass and lays them out in the empty batch. Errors: ARGUMENT, LIMIT, naming
// the row.
gorgon_status gg_batch_lay(gorgon_engine *engine, const gorgon_row *rows, size_t n,
                           gorgon_error *err);
// One more row with logits. Error: LIMIT.
gorgon_status gg_batch_want_logits(gorgon_engine *engine, size_t row, gorgon_error *err);
// KV heads that one thread takes at once: so many that their outputs are whole blocks.
size_t gg_attention_heads(const gg_geometry *g);

// kv.c
gorgon_status gg_kv_create(gorgon_engine *engine, size_t positions, gorgon_error *err);
void gg_kv_free(gg_kv_pool *pool);
// K of one page, layer and KV head; V follows head_bytes / 2 further.
uint8_t *gg_kv_at(const gorgon_engine *engine, uint32_t page, size_t layer, size_t kv_head);

// attend_reference.c: as gg_kernels.attend, over f32 keys and values behind the same pointers.
// scratch holds one float per position.
void gg_attend_reference(const gg_attend *args, const gg_kernels *kernels);

#endif
