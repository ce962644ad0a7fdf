// Heads that see drafted tokens, on the embedded model: every node of a tree against the definition
// in plain arithmetic, along the path that leads to it; batches against single drafts.
#define _XOPEN_SOURCE 700 // mkdtemp
#include "sequential_fixture.h"

enum { MOST_EXPANDED = 64 };
static const heads_spec specs[] = {
    {.n_blocks = 3, .seed = 8, .kind = GG_HEADS_RECURRENT},
    {.n_blocks = 1, .seed = 9, .kind = GG_HEADS_HYDRA},
    {.n_blocks = 2, .seed = 3, .kind = GG_HEADS_HYDRA},
    {.n_blocks = 2, .seed = 4, .kind = GG_HEADS_MARKOV, .rank = 12},
    {.n_blocks = 2,
     .seed = 5,
     .kind = GG_HEADS_HYDRA_PREFIX,
     .n_attention = 4,
     .n_ffn = 96,
     .window = 16},
    {.n_blocks = 1, .seed = 6, .kind = GG_HEADS_EAGLE, .n_attention = 4, .n_ffn = 96, .window = 16},
};
enum { SPECS = sizeof specs / sizeof specs[0] };

// Two drafts together and each alone.
static void check_trees(const setting *t, size_t named, size_t inner)
{
    static drafted both, alone;
    gg_proposer *one = create(t, 1), *two = create(t, 2);
    gg_draft drafts[2], single;
    gg_observation seen[2];
    for (size_t i = 0; i < 2; i++) {
        seen[i] = rows_of(t, i, i + 1);
        drafts[i] =
            (gg_draft){observed_state(two, &seen[i]), (gorgon_token)(300 + i), i + 1, &t->sampling};
    }
    two->ops->begin(two, drafts, 2);
    for (size_t i = 0; i < 2; i++) {
        walk(t, two, &drafts[i], &seen[i], named, &both);
        single = drafts[i];
        single.state = observed_state(one, &seen[i]);
        one->ops->begin(one, &single, 1);
        walk(t, one, &single, &seen[i], named, &alone);
        cr_assert(both.inner == inner && memcmp(&both, &alone, sizeof both) == 0);
        one->ops->state_free(one, single.state);
        two->ops->state_free(two, drafts[i].state);
    }
    gg_proposer_free(one);
    gg_proposer_free(two);
}

Test(sequential, trees_are_those_of_plain_arithmetic)
{
    for (size_t i = 0; i < 2 * SPECS; i++) {
        setting t = set_up(&specs[i / 2], GORGON_ACTIVATIONS_F32, 1 + i % 2);
        check_trees(&t, 2, 1 + 3 + 9 + 27);
        tear_down(&t);
    }
}

Test(sequential, a_step_expands_a_bounded_number_of_nodes)
{
    static drafted out;
    for (size_t i = 0; i < SPECS; i++) {
        setting t = set_up(&specs[i], GORGON_ACTIVATIONS_F32, 1);
        gg_proposer *p = create(&t, 1);
        const gg_observation seen = rows_of(&t, 0, 1);
        const gg_draft draft = {observed_state(p, &seen), 300, 1, &t.sampling};
        for (size_t step = 0; step < 2; step++) { // the next step begins anew
            p->ops->begin(p, &draft, 1);
            walk(&t, p, &draft, &seen, 4, &out);
            cr_assert_eq(out.inner, MOST_EXPANDED);
        }
        p->ops->state_free(p, draft.state);
        gg_proposer_free(p);
        tear_down(&t);
    }
}

static void check_logits(const setting *t)
{
    static float logits[DEPTHS * DRAFT];
    double log_q[DRAFT];
    gorgon_token path[DEPTHS + 1] = {42};
    const gg_observation seen = rows_of(t, 0, 1);
    cr_assert_eq(gorgon_heads_logits(t->engine, t->heads, 0, t->hidden, 42, logits, NULL, NULL),
                 GORGON_OK);
    for (size_t k = 0; k < DEPTHS; k++) {
        const float *row = logits + k * DRAFT;
        size_t best = 0;
        reference_log_q(t->model, &t->f, &seen, path, k + 1, log_q);
        for (size_t o = 0; o < DRAFT; o++) {
            best = row[o] > row[best] ? o : best;
            cr_assert_float_eq((double)(row[o] - row[0]), log_q[o] - log_q[0], 4e-3);
        }
        path[k + 1] = (gorgon_token)t->f.ids[best];
    }
}

Test(sequential, logits_follow_the_likeliest_token)
{
    for (size_t i = 0; i < SPECS; i++) {
        setting t = set_up(&specs[i], GORGON_ACTIVATIONS_F32, 1);
        check_logits(&t);
        tear_down(&t);
    }
}

Test(sequential, nothing_is_suggested_before_a_row_was_seen)
{
    setting t = set_up(&specs[0], GORGON_ACTIVATIONS_F32, 1);
    gg_proposer *p = create(&t, 1);
    void *state = new_state(p);
    gg_edge edges[EDGES];
    const uint32_t root = 0;
    const gg_draft_tree tree = {.n = 1, .token = {3}, .parent = {-1}};
    const gg_draft draft = {state, 3, 1, &t.sampling};
    p->ops->begin(p, &draft, 1);
    cr_assert_eq(p->ops->expand(p, &draft, &tree, &root, 1, edges, EDGES), 0);
    p->ops->state_free(p, state);
    gg_proposer_free(p);
    tear_down(&t);
}

Test(sequential, files_say_what_they_hold)
{
    setting t = set_up(&specs[0], GORGON_ACTIVATIONS_F32, 1);
    gorgon_head_set_info info;
    const size_t d = gg_model_geometry(t.model)->d_model;
    cr_assert_eq(gorgon_heads_describe(t.heads, 0, &info, NULL), GORGON_OK);
    cr_assert_str_eq(info.kind, "recurrent");
    cr_assert_eq(info.n_heads, DEPTHS);
    cr_assert_eq(info.n_parameters, (3 + 1) * d * d + 3 * d);
    gorgon_error err = {0};
    gg_head_set_source source = t.f.source;
    source.shape.root_embedding = false;
    cr_assert_eq(gg_heads_write(t.s.path, t.model, &source, 1, &err), GORGON_ERROR_ARGUMENT);
    cr_assert_not_null(strstr(err.message, "root_embedding"), "%s", err.message);
    tear_down(&t);
}

// The file with the byte behind a key's name changed: the value of a flag.
static void set_flag(const setting *t, const char *key, char value)
{
    char data[1 << 16];
    FILE *f = fopen(t->s.path, "r+b");
    cr_assert_not_null(f);
    const size_t n = fread(data, 1, sizeof data, f), length = strlen(key);
    size_t at = 0;
    while (at + length < n && memcmp(data + at, key, length) != 0)
        at++;
    cr_assert_lt(at + length, n);
    cr_assert_eq(fseek(f, (long)(at + length + 4), SEEK_SET), 0); // its type lies between
    cr_assert_eq(fwrite(&value, 1, 1, f), 1);
    fclose(f);
}

Test(sequential, files_that_contradict_themselves_are_refused)
{
    setting t = set_up(&specs[0], GORGON_ACTIVATIONS_F32, 1);
    gorgon_heads *heads;
    gorgon_error err = {0};
    const char *const keys[] = {"root_embedding", "own_output"};
    const char *const parts[] = {"heads that see drafted tokens need", "have no own_output"};
    for (char i = 0; i < 2; i++) {
        cr_assert_eq(gg_heads_write(t.s.path, t.model, &t.f.source, 1, &err), GORGON_OK);
        cr_assert_eq(gorgon_heads_open(t.s.path, &heads, &err), GORGON_OK);
        gorgon_heads_free(heads);
        set_flag(&t, keys[(size_t)i], i);
        err = (gorgon_error){0};
        cr_assert_eq(gorgon_heads_open(t.s.path, &heads, &err), GORGON_ERROR_FORMAT);
        cr_assert_not_null(strstr(err.message, parts[(size_t)i]), "%s", err.message);
    }
    tear_down(&t);
}
