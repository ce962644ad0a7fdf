// Fuzz target: opening bytes as a model either fails with a line or gives a model that can run.
#define _GNU_SOURCE // memfd_create: the loader maps a file, and a disk would slow the fuzzer down
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gorgon/engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// A pass of a few rows, committed, and another: small windows begin behind the first position.
// When the model is small enough for a fuzzer.
static void run(const gorgon_model *model)
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("fuzz", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    gorgon_model *model = NULL;
    gorgon_error err = {0};
    gorgon_status status = gorgon_model_open(path, 1, &model, &err);
    if ((status == GORGON_OK) != (model != NULL) || (status != GORGON_OK && !err.message[0]))
        abort();
    if (model)
        run(model);
    gorgon_model_free(model);
    close(fd);
    return 0;
}
