// Drafts of heads that see drafted tokens, on the embedded model: every node of a tree compared
// with the definition, along the path that leads to it.
#ifndef SEQUENTIAL_FIXTURE_H
#define SEQUENTIAL_FIXTURE_H

#include "heads/proposer.h"
#include "heads_fixture.h"

enum { DEPTHS = 4, DRAFT = 90, EDGES = GG_MAX_CHILDREN, ROWS = 100 };

typedef struct setting {
    gorgon_model *model;
    gorgon_engine *engine;
    gorgon_heads *heads;
    heads_fixture f;
    scratch s;
    gorgon_sampling sampling;
    double tolerance; // standard deviations of the logits
    float *hidden;    // [ROWS][d] of rows that may be observed
    const float *rows[ROWS];
    gorgon_token tokens[ROWS];
} setting;

static inline setting set_up(const heads_spec *which, gorgon_activations activations,
                             size_t threads)
{
    heads_spec spec = *which;
    spec.n_heads = DEPTHS;
    spec.n_draft = DRAFT;
    spec.root = true;
    spec.type = GG_F32;
    setting t = {.model = open_tiny(),
                 .s = scratch_create(),
                 .tolerance = activations == GORGON_ACTIVATIONS_INT8 ? 0.1 : 2e-5};
    gorgon_engine_options options;
    gorgon_error err = {0};
    gorgon_engine_options_init(&options);
    options.threads = threads;
    options.activations = activations;
    options.context = 64;
    cr_assert_eq(gorgon_engine_create(t.model, &options, &t.engine, &err), GORGON_OK, "%s",
                 err.message);
    const gg_geometry *g = gg_model_geometry(t.model);
    t.f = heads_fixture_create(g->d_model, g->n_vocab, &spec);
    t.heads = write_and_open(&t.s, t.model, &t.f.source);
    gorgon_sampling_init(&t.sampling);
    t.hidden = gg_alloc(ROWS * g->d_model, sizeof *t.hidden);
    for (size_t i = 0; i < ROWS * g->d_model; i++)
        t.hidden[i] = 2.0f * fixture_random(99, i);
    for (size_t i = 0; i < ROWS; i++) {
        t.rows[i] = t.hidden + i * g->d_model;
        t.tokens[i] = (gorgon_token)(7 + 5 * i);
    }
    return t;
}

static inline void tear_down(setting *t)
{
    gg_free(t->hidden);
    heads_fixture_free(&t->f);
    gorgon_heads_free(t->heads);
    gorgon_engine_free(t->engine);
    gorgon_model_free(t->model);
    scratch_remove(&t->s);
}

// Rows [begin, end) of the setting, at those positions.
static inline gg_observation rows_of(const setting *t, size_t begin, size_t end)
{
    return (gg_observation){begin, end - begin, t->tokens + begin, t->rows + begin};
}

static inline gg_proposer *create(const setting *t, size_t sequences)
{
    const gg_proposer_config config = {
        .engine = t->engine, .heads = t->heads, .max_sequences = sequences};
    gg_proposer *p = NULL;
    gorgon_error err = {0};
    cr_assert_eq(gg_proposer_create("heads", &config, &p, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(p->max_depth, DEPTHS);
    return p;
}

static inline void *new_state(const gg_proposer *p)
{
    void *state = NULL;
    gorgon_error err = {0};
    cr_assert_eq(p->ops->state_create(p, 64, &state, &err), GORGON_OK, "%s", err.message);
    return state;
}

static inline void *observed_state(const gg_proposer *p, const gg_observation *seen)
{
    void *state = new_state(p);
    p->ops->observe(p, state, seen);
    return state;
}

// What the output sees after the rows seen and the tokens path[0 .. n), the root first.
static inline void reference_path(const gorgon_model *model, const heads_fixture *f,
                                  const gg_observation *seen, const gorgon_token *path, size_t n,
                                  double *z)
{
    const size_t d = f->source.shape.d_model;
    double *hidden = gg_alloc((2 * seen->n + n) * d, sizeof *hidden);
    double *after = hidden + seen->n * d, *e = after + seen->n * d;
    const reference_rows rows = {seen->n, hidden, after};
    const reference_heads r = heads_fixture_reference(f);
    for (size_t i = 0; i < seen->n * d; i++)
        hidden[i] = (double)seen->hidden[i / d][i % d];
    for (size_t i = 0; i + 1 < seen->n; i++)
        reference_embedding(model, seen->tokens[i + 1], after + i * d);
    for (size_t k = 0; k < n; k++)
        reference_embedding(model, path[k], e + k * d);
    reference_state(&r, &rows, e, n, z);
    gg_free(hidden);
}

// log q over the draft vocabulary there.
static inline void reference_log_q(const gorgon_model *model, const heads_fixture *f,
                                   const gg_observation *seen, const gorgon_token *path, size_t n,
                                   double *log_q)
{
    const size_t d = f->source.shape.d_model, n_draft = f->source.shape.n_draft;
    double *z = gg_alloc(d, sizeof *z), sum = 0.0;
    float *row = gg_alloc(d, sizeof *row);
    reference_path(model, f, seen, path, n, z);
    for (size_t o = 0; o < n_draft; o++) {
        gg_matrix_row(gg_model_output(model), f->ids[o], row);
        log_q[o] = 0.0;
        for (size_t i = 0; i < d; i++)
            log_q[o] += (double)row[i] * z[i];
        sum += exp(log_q[o]);
    }
    for (size_t o = 0; o < n_draft; o++)
        log_q[o] -= log(sum);
    gg_free(z);
    gg_free(row);
}

static inline double log_q_of(const setting *t, const double *log_q, gorgon_token token)
{
    for (size_t o = 0; o < DRAFT; o++) {
        if (t->f.ids[o] == (uint32_t)token)
            return log_q[o];
    }
    cr_assert_fail("token %d is not in the draft vocabulary", token);
    return 0.0;
}

static inline double deviation(const double *x, size_t n)
{
    double sum = 0.0, square = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += x[i];
        square += x[i] * x[i];
    }
    return sqrt(square / (double)n - sum * sum / (double)(n * n));
}

// The node's children are what the definition says, and the best of all.
static inline void check_node(const setting *t, const gg_draft_tree *tree, uint32_t node,
                              const gg_observation *seen, const gg_edge *edges, size_t n)
{
    gorgon_token path[DEPTHS];
    double log_q[DRAFT], last = 0.0;
    const size_t depth = tree->depth[node];
    for (size_t i = depth + 1, at = node; i-- > 0; at = (size_t)tree->parent[at])
        path[i] = tree->token[at];
    reference_log_q(t->model, &t->f, seen, path, depth + 1, log_q);
    const double tolerance = t->tolerance * deviation(log_q, DRAFT);
    cr_assert_eq(n, EDGES);
    for (size_t i = 0; i < n; i++) {
        last = log_q_of(t, log_q, edges[i].token);
        cr_assert_float_eq((double)edges[i].score, last, tolerance,
                           "depth %zu, rank %zu: %g, expected %g", depth, i, (double)edges[i].score,
                           last);
        cr_assert(edges[i].parent == node && edges[i].rank == i);
    }
    size_t better = 0;
    for (size_t o = 0; o < DRAFT; o++)
        better += log_q[o] > last + tolerance;
    cr_assert_lt(better, EDGES);
}

// A token that no head of the set can name.
static inline gorgon_token foreign_token(const setting *t)
{
    const gorgon_token token = (gorgon_token)t->f.ids[0] + 1;
    cr_assert_neq((uint32_t)token, t->f.ids[1]);
    return token;
}

// A tree and what the heads said of the children of its nodes.
typedef struct drafted {
    gg_draft_tree tree;
    size_t inner; // nodes that have children
    float score[GG_MAX_TREE_NODES][EDGES];
} drafted;

// Asks for the children of every node of a tree: the first `named` ones of each node, and one
// that somebody else named. Compares with the definition unless seen is NULL.
static inline void walk(const setting *t, const gg_proposer *p, const gg_draft *draft,
                        const gg_observation *seen, size_t named, drafted *out)
{
    gg_edge edges[EDGES];
    gg_draft_tree *tree = &out->tree;
    memset(out, 0, sizeof *out);
    *tree = (gg_draft_tree){.n = 1, .token = {draft->root}, .parent = {-1}};
    for (uint32_t node = 0; node < tree->n; node++) {
        const size_t n = p->ops->expand(p, draft, tree, &node, 1, edges, EDGES);
        if (n == 0)
            continue;
        out->inner++;
        cr_assert_lt(tree->depth[node], DEPTHS);
        if (seen)
            check_node(t, tree, node, seen, edges, n);
        for (size_t i = 0; i < n; i++)
            out->score[node][i] = edges[i].score;
        for (size_t i = 0; i <= named; i++) {
            const size_t child = tree->n++;
            tree->token[child] = i < named ? edges[i].token : foreign_token(t);
            tree->parent[child] = (int32_t)node;
            tree->depth[child] = (uint16_t)(tree->depth[node] + 1);
        }
    }
}

#endif
