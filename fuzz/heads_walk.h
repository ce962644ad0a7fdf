// What heads that were opened must keep of head_set.h's promises, for fuzz targets.
#ifndef HEADS_WALK_H
#define HEADS_WALK_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/kernels.h"
#include "core/limits.h"
#include "heads/head_set.h"
#include "tree/calibration.h"

static inline void require(bool holds)
{
    if (!holds)
        abort();
}

static inline unsigned touch(const void *data, size_t n)
{
    const uint8_t *bytes = data;
    unsigned sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += bytes[i];
    return sum;
}

// Weights always come out, and none that a probability could break on.
static inline void resolve_calibration(const gg_head_set *s)
{
    static const char *const names[] = {"recycling", "heads", "newcomer"};
    gg_calibration c;
    gg_calibration_resolve(s->calibration, s->n_calibration, names, 3, &c);
    const float *w = &c.w[0][0][0];
    for (size_t i = 0; i < sizeof c.w / sizeof *w; i++)
        require(w[i] > -1e7f && w[i] < 1e7f);
}

// Contexts ascend; ids are the base's; shares are logarithms.
static inline void walk_successors(const gg_successors *s, size_t n_vocab)
{
    require(s->n <= GG_HEADS_MAX_CONTEXTS);
    for (size_t i = 0; i < s->n; i++) {
        const int32_t *c = s->contexts + 2 * i;
        require(c[0] >= -1 && c[0] < (int64_t)n_vocab && c[1] >= 0 && c[1] < (int64_t)n_vocab);
        require(i == 0 || c[0] > c[-2] || (c[0] == c[-2] && c[1] > c[-1]));
    }
    for (size_t i = 0; i < s->n * GG_SUCCESSORS; i++) {
        const float share = gg_f16_to_f32(s->log_share[i]);
        require(s->next[i] >= -1 && s->next[i] < (int64_t)n_vocab);
        require(share <= 0.0f && share >= -HUGE_VALF);
    }
}

// Each once; n_vocab 0: the size of the vocabulary is unknown.
static inline void walk_ids(const uint32_t *ids, size_t n, size_t n_vocab)
{
    const size_t below = n_vocab ? n_vocab : GG_MAX_VOCAB;
    bool *seen = calloc(below, sizeof *seen);
    require(seen && n <= below);
    for (size_t i = 0; i < n; i++) {
        require(ids[i] < below && !seen[ids[i]]);
        seen[ids[i]] = true;
    }
    free(seen);
}

static inline unsigned walk_set(const gg_head_set *s, size_t n_vocab)
{
    const gg_head_shape *shape = &s->shape;
    gg_head_part parts[GG_MAX_HEAD_PARTS];
    unsigned sum = touch(s->calibration, s->n_calibration * sizeof *s->calibration);
    require(shape->n_heads - 1 < GG_MAX_DRAFT_HEADS && shape->n_blocks - 1 < GG_MAX_HEAD_BLOCKS);
    require(gg_head_shape_fault(shape) == NULL);
    require(shape->n_ffn <= GG_HEADS_MAX_FFN && shape->window <= GG_HEADS_MAX_WINDOW);
    require(s->n_parts == gg_head_parts(shape, n_vocab, parts));
    for (size_t i = 0; i < s->n_parts; i++) {
        const gg_head_part *p = &s->parts[i];
        const size_t row = p->n_in ? gg_dtype_row_bytes(s->weight_type, p->n_in) : sizeof(float);
        require(row > 0);
        sum += touch(s->data[i], p->n_out * row);
    }
    walk_ids(s->draft_ids, shape->n_draft, n_vocab);
    resolve_calibration(s);
    walk_successors(&s->successors, n_vocab);
    return sum;
}

// Opens the bytes as heads and walks all that they offer.
static inline void walk_heads(const uint8_t *data, size_t size)
{
    gorgon_heads *heads;
    gorgon_error err = {0};
    gorgon_status status = gg_heads_open_memory(data, size, "input", &heads, &err);
    require(status == err.status && (status == GORGON_OK) == (heads != NULL));
    require(status == GORGON_OK || err.message[0] != '\0');
    if (status != GORGON_OK)
        return;
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
}

#endif
