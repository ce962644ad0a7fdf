// Fuzz target: a file of texts, as `attach --data` reads it, plain and as JSON lines, is refused
// with a line or gives texts that a model can continue. The readers print: run it with
// -close_fd_mask=2.
#define _GNU_SOURCE // mkdtemp
#include <string.h>

#include "data.h"
#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check(const char *name, const uint8_t *data, size_t size)
{
    char path[SCRATCH_PATH];
    cli_data read;
    snprintf(path, sizeof path, "%s", scratch_path(name));
    scratch_write(name, data, size);
    const cli_list paths = {.n = 1, .values = {path}};
    const bool good = cli_data_read(&paths, &read);
    require(!good || read.n > 0);
    for (size_t i = 0; i < read.n && good; i++) {
        const gorgon_synth_text *t = &read.items[i];
        require(t->n_turns > 0 && (t->chat || t->n_turns == 1));
        for (size_t turn = 0; turn < t->n_turns; turn++)
            require(t->turns[turn] &&
                    gorgon_utf8_valid(t->turns[turn], strlen(t->turns[turn]), NULL));
    }
    cli_data_clear(&read);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    scratch_begin();
    check("data.txt", data, size);
    check("data.jsonl", data, size);
    return 0;
}
