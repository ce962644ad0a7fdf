// A small cache with a rule to learn, and running gorgon_train on it.
#ifndef TRAIN_FIXTURE_H
#define TRAIN_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/engine.h"
#include "core/sampling.h"
#include "gorgon/trainers.h"
#include "trainers/cache.h"

enum { SEQUENCES = 60, TOKENS = 40, CHUNK = 9, IDS = 40, MOST = 4 << 20 };

static char directory[64], cache_path[96];
static gorgon_model *model;
static gorgon_engine *engine;

static gorgon_engine *make_engine(size_t threads)
{
    gorgon_engine *made;
    gorgon_engine_options options;
    gorgon_error err = {0};
    gorgon_engine_options_init(&options);
    options.threads = threads;
    options.context = 64;
    options.max_rows = 16;
    options.max_logit_rows = 1;
    cr_assert_eq(gorgon_engine_create(model, &options, &made, &err), GORGON_OK, "%s", err.message);
    return made;
}

static void set_up(void)
{
    gorgon_error err = {0};
    snprintf(directory, sizeof directory, "/tmp/gorgon-train-XXXXXX");
    cr_assert(mkdtemp(directory));
    snprintf(cache_path, sizeof cache_path, "%s/cache", directory);
    cr_assert_eq(gorgon_model_open(GG_SOURCE_DIR "/models/tiny/tiny.gguf", 1, &model, &err),
                 GORGON_OK, "%s", err.message);
    engine = make_engine(1);
}

static void remove_file(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    unlink(path);
}

static void tear_down(void)
{
    gorgon_engine_free(engine);
    gorgon_model_free(model);
    cr_assert_eq(gg_cache_remove(cache_path, NULL), GORGON_OK);
    static const char *const names[] = {"a.gguf", "b.gguf", "state", "a.csv", "b.csv"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        remove_file(names[i]);
    cr_assert_eq(rmdir(directory), 0, "files were left behind");
}

static size_t width(void)
{
    return gg_model_geometry(model)->d_model;
}

// The rule: ids walk 3 t + 1 (mod IDS); the hidden state of a position is a fixed random vector of
// its token, with noise. So every later token follows from it. With more than one walk, they take
// turns: a token follows from the one that many places before alone.
enum { MOST_WALKS = 3 };
static size_t walks = 1;

static gg_cache_sequence make_sequence(uint64_t index, bool hidden)
{
    size_t d = width();
    gg_cache_sequence s = {.index = index, .n_tokens = TOKENS};
    s.tokens = gg_alloc(TOKENS, sizeof *s.tokens);
    s.positions = gg_alloc(TOKENS, sizeof *s.positions);
    s.target_ids = gg_alloc((size_t)TOKENS * GG_TARGETS, sizeof *s.target_ids);
    s.target_logprob = gg_alloc((size_t)TOKENS * GG_TARGETS, sizeof *s.target_logprob);
    s.hidden = hidden ? gg_alloc(TOKENS * d, sizeof *s.hidden) : NULL;
    uint64_t ids[MOST_WALKS];
    for (size_t w = 0; w < walks; w++)
        ids[w] = gg_random_bits(5, index, w, 0) % IDS;
    for (uint32_t i = 0; i < TOKENS; i++) {
        const uint64_t id = ids[i % walks];
        ids[i % walks] = (3 * id + 1) % IDS;
        s.tokens[i] = (gorgon_token)id + 50;
        if (i < 5 || i + 1 == TOKENS || i == 21)
            continue;
        size_t record = s.n_records++;
        s.positions[record] = i;
        for (size_t j = 0; j < GG_TARGETS; j++) {
            uint64_t next = j == 0 ? ids[(i + 1) % walks] : (id + 7 * j) % IDS;
            s.target_ids[record * GG_TARGETS + j] = (uint32_t)next + 50;
            s.target_logprob[record * GG_TARGETS + j] = j == 0 ? -0.1f : -5.0f;
        }
        for (size_t j = 0; hidden && j < d; j++) {
            double x = 3.0 * gg_random_uniform(1, id, j, 0) - 1.5;
            double noise = 0.2 * gg_random_uniform(2, index, i, j) - 0.1;
            s.hidden[record * d + j] = gg_f32_to_f16((float)(x + noise));
        }
    }
    return s;
}

static void free_sequence(gg_cache_sequence *s)
{
    gg_free(s->tokens);
    gg_free(s->positions);
    gg_free(s->hidden);
    gg_free(s->target_ids);
    gg_free(s->target_logprob);
}

static inline void make_cache(bool hidden, bool finish)
{
    gg_cache_identity id = {gorgon_model_fingerprint(model), 3, 4};
    gg_cache *cache;
    gorgon_error err = {0};
    cr_assert_eq(gg_cache_open(cache_path, &id, 0, &cache, &err), GORGON_OK, "%s", err.message);
    for (uint64_t first = 0; first < SEQUENCES; first += CHUNK) {
        gg_cache_sequence all[CHUNK];
        uint64_t end = first + CHUNK < SEQUENCES ? first + CHUNK : SEQUENCES;
        for (uint64_t i = first; i < end; i++)
            all[i - first] = make_sequence(i, hidden);
        cr_assert_eq(gg_cache_append(cache, first, end, all, end - first, &err), GORGON_OK, "%s",
                     err.message);
        for (uint64_t i = first; i < end; i++)
            free_sequence(&all[i - first]);
    }
    if (finish)
        cr_assert_eq(gg_cache_finish(cache, &err), GORGON_OK, "%s", err.message);
    gg_cache_free(cache);
}

static inline gorgon_train_options options_for(const char *name, char out[128])
{
    gorgon_train_options options;
    gorgon_train_options_init(&options);
    snprintf(out, 128, "%s/%s", directory, name);
    options.cache = cache_path;
    options.out = out;
    options.n_heads = 3;
    options.draft_vocab = 48;
    options.batch = 64;
    options.epochs = 3.0;
    options.held_out = 0.15;
    options.learning_rate = 3e-3;
    options.checkpoint_steps = 7;
    return options;
}

static uint8_t *read_out(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = gg_alloc(MOST, 1);
    cr_assert(f && data, "%s", path);
    *size = fread(data, 1, MOST, f);
    fclose(f);
    return data;
}

static inline void check_same_files(const char *a, const char *b)
{
    size_t n, m;
    uint8_t *x = read_out(a, &n), *y = read_out(b, &m);
    cr_assert_eq(n, m);
    cr_assert_eq(memcmp(x, y, n), 0, "%s and %s differ", a, b);
    gg_free(x);
    gg_free(y);
}

typedef struct watch {
    uint64_t stop_at; // cancel when this many steps are done, 0 = never
    uint64_t calls, total;
    char line[512];
} watch;

static inline bool on_progress(void *context, const gorgon_progress *p)
{
    watch *w = context;
    w->calls++;
    w->total = p->total;
    snprintf(w->line, sizeof w->line, "%s", p->line);
    return w->stop_at == 0 || p->done < w->stop_at;
}

static inline void train(gorgon_engine *with, const gorgon_train_options *options)
{
    gorgon_error err = {0};
    cr_assert_eq(gorgon_train(with, options, &err), GORGON_OK, "%s", err.message);
}

#endif
