// Private layout of gorgon_decoder, shared by decoder.c (life) and decode.c (steps).
#ifndef GG_TREE_DECODER_IMPL_H
#define GG_TREE_DECODER_IMPL_H

#include "grow.h"
#include "stream.h"
#include "tree/decoder.h"
#include "verify.h"

// Place of a running stream: what its steps need, made at the first use and kept for the next.
typedef struct gg_slot {
    gorgon_stream *stream; // NULL = free
    void *state[GG_MAX_PROPOSERS];
    gg_draft_tree tree;
    gg_verdict verdict;
    size_t first_row, n_rows; // of the current pass
    bool prompt;              // these are prompt rows
    bool drafting;            // has a sprout in this step
    double verify_s;          // of the current step
} gg_slot;

struct gorgon_decoder {
    gorgon_engine *engine;
    const gorgon_tokenizer *tokenizer;
    const gg_rule *rule;
    size_t n_vocab, d_model, max_rows, max_logit_rows, token_bytes;
    char *cost_cache; // path or NULL
    bool record_logits;

    size_t n_proposers;
    gg_proposer *proposer[GG_MAX_PROPOSERS];
    gg_grower grower;
    gg_plan plan;
    gorgon_telemetry telemetry[GG_MAX_PROPOSERS];
    gg_edge_tap_fn tap;
    void *tap_context;

    gorgon_stream *streams; // all, newest first
    size_t max_streams;
    gg_slot *slots; // [max_streams]

    // Workspace of a step.
    gg_slot **running; // [max_streams] slots with a stream
    size_t n_running;
    gorgon_row *rows; // [max_rows]
    size_t n_rows;
    uint32_t *chain;           // [max_rows] rows to commit
    const float **hidden;      // [max_rows]
    gg_verified_row *verified; // [max_rows]
    gg_draft *drafts;          // [n_proposers][max_streams]
    gg_sprout *sprouts;        // [max_streams]
    gg_slot **sprout_slot;     // [max_streams]
    size_t n_sprouts;
    uint8_t *sample_scratch;     // [threads][sample_scratch_bytes]
    size_t sample_scratch_bytes; // a multiple of 64
};

// Measures or loads the cost of passes unless that is done; only the planner needs it.
void gg_decoder_need_cost(gorgon_decoder *d);

#endif
