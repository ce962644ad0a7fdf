// Fuzz target: whatever the bytes, opening a heads file and reading all that it offers must stay
// inside them, and what opens must be as valid as the header promises.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/limits.h"
#include "heads/head_set.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static unsigned touch(const void *data, size_t n)
{
    const uint8_t *bytes = data;
    unsigned sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += bytes[i];
    return sum;
}

static unsigned walk_set(const gg_head_set *s, size_t n_vocab)
{
    const size_t d = s->d_model, row = gg_dtype_row_bytes(s->weight_type, d);
    const size_t n_out = s->n_draft ? s->n_draft : n_vocab;
    unsigned sum = touch(s->calibration, s->n_calibration * sizeof *s->calibration);
    require(s->n_heads - 1 < GG_MAX_DRAFT_HEADS && s->n_blocks - 1 < GG_MAX_HEAD_BLOCKS);
    require(row > 0 && n_out <= n_vocab && s->root_embedding == (s->root != NULL) &&
            s->own_output == (s->output != NULL));
    for (size_t i = 0; i < s->n_heads * s->n_blocks; i++)
        sum += touch(s->weight[i], d * row) + touch(s->bias[i], d * sizeof(float));
    for (size_t k = 0; k < s->n_heads; k++) {
        sum += s->root_embedding ? touch(s->root[k], d * row) : 0;
        sum += s->own_output ? touch(s->output[k], n_out * row) : 0;
    }
    for (size_t i = 0; i < s->n_draft; i++)
        require(s->draft_ids[i] < n_vocab && (i == 0 || s->draft_ids[i] > s->draft_ids[i - 1]));
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gorgon_heads *heads;
    gorgon_error err = {0};
    gorgon_status status = gg_heads_open_memory(data, size, "input", &heads, &err);
    require(status == err.status && (status == GORGON_OK) == (heads != NULL));
    require(status == GORGON_OK || err.message[0] != '\0');
    if (status != GORGON_OK)
        return 0;
    const gorgon_fingerprint base = gorgon_heads_fingerprint(heads);
    volatile unsigned sink = (unsigned)strlen(gorgon_heads_base_name(heads));
    for (size_t i = 0; i < gorgon_heads_count(heads); i++) {
        gorgon_head_set_info info;
        require(gorgon_heads_describe(heads, i, &info, NULL) == GORGON_OK);
        sink += (unsigned)(strlen(info.training_json) + strlen(info.accuracy_json));
        sink += walk_set(gg_heads_set(heads, i), base.n_vocab);
    }
    (void)sink;
    gorgon_heads_free(heads);
    return 0;
}
