// Heads with a decoder layer (hydra++, eagle) on the embedded model: drafts after histories of rows
// against the definition; however the rows came, alone or beside another sequence, the same draft.
#define _XOPEN_SOURCE 700 // mkdtemp
#include "sequential_fixture.h"

enum { KINDS = 2, SEVERAL = 1 + 2 + 4 + 8 };
static const heads_spec kinds[KINDS] = {
    {.n_blocks = 2, .seed = 5, .kind = GG_HEADS_HYDRA_PREFIX, .n_attention = 4, .n_ffn = 96},
    {.n_blocks = 1, .seed = 6, .kind = GG_HEADS_EAGLE, .n_attention = 4, .n_ffn = 96},
};

static setting set_up_window(size_t kind, size_t window, gorgon_activations activations,
                             size_t threads)
{
    heads_spec spec = kinds[kind];
    spec.window = window;
    return set_up(&spec, activations, threads);
}

// The draft after the rows before `end`, whose root is the token of the next one.
static gg_draft draft_at(const setting *t, void *state, size_t end)
{
    return (gg_draft){state, t->tokens[end % ROWS], end, &t->sampling};
}

static void draft_of(const setting *t, const gg_proposer *p, void *state, size_t end,
                     const gg_observation *check, drafted *out)
{
    const gg_draft draft = draft_at(t, state, end);
    p->ops->begin(p, &draft, 1);
    walk(t, p, &draft, check, 1, out);
    cr_assert_eq(out->inner, SEVERAL);
}

// The draft of a new state that sees rows [begin, end) at once.
static void draft_after(const setting *t, const gg_proposer *p, size_t begin, size_t end,
                        const gg_observation *check, drafted *out)
{
    const gg_observation seen = rows_of(t, begin, end);
    void *state = observed_state(p, &seen);
    draft_of(t, p, state, end, check, out);
    p->ops->state_free(p, state);
}

static void check_same(const drafted *a, const drafted *b, const char *what)
{
    cr_assert_eq(memcmp(a, b, sizeof *a), 0, "%s", what);
}

static void check_histories(const setting *t, const size_t *lengths, size_t n)
{
    static drafted out;
    gg_proposer *p = create(t, 1);
    for (size_t i = 0; i < n; i++) {
        const size_t begin = i; // positions matter to nobody but relative to each other
        const gg_observation seen = rows_of(t, begin, begin + lengths[i]);
        draft_after(t, p, begin, begin + lengths[i], &seen, &out);
    }
    gg_proposer_free(p);
}

Test(sequential_layer, drafts_are_those_of_plain_arithmetic)
{
    static const size_t windows[] = {1, 2, 3, 5, 16}; // some shorter than the path
    static const size_t lengths[] = {1, 2, 4, 15, 16, 17, 40};
    for (size_t i = 0; i < KINDS * 5; i++) {
        setting t = set_up_window(i % KINDS, windows[i / KINDS], GORGON_ACTIVATIONS_F32, 1 + i % 3);
        check_histories(&t, lengths, 7);
        tear_down(&t);
    }
}

Test(sequential_layer, windows_of_several_attention_blocks)
{
    static const size_t lengths[] = {70, 97};
    for (size_t i = 0; i < KINDS; i++) {
        setting t = set_up_window(i, 80, GORGON_ACTIVATIONS_F32, 2);
        check_histories(&t, lengths, 2);
        tear_down(&t);
    }
}

Test(sequential_layer, other_sizes_of_the_layer)
{
    static const size_t lengths[] = {1, 9, 30};
    for (size_t i = 0; i < KINDS * 2; i++) {
        heads_spec spec = kinds[i % KINDS];
        spec.n_attention = i / KINDS ? 1 : 64; // heads of all and of two elements
        spec.n_ffn = i / KINDS ? 7 : 300;
        spec.window = 12;
        setting t = set_up(&spec, GORGON_ACTIVATIONS_F32, 1);
        check_histories(&t, lengths, 3);
        tear_down(&t);
    }
}

Test(sequential_layer, int8_drafts_are_close_to_plain_arithmetic)
{
    static const size_t lengths[] = {1, 20, 60};
    for (size_t i = 0; i < KINDS; i++) {
        setting t = set_up_window(i, 16, GORGON_ACTIVATIONS_INT8, 2);
        check_histories(&t, lengths, 3);
        tear_down(&t);
    }
}

// Shows rows [begin, end) in portions, beginning a step after each of them or not.
static void observe_portions(const setting *t, const gg_proposer *p, void *state, size_t begin,
                             size_t end, size_t portion, bool steps)
{
    for (size_t at = begin, next; at < end; at = next) {
        next = end - at < portion ? end : at + portion;
        const gg_observation seen = rows_of(t, at, next);
        const gg_draft draft = draft_at(t, state, next);
        p->ops->observe(p, state, &seen);
        if (steps)
            p->ops->begin(p, &draft, 1);
    }
}

static void check_portions(const setting *t)
{
    static const size_t portions[] = {1, 3, 16, 31, 90};
    static drafted once, out;
    gg_proposer *p = create(t, 1);
    void *state = new_state(p);
    draft_after(t, p, 2, 92, NULL, &once);
    for (size_t i = 0; i < 10; i++) {
        p->ops->state_reset(p, state);
        observe_portions(t, p, state, 2, 92, portions[i / 2], i % 2);
        draft_of(t, p, state, 92, NULL, &out);
        check_same(&once, &out, "in portions");
        draft_of(t, p, state, 92, NULL, &out);
        check_same(&once, &out, "a second time");
    }
    p->ops->state_free(p, state);
    gg_proposer_free(p);
}

Test(sequential_layer, rows_may_come_in_any_portions)
{
    static const size_t windows[] = {1, 2, 16, 80};
    for (size_t i = 0; i < KINDS * 8; i++) {
        setting t =
            set_up_window(i % KINDS, windows[i / KINDS % 4],
                          i < KINDS * 4 ? GORGON_ACTIVATIONS_F32 : GORGON_ACTIVATIONS_INT8, 1);
        check_portions(&t);
        tear_down(&t);
    }
}

// Row 9 has no hidden state, or there is no row 9 at all: what follows stands alone.
static void check_gap(const setting *t, bool seen)
{
    static drafted late, out;
    gg_proposer *p = create(t, 1);
    void *state = new_state(p);
    setting gap = *t;
    draft_after(t, p, 10, 17, NULL, &late);
    gap.rows[9] = NULL;
    observe_portions(t, p, state, 0, 6, 3, true);
    observe_portions(&gap, p, state, 6, seen ? 12 : 9, 6, false);
    observe_portions(t, p, state, seen ? 12 : 10, 17, 4, true);
    draft_of(t, p, state, 17, NULL, &out);
    check_same(&late, &out, "after a gap");
    p->ops->state_free(p, state);
    gg_proposer_free(p);
}

static void check_unknown_end(const setting *t)
{
    gg_proposer *p = create(t, 1);
    void *state = new_state(p);
    gg_edge edges[EDGES];
    const uint32_t root = 0;
    const gg_draft draft = draft_at(t, state, 6);
    const gg_draft_tree tree = {.n = 1, .token = {draft.root}, .parent = {-1}};
    gg_observation unknown = rows_of(t, 5, 6);
    unknown.hidden = NULL;
    observe_portions(t, p, state, 0, 5, 2, true);
    p->ops->observe(p, state, &unknown);
    p->ops->begin(p, &draft, 1);
    cr_assert_eq(p->ops->expand(p, &draft, &tree, &root, 1, edges, EDGES), 0);
    p->ops->state_free(p, state);
    gg_proposer_free(p);
}

Test(sequential_layer, nothing_is_attended_to_across_a_gap)
{
    for (size_t i = 0; i < KINDS; i++) {
        setting t = set_up_window(i, 24, GORGON_ACTIVATIONS_F32, 1);
        check_gap(&t, true);
        check_gap(&t, false);
        check_unknown_end(&t);
        tear_down(&t);
    }
}

// A fork of a state that has drafted goes its own way: [0, 20), then rows 20.. or 50...
static void check_fork(const setting *t)
{
    static drafted expected, out;
    gg_proposer *p = create(t, 1);
    void *state = new_state(p), *fork = new_state(p);
    setting other = *t; // rows 50.. at positions 20..
    for (size_t i = 0; i < 8; i++) {
        other.rows[20 + i] = t->rows[50 + i];
        other.tokens[20 + i] = t->tokens[50 + i];
    }
    observe_portions(t, p, fork, 60, 90, 7, true); // what the copy replaces
    observe_portions(t, p, state, 0, 20, 7, true);
    p->ops->state_copy(p, fork, state);
    draft_of(t, p, fork, 20, NULL, &out);
    draft_after(t, p, 0, 20, NULL, &expected);
    check_same(&expected, &out, "the fork as it was");
    observe_portions(&other, p, fork, 20, 28, 3, true);
    observe_portions(t, p, state, 20, 27, 2, true);
    draft_of(t, p, state, 27, NULL, &out);
    draft_after(t, p, 0, 27, NULL, &expected);
    check_same(&expected, &out, "the original");
    draft_of(&other, p, fork, 28, NULL, &out);
    draft_after(&other, p, 0, 28, NULL, &expected);
    check_same(&expected, &out, "the fork");
    p->ops->state_free(p, state);
    p->ops->state_free(p, fork);
    gg_proposer_free(p);
}

Test(sequential_layer, a_fork_goes_its_own_way)
{
    for (size_t i = 0; i < KINDS; i++) {
        setting t = set_up_window(i, 24, GORGON_ACTIVATIONS_INT8, 1);
        check_fork(&t);
        tear_down(&t);
    }
}

// Three sequences of other lengths, drafting together over several steps.
static void check_together(const setting *t)
{
    enum { N = 3 };
    static const size_t begins[N] = {0, 3, 40}, ends[N] = {70, 9, 75};
    static drafted alone, out;
    gg_proposer *p = create(t, N);
    gg_draft drafts[N];
    for (size_t i = 0; i < N; i++) {
        const gg_observation seen = rows_of(t, begins[i], ends[i]);
        drafts[i] = draft_at(t, observed_state(p, &seen), ends[i]);
    }
    for (size_t step = 0; step < 4; step++) {
        p->ops->begin(p, drafts, N);
        for (size_t i = 0; i < N; i++) {
            const size_t end = drafts[i].root_position;
            walk(t, p, &drafts[i], NULL, 1, &out);
            const gg_observation seen = rows_of(t, end, end + 1 + (i + step) % 3);
            p->ops->observe(p, drafts[i].state, &seen);
            drafts[i] = draft_at(t, drafts[i].state, end + seen.n);
            gg_proposer *single = create(t, 1);
            draft_after(t, single, begins[i], end, NULL, &alone);
            check_same(&alone, &out, "beside others");
            gg_proposer_free(single);
        }
    }
    for (size_t i = 0; i < N; i++)
        p->ops->state_free(p, drafts[i].state);
    gg_proposer_free(p);
}

Test(sequential_layer, sequences_do_not_see_each_other)
{
    for (size_t i = 0; i < KINDS; i++) {
        setting t = set_up_window(i, 24, GORGON_ACTIVATIONS_INT8, 2);
        check_together(&t);
        tear_down(&t);
    }
}

Test(sequential_layer, a_step_does_not_allocate)
{
    static drafted out;
    for (size_t i = 0; i < KINDS; i++) {
        setting t = set_up_window(i, 24, GORGON_ACTIVATIONS_INT8, 1);
        gg_proposer *p = create(&t, 1);
        void *state = new_state(p);
        gg_alloc_fail_at(0);
        observe_portions(&t, p, state, 0, 60, 40, true);
        draft_of(&t, p, state, 60, NULL, &out);
        cr_assert_eq(gg_alloc_fail_at(0), 0);
        p->ops->state_free(p, state);
        gg_proposer_free(p);
        tear_down(&t);
    }
}

static void check_failing_allocations(const setting *t)
{
    const gg_proposer_config config = {.engine = t->engine, .heads = t->heads, .max_sequences = 2};
    gg_proposer *p = NULL;
    gorgon_status status = GORGON_ERROR_MEMORY;
    size_t fail = 1;
    for (; status != GORGON_OK; fail++) {
        gg_alloc_fail_at(fail);
        status = gg_proposer_create("heads", &config, &p, NULL);
        gg_alloc_fail_at(0);
        cr_assert(status == GORGON_OK || (status == GORGON_ERROR_MEMORY && !p));
    }
    cr_assert_gt(fail, 25);
    status = GORGON_ERROR_MEMORY;
    for (fail = 1; status != GORGON_OK; fail++) {
        void *state = NULL;
        gg_alloc_fail_at(fail);
        status = p->ops->state_create(p, 64, &state, NULL);
        gg_alloc_fail_at(0);
        cr_assert(status == GORGON_OK || (status == GORGON_ERROR_MEMORY && !state));
        p->ops->state_free(p, state);
    }
    cr_assert_gt(fail, 5);
    gg_proposer_free(p);
}

Test(sequential_layer, failing_allocations_are_reported)
{
    for (size_t i = 0; i < KINDS; i++) {
        setting t = set_up_window(i, 8, GORGON_ACTIVATIONS_INT8, 1);
        check_failing_allocations(&t);
        tear_down(&t);
    }
}
