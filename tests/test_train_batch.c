// What a decoder layer gets to see: rows and context rows before each row of a batch, against the
// store's own order.
#define _XOPEN_SOURCE 700 // mkdtemp
#include "heads/head_set.h"
#include "train_batch.h"
#include "train_fixture.h"
#include "trainers/train_data.h"

TestSuite(train_batch, .init = set_up, .fini = tear_down);

enum { ROOM = 96, WINDOW = 6 };

typedef struct filled {
    gg_cache *cache;
    gg_train_data *data;
    gg_batch_maker maker;
    gg_batch batch;
    const gg_feature_store *store;
    const uint32_t *records; // of the first group, all of it
    size_t n;
} filled;

static void open_all(filled *f, gg_head_kind kind)
{
    gg_batch_maker wanted = {.engine = engine, .head_decay = 0.8};
    wanted.shape = (gg_head_shape){
        .kind = kind, .n_heads = 3, .n_blocks = 1, .d_model = width(), .root_embedding = true};
    gg_head_shape_complete(&wanted.shape);
    if (wanted.shape.window > 0)
        wanted.shape.window = WINDOW;
    make_cache(true, true);
    cr_assert_eq(
        gg_cache_open_existing(cache_path, gorgon_model_fingerprint(model), &f->cache, NULL),
        GORGON_OK);
    const gg_train_source source = {.engine = engine,
                                    .cache = f->cache,
                                    .n_heads = 3,
                                    .held_out = 0.15,
                                    .seed = 9,
                                    .budget_bytes = UINT64_C(1) << 30,
                                    .piece = gg_head_piece(&wanted.shape)};
    cr_assert_eq(gg_train_data_open(&source, &f->data, NULL), GORGON_OK);
    cr_assert_eq(gg_batch_maker_create(&wanted, gg_train_data_counts(f->data), &f->maker, NULL),
                 GORGON_OK);
    cr_assert(gg_batch_create(&wanted.shape, ROOM, &f->batch));
    cr_assert_eq(gg_train_data_take(f->data, 0, SIZE_MAX, &f->store, &f->records, &f->n, NULL),
                 GORGON_OK);
}

static void close_all(filled *f)
{
    gg_batch_clear(&f->batch);
    gg_batch_maker_clear(&f->maker);
    gg_train_data_free(f->data);
    gg_cache_free(f->cache);
}

// Records directly before one, by the definition of a run.
static uint32_t known_before(const gg_feature_store *store, uint32_t record)
{
    uint32_t n = 0;
    while (n < record && store->run[record - n - 1] > 0)
        n++;
    return n;
}

// The `i`-th position before a row, as a row of floats that begins with its hidden state and token.
static const float *before(const filled *f, size_t row, uint32_t i)
{
    const gg_head_past past = f->batch.past[row];
    if (i <= past.rows)
        return f->batch.input + (row - i) * gg_head_input(&f->maker.shape);
    return f->batch.context + (past.end - (i - past.rows)) * gg_head_context(&f->maker.shape);
}

static void check_row(const filled *f, size_t row, uint32_t record, size_t floats)
{
    const gg_head_past past = f->batch.past[row];
    const uint32_t known = known_before(f->store, record);
    const uint32_t most = known < WINDOW - 1 ? known : WINDOW - 1;
    cr_assert(past.context < WINDOW && past.rows + past.context >= most, "row %zu: %u + %u of %u",
              row, past.rows, past.context, known);
    cr_assert_leq(past.rows + past.context, known);
    float *x = gg_alloc(2 * width(), sizeof *x), *ones = gg_alloc(width(), sizeof *ones);
    for (size_t i = 0; i < width(); i++)
        ones[i] = 1.0f;
    for (uint32_t i = 0; i <= past.rows + past.context; i++) {
        const gg_kernels *kernels = gg_engine_kernels(engine);
        float *e = x + width();
        kernels->from_f16(f->store->hidden + (record - i) * width(), width(), x);
        gg_model_embed(model, (gorgon_token)f->store->next[record - i], e);
        kernels->rms_norm(e, ones, GG_HEADS_ROOT_EPS, width(), e);
        cr_assert_eq(memcmp(before(f, row, i), x, floats * sizeof *x), 0, "row %zu, %u before", row,
                     i);
    }
    gg_free(x);
    gg_free(ones);
}

static void check_kind(gg_head_kind kind, size_t floats)
{
    filled f = {0};
    open_all(&f, kind);
    cr_assert_eq(gg_head_context(&f.maker.shape), floats);
    for (size_t at = 0; at + ROOM <= f.n; at += ROOM) {
        f.batch.rows = f.batch.context_rows = 0;
        gg_batch_fill(&f.maker, f.store, f.records + at, 41, ROOM, &f.batch); // cuts a piece
        cr_assert(f.batch.context_rows > 0 && f.batch.rows == 41);
        gg_batch_fill(&f.maker, f.store, f.records + at + 41, ROOM - 41, ROOM, &f.batch);
        cr_assert_eq(f.batch.past[41].rows, 0);
        cr_assert_leq(f.batch.context_rows, f.batch.most_context);
        for (size_t row = 0; row < ROOM; row++)
            check_row(&f, row, f.records[at + row], floats);
    }
    close_all(&f);
}

Test(train_batch, layers_get_what_stands_before)
{
    check_kind(GG_HEADS_HYDRA_PREFIX, width());
}

Test(train_batch, layers_at_every_depth_get_the_token_too)
{
    check_kind(GG_HEADS_EAGLE, 2 * width());
}

// Records one by one: each wants its window, and the room ends before the records do.
Test(train_batch, context_never_exceeds_its_room)
{
    filled f = {0};
    open_all(&f, GG_HEADS_EAGLE);
    for (size_t row = 0; row < ROOM; row++)
        gg_batch_fill(&f.maker, f.store, f.records + 3 * row, 1, ROOM, &f.batch);
    cr_assert_eq(f.batch.context_rows, f.batch.most_context);
    const gg_head_past last = f.batch.past[ROOM - 1];
    cr_assert(last.rows == 0 && last.context == 0 && last.end == f.batch.most_context);
    close_all(&f);
}

Test(train_batch, other_kinds_have_no_context)
{
    filled f = {0};
    open_all(&f, GG_HEADS_RECURRENT);
    gg_batch_fill(&f.maker, f.store, f.records, ROOM, ROOM, &f.batch);
    cr_assert_eq(gg_batch_rows(&f.batch).context_rows, 0);
    cr_assert_eq(gg_batch_rows(&f.batch).rows, ROOM);
    close_all(&f);
}
