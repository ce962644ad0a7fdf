// gorgon_heads_self_check: heads that are trained or stored wrongly, in each of the ways it knows.
#include "core/model.h"
#include "heads/head_set.h"
#include "train_fixture.h"

TestSuite(self_check, .init = set_up, .fini = tear_down);

// Which hidden state heads are trained on for a position.
typedef enum states { SERVED, BEFORE_NORM, OF_THE_NEXT } states;

static float *residual; // [rows][d] of the last pass

static void keep(void *context, size_t layer, const char *tensor, const float *data, size_t rows,
                 size_t columns, size_t stride)
{
    (void)context;
    if (layer + 1 != gg_model_geometry(model)->n_layers || strcmp(tensor, "residual") != 0)
        return;
    for (size_t r = 0; r < rows; r++)
        memcpy(residual + r * width(), data + r * stride, columns * sizeof *data);
}

// States of all tokens, a row at a time: [TOKENS][d].
static void compute(const gg_cache_sequence *s, bool before, float *out)
{
    gorgon_sequence *sequence;
    const uint32_t index = 0;
    cr_assert_eq(gorgon_sequence_create(engine, &sequence, NULL), GORGON_OK);
    for (size_t i = 0; i < s->n_tokens; i++) {
        const gorgon_row row = {
            .sequence = sequence, .token = s->tokens[i], .parent = GORGON_ROW_ROOT};
        cr_assert_eq(gorgon_engine_pass(engine, &row, 1, NULL), GORGON_OK);
        memcpy(out + i * width(), before ? residual : gorgon_engine_hidden(engine, 0),
               width() * sizeof *out);
        cr_assert_eq(gorgon_engine_commit(engine, sequence, &index, 1, NULL), GORGON_OK);
    }
    gorgon_sequence_free(sequence);
}

static void set_states(gg_cache_sequence *s, states which)
{
    const size_t d = width();
    float *all = gg_alloc(TOKENS * d, sizeof *all);
    compute(s, which == BEFORE_NORM, all);
    for (size_t i = 0; i < s->n_records; i++) {
        const float *from = all + (s->positions[i] + (which == OF_THE_NEXT)) * d;
        for (size_t j = 0; j < d; j++)
            s->hidden[i * d + j] = gg_f32_to_f16(from[j]);
    }
    gg_free(all);
}

static void make_cache_of(states which)
{
    gg_cache_identity id = {gorgon_model_fingerprint(model), 3, 4};
    gg_cache *cache;
    residual = gg_alloc(gorgon_engine_max_rows(engine) * width(), sizeof *residual);
    gorgon_engine_set_tap(engine, keep, NULL);
    cr_assert_eq(gg_cache_open(cache_path, &id, 0, &cache, NULL), GORGON_OK);
    for (uint64_t i = 0; i < SEQUENCES; i++) {
        gg_cache_sequence s = make_sequence(i, true);
        set_states(&s, which);
        cr_assert_eq(gg_cache_append(cache, i, i + 1, &s, 1, NULL), GORGON_OK);
        free_sequence(&s);
    }
    cr_assert_eq(gg_cache_finish(cache, NULL), GORGON_OK);
    gg_cache_free(cache);
    gorgon_engine_set_tap(engine, NULL, NULL);
    gg_free(residual);
}

static void train_on(states which, size_t blocks, char out[128])
{
    make_cache_of(which);
    gorgon_train_options options = options_for("a.gguf", out);
    options.root_embedding = false; // it would tell what the hidden state tells
    options.n_blocks = blocks;
    options.epochs = 12.0;
    train(engine, &options);
}

static gorgon_self_check check(const char *heads)
{
    gorgon_self_check result;
    gorgon_error err = {0};
    cr_assert_eq(gorgon_heads_self_check(engine, heads, 0, cache_path, &result, &err), GORGON_OK,
                 "%s", err.message);
    return result;
}

static void expect(const gorgon_self_check *c, gorgon_wiring verdict)
{
    cr_expect_eq(c->verdict, verdict, "verdict %d: %g %g %g %g %g, commonest %g", (int)c->verdict,
                 c->share[0], c->share[1], c->share[2], c->share[3], c->share[4], c->share[5]);
    cr_expect(c->positions > 300 && c->n_heads > 0);
}

typedef enum change { NOTHING, TURNED, NOISE } change;

// The set of a file with its heads from `first` on, whose matrices are changed.
static void rewrite(const char *from, const char *to, size_t first, change how)
{
    gorgon_heads *heads;
    cr_assert_eq(gorgon_heads_open(from, &heads, NULL), GORGON_OK);
    const gg_head_set *set = gg_heads_set(heads, 0);
    const size_t d = width();
    gg_head_set_source source = {
        .shape = set->shape, .weight_type = GG_F32, .draft_ids = set->draft_ids};
    gg_head_part parts[GG_MAX_HEAD_PARTS];
    const float *data[GG_MAX_HEAD_PARTS];
    float *values = gg_alloc(GG_MAX_HEAD_PARTS * d * d, sizeof *values);
    source.shape.n_heads -= first;
    const size_t n = gg_head_parts(&source.shape, 0, parts);
    for (size_t i = 0; i < n; i++) {
        const gg_head_part *p = &parts[i];
        const void *stored = gg_head_data(set, p->role, p->head + first, p->block);
        float *to_values = values + i * d * d;
        data[i] = to_values;
        for (size_t j = 0; j < d * (p->n_in ? d : 1); j++) {
            const size_t at = how == TURNED && p->n_in ? j % d * d + j / d : j;
            uint16_t half;
            memcpy(&half, (const uint8_t *)stored + 2 * at, 2);
            to_values[j] = p->n_in ? gg_f16_to_f32(half) : ((const float *)stored)[j];
            if (how == NOISE)
                to_values[j] = (float)(4.0 * gg_random_uniform(3, i, j, 0) - 2.0);
        }
    }
    source.data = data;
    cr_assert_eq(gg_heads_write(to, model, &source, 1, NULL), GORGON_OK);
    gg_free(values);
    gorgon_heads_free(heads);
}

Test(self_check, heads_as_trained_are_sound)
{
    char out[128];
    train_on(SERVED, 1, out);
    const gorgon_self_check c = check(out);
    expect(&c, GORGON_WIRING_SOUND);
    cr_expect(c.head[0] > 0.8 && c.head[2] > 0.8, "%g %g %g", c.head[0], c.head[1], c.head[2]);
    cr_expect_float_eq((c.head[0] + c.head[1] + c.head[2]) / 3, c.share[0], 1e-9);
}

Test(self_check, shifted_heads)
{
    char out[128], late[128];
    train_on(SERVED, 1, out);
    snprintf(late, sizeof late, "%s/b.gguf", directory);
    rewrite(out, late, 1, NOTHING);
    const gorgon_self_check c = check(late);
    expect(&c, GORGON_WIRING_LATE);
    cr_expect_eq(c.n_heads, 2);
}

Test(self_check, heads_of_the_next_state)
{
    char out[128];
    train_on(OF_THE_NEXT, 1, out);
    const gorgon_self_check c = check(out);
    // They take a state for that of the token after it: what they name comes one token later.
    cr_expect(c.verdict == GORGON_WIRING_EARLY, "verdict %d: %g %g %g", (int)c.verdict, c.share[0],
              c.share[1], c.share[2]);
}

Test(self_check, heads_of_the_state_before_the_norm)
{
    char out[128];
    train_on(BEFORE_NORM, 2, out);
    const gorgon_self_check c = check(out);
    expect(&c, GORGON_WIRING_BEFORE_NORM);
}

Test(self_check, turned_matrices)
{
    char out[128], turned[128];
    train_on(SERVED, 1, out);
    snprintf(turned, sizeof turned, "%s/b.gguf", directory);
    rewrite(out, turned, 0, TURNED);
    const gorgon_self_check c = check(turned);
    expect(&c, GORGON_WIRING_TRANSPOSED);
}

Test(self_check, heads_that_know_nothing)
{
    char out[128], noise[128];
    train_on(SERVED, 1, out);
    snprintf(noise, sizeof noise, "%s/b.gguf", directory);
    rewrite(out, noise, 0, NOISE);
    const gorgon_self_check c = check(noise);
    expect(&c, GORGON_WIRING_FOREIGN);
}

Test(self_check, refusals)
{
    char out[128];
    gorgon_self_check result;
    gorgon_error err = {0};
    train_on(SERVED, 1, out);
    cr_assert_eq(gorgon_heads_self_check(engine, out, 1, cache_path, &result, &err),
                 GORGON_ERROR_ARGUMENT);
    cr_assert(strstr(err.message, "1 sets, no number 1"), "%s", err.message);
    err = (gorgon_error){0};
    cr_assert_neq(gorgon_heads_self_check(engine, out, 0, directory, &result, &err), GORGON_OK);
    cr_assert(err.message[0] != '\0');
}
