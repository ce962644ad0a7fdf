// KV pages and sequences: commit copies the accepted path of a pass into pages, roll-back drops
// pages, fork shares them until one side writes.
#include "engine_impl.h"

#include <string.h>

#include "core/alloc.h"
#include "core/error.h"

gorgon_status gg_kv_create(gorgon_engine *engine, size_t positions, gorgon_error *err)
{
    const gg_geometry *g = gg_model_geometry(engine->model);
    gg_kv_pool *pool = &engine->pool;
    size_t total = 0;
    pool->n_pages = (positions + GG_PAGE - 1) / GG_PAGE;
    pool->head_bytes = 2 * (size_t)GG_PAGE * g->head_dim * pool->element;
    pool->page_bytes = g->n_layers * g->n_kv_heads * pool->head_bytes;
    if (!gg_mul(pool->n_pages, pool->page_bytes, &total))
        return gg_fail(err, GORGON_ERROR_MEMORY, "KV pool of %zu positions overflows", positions);
    pool->data = gg_alloc_uninit(total, 1);
    pool->references = gg_alloc(pool->n_pages, sizeof *pool->references);
    pool->free_list = gg_alloc(pool->n_pages, sizeof *pool->free_list);
    if (!pool->data || !pool->references || !pool->free_list)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for a KV pool of %zu positions",
                       positions);
    for (size_t i = 0; i < pool->n_pages; i++)
        pool->free_list[i] = (uint32_t)(pool->n_pages - 1 - i);
    pool->n_free = pool->n_pages;
    return GORGON_OK;
}

void gg_kv_free(gg_kv_pool *pool)
{
    gg_free(pool->data);
    gg_free(pool->references);
    gg_free(pool->free_list);
}

uint8_t *gg_kv_at(const gorgon_engine *engine, uint32_t page, size_t layer, size_t kv_head)
{
    const gg_kv_pool *pool = &engine->pool;
    size_t n_kv = gg_model_geometry(engine->model)->n_kv_heads;
    return pool->data + page * pool->page_bytes + (layer * n_kv + kv_head) * pool->head_bytes;
}

static gorgon_status take_page(gg_kv_pool *pool, uint32_t *page, gorgon_error *err)
{
    if (pool->n_free == 0)
        return gg_fail(err, GORGON_ERROR_LIMIT, "all %zu KV pages (%zu positions) are in use",
                       pool->n_pages, pool->n_pages * GG_PAGE);
    *page = pool->free_list[--pool->n_free];
    pool->references[*page] = 1;
    return GORGON_OK;
}

static void release_page(gg_kv_pool *pool, uint32_t page)
{
    if (--pool->references[page] == 0)
        pool->free_list[pool->n_free++] = page;
}

gorgon_status gorgon_sequence_create(gorgon_engine *engine, gorgon_sequence **out,
                                     gorgon_error *err)
{
    *out = NULL;
    if (engine->n_sequences == engine->max_sequences)
        return gg_fail(err, GORGON_ERROR_LIMIT, "engine already has its %zu sequences",
                       engine->max_sequences);
    gorgon_sequence *s = gg_alloc(1, sizeof *s);
    if (s)
        s->pages = gg_alloc((engine->context + GG_PAGE - 1) / GG_PAGE, sizeof *s->pages);
    if (!s || !s->pages) {
        gg_free(s);
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for a sequence");
    }
    s->engine = engine;
    engine->n_sequences++;
    *out = s;
    return GORGON_OK;
}

static void drop_pages(gorgon_sequence *s, size_t keep)
{
    while (s->n_pages > keep)
        release_page(&s->engine->pool, s->pages[--s->n_pages]);
}

void gorgon_sequence_free(gorgon_sequence *sequence)
{
    if (!sequence)
        return;
    drop_pages(sequence, 0);
    sequence->engine->n_sequences--;
    gg_free(sequence->pages);
    gg_free(sequence);
}

size_t gorgon_sequence_length(const gorgon_sequence *sequence)
{
    return sequence->length;
}

gorgon_status gorgon_sequence_truncate(gorgon_sequence *sequence, size_t length, gorgon_error *err)
{
    if (length > sequence->length)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "truncate to %zu positions of a sequence of %zu",
                       length, sequence->length);
    sequence->length = length;
    drop_pages(sequence, (length + GG_PAGE - 1) / GG_PAGE);
    return GORGON_OK;
}

gorgon_status gorgon_sequence_fork(const gorgon_sequence *sequence, gorgon_sequence **out,
                                   gorgon_error *err)
{
    gorgon_status status = gorgon_sequence_create(sequence->engine, out, err);
    if (status != GORGON_OK)
        return status;
    gorgon_sequence *copy = *out;
    for (size_t i = 0; i < sequence->n_pages; i++) {
        copy->pages[i] = sequence->pages[i];
        sequence->engine->pool.references[copy->pages[i]]++;
    }
    copy->n_pages = sequence->n_pages;
    copy->length = sequence->length;
    return GORGON_OK;
}

// Makes the pages for positions [length, length + n) exist and the first of them ours alone.
static gorgon_status reserve(gorgon_sequence *s, size_t n, gorgon_error *err)
{
    gg_kv_pool *pool = &s->engine->pool;
    size_t partial = s->length / GG_PAGE;
    if (s->length % GG_PAGE && pool->references[s->pages[partial]] > 1) {
        uint32_t copy = 0;
        gorgon_status status = take_page(pool, &copy, err);
        if (status != GORGON_OK)
            return status;
        memcpy(pool->data + copy * pool->page_bytes,
               pool->data + s->pages[partial] * pool->page_bytes, pool->page_bytes);
        release_page(pool, s->pages[partial]);
        s->pages[partial] = copy;
    }
    size_t wanted = (s->length + n + GG_PAGE - 1) / GG_PAGE;
    while (s->n_pages < wanted) {
        uint32_t page = 0;
        gorgon_status status = take_page(pool, &page, err);
        if (status != GORGON_OK) {
            drop_pages(s, (s->length + GG_PAGE - 1) / GG_PAGE);
            return status;
        }
        s->pages[s->n_pages++] = page;
    }
    return GORGON_OK;
}

// One position of a transposed K tile: n elements, GG_K_LANES apart.
static void copy_lane(uint8_t *to, const uint8_t *from, size_t n, size_t element)
{
    size_t stride = GG_K_LANES * element;
    for (size_t i = 0; i < n; i++) {
        if (element == 2)
            memcpy(to + i * stride, from + i * stride, 2);
        else
            memcpy(to + i * stride, from + i * stride, 4);
    }
}

static size_t lane_offset(size_t place, size_t head_dim)
{
    return place / GG_K_LANES * head_dim * GG_K_LANES + place % GG_K_LANES;
}

static void copy_row(const gorgon_engine *e, const gorgon_sequence *s, size_t layer, size_t slot,
                     size_t position)
{
    const gg_geometry *g = gg_model_geometry(e->model);
    size_t hd = g->head_dim, place = position % GG_PAGE, element = e->pool.element;
    size_t tile = hd * GG_K_LANES * element;
    for (size_t h = 0; h < g->n_kv_heads; h++) {
        uint8_t *page = gg_kv_at(e, s->pages[position / GG_PAGE], layer, h);
        const uint8_t *from = e->slot_k + (layer * g->n_kv_heads + h) * e->slot_tiles * tile;
        copy_lane(page + lane_offset(place, hd) * element, from + lane_offset(slot, hd) * element,
                  hd, element);
        memcpy(page + e->pool.head_bytes / 2 + place * hd * element,
               e->slot_v + ((layer * e->max_rows + slot) * g->n_kv_heads + h) * hd * element,
               hd * element);
    }
}

typedef struct commit_job {
    const gorgon_engine *engine;
    const gorgon_sequence *sequence;
    const uint32_t *rows;
    size_t n;
} commit_job;

static void commit_on_thread(void *context, size_t thread, size_t n_threads)
{
    const commit_job *job = context;
    const gg_batch *b = &job->engine->batch;
    size_t begin, end;
    gg_team_share(b->layer_end - b->layer_begin, 1, thread, n_threads, &begin, &end);
    for (size_t l = b->layer_begin + begin; l < b->layer_begin + end; l++) {
        for (size_t i = 0; i < job->n; i++)
            copy_row(job->engine, job->sequence, l, job->rows[i], job->sequence->length + i);
    }
}

gorgon_status gorgon_engine_commit(gorgon_engine *engine, gorgon_sequence *sequence,
                                   const uint32_t *rows, size_t n, gorgon_error *err)
{
    const size_t few = 8; // below this a region costs more than the copying
    const gg_batch *b = &engine->batch;
    for (size_t i = 0; i < n; i++) {
        bool inside = rows[i] < b->n_rows && b->rows[rows[i]].sequence == sequence;
        int32_t expected = i ? (int32_t)rows[i - 1] : GORGON_ROW_ROOT;
        if (!inside || b->rows[rows[i]].parent != expected)
            return gg_fail(err, GORGON_ERROR_ARGUMENT,
                           "commit: row %u is not the next of a chain of this sequence", rows[i]);
    }
    if (n && b->position[rows[0]] != sequence->length)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "commit: rows start at position %u, the sequence has %zu",
                       b->position[rows[0]], sequence->length);
    gorgon_status status = reserve(sequence, n, err);
    if (status != GORGON_OK)
        return status;
    commit_job job = {engine, sequence, rows, n};
    if (n < few)
        commit_on_thread(&job, 0, 1);
    else
        gg_team_run(engine->team, commit_on_thread, &job);
    sequence->length += n;
    return GORGON_OK;
}
