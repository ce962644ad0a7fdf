// What proposers and trainers need of an engine besides its public face.
#ifndef GG_CORE_ENGINE_H
#define GG_CORE_ENGINE_H

#include "core/kernels.h"
#include "core/model.h"
#include "core/team.h"
#include "gorgon/engine.h"

const gorgon_model *gg_engine_model(const gorgon_engine *engine);
const gg_kernels *gg_engine_kernels(const gorgon_engine *engine);
gg_team *gg_engine_team(gorgon_engine *engine);
gorgon_activations gg_engine_activations(const gorgon_engine *engine);

// y[r * ldy + o] = w[o] . x[r], over the team; activations are quantised when w is (unless the
// engine runs with f32 activations). rows <= max_rows, w->n_in <= d_model or what
// gg_engine_reserve_linear reserved. Outside a pass only.
void gg_engine_linear(gorgon_engine *engine, const gg_matrix *w, const float *x, size_t ldx,
                      size_t rows, float *y, size_t ldy);
// Makes gg_engine_linear accept n_in wider than d_model. Called at set-up.
gorgon_status gg_engine_reserve_linear(gorgon_engine *engine, size_t n_in, gorgon_error *err);

// Attention over keys and values as this engine keeps them: elements of gg_engine_kv_bytes bytes,
// f16, or f32 with f32 activations; then also behind the pointers of gg_attend, whose scratch needs
// a float per position besides. On any thread, for layers that are not the model's.
size_t gg_engine_kv_bytes(const gorgon_engine *engine);
// A key to its slot: tiles is [ceil(slots / 16)][head_dim][16].
void gg_engine_put_key(const gorgon_engine *engine, const float *k, size_t head_dim, size_t slot,
                       void *tiles);
void gg_engine_put_value(const gorgon_engine *engine, const float *v, size_t n, void *slot);
void gg_engine_attend(const gorgon_engine *engine, const gg_attend *args);

// A pass over layers [layer_begin, layer_end) only. input: residual stream [n_rows][d_model] at
// layer_begin, NULL = token embeddings. The hidden state is the final norm of what comes out, so
// layer_end < n_layers is an early exit. Rows' KV of the layers run can be committed as usual.
typedef struct gg_pass {
    const gorgon_row *rows;
    size_t n_rows;
    size_t layer_begin, layer_end;
    const float *input;
} gg_pass;
gorgon_status gg_engine_pass_range(gorgon_engine *engine, const gg_pass *pass, gorgon_error *err);

// Logits of rows of the last pass that did not ask for them, in one product over the team; the same
// bits as if they had. Rows that have theirs are passed over. Error: LIMIT (max_logit_rows).
gorgon_status gg_engine_add_logits(gorgon_engine *engine, const uint32_t *rows, size_t n,
                                   gorgon_error *err);
// logits[i] of tokens[i] at one row of the last pass, the same bits if the calling thread rounds to
// nearest and keeps subnormals, as the team does.
void gg_engine_token_logits(gorgon_engine *engine, size_t row, const gorgon_token *tokens, size_t n,
                            float *logits);

#endif
