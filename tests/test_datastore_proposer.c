// Proposer "datastore" on the embedded model: what it suggests, from which text, and for whom.
#define _XOPEN_SOURCE 700 // mkdtemp
#include <math.h>

#include "datastore_fixture.h"
#include "heads/proposer.h"

enum { EDGES = GG_MAX_CHILDREN, MAX_IDS = 64 };

typedef struct setting {
    gorgon_model *model;
    gorgon_engine *engine;
    store_file file;
    gorgon_datastore *store;
    gg_proposer *p;
    void *state;
    gg_draft_tree tree;
    size_t position;
} setting;

static setting set_up(const char *const *texts, size_t n)
{
    setting t = {.model = open_tiny()};
    gorgon_engine_options options;
    gorgon_error err = {0};
    gorgon_engine_options_init(&options);
    options.threads = 1;
    options.context = 64;
    cr_assert_eq(gorgon_engine_create(t.model, &options, &t.engine, &err), GORGON_OK);
    t.file = store_of(t.model, texts, n, 1);
    t.store = store_open(&t.file);
    const gg_proposer_config config = {
        .engine = t.engine, .max_sequences = 1, .datastore = t.store};
    cr_assert_eq(gg_proposer_create("datastore", &config, &t.p, &err), GORGON_OK, "%s",
                 err.message);
    cr_assert_eq(t.p->ops->state_create(t.p, 64, &t.state, &err), GORGON_OK);
    return t;
}

static void tear_down(setting *t)
{
    t->p->ops->state_free(t->p, t->state);
    gg_proposer_free(t->p);
    gorgon_datastore_free(t->store);
    gg_free(t->file.bytes);
    gorgon_engine_free(t->engine);
    gorgon_model_free(t->model);
}

// Texts here are digits: each is a token by itself.
static gorgon_token digit(const setting *t, char c)
{
    const gorgon_token id = gorgon_tokenizer_find(gorgon_model_tokenizer(t->model), &c, 1);
    cr_assert_neq(id, GORGON_TOKEN_NONE, "'%c' is no token", c);
    return id;
}

static void observe(setting *t, const char *text)
{
    for (; *text; text++) {
        const gorgon_token token = digit(t, *text);
        const gg_observation seen = {.position = t->position++, .n = 1, .tokens = &token};
        t->p->ops->observe(t->p, t->state, &seen);
    }
}

// A chain: the root, then a node per further digit. Children of its last node.
static size_t expand(setting *t, const char *path, gg_edge *edges, size_t capacity)
{
    gorgon_sampling sampling;
    gorgon_sampling_init(&sampling);
    t->tree = (gg_draft_tree){0};
    for (size_t i = 0; path[i]; i++) {
        t->tree.token[i] = digit(t, path[i]);
        t->tree.parent[i] = (int32_t)i - 1;
        t->tree.depth[i] = (uint16_t)i;
        t->tree.n++;
    }
    const gg_draft draft = {t->state, t->tree.token[0], t->position, &sampling};
    const uint32_t last = (uint32_t)t->tree.n - 1;
    t->p->ops->begin(t->p, &draft, 1);
    return t->p->ops->expand(t->p, &draft, &t->tree, &last, 1, edges, capacity);
}

static void check_tokens(const setting *t, const gg_edge *edges, size_t n, const char *expected)
{
    cr_assert_eq(n, strlen(expected), "%zu edges, expected '%s'", n, expected);
    for (size_t i = 0; i < n; i++) {
        cr_assert_eq(edges[i].token, digit(t, expected[i]), "edge %zu of '%s'", i, expected);
        cr_assert_eq(edges[i].rank, i);
        cr_assert(i == 0 || edges[i].score <= edges[i - 1].score);
    }
}

Test(datastore_proposer, shares_of_longer_matches_are_smoothed_by_shorter_ones)
{
    static const char *const texts[] = {"12345", "92346", "2346", "47"};
    setting t = set_up(texts, 4);
    gg_edge edges[EDGES];
    observe(&t, "12");
    // "1234" once, then 5; "234" thrice: 5, 6, 6; "4" four times: 5, 6, 6, 7, not twice as often.
    const size_t n = expand(&t, "34", edges, EDGES);
    check_tokens(&t, edges, n, "56");
    const double long_doubt = 4.0 / 4, doubt = 4.0 / 3;
    const double short_share = 1.0 / (3 + doubt);
    const double five = (short_share * long_doubt + 1.0) / (1 + long_doubt);
    const double six = 2 * short_share * long_doubt / (1 + long_doubt);
    cr_assert_float_eq(edges[0].score, log(five), 1e-5);
    cr_assert_float_eq(edges[1].score, log(six), 1e-5);
    cr_assert_float_eq(edges[0].evidence[0], log2(1 + 4), 1e-5);
    cr_assert_float_eq(edges[0].evidence[1], log2(1 + 1), 1e-5);
    cr_assert_float_eq(edges[0].evidence[2], 1.0, 1e-6);
    cr_assert_float_eq(edges[1].evidence[0], log2(1 + 3), 1e-5);
    cr_assert_float_eq(edges[1].evidence[1], log2(1 + 3), 1e-5);
    cr_assert_float_eq(edges[1].evidence[2], 2.0 / 3.0, 1e-6);
    cr_assert_float_eq(edges[1].evidence[3], log2(1 + 4), 1e-5);
    cr_assert_eq(expand(&t, "34", edges, 1), 1);
    cr_assert_eq(expand(&t, "34", edges, 0), 0);
    cr_assert_eq(expand(&t, "8", edges, EDGES), 0); // is not there
    tear_down(&t);
}

Test(datastore_proposer, matches_run_over_context_root_and_path_but_not_over_texts)
{
    static const char *const texts[] = {"314159265358979", "3579"};
    setting t = set_up(texts, 2);
    gg_edge edges[EDGES];
    observe(&t, "3141");
    check_tokens(&t, edges, expand(&t, "59265", edges, EDGES), "3789"); // 5 alone: four times
    cr_assert_float_eq(edges[0].evidence[0], log2(1 + 9), 1e-5);
    check_tokens(&t, edges, expand(&t, "5926535897", edges, 1), "9");
    check_tokens(&t, edges, expand(&t, "59265358979", edges, EDGES), "27"); // the text ends there
    tear_down(&t);
}

Test(datastore_proposer, roll_back_reset_and_forks)
{
    static const char *const texts[] = {"123456", "723457", "823458"};
    setting t = set_up(texts, 3);
    gg_edge edges[EDGES];
    void *fork = NULL;
    observe(&t, "123");
    check_tokens(&t, edges, expand(&t, "45", edges, 1), "6");
    cr_assert_eq(t.p->ops->state_create(t.p, 64, &fork, NULL), GORGON_OK);
    t.p->ops->state_copy(t.p, fork, t.state);
    t.position = 0; // from the first token on, another text
    observe(&t, "723");
    check_tokens(&t, edges, expand(&t, "45", edges, 1), "7");
    t.position = 1;
    observe(&t, "9923");
    cr_assert_eq(expand(&t, "45", edges, EDGES), 3); // three times "2345"
    t.p->ops->state_reset(t.p, t.state);
    t.position = 0;
    observe(&t, "823");
    check_tokens(&t, edges, expand(&t, "45", edges, 1), "8");
    void *own = t.state;
    t.state = fork;
    t.position = 3;
    check_tokens(&t, edges, expand(&t, "45", edges, 1), "6");
    t.state = own;
    t.p->ops->state_free(t.p, fork);
    tear_down(&t);
}

Test(datastore_proposer, frequent_tokens_stay_bounded_and_depth_ends)
{
    char *text = gg_alloc(60001, 1);
    for (size_t i = 0; i < 60000; i++)
        text[i] = (char)(i % 2 ? '0' + gg_random_bits(3, i, 0, 0) % 9 : '9');
    const char *const texts[] = {text};
    setting t = set_up(texts, 1);
    gg_edge edges[EDGES];
    const size_t n = expand(&t, "9", edges, EDGES);
    cr_assert_geq(n, 8);
    for (size_t i = 0; i < n; i++)
        cr_assert_float_eq(edges[i].evidence[2], 1.0 / 9.0, 0.08);  // 4 sigma of 256 samples
    cr_assert_eq(expand(&t, "12345678912345678", edges, EDGES), 0); // 16 below the root
    cr_assert_gt(expand(&t, "1234567891234567", edges, EDGES), 0);
    tear_down(&t);
    gg_free(text);
}

Test(datastore_proposer, a_step_does_not_allocate)
{
    static const char *const texts[] = {"12345"};
    setting t = set_up(texts, 1);
    gg_edge edges[EDGES];
    gg_alloc_fail_at(0);
    observe(&t, "123");
    cr_assert_eq(expand(&t, "4", edges, EDGES), 1);
    t.p->ops->state_reset(t.p, t.state);
    cr_assert_eq(gg_alloc_fail_at(0), 0);
    tear_down(&t);
}

Test(datastore_proposer, needs_a_store_of_this_tokenizer_and_memory)
{
    static const char *const texts[] = {"12345"};
    setting t = set_up(texts, 1);
    gg_proposer *p = NULL;
    gorgon_error err = {0}, other = {0};
    gg_proposer_config config = {.engine = t.engine, .max_sequences = 1};
    cr_assert_eq(gg_proposer_create("datastore", &config, &p, &err), GORGON_ERROR_ARGUMENT);
    cr_assert_str_eq(err.message, "proposer datastore needs a datastore file");
    cr_assert_not(gg_proposer_has_file("datastore", &config));
    cr_assert(gg_proposer_has_file("lookup", &config));
    config.datastore = t.store;
    cr_assert(gg_proposer_has_file("datastore", &config));
    gg_alloc_fail_at(1);
    cr_assert_eq(gg_proposer_create("datastore", &config, &p, NULL), GORGON_ERROR_MEMORY);
    void *state = NULL;
    gg_alloc_fail_at(1);
    cr_assert_eq(t.p->ops->state_create(t.p, 64, &state, NULL), GORGON_ERROR_MEMORY);
    gg_alloc_fail_at(0);
    cr_assert(!p && !state);
    t.file.bytes[17] ^= 1;
    store_mend(&t.file);
    gorgon_datastore *foreign = store_open(&t.file);
    config.datastore = foreign;
    cr_assert_eq(gg_proposer_create("datastore", &config, &p, &other), GORGON_ERROR_MISMATCH);
    cr_assert_null(p);
    gorgon_datastore_free(foreign);
    tear_down(&t);
}
