// Lays out a pass: which rows, where they stand, whom they see and who attends with whom.
#include <string.h>

#include "core/error.h"
#include "engine_impl.h"

size_t gg_attention_heads(const gg_geometry *g)
{
    size_t columns = g->n_heads / g->n_kv_heads * g->head_dim;
    return columns % GG_BLOCK ? g->n_kv_heads : 1;
}

// The row's ancestors within the pass, then itself: appended to the parent's list where that one
// ends the buffer (a linear chain shares one list), copied otherwise.
static void lay_chain(gg_batch *b, size_t r)
{
    int32_t parent = b->rows[r].parent;
    size_t begin = b->n_chains, count = 0;
    if (parent >= 0) {
        begin = b->chain_begin[parent];
        count = b->chain_count[parent];
        if (begin + count != b->n_chains) {
            memmove(b->chains + b->n_chains, b->chains + begin, count * sizeof *b->chains);
            begin = b->n_chains;
        }
    }
    b->chains[begin + count] = (uint32_t)r;
    b->chain_begin[r] = begin;
    b->chain_count[r] = (uint32_t)count + 1;
    b->n_chains = begin + count + 1;
}

gorgon_status gg_batch_want_logits(gorgon_engine *e, size_t row, gorgon_error *err)
{
    gg_batch *b = &e->batch;
    if (b->n_logit_rows == e->max_logit_rows)
        return gg_fail(err, GORGON_ERROR_LIMIT, "more than %zu rows want logits",
                       e->max_logit_rows);
    b->logit_index[row] = (int32_t)b->n_logit_rows;
    b->logit_rows[b->n_logit_rows++] = (uint32_t)row;
    return GORGON_OK;
}

static gorgon_status lay_row(gorgon_engine *e, const gorgon_row *row, size_t r, gorgon_error *err)
{
    gg_batch *b = &e->batch;
    size_t n_vocab = gg_model_geometry(e->model)->n_vocab;
    if (!row->sequence || row->sequence->engine != e)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "row %zu: sequence of another engine", r);
    if (row->token < 0 || (size_t)row->token >= n_vocab)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "row %zu: token id %d, expected 0 to %zu", r,
                       (int)row->token, n_vocab - 1);
    if (row->parent != GORGON_ROW_ROOT && (row->parent < 0 || (size_t)row->parent >= r ||
                                           b->rows[row->parent].sequence != row->sequence))
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "row %zu: parent %d is not an earlier row of its sequence", r,
                       (int)row->parent);
    size_t position =
        row->parent < 0 ? row->sequence->length : (size_t)b->position[row->parent] + 1;
    if (position >= e->context)
        return gg_fail(err, GORGON_ERROR_LIMIT,
                       "row %zu: position %zu is beyond the context of %zu", r, position,
                       e->context);
    b->rows[r] = *row;
    b->position[r] = (uint32_t)position;
    b->logit_index[r] = -1;
    lay_chain(b, r);
    return row->outputs & GORGON_WANT_LOGITS ? gg_batch_want_logits(e, r, err) : GORGON_OK;
}

// Neighbouring rows of a sequence attend together: the more, the less often K and V are read, but
// every thread should find a few parts to take.
static void lay_attention(gorgon_engine *e)
{
    enum { PIECES = 3 }; // per thread
    gg_batch *b = &e->batch;
    const gg_geometry *g = gg_model_geometry(e->model);
    size_t parts = g->n_kv_heads / gg_attention_heads(g);
    size_t most = GG_ATTEND_QUERIES / (g->n_heads / g->n_kv_heads);
    size_t fair = b->n_rows * parts / (PIECES * gg_team_size(e->team));
    most = most < GG_ATTEND_ROWS ? most : GG_ATTEND_ROWS;
    most = fair < most ? fair : most;
    b->n_attend = 0;
    for (size_t r = 0; r < b->n_rows; r++) {
        size_t begin = b->n_attend > 0 ? b->attend_begin[b->n_attend - 1] : 0;
        bool joins = r > 0 && r - begin < most && b->rows[r].sequence == b->rows[begin].sequence;
        if (!joins)
            b->attend_begin[b->n_attend++] = (uint32_t)r;
    }
    b->attend_begin[b->n_attend] = (uint32_t)b->n_rows;
}

gorgon_status gg_batch_lay(gorgon_engine *engine, const gorgon_row *rows, size_t n,
                           gorgon_error *err)
{
    gg_batch *b = &engine->batch;
    for (size_t r = 0; r < n; r++) {
        gorgon_status status = lay_row(engine, &rows[r], r, err);
        if (status != GORGON_OK)
            return status;
    }
    b->n_rows = n;
    lay_attention(engine);
    return GORGON_OK;
}
