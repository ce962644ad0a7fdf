// Successors in heads files: written, read back, refused when they are not sound, and what token
// recycling makes of them.
#define _XOPEN_SOURCE 700 // mkdtemp
#include <math.h>

#include "heads/proposer.h"
#include "heads_fixture.h"

enum { ROWS = 3, WIDE = GG_SUCCESSORS };

typedef struct setting {
    gorgon_model *model;
    scratch s;
    heads_fixture f;
    int32_t contexts[ROWS][2], next[ROWS][WIDE];
    uint16_t log_share[ROWS][WIDE];
    gg_successors successors;
} setting;

// What follows token 9, whatever comes before it; and token 4 or 9 after token 5.
static void set_up(setting *t)
{
    const heads_spec spec = {.n_heads = 1, .n_blocks = 1, .n_draft = 16, .type = GG_F16};
    *t = (setting){.model = open_tiny(),
                   .s = scratch_create(),
                   .contexts = {{-1, 9}, {5, 4}, {5, 9}},
                   .next = {{30, 31, 32, 33, 34, 35, 36, 37}, {40, 41}, {50}}};
    const gg_geometry *geometry = gg_model_geometry(t->model);
    t->f = heads_fixture_create(geometry->d_model, geometry->n_vocab, &spec);
    for (size_t i = 0; i < ROWS; i++) {
        for (size_t k = 0; k < WIDE; k++) {
            if (t->next[i][k] == 0)
                t->next[i][k] = -1;
            else
                t->log_share[i][k] = gg_f32_to_f16(-0.5f - (float)k);
        }
    }
    t->successors = (gg_successors){ROWS, t->contexts[0], t->next[0], t->log_share[0]};
    t->f.source.successors = &t->successors;
}

static void tear_down(setting *t)
{
    heads_fixture_free(&t->f);
    gorgon_model_free(t->model);
    scratch_remove(&t->s);
}

Test(successors, are_read_as_they_were_written)
{
    setting t;
    set_up(&t);
    gorgon_heads *heads = write_and_open(&t.s, t.model, &t.f.source);
    const gg_successors *read = &gg_heads_set(heads, 0)->successors;
    cr_assert_eq(read->n, ROWS);
    cr_assert_arr_eq(read->contexts, t.contexts, sizeof t.contexts);
    cr_assert_arr_eq(read->next, t.next, sizeof t.next);
    cr_assert_arr_eq(read->log_share, t.log_share, sizeof t.log_share);
    gorgon_heads_free(heads);
    t.f.source.successors = NULL;
    heads = write_and_open(&t.s, t.model, &t.f.source);
    cr_assert_eq(gg_heads_set(heads, 0)->successors.n, 0);
    gorgon_heads_free(heads);
    tear_down(&t);
}

typedef struct fault {
    int32_t *where;
    int32_t value;
} fault;

static uint8_t *read_whole(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    cr_assert(f && fseek(f, 0, SEEK_END) == 0);
    *n = (size_t)ftell(f);
    uint8_t *bytes = malloc(*n);
    rewind(f);
    cr_assert_eq(fread(bytes, 1, *n, f), *n);
    fclose(f);
    return bytes;
}

// Where the file holds those bytes.
static uint8_t *place_of(uint8_t *bytes, size_t n, const void *what, size_t size)
{
    for (size_t i = 0; i + size <= n; i++) {
        if (memcmp(bytes + i, what, size) == 0)
            return bytes + i;
    }
    cr_assert_fail("not in the file");
    return NULL;
}

// By the writer, and by the reader of a file with just that fault.
static void refused_both_ways(setting *t, const uint8_t *file, size_t n, const void *whole,
                              size_t size, void *where, const void *value, size_t width)
{
    uint8_t *bytes = malloc(n), kept[4];
    gorgon_error err = {0};
    gorgon_heads *heads = NULL;
    memcpy(bytes, file, n);
    uint8_t *at = place_of(bytes, n, whole, size);
    memcpy(at + ((uint8_t *)where - (const uint8_t *)whole), value, width);
    cr_assert_eq(gg_heads_open_memory(bytes, n, "faulty", &heads, &err), GORGON_ERROR_FORMAT);
    cr_assert(strstr(err.message, "successors"), "%s", err.message);
    cr_assert_null(heads);
    memcpy(kept, where, width);
    memcpy(where, value, width);
    cr_assert_eq(gg_heads_write(t->s.path, t->model, &t->f.source, 1, &err), GORGON_ERROR_ARGUMENT);
    memcpy(where, kept, width);
    free(bytes);
}

Test(successors, what_is_not_sound_is_refused)
{
    setting t;
    size_t n;
    set_up(&t);
    gorgon_heads_free(write_and_open(&t.s, t.model, &t.f.source));
    uint8_t *file = read_whole(t.s.path, &n);
    const int32_t n_vocab = (int32_t)gg_model_geometry(t.model)->n_vocab;
    const fault contexts[] = {{&t.contexts[0][0], -2}, {&t.contexts[2][0], n_vocab},
                              {&t.contexts[0][1], -1}, {&t.contexts[2][1], n_vocab},
                              {&t.contexts[2][1], 4},  {&t.contexts[2][1], 3},
                              {&t.contexts[0][0], 6}};
    const fault next[] = {{&t.next[0][0], -1},
                          {&t.next[2][0], n_vocab},
                          {&t.next[0][3], -1},
                          {&t.next[1][3], 7},
                          {&t.next[1][2], -2}};
    for (size_t i = 0; i < sizeof contexts / sizeof *contexts; i++)
        refused_both_ways(&t, file, n, t.contexts, sizeof t.contexts, contexts[i].where,
                          &contexts[i].value, sizeof contexts[i].value);
    for (size_t i = 0; i < sizeof next / sizeof *next; i++)
        refused_both_ways(&t, file, n, t.next, sizeof t.next, next[i].where, &next[i].value,
                          sizeof next[i].value);
    const float shares[] = {0.1f, -INFINITY, NAN};
    for (size_t i = 0; i < 3; i++) {
        const uint16_t share = gg_f32_to_f16(shares[i]);
        refused_both_ways(&t, file, n, t.log_share, sizeof t.log_share, &t.log_share[1][1], &share,
                          sizeof share);
    }
    free(file);
    tear_down(&t);
}

static size_t expand(gg_proposer *p, void *state, gorgon_token before, gorgon_token root,
                     gg_edge *edges)
{
    const gg_observation seen = {.n = 1, .tokens = &before};
    const gg_draft_tree tree = {.n = 1, .token = {root}, .parent = {-1}};
    const gg_draft draft = {.state = state, .root = root};
    const uint32_t parent = 0;
    p->ops->observe(p, state, &seen);
    p->ops->begin(p, &draft, 1);
    return p->ops->expand(p, &draft, &tree, &parent, 1, edges, GG_MAX_CHILDREN);
}

Test(successors, recycling_begins_with_them)
{
    setting t;
    gorgon_engine *engine;
    gorgon_engine_options options;
    gg_proposer *p;
    void *state;
    gg_edge edges[GG_MAX_CHILDREN];
    set_up(&t);
    gorgon_heads *heads = write_and_open(&t.s, t.model, &t.f.source);
    gorgon_engine_options_init(&options);
    options.threads = 1;
    options.context = 64;
    cr_assert_eq(gorgon_engine_create(t.model, &options, &engine, NULL), GORGON_OK);
    const gg_proposer_config config = {.engine = engine, .heads = heads, .max_sequences = 1};
    cr_assert_eq(gg_proposer_create("recycling", &config, &p, NULL), GORGON_OK);
    cr_assert_eq(p->ops->state_create(p, 64, &state, NULL), GORGON_OK);
    cr_assert_eq(expand(p, state, 5, 9, edges), 1); // the pair comes before the token alone
    cr_assert_eq(edges[0].token, 50);
    cr_assert_eq(expand(p, state, 6, 9, edges), WIDE);
    for (size_t k = 0; k < WIDE; k++) {
        cr_assert_eq(edges[k].token, t.next[0][k]);
        cr_assert_float_eq(edges[k].score, -0.5f - (float)k, 1e-3);
    }
    cr_assert_eq(expand(p, state, 5, 4, edges), 2);
    cr_assert_eq(expand(p, state, 6, 4, edges), 0);
    p->ops->state_free(p, state);
    gg_proposer_free(p);
    gorgon_engine_free(engine);
    gorgon_heads_free(heads);
    tear_down(&t);
}

Test(successors, every_failing_allocation_is_reported)
{
    setting t;
    set_up(&t);
    gorgon_heads_free(write_and_open(&t.s, t.model, &t.f.source));
    gorgon_status status = GORGON_ERROR_MEMORY;
    for (size_t fail = 1; status != GORGON_OK; fail++) {
        gorgon_heads *heads = NULL;
        gg_alloc_fail_at(fail);
        status = gorgon_heads_open(t.s.path, &heads, NULL);
        gg_alloc_fail_at(0);
        cr_assert(status == GORGON_OK || (status == GORGON_ERROR_MEMORY && !heads));
        gorgon_heads_free(heads);
    }
    tear_down(&t);
}
