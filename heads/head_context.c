// See head_context.h.
#include "head_context.h"

#include <string.h>

#include "core/alloc.h"
#include "core/error.h"

gorgon_status gg_head_context_create(const gorgon_engine *engine, const gg_head_shape *shape,
                                     size_t n_nodes, gg_head_context *c, gorgon_error *err)
{
    *c = (gg_head_context){.shape = shape, .window = shape->window ? shape->window : 1};
    c->hidden = gg_alloc(c->window, shape->d_model * sizeof *c->hidden);
    c->tokens = gg_alloc(c->window, sizeof *c->tokens);
    if (!c->hidden || !c->tokens)
        return gg_fail(err, GORGON_ERROR_MEMORY, "heads: out of memory for a sequence");
    return shape->window
               ? gg_layer_memory_create(engine, shape, c->window + n_nodes, &c->memory, err)
               : GORGON_OK;
}

void gg_head_context_clear(gg_head_context *c)
{
    gg_free(c->hidden);
    gg_free(c->tokens);
    gg_layer_memory_clear(&c->memory);
    *c = (gg_head_context){0};
}

static void begin_at(gg_head_context *c, size_t position)
{
    c->begin = c->keyed = c->end = position;
}

void gg_head_context_reset(gg_head_context *c)
{
    begin_at(c, 0);
}

void gg_head_context_copy(gg_head_context *to, const gg_head_context *from)
{
    to->begin = from->begin;
    to->keyed = from->keyed;
    to->end = from->end;
    memcpy(to->hidden, from->hidden, from->window * from->shape->d_model * sizeof *to->hidden);
    memcpy(to->tokens, from->tokens, from->window * sizeof *to->tokens);
    if (from->shape->window)
        gg_layer_memory_copy(&to->memory, &from->memory);
}

// The one place that decides which rows are attended to.
static void take(gg_head_context *c, size_t position, gorgon_token token, const float *hidden)
{
    const size_t d = c->shape->d_model, at = position % c->window;
    if (!hidden) {
        begin_at(c, position + 1);
        return;
    }
    if (position != c->end)
        begin_at(c, position);
    memcpy(c->hidden + at * d, hidden, d * sizeof *hidden);
    c->tokens[at] = token;
    c->end++;
    if (c->end - c->keyed > c->window)
        c->keyed = c->end - c->window;
}

void gg_head_context_observe(gg_head_context *c, const gg_observation *seen)
{
    for (size_t i = 0; i < seen->n; i++)
        take(c, seen->position + i, seen->tokens[i], seen->hidden ? seen->hidden[i] : NULL);
}

// Begins the list of what row i of the batch sees: committed rows before `end`, those that a row at
// `position` reaches.
static void see_rows(const gg_head_context *c, size_t position, size_t end,
                     const gg_packed_layer *l, size_t i)
{
    uint32_t *seen = l->seen + i * c->window;
    size_t first = position + 1 < c->window ? 0 : position + 1 - c->window, n = 0;
    for (first = first > c->begin ? first : c->begin; first < end; first++)
        seen[n++] = (uint32_t)(first % c->window);
    l->rows[i].n_seen = n;
}

void gg_head_context_place_row(const gg_head_context *c, size_t p, bool output,
                               const gg_packed_layer *l, size_t i)
{
    l->rows[i] = (gg_layer_row){&c->memory, p, p % c->window, 0};
    if (output)
        see_rows(c, p, p + 1, l, i);
}

void gg_head_context_place_node(const gg_head_context *c, const uint32_t *path, size_t depth,
                                const gg_packed_layer *l, size_t i)
{
    const size_t position = c->end - 1 + depth;
    const size_t nearest = depth + 1 < c->window ? 0 : depth + 1 - c->window;
    l->rows[i] = (gg_layer_row){&c->memory, position, c->window + path[depth], 0};
    see_rows(c, position, c->end - 1, l, i);
    for (size_t k = nearest; k <= depth; k++)
        l->seen[i * c->window + l->rows[i].n_seen++] = (uint32_t)c->window + path[k];
}
