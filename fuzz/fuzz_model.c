// Fuzz target: opening bytes as a model either fails with a line or gives a model that can run.
#define _GNU_SOURCE // memfd_create: the loader maps a file, and a disk would slow the fuzzer down
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "model_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
        walk_model(model);
    gorgon_model_free(model);
    close(fd);
    return 0;
}
