// Engine: threads, workspace and KV pool around one model. Sequence: one text being decoded.
// A pass runs the model over rows of any number of sequences; a row names its parent row, so a
// pass can hold whole trees. Nothing here chooses tokens; see gorgon/decode.h for that.
#ifndef GORGON_ENGINE_H
#define GORGON_ENGINE_H

#include "gorgon/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gorgon_engine gorgon_engine;
typedef struct gorgon_sequence gorgon_sequence;

typedef enum gorgon_activations {
    GORGON_ACTIVATIONS_INT8 = 0, // served: int8 blocks of 32 against quantised weights
    GORGON_ACTIVATIONS_F32 = 1   // reference: dequantised weights, float products
} gorgon_activations;

typedef struct gorgon_engine_options {
    size_t threads;                 // 0 = all processors
    const char *cpu_level;          // "scalar", "avx2", "avxvnni", "avx512", "amx"; NULL = best
    gorgon_activations activations; // default INT8
    size_t context;                 // positions per sequence; 0 = the model's trained context
    size_t kv_positions;            // positions of all sequences together; 0 = context
    size_t max_sequences;           // default 1
    size_t max_rows;                // rows per pass, default 256
    size_t max_logit_rows;          // rows per pass that may want logits, default 128
} gorgon_engine_options;

void gorgon_engine_options_init(gorgon_engine_options *options);

// All memory of later passes is reserved here. The model must outlive the engine. One engine is
// used by one thread at a time. Errors: ARGUMENT (naming the field), MEMORY, UNSUPPORTED (level).
gorgon_status gorgon_engine_create(const gorgon_model *model, const gorgon_engine_options *options,
                                   gorgon_engine **out, gorgon_error *err);
void gorgon_engine_free(gorgon_engine *engine); // NULL is legal; frees its sequences' pages too

// Name of the best level this CPU and build have ("avx512"). Thread-safe.
const char *gorgon_cpu_best_level(void);

size_t gorgon_engine_threads(const gorgon_engine *engine);
const char *gorgon_engine_cpu_level(const gorgon_engine *engine);
size_t gorgon_engine_context(const gorgon_engine *engine);
size_t gorgon_engine_max_rows(const gorgon_engine *engine);
size_t gorgon_engine_max_logit_rows(const gorgon_engine *engine);
uint64_t gorgon_engine_memory_bytes(const gorgon_engine *engine);

// A sequence holds the KV of its committed positions. Freed before its engine.
gorgon_status gorgon_sequence_create(gorgon_engine *engine, gorgon_sequence **out,
                                     gorgon_error *err);
void gorgon_sequence_free(gorgon_sequence *sequence);           // NULL is legal
size_t gorgon_sequence_length(const gorgon_sequence *sequence); // committed positions
// Forgets all positions from `length` on. Error: ARGUMENT when length exceeds the current one.
gorgon_status gorgon_sequence_truncate(gorgon_sequence *sequence, size_t length, gorgon_error *err);
// A new sequence with the same committed positions; pages are shared until one side writes.
gorgon_status gorgon_sequence_fork(const gorgon_sequence *sequence, gorgon_sequence **out,
                                   gorgon_error *err);

enum {
    GORGON_ROW_ROOT = -1,  // parent: the last committed position of the row's sequence
    GORGON_WANT_LOGITS = 1 // outputs flag; the hidden state is always available
};

// One query token of a pass. Its position is its parent's plus one.
typedef struct gorgon_row {
    gorgon_sequence *sequence;
    gorgon_token token;
    int32_t parent;   // index of an earlier row of the same sequence, or GORGON_ROW_ROOT
    uint32_t outputs; // GORGON_WANT_LOGITS or 0
} gorgon_row;

// Runs the model over rows[n_rows]. Outputs stay valid until the next pass of this engine.
// Errors: ARGUMENT (bad token, parent, too many rows), LIMIT (context or pages exhausted).
gorgon_status gorgon_engine_pass(gorgon_engine *engine, const gorgon_row *rows, size_t n_rows,
                                 gorgon_error *err);
// [d_model] after the final norm, input of the output matrix and of Medusa heads. Borrowed.
const float *gorgon_engine_hidden(const gorgon_engine *engine, size_t row);
// [n_vocab] raw logits, NULL if the row did not ask for them. Borrowed.
const float *gorgon_engine_logits(const gorgon_engine *engine, size_t row);

// Appends the KV of rows[n] of the last pass to `sequence`: a chain that starts at a
// GORGON_ROW_ROOT row, each next one the child of the one before. Errors: ARGUMENT, LIMIT.
gorgon_status gorgon_engine_commit(gorgon_engine *engine, gorgon_sequence *sequence,
                                   const uint32_t *rows, size_t n, gorgon_error *err);

// Runs tokens[n] through the model in passes of at most max_rows and commits them all. The last
// row's logits and hidden state are then those of row *last_row of the last pass.
gorgon_status gorgon_engine_prefill(gorgon_engine *engine, gorgon_sequence *sequence,
                                    const gorgon_token *tokens, size_t n, size_t *last_row,
                                    gorgon_error *err);

// Called for every named tensor of a pass, in order, with its values: [rows][width], row stride ld
// floats. Serves `trace` (a hash per tensor finds the first diverging one) and feature extraction.
typedef void (*gorgon_tap_fn)(void *context, size_t layer, const char *tensor, const float *data,
                              size_t rows, size_t width, size_t ld);
// NULL removes the tap. Passes with a tap are slower.
void gorgon_engine_set_tap(gorgon_engine *engine, gorgon_tap_fn tap, void *context);

// Arg-max (ties: lower id), top-k (descending, ties: lower id; returns how many) and log-sum-exp
// (nats) over logits[n_vocab].
gorgon_token gorgon_engine_argmax(const gorgon_engine *engine, const float *logits);
size_t gorgon_engine_top_k(gorgon_engine *engine, const float *logits, size_t k, gorgon_token *ids,
                           float *values);
float gorgon_engine_log_sum_exp(const gorgon_engine *engine, const float *logits);

#ifdef __cplusplus
}
#endif

#endif
