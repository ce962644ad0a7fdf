// Heads as other trainers store them: a layout is the names that a trainer gives to the tensors of
// heads and the keys of its config.json. Which heads there are is counted from the tensors alone.
#ifndef GG_LAYOUT_H
#define GG_LAYOUT_H

#include <jansson.h>

#include "heads_impl.h"

typedef enum gg_layout_role {
    GG_LAYOUT_WEIGHT,        // [d, d] of a block; of the first one [d, (1 + tokens) d]
    GG_LAYOUT_BIAS,          // [d]
    GG_LAYOUT_RESIDUAL,      // [d, (1 + tokens) d]
    GG_LAYOUT_RESIDUAL_BIAS, // [d]
    GG_LAYOUT_OUTPUT,        // [n, d]
    GG_LAYOUT_OUTPUT_BIAS,   // [n]
    GG_LAYOUT_TOKEN_MAP,     // [n] token ids
    GG_LAYOUT_TOKEN_OFFSETS, // [n] token ids less their index
    GG_LAYOUT_EMBEDDING,     // [n_vocab, d] a copy of the base's
    GG_LAYOUT_UNUSED,        // says nothing that is needed
} gg_layout_role;

// '#' stands for a number: the first one is the head, the second the block; of outputs, the second
// is the number of blocks. Names may begin with any words before that, the same for all.
typedef struct gg_layout_rule {
    const char *pattern;
    gg_layout_role role;
} gg_layout_rule;

typedef enum gg_layout_fact {
    GG_FACT_HEADS,
    GG_FACT_BLOCKS,
    GG_FACT_WIDTH,
    GG_FACT_VOCABULARY,
    GG_FACT_DRAFT_VOCABULARY,
    GG_FACT_BIAS,           // blocks have one
    GG_FACT_ONE_OUTPUT,     // one output matrix for all heads
    GG_FACT_SEES_TOKENS,    // heads see drafted tokens
    GG_FACT_SHARED_VERSION, // "2": logits come from the base's output
    GG_FACT_STATE,          // how many layers before the last one the hidden state comes from
    GG_FACT_SCALE,          // factor of logits
    GG_FACT_NAME,           // of the base
    GG_FACT_NONE,           // shown only
} gg_layout_fact;

// What a key of config.json means.
typedef struct gg_layout_claim {
    const char *key;
    gg_layout_fact fact;
} gg_layout_claim;

typedef struct gg_head_layout {
    const char *name;
    const gg_layout_rule *rules;   // pattern NULL after the last
    const gg_layout_claim *claims; // key NULL after the last
    bool one_output;               // head 0's output may serve all heads
    bool merged;                   // heads may lie among other tensors even without a prefix
    const char *merged_note;       // then what to know about them, or NULL
} gg_head_layout;

extern const gg_head_layout gg_layout_fasterdecoding, gg_layout_vllm, gg_layout_hydra,
    gg_layout_modelopt;

// Heads found in a file, tensor by tensor. NULL: none.
typedef struct gg_layout_grid {
    const gg_head_layout *layout;
    char prefix[GG_MAX_NAME]; // before all names
    size_t n_heads, n_blocks;
    const gg_named_tensor *weight[GG_MAX_DRAFT_HEADS][GG_MAX_HEAD_BLOCKS];
    const gg_named_tensor *bias[GG_MAX_DRAFT_HEADS][GG_MAX_HEAD_BLOCKS];
    const gg_named_tensor *residual[GG_MAX_DRAFT_HEADS], *residual_bias[GG_MAX_DRAFT_HEADS];
    const gg_named_tensor *output[GG_MAX_DRAFT_HEADS], *output_bias[GG_MAX_DRAFT_HEADS];
    const gg_named_tensor *token_map, *token_offsets, *embedding;
    float output_scale; // of logits
    size_t n_others;    // tensors that are not of the heads
} gg_layout_grid;

// False if no layout's names occur.
bool gg_layout_find(const gg_tensor_file *file, const gg_head_layout **layout,
                    char prefix[GG_MAX_NAME]);
// The name of a tensor of this role in files of the layout, "" if they have none.
void gg_layout_name(const gg_head_layout *layout, gg_layout_role role, size_t head, size_t block,
                    char name[GG_MAX_NAME]);
// Sorts the file's tensors into the grid and counts heads and blocks; refuses what is missing,
// double or unknown.
gorgon_status gg_layout_sort(const gg_tensor_file *file, const char *label, gg_layout_grid *grid,
                             gorgon_error *err);
// Makes the one set of `heads` of a grid, without its parts: shape and draft ids; of base.n_vocab
// what the tensors tell.
gorgon_status gg_layout_make_set(gorgon_heads *heads, const gg_layout_grid *grid,
                                 gorgon_error *err);
// Reads config.json beside the file, if there is one: heads->config, the base's name, the
// vocabulary's size where tensors do not tell it, the scale of logits, and a warning for every
// contradiction.
gorgon_status gg_layout_config(gorgon_heads *heads, gg_layout_grid *grid, gorgon_error *err);
// The parts of the set.
gorgon_status gg_layout_fill_set(gorgon_heads *heads, const gg_layout_grid *grid,
                                 gorgon_error *err);

#endif
