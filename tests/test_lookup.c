// Prompt lookup: hand-made texts, a plain search as the reference on random ones, rollback, forks.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "core/alloc.h"
#include "core/limits.h"
#include "core/sampling.h"
#include "heads/proposer.h"

enum { CONTEXT = 512, BRANCHES = 4, MATCH = 32 };

typedef struct setting {
    gg_proposer *p;
    void *state;
    gg_draft_tree tree;
    gorgon_token text[CONTEXT]; // what was observed
    size_t n;
} setting;

static void set_up(setting *t)
{
    static const gg_proposer_config config = {.max_sequences = 1};
    gorgon_error err = {0};
    memset(t, 0, sizeof *t);
    cr_assert_eq(gg_proposer_create("lookup", &config, &t->p, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(t->p->ops->state_create(t->p, CONTEXT, &t->state, &err), GORGON_OK);
}

static void tear_down(setting *t)
{
    t->p->ops->state_free(t->p, t->state);
    gg_proposer_free(t->p);
}

static void observe(setting *t, const gorgon_token *tokens, size_t n)
{
    const gg_observation seen = {.position = t->n, .n = n, .tokens = tokens};
    t->p->ops->observe(t->p, t->state, &seen);
    memcpy(t->text + t->n, tokens, n * sizeof *tokens);
    t->n += n;
}

// One token per character.
static void observe_text(setting *t, const char *text)
{
    for (; *text; text++) {
        const gorgon_token token = *text;
        observe(t, &token, 1);
    }
}

static void plant(setting *t, gorgon_token root)
{
    t->tree = (gg_draft_tree){.n = 1, .token = {root}, .parent = {-1}};
}

static uint32_t grow(setting *t, uint32_t parent, gorgon_token token)
{
    const size_t i = t->tree.n++;
    t->tree.token[i] = token;
    t->tree.parent[i] = (int32_t)parent;
    t->tree.depth[i] = (uint16_t)(t->tree.depth[parent] + 1);
    return (uint32_t)i;
}

static size_t expand(const setting *t, uint32_t parent, gg_edge *edges, size_t capacity)
{
    gorgon_sampling sampling;
    gorgon_sampling_init(&sampling);
    const gg_draft draft = {t->state, t->tree.token[0], t->n, &sampling};
    t->p->ops->begin(t->p, &draft, 1);
    return t->p->ops->expand(t->p, &draft, &t->tree, &parent, 1, edges, capacity);
}

static void check_tokens(const gg_edge *edges, size_t n, const char *expected)
{
    cr_assert_eq(n, strlen(expected), "%zu edges, expected '%s'", n, expected);
    for (size_t i = 0; i < n; i++)
        cr_assert_eq(edges[i].token, expected[i], "edge %zu is '%c', expected '%c'", i,
                     (char)edges[i].token, expected[i]);
}

Test(lookup, nothing_is_suggested_without_a_match)
{
    setting t;
    gg_edge edges[BRANCHES];
    set_up(&t);
    plant(&t, 'a');
    cr_assert_eq(expand(&t, 0, edges, BRANCHES), 0); // nothing observed at all
    observe_text(&t, "bcd");
    cr_assert_eq(expand(&t, 0, edges, BRANCHES), 0);
    tear_down(&t);
}

Test(lookup, longer_matches_come_first_then_counts_then_recency)
{
    setting t;
    gg_edge edges[BRANCHES];
    set_up(&t);
    // Suffix "xya": "xya1" matches 3 tokens, "ya2" twice 2 tokens, "a3" and "a4" 1, "a4" later.
    observe_text(&t, "xya1.ya2.a3.ya2-a4+xy");
    plant(&t, 'a');
    check_tokens(edges, expand(&t, 0, edges, BRANCHES), "1243");
    for (size_t i = 0; i < BRANCHES; i++) {
        cr_assert_eq(edges[i].rank, i);
        cr_assert_eq(edges[i].parent, 0);
        cr_assert(i == 0 || edges[i].score <= edges[i - 1].score);
    }
    cr_assert_float_eq(edges[0].evidence[0], 2.0f, 1e-6f);         // log2(1 + 3)
    cr_assert_float_eq(edges[1].evidence[1], log2f(3.0f), 1e-6f);  // twice
    cr_assert_float_eq(edges[0].evidence[2], 1.0f, 1e-6f);         // alone in its class
    cr_assert_float_eq(edges[1].evidence[2], 2.0f / 3.0f, 1e-6f);  // the class of 2 and longer
    cr_assert_float_eq(edges[2].evidence[2], 1.0f / 5.0f, 1e-6f);  // all five
    cr_assert_float_eq(edges[0].evidence[3], log2f(20.0f), 1e-6f); // 19 tokens back
    cr_assert_float_eq(edges[0].score, logf(1.0f / (1.0f + 4.0f / 3.0f)), 1e-6f);
    tear_down(&t);
}

Test(lookup, capacity_is_respected)
{
    setting t;
    gg_edge edges[BRANCHES];
    set_up(&t);
    observe_text(&t, "a1a2a3a4a5");
    plant(&t, 'a');
    check_tokens(edges, expand(&t, 0, edges, BRANCHES), "5432");
    cr_assert_eq(expand(&t, 0, edges, 3), 3);
    cr_assert_eq(expand(&t, 0, edges, 0), 0);
    tear_down(&t);
}

// Follows the best suggestion from the root as deep as it goes.
static size_t follow(setting *t, gorgon_token root, char *path)
{
    gg_edge edges[BRANCHES];
    size_t depth = 0;
    plant(t, root);
    for (uint32_t node = 0; expand(t, node, edges, BRANCHES) > 0; depth++) {
        node = grow(t, node, edges[0].token);
        path[depth] = (char)edges[0].token;
    }
    path[depth] = '\0';
    return depth;
}

Test(lookup, paths_go_as_deep_as_declared)
{
    setting t;
    char path[GG_MAX_DRAFT_DEPTH + 1];
    set_up(&t);
    observe_text(&t, "The quick brown fox jumps over it. Now t");
    cr_assert_geq(t.p->max_depth, 10);
    cr_assert_eq(follow(&t, 'q', path), t.p->max_depth);
    cr_assert_eq(strncmp(path, "uick brown fox jumps", t.p->max_depth), 0, "%s", path);
    tear_down(&t);
}

Test(lookup, matches_run_on_into_the_drafted_path)
{
    setting t;
    char path[GG_MAX_DRAFT_DEPTH + 1];
    set_up(&t);
    observe_text(&t, "zab"); // the loop is only seen by reading on into root and path
    cr_assert_eq(follow(&t, 'a', path), t.p->max_depth);
    cr_assert_eq(strncmp(path, "babababababababababa", t.p->max_depth), 0, "%s", path);
    tear_down(&t);
}

// The same rules by scanning the whole text.
typedef struct choice {
    gorgon_token token;
    size_t length, count, distance;
} choice;

static bool before(const choice *a, const choice *b)
{
    if (a->length != b->length)
        return a->length > b->length;
    return a->count != b->count ? a->count > b->count : a->distance < b->distance;
}

static size_t scan(const gorgon_token *text, size_t n, choice *best)
{
    choice all[CONTEXT];
    size_t count = 0, kept = 0;
    for (size_t i = n - 1; i-- > 0;) {
        size_t length = 0;
        while (length < MATCH && length <= i && text[i - length] == text[n - 1 - length])
            length++;
        if (length == 0)
            continue;
        size_t c = 0;
        while (c < count && all[c].token != text[i + 1])
            c++;
        if (c == count)
            all[count++] = (choice){text[i + 1], 0, 0, n - 1 - i};
        all[c].count++;
        all[c].length = length > all[c].length ? length : all[c].length;
    }
    for (; kept < BRANCHES && kept < count; kept++) {
        size_t first = kept;
        for (size_t c = kept; c < count; c++)
            first = before(&all[c], &all[first]) ? c : first;
        best[kept] = all[first];
        all[first] = all[kept];
    }
    return kept;
}

// Spread over a vocabulary, so that some tokens share a bucket of the search's index.
static gorgon_token random_token(uint64_t i, uint32_t alphabet)
{
    const uint64_t letter = gg_random_bits(11, i, alphabet, 0) % alphabet;
    return (gorgon_token)(letter * letter * letter % 49157);
}

// A chain of `depth` random tokens below the root, against the scan, at each of its nodes.
static void check_path(setting *t, uint64_t seed, uint32_t alphabet, size_t depth)
{
    gorgon_token text[CONTEXT + GG_MAX_DRAFT_DEPTH];
    gg_edge edges[BRANCHES];
    choice best[BRANCHES];
    memcpy(text, t->text, t->n * sizeof *text);
    size_t n = t->n;
    plant(t, random_token(seed, alphabet));
    text[n++] = t->tree.token[0];
    for (uint32_t node = 0, d = 0; d <= depth; d++) {
        const size_t expected = scan(text, n, best);
        cr_assert_eq(expand(t, node, edges, BRANCHES), expected);
        for (size_t i = 0; i < expected; i++) {
            cr_assert_eq(edges[i].token, best[i].token);
            cr_assert_float_eq(edges[i].evidence[0], log2f(1.0f + (float)best[i].length), 1e-5f);
            cr_assert_float_eq(edges[i].evidence[1], log2f(1.0f + (float)best[i].count), 1e-5f);
            cr_assert_float_eq(edges[i].evidence[3], log2f(1.0f + (float)best[i].distance), 1e-5f);
        }
        text[n] = random_token(seed + 1 + d, alphabet);
        node = grow(t, node, text[n++]);
    }
}

// Texts short enough that no occurrence is beyond the search's bounds.
Test(lookup, random_texts_give_what_a_scan_gives)
{
    setting t;
    for (uint32_t alphabet = 2; alphabet <= 210; alphabet += alphabet < 6 ? 1 : 51) {
        const size_t length = alphabet * 40 < 300 ? alphabet * 40 : 300;
        set_up(&t);
        for (size_t i = 0; i < length; i++) {
            const gorgon_token token = random_token(1000 + i, alphabet);
            observe(&t, &token, 1);
            if (i % 7 == 0)
                check_path(&t, 5000 + 100 * i, alphabet, 6);
        }
        tear_down(&t);
    }
}

Test(lookup, a_long_text_with_one_frequent_token_stays_bounded)
{
    setting t;
    gg_edge edges[BRANCHES];
    set_up(&t);
    for (size_t i = 0; i < CONTEXT; i++) {
        const gorgon_token token = (gorgon_token)(i % 2 ? 7 : 100 + i);
        observe(&t, &token, 1);
    }
    plant(&t, 7);
    cr_assert_eq(expand(&t, 0, edges, BRANCHES), BRANCHES);
    cr_assert_eq(edges[0].token, 7); // "7 7": the last committed token is followed by the root
    cr_assert_eq(edges[1].token, 100 + CONTEXT - 2);
    const gorgon_token beyond = 9; // no room: ignored, not written
    const gg_observation seen = {.position = CONTEXT, .n = 1, .tokens = &beyond};
    t.p->ops->observe(t.p, t.state, &seen);
    cr_assert_eq(expand(&t, 0, edges, BRANCHES), BRANCHES);
    tear_down(&t);
}

Test(lookup, a_shorter_position_rolls_back)
{
    setting t;
    gg_edge edges[BRANCHES];
    set_up(&t);
    for (size_t i = 0; i < 200; i++) {
        const gorgon_token token = random_token(i, 9);
        observe(&t, &token, 1);
    }
    t.n = 120; // the next observation begins there
    for (size_t i = 0; i < 50; i++) {
        const gorgon_token token = random_token(9000 + i, 9);
        observe(&t, &token, 1);
    }
    check_path(&t, 31, 9, 8);
    t.p->ops->state_reset(t.p, t.state);
    t.n = 0;
    plant(&t, 3);
    cr_assert_eq(expand(&t, 0, edges, BRANCHES), 0);
    tear_down(&t);
}

Test(lookup, a_fork_goes_its_own_way)
{
    setting t, u;
    set_up(&t);
    for (size_t i = 0; i < 100; i++) {
        const gorgon_token token = random_token(i, 7);
        observe(&t, &token, 1);
    }
    set_up(&u);
    observe_text(&u, "what was there before the copy");
    t.p->ops->state_copy(t.p, u.state, t.state);
    memcpy(u.text, t.text, sizeof u.text);
    u.n = t.n;
    for (size_t i = 0; i < 60; i++) {
        const gorgon_token a = random_token(200 + i, 7), b = random_token(400 + i, 7);
        observe(&t, &a, 1);
        observe(&u, &b, 1);
    }
    check_path(&t, 51, 7, 8);
    check_path(&u, 52, 7, 8);
    tear_down(&t);
    tear_down(&u);
}

Test(lookup, a_step_does_not_allocate)
{
    setting t;
    gg_edge edges[BRANCHES];
    set_up(&t);
    gg_alloc_fail_at(0);
    observe_text(&t, "once upon a time, once upon");
    plant(&t, ' ');
    cr_assert_gt(expand(&t, 0, edges, BRANCHES), 0);
    t.p->ops->state_reset(t.p, t.state);
    cr_assert_eq(gg_alloc_fail_at(0), 0);
    tear_down(&t);
}

Test(lookup, failing_allocations_are_reported)
{
    static const gg_proposer_config config = {.max_sequences = 1};
    gg_proposer *p = NULL;
    gg_alloc_fail_at(1);
    cr_assert_eq(gg_proposer_create("lookup", &config, &p, NULL), GORGON_ERROR_MEMORY);
    cr_assert_null(p);
    cr_assert_eq(gg_proposer_create("lookup", &config, &p, NULL), GORGON_OK);
    gorgon_status status = GORGON_ERROR_MEMORY;
    for (size_t fail = 1; status != GORGON_OK; fail++) {
        void *state = NULL;
        gg_alloc_fail_at(fail);
        status = p->ops->state_create(p, CONTEXT, &state, NULL);
        gg_alloc_fail_at(0);
        cr_assert(status == GORGON_OK || (status == GORGON_ERROR_MEMORY && !state));
        p->ops->state_free(p, state);
    }
    gg_proposer_free(p);
}

Test(lookup, unknown_names_are_refused_with_the_list)
{
    static const gg_proposer_config config = {.max_sequences = 1};
    gg_proposer *p = NULL;
    gorgon_error err = {0};
    cr_assert_eq(gg_proposer_create("oracle", &config, &p, &err), GORGON_ERROR_ARGUMENT);
    cr_assert_str_eq(err.message,
                     "unknown proposer 'oracle', expected one of: heads, lookup, recycling, "
                     "datastore");
    cr_assert_str_eq(gg_proposer_names()[0], "heads");
    cr_assert_str_eq(gg_proposer_names()[1], "lookup");
    gg_proposer_free(NULL);
}
