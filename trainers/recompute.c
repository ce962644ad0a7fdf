// Runs a sequence through the model in passes of as many rows as the engine takes, as prefill does,
// and keeps the hidden states of the recorded positions.
#include "recompute.h"

#include "core/alloc.h"
#include "core/engine.h"
#include "core/error.h"

typedef struct pass_rows {
    gorgon_row *rows;  // [max_rows]
    uint32_t *indices; // [max_rows] 0, 1, 2, ...
    size_t max_rows;
} pass_rows;

static gorgon_status run_all(gorgon_engine *engine, gorgon_sequence *sequence,
                             const gg_cache_sequence *s, const pass_rows *buffer, uint16_t *hidden,
                             gorgon_error *err)
{
    const gg_kernels *kernels = gg_engine_kernels(engine);
    size_t d = gg_model_geometry(gg_engine_model(engine))->d_model;
    // Nothing behind the last recorded position is needed.
    size_t end = s->n_records > 0 ? (size_t)s->positions[s->n_records - 1] + 1 : 0, record = 0;
    for (size_t at = 0; at < end;) {
        size_t n = end - at < buffer->max_rows ? end - at : buffer->max_rows;
        for (size_t i = 0; i < n; i++) {
            buffer->rows[i] = (gorgon_row){.sequence = sequence,
                                           .token = s->tokens[at + i],
                                           .parent = i == 0 ? GORGON_ROW_ROOT : (int32_t)i - 1};
            buffer->indices[i] = (uint32_t)i;
        }
        gorgon_status status = gorgon_engine_pass(engine, buffer->rows, n, err);
        if (status != GORGON_OK)
            return status;
        for (; record < s->n_records && s->positions[record] < at + n; record++)
            kernels->to_f16(gorgon_engine_hidden(engine, s->positions[record] - at), d,
                            hidden + record * d);
        status = gorgon_engine_commit(engine, sequence, buffer->indices, n, err);
        if (status != GORGON_OK)
            return status;
        at += n;
    }
    return GORGON_OK;
}

gorgon_status gg_recompute_hidden(gorgon_engine *engine, const gg_cache_sequence *s,
                                  uint16_t *hidden, gorgon_error *err)
{
    pass_rows buffer = {.max_rows = gorgon_engine_max_rows(engine)};
    gorgon_sequence *sequence = NULL;
    buffer.rows = gg_alloc(buffer.max_rows, sizeof *buffer.rows);
    buffer.indices = gg_alloc(buffer.max_rows, sizeof *buffer.indices);
    gorgon_status status = GORGON_OK;
    if (!buffer.rows || !buffer.indices)
        status = gg_fail(err, GORGON_ERROR_MEMORY, "recomputing hidden states: out of memory");
    if (status == GORGON_OK)
        status = gorgon_sequence_create(engine, &sequence, err);
    if (status == GORGON_OK)
        status = run_all(engine, sequence, s, &buffer, hidden, err);
    gorgon_sequence_free(sequence);
    gg_free(buffer.rows);
    gg_free(buffer.indices);
    return status;
}
