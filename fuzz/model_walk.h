// Runs a model that was opened, for fuzz targets.
#ifndef MODEL_WALK_H
#define MODEL_WALK_H

#include "gorgon/engine.h"

// A pass of a few rows, committed, and another: small windows begin behind the first position.
// When the model is small enough for a fuzzer.
static inline void walk_model(const gorgon_model *model)
{
    enum { ROWS = 4 };
    gorgon_model_info info;
    gorgon_model_describe(model, &info);
    gorgon_engine *engine = NULL;
    gorgon_sequence *sequence = NULL;
    gorgon_engine_options options;
    gorgon_engine_options_init(&options);
    options.threads = 1;
    options.context = info.context_length < 64 ? info.context_length : 64;
    options.max_rows = options.max_logit_rows = ROWS;
    if (info.context_length < 2 * ROWS || info.n_vocab < ROWS || info.n_parameters > 1000000 ||
        gorgon_engine_create(model, &options, &engine, NULL) != GORGON_OK)
        return;
    if (gorgon_sequence_create(engine, &sequence, NULL) == GORGON_OK) {
        gorgon_row rows[ROWS];
        uint32_t path[ROWS];
        for (uint32_t i = 0; i < ROWS; i++) {
            rows[i] = (gorgon_row){sequence, (gorgon_token)i, (int32_t)i - 1, GORGON_WANT_LOGITS};
            path[i] = i;
        }
        if (gorgon_engine_pass(engine, rows, ROWS, NULL) == GORGON_OK &&
            gorgon_engine_commit(engine, sequence, path, ROWS, NULL) == GORGON_OK &&
            gorgon_engine_pass(engine, rows, ROWS, NULL) == GORGON_OK)
            gorgon_engine_argmax(engine, gorgon_engine_logits(engine, ROWS - 1));
    }
    gorgon_sequence_free(sequence);
    gorgon_engine_free(engine);
}

#endif
