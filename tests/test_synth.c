// Synthesis about the user's own texts: which jobs take them, what the model is asked, and that
// other texts mean another cache.
#define _XOPEN_SOURCE 700 // mkdtemp
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gorgon/decode.h"
#include "gorgon/trainers.h"
#include "trainers/cache.h"

#define TINY_MODEL GG_SOURCE_DIR "/models/tiny/tiny.gguf"

static const char *const chat[] = {"the cat sees a dog", "and a bird"};
static const char *const passage[] = {"a dog and a cat and a dog"};
static const char *const task[] = {"the bird sees the cat"};
static const gorgon_synth_text texts[] = {
    {true, chat, 2}, {false, passage, 1}, {false, passage, 1}, {false, task, 1}};
enum { TEXTS = sizeof texts / sizeof texts[0] };

typedef struct setting {
    gorgon_model *model;
    char directory[64];
    gorgon_synth_options options;
} setting;

static setting set_up(void)
{
    setting t = {.directory = "/tmp/gorgon-synth-XXXXXX"};
    gorgon_error err = {0};
    cr_assert_not_null(mkdtemp(t.directory));
    cr_assert_eq(gorgon_model_open(TINY_MODEL, 1, &t.model, &err), GORGON_OK, "%s", err.message);
    gorgon_synth_options_init(&t.options);
    t.options.tokens = 2500;
    t.options.max_sequence = 256;
    t.options.threads = 1;
    t.options.data = texts;
    t.options.n_data = TEXTS;
    return t;
}

static void tear_down(setting *t)
{
    cr_assert_eq(gg_cache_remove(t->directory, NULL), GORGON_OK);
    gorgon_model_free(t->model);
}

// The sequences of the first chunk; free with gg_cache_chunk_free.
static gg_cache_sequence *written(setting *t, size_t *n)
{
    gorgon_error err = {0};
    gg_cache *cache;
    gg_cache_sequence *all;
    t->options.cache = t->directory;
    cr_assert_eq(gorgon_synth(t->model, &t->options, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(
        gg_cache_open_existing(t->directory, gorgon_model_fingerprint(t->model), &cache, &err),
        GORGON_OK, "%s", err.message);
    cr_assert_eq(gg_cache_read(cache, 0, GG_CACHE_HIDDEN, &all, n, &err), GORGON_OK, "%s",
                 err.message);
    gg_cache_free(cache);
    return all;
}

// The text of a sequence, control tokens included, or NULL if there is no such sequence.
static char *text_of(const setting *t, const gg_cache_sequence *all, size_t n, uint64_t index)
{
    const gorgon_tokenizer *tokenizer = gorgon_model_tokenizer(t->model);
    for (size_t i = 0; i < n; i++) {
        char *text = NULL;
        size_t length;
        if (all[i].index != index)
            continue;
        cr_assert_eq(gorgon_tokenizer_decode(tokenizer, all[i].tokens, all[i].n_tokens, &text,
                                             &length, NULL),
                     GORGON_OK);
        return text;
    }
    return NULL;
}

Test(synth, the_users_texts_are_used_once_and_evenly)
{
    setting t = set_up();
    size_t n;
    gg_cache_sequence *all = written(&t, &n);
    // Half of the jobs: 1, 3, 5, 7; sequence 2j is the first of job j.
    char *answer = text_of(&t, all, n, 2), *on = text_of(&t, all, n, 6);
    cr_assert(answer && strstr(answer, chat[0]), "%s", answer);
    cr_assert(strstr(answer, chat[1]), "the second turn follows the first answer: %s", answer);
    cr_assert(on && strstr(on, passage[0]) && strlen(on) > strlen(passage[0]) + 20, "%s", on);
    size_t begins = 0;
    for (size_t i = 0; i < n; i++) {
        char *text = text_of(&t, all, n, all[i].index);
        begins += strncmp(text, passage[0], strlen(passage[0])) == 0;
        cr_assert(all[i].index == 14 || !strstr(text, task[0]));
        gorgon_free(text);
    }
    cr_assert_eq(begins, 1, "one passage is gone on from, the other one given a task: %zu", begins);
    gorgon_free(answer);
    gorgon_free(on);
    gg_cache_chunk_free(all, n);
    tear_down(&t);
}

Test(synth, other_texts_need_another_cache)
{
    setting t = set_up();
    size_t n;
    gorgon_error err = {0};
    gg_cache_sequence *all = written(&t, &n);
    gg_cache_chunk_free(all, n);
    t.options.n_data--;
    cr_assert_eq(gorgon_synth(t.model, &t.options, &err), GORGON_ERROR_MISMATCH, "%s", err.message);
    err = (gorgon_error){0};
    t.options.data_share = 1.5;
    cr_assert_eq(gorgon_synth(t.model, &t.options, &err), GORGON_ERROR_ARGUMENT);
    cr_assert_not_null(strstr(err.message, "data share 1.5, expected 0 to 1"), "%s", err.message);
    tear_down(&t);
}

Test(synth, loops_are_cut_behind_their_second_round)
{
    enum { N = 300, BEFORE = 40 };
    gorgon_token ids[N];
    for (size_t period = 1; period <= 70; period++) {
        for (size_t i = 0; i < N; i++)
            ids[i] = (gorgon_token)(i < BEFORE ? 1000 + i : (i - BEFORE) % period);
        size_t wanted = period <= 64 ? BEFORE + 2 * period : N;
        cr_assert_eq(gorgon_loop_cut(ids, N), wanted, "period %zu", period);
        size_t shortest = period <= 16 ? 48 : 3 * period; // that is taken for a loop
        cr_assert_eq(gorgon_loop_cut(ids, BEFORE + shortest - 1), BEFORE + shortest - 1);
    }
}
