// Heads that see drafted tokens, on the embedded model: every node of a tree against the definition
// in plain arithmetic, along the path that leads to it; batches against single drafts.
#define _XOPEN_SOURCE 700 // mkdtemp
#include <math.h>

#include "heads/proposer.h"
#include "heads_fixture.h"

enum { DEPTHS = 4, DRAFT = 90, EDGES = GG_MAX_CHILDREN, MOST_EXPANDED = 64 };
static const heads_spec specs[] = {
    {.n_heads = DEPTHS, .n_blocks = 3, .seed = 8, .kind = GG_HEADS_RECURRENT},
    {.n_heads = DEPTHS, .n_blocks = 1, .seed = 9, .kind = GG_HEADS_HYDRA},
    {.n_heads = DEPTHS, .n_blocks = 2, .seed = 3, .kind = GG_HEADS_HYDRA},
    {.n_heads = DEPTHS, .n_blocks = 2, .seed = 4, .kind = GG_HEADS_MARKOV, .rank = 12},
};
enum { SPECS = sizeof specs / sizeof specs[0] };

typedef struct setting {
    gorgon_model *model;
    gorgon_engine *engine;
    gorgon_heads *heads;
    heads_fixture f;
    scratch s;
    size_t d;
    float *hidden; // [2][d]
} setting;

static setting set_up(size_t which, size_t threads)
{
    heads_spec spec = specs[which];
    spec.n_draft = DRAFT;
    spec.root = true;
    spec.type = GG_F32;
    setting t = {.model = open_tiny(), .s = scratch_create()};
    gorgon_engine_options options;
    gorgon_error err = {0};
    gorgon_engine_options_init(&options);
    options.threads = threads;
    options.activations = GORGON_ACTIVATIONS_F32;
    options.context = 64;
    cr_assert_eq(gorgon_engine_create(t.model, &options, &t.engine, &err), GORGON_OK, "%s",
                 err.message);
    const gg_geometry *g = gg_model_geometry(t.model);
    t.d = g->d_model;
    t.f = heads_fixture_create(t.d, g->n_vocab, &spec);
    t.heads = write_and_open(&t.s, t.model, &t.f.source);
    t.hidden = gg_alloc(2 * t.d, sizeof *t.hidden);
    for (size_t i = 0; i < 2 * t.d; i++)
        t.hidden[i] = 2.0f * fixture_random(99, i);
    return t;
}

static void tear_down(setting *t)
{
    gg_free(t->hidden);
    heads_fixture_free(&t->f);
    gorgon_heads_free(t->heads);
    gorgon_engine_free(t->engine);
    gorgon_model_free(t->model);
    scratch_remove(&t->s);
}

// z becomes z + silu(w z + r e + b), e[n_e]; r may be NULL.
static void reference_block(size_t d, const float *w, const float *b, const float *r,
                            const double *e, size_t n_e, double *z)
{
    double *next = gg_alloc(d, sizeof *next);
    for (size_t o = 0; o < d; o++) {
        double sum = (double)b[o];
        for (size_t i = 0; i < d; i++)
            sum += (double)w[o * d + i] * z[i];
        for (size_t i = 0; r && i < n_e; i++)
            sum += (double)r[o * n_e + i] * e[i];
        next[o] = z[o] + sum / (1.0 + exp(-sum));
    }
    memcpy(z, next, d * sizeof *z);
    gg_free(next);
}

static void reference_embedding(const setting *t, gorgon_token token, double *e)
{
    float *x = gg_alloc(t->d, sizeof *x);
    double square = 0.0;
    gg_model_embed(t->model, token, x);
    for (size_t i = 0; i < t->d; i++)
        square += (double)x[i] * (double)x[i];
    for (size_t i = 0; i < t->d; i++)
        e[i] = (double)x[i] / sqrt(square / (double)t->d + 1e-12);
    gg_free(x);
}

// z += U D e
static void reference_bias(const gg_head_set_source *s, size_t head, const double *e, double *z)
{
    const float *down = fixture_part(s, GG_PART_DOWN, head, 0);
    const float *up = fixture_part(s, GG_PART_UP, head, 0);
    const size_t d = s->shape.d_model, rank = s->shape.rank;
    for (size_t r = 0; r < rank; r++) {
        double sum = 0.0;
        for (size_t i = 0; i < d; i++)
            sum += (double)down[r * d + i] * e[i];
        for (size_t o = 0; o < d; o++)
            z[o] += (double)up[o * rank + r] * sum;
    }
}

// What the output matrix sees after the tokens of the embeddings e[n][d], the root's first.
static void reference_state(const gg_head_set_source *s, const double *e, size_t n, double *z)
{
    const size_t d = s->shape.d_model;
    const bool recurrent = s->shape.kind == GG_HEADS_RECURRENT;
    const size_t head = recurrent ? 0 : n - 1, runs = recurrent ? n : 1;
    const size_t seen = s->shape.kind == GG_HEADS_HYDRA ? n : 1;
    for (size_t k = 0; k < runs; k++)
        reference_block(d, fixture_part(s, GG_PART_WEIGHT, head, 0),
                        fixture_part(s, GG_PART_BIAS, head, 0),
                        fixture_part(s, GG_PART_ROOT, head, 0), e + k * d, seen * d, z);
    for (size_t b = 1; b < s->shape.n_blocks; b++)
        reference_block(d, fixture_part(s, GG_PART_WEIGHT, head, b),
                        fixture_part(s, GG_PART_BIAS, head, b), NULL, NULL, 0, z);
    if (s->shape.kind == GG_HEADS_MARKOV)
        reference_bias(s, head, e + (n - 1) * d, z);
}

// log q over the draft vocabulary after the tokens path[0 .. n), path[0] being the root.
static void reference_log_q(const setting *t, const float *hidden, const gorgon_token *path,
                            size_t n, double *log_q)
{
    double *z = gg_alloc((1 + n) * t->d, sizeof *z), *e = z + t->d, sum = 0.0;
    float *row = gg_alloc(t->d, sizeof *row);
    for (size_t i = 0; i < t->d; i++)
        z[i] = (double)hidden[i];
    for (size_t k = 0; k < n; k++)
        reference_embedding(t, path[k], e + k * t->d);
    reference_state(&t->f.source, e, n, z);
    for (size_t o = 0; o < DRAFT; o++) {
        gg_matrix_row(gg_model_output(t->model), t->f.ids[o], row);
        log_q[o] = 0.0;
        for (size_t i = 0; i < t->d; i++)
            log_q[o] += (double)row[i] * z[i];
        sum += exp(log_q[o]);
    }
    for (size_t o = 0; o < DRAFT; o++)
        log_q[o] -= log(sum);
    gg_free(z);
    gg_free(row);
}

static double log_q_of(const setting *t, const double *log_q, gorgon_token token)
{
    for (size_t o = 0; o < DRAFT; o++) {
        if (t->f.ids[o] == (uint32_t)token)
            return log_q[o];
    }
    cr_assert_fail("token %d is not in the draft vocabulary", token);
    return 0.0;
}

// The node's children are what the definition says, and the best of all.
static void check_node(const setting *t, const gg_draft_tree *tree, uint32_t node,
                       const float *hidden, const gg_edge *edges, size_t n)
{
    gorgon_token path[DEPTHS];
    double log_q[DRAFT], last = 0.0;
    const size_t depth = tree->depth[node];
    for (size_t i = depth + 1, at = node; i-- > 0; at = (size_t)tree->parent[at])
        path[i] = tree->token[at];
    reference_log_q(t, hidden, path, depth + 1, log_q);
    cr_assert_eq(n, EDGES);
    for (size_t i = 0; i < n; i++) {
        last = log_q_of(t, log_q, edges[i].token);
        cr_assert_float_eq((double)edges[i].score, last, 2e-3, "depth %zu, rank %zu", depth, i);
        cr_assert(edges[i].parent == node && edges[i].rank == i);
    }
    size_t better = 0;
    for (size_t o = 0; o < DRAFT; o++)
        better += log_q[o] > last + 2e-3;
    cr_assert_lt(better, EDGES);
}

static gg_proposer *create(const setting *t, size_t sequences)
{
    const gg_proposer_config config = {
        .engine = t->engine, .heads = t->heads, .max_sequences = sequences};
    gg_proposer *p = NULL;
    gorgon_error err = {0};
    cr_assert_eq(gg_proposer_create("heads", &config, &p, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(p->max_depth, DEPTHS);
    return p;
}

static void *observed_state(const setting *t, const gg_proposer *p, size_t i)
{
    void *state;
    const float *const rows[] = {t->hidden + i * t->d};
    const gorgon_token token = 7;
    const gg_observation seen = {.n = 1, .tokens = &token, .hidden = rows};
    cr_assert_eq(p->ops->state_create(p, 64, &state, NULL), GORGON_OK);
    p->ops->observe(p, state, &seen);
    return state;
}

// A token that no head of the set can name.
static gorgon_token foreign_token(const setting *t)
{
    const gorgon_token token = (gorgon_token)t->f.ids[0] + 1;
    cr_assert_neq((uint32_t)token, t->f.ids[1]);
    return token;
}

// Asks for the children of every node of a tree: the first `named` ones of each node, and one
// that somebody else named. Returns how many nodes had children.
static size_t walk(const setting *t, const gg_proposer *p, const gg_draft *draft,
                   const float *hidden, size_t named, gg_draft_tree *tree)
{
    size_t inner = 0;
    gg_edge edges[EDGES];
    *tree = (gg_draft_tree){.n = 1, .token = {draft->root}, .parent = {-1}};
    for (uint32_t node = 0; node < tree->n; node++) {
        const size_t n = p->ops->expand(p, draft, tree, &node, 1, edges, EDGES);
        if (n == 0)
            continue;
        inner++;
        cr_assert_lt(tree->depth[node], DEPTHS);
        check_node(t, tree, node, hidden, edges, n);
        for (size_t i = 0; i <= named; i++) {
            const size_t child = tree->n++;
            tree->token[child] = i < named ? edges[i].token : foreign_token(t);
            tree->parent[child] = (int32_t)node;
            tree->depth[child] = (uint16_t)(tree->depth[node] + 1);
        }
    }
    return inner;
}

// Two drafts together and each alone.
static void check_trees(const setting *t, size_t named, size_t inner)
{
    static gg_draft_tree trees[2];
    gorgon_sampling sampling;
    gorgon_sampling_init(&sampling);
    gg_proposer *one = create(t, 1), *two = create(t, 2);
    gg_draft drafts[2], single;
    for (size_t i = 0; i < 2; i++)
        drafts[i] = (gg_draft){observed_state(t, two, i), (gorgon_token)(300 + i), 5, &sampling};
    two->ops->begin(two, drafts, 2);
    for (size_t i = 0; i < 2; i++) {
        const float *hidden = t->hidden + i * t->d;
        cr_assert_eq(walk(t, two, &drafts[i], hidden, named, &trees[0]), inner);
        single = drafts[i];
        single.state = observed_state(t, one, i);
        one->ops->begin(one, &single, 1);
        cr_assert_eq(walk(t, one, &single, hidden, named, &trees[1]), inner);
        cr_assert_eq(memcmp(&trees[0], &trees[1], sizeof trees[0]), 0);
        one->ops->state_free(one, single.state);
        two->ops->state_free(two, drafts[i].state);
    }
    gg_proposer_free(one);
    gg_proposer_free(two);
}

Test(sequential, trees_are_those_of_plain_arithmetic)
{
    for (size_t i = 0; i < 2 * SPECS; i++) {
        setting t = set_up(i / 2, 1 + i % 2);
        check_trees(&t, 2, 1 + 3 + 9 + 27);
        tear_down(&t);
    }
}

Test(sequential, a_step_expands_a_bounded_number_of_nodes)
{
    static gg_draft_tree tree;
    setting t = set_up(1, 1);
    gorgon_sampling sampling;
    gorgon_sampling_init(&sampling);
    gg_proposer *p = create(&t, 1);
    const gg_draft draft = {observed_state(&t, p, 0), 300, 5, &sampling};
    for (size_t i = 0; i < 2; i++) { // the next step begins anew
        p->ops->begin(p, &draft, 1);
        cr_assert_eq(walk(&t, p, &draft, t.hidden, 4, &tree), MOST_EXPANDED);
    }
    p->ops->state_free(p, draft.state);
    gg_proposer_free(p);
    tear_down(&t);
}

static void check_logits(const setting *t)
{
    static float logits[DEPTHS * DRAFT];
    double log_q[DRAFT];
    gorgon_token path[DEPTHS + 1] = {42};
    cr_assert_eq(gorgon_heads_logits(t->engine, t->heads, 0, t->hidden, 42, logits, NULL, NULL),
                 GORGON_OK);
    for (size_t k = 0; k < DEPTHS; k++) {
        const float *row = logits + k * DRAFT;
        size_t best = 0;
        reference_log_q(t, t->hidden, path, k + 1, log_q);
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
        setting t = set_up(i, 1);
        check_logits(&t);
        tear_down(&t);
    }
}

Test(sequential, nothing_is_suggested_before_a_row_was_seen)
{
    setting t = set_up(0, 1);
    gorgon_sampling sampling;
    gorgon_sampling_init(&sampling);
    gg_proposer *p = create(&t, 1);
    void *state;
    gg_edge edges[EDGES];
    const uint32_t root = 0;
    const gg_draft_tree tree = {.n = 1, .token = {3}, .parent = {-1}};
    cr_assert_eq(p->ops->state_create(p, 64, &state, NULL), GORGON_OK);
    const gg_draft draft = {state, 3, 1, &sampling};
    p->ops->begin(p, &draft, 1);
    cr_assert_eq(p->ops->expand(p, &draft, &tree, &root, 1, edges, EDGES), 0);
    p->ops->state_free(p, state);
    gg_proposer_free(p);
    tear_down(&t);
}

Test(sequential, files_say_what_they_hold)
{
    setting t = set_up(0, 1);
    gorgon_head_set_info info;
    cr_assert_eq(gorgon_heads_describe(t.heads, 0, &info, NULL), GORGON_OK);
    cr_assert_str_eq(info.kind, "recurrent");
    cr_assert_eq(info.n_heads, DEPTHS);
    cr_assert_eq(info.n_parameters, (3 + 1) * t.d * t.d + 3 * t.d);
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
    setting t = set_up(0, 1);
    gorgon_heads *heads;
    gorgon_error err = {0};
    const char *const keys[] = {"root_embedding", "own_output"};
    for (char i = 0; i < 2; i++) {
        cr_assert_eq(gg_heads_write(t.s.path, t.model, &t.f.source, 1, &err), GORGON_OK);
        cr_assert_eq(gorgon_heads_open(t.s.path, &heads, &err), GORGON_OK);
        gorgon_heads_free(heads);
        set_flag(&t, keys[(size_t)i], i);
        err = (gorgon_error){0};
        cr_assert_eq(gorgon_heads_open(t.s.path, &heads, &err), GORGON_ERROR_FORMAT);
        cr_assert_not_null(strstr(err.message, "heads that see drafted tokens need"), "%s",
                           err.message);
    }
    tear_down(&t);
}
