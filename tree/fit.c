// Fit of a conditional logit: Newton steps on the ridge-penalised log-likelihood, halved while they
// do not improve it. Terms are sparse: an edge has those of its namers only.
#include <assert.h>
#include <string.h>

#include "core/alloc.h"
#include "core/math.h"
#include "tree/calibration.h"

enum { F = GG_WEIGHTS, ITERATIONS = 40, MOST_SIBLINGS = GG_MAX_CHILDREN * GG_MAX_PROPOSERS };
static const double ridge = 1.0; // in observations: negligible once hundreds are there

// ---- examples

// A block of at least `needed` elements, or NULL, and then the old one is still there.
static void *grown(void *block, size_t *capacity, size_t needed, size_t size)
{
    if (needed <= *capacity)
        return block;
    size_t more = *capacity ? 2 * *capacity : 4096;
    void *larger = gg_realloc(block, *capacity, more, size);
    if (larger)
        *capacity = more;
    return larger;
}

bool gg_examples_add(gg_examples *e, const gg_term *terms, gg_example_edge edge)
{
    assert(edge.n_terms <= 4096); // fits after one doubling
    gg_term *all = grown(e->terms, &e->term_capacity, e->n_terms + edge.n_terms, sizeof *all);
    if (!all)
        return false;
    e->terms = all;
    gg_example_edge *edges = grown(e->edges, &e->edge_capacity, e->n_edges + 1, sizeof *edges);
    if (!edges)
        return false;
    e->edges = edges;
    memcpy(e->terms + e->n_terms, terms, edge.n_terms * sizeof *terms);
    e->n_terms += edge.n_terms;
    e->edges[e->n_edges++] = edge;
    return true;
}

void gg_examples_free(gg_examples *e)
{
    gg_free(e->terms);
    gg_free(e->edges);
    *e = (gg_examples){0};
}

// ---- fit

// One parent's children: terms, log-odds, then probabilities.
typedef struct family {
    const gg_example_edge *edges; // [n]
    const gg_term *terms;         // [n_terms] of all edges
    size_t n, n_terms;
    double p[MOST_SIBLINGS];
    double surprise; // minus the log of the probability of what happened
} family;

typedef struct logit {
    const gg_examples *examples;
    bool held[F]; // weights that stay 0
    double gradient[F];
    double hessian[F][F]; // lower triangle
} logit;

// The next parent's children from *edge and *term on, which move behind them; false at the end.
static bool next_family(const gg_examples *e, const double *w, size_t *edge, size_t *term,
                        family *f)
{
    double happened = 0.0; // log-odds of it; none of the children: 0
    f->edges = e->edges + *edge;
    f->terms = e->terms + *term;
    f->n = f->n_terms = 0;
    for (bool last = false; *edge < e->n_edges && !last; ++*edge) {
        const gg_example_edge *child = &e->edges[*edge];
        assert(f->n < MOST_SIBLINGS);
        double sum = 0.0;
        for (size_t i = 0; i < child->n_terms; i++, f->n_terms++)
            sum += w[f->terms[f->n_terms].index] * (double)f->terms[f->n_terms].value;
        f->p[f->n++] = sum;
        if (child->accepted)
            happened = sum;
        last = child->last;
    }
    *term += f->n_terms;
    f->surprise = gg_choose(f->p, f->n) - happened;
    return f->n > 0;
}

// Negative penalised log-likelihood.
static double loss(const logit *fit, const double *w)
{
    double sum = 0.0;
    for (size_t i = 1; i < F; i++) // the first, the bias, is free
        sum += 0.5 * ridge * w[i] * w[i];
    family f;
    for (size_t edge = 0, term = 0; next_family(fit->examples, w, &edge, &term, &f);)
        sum += f.surprise;
    return sum;
}

// Adds a family: of the gradient sum (p - accepted) x, of the Hessian the covariance of x.
static void add_family(logit *fit, const family *f)
{
    double mean[F] = {0};
    const gg_term *t = f->terms;
    for (size_t i = 0; i < f->n; t += f->edges[i++].n_terms) {
        double p = f->p[i], residual = p - (f->edges[i].accepted ? 1.0 : 0.0);
        for (size_t a = 0; a < f->edges[i].n_terms; a++) {
            double x = (double)t[a].value;
            fit->gradient[t[a].index] += residual * x;
            mean[t[a].index] += p * x;
            for (size_t b = 0; b < f->edges[i].n_terms; b++) {
                if (t[b].index <= t[a].index)
                    fit->hessian[t[a].index][t[b].index] += p * x * (double)t[b].value;
            }
        }
    }
    for (size_t a = 0; a < F; a++) {
        for (size_t b = 0; b <= a && mean[a] != 0.0; b++)
            fit->hessian[a][b] -= mean[a] * mean[b];
    }
}

static void derive(logit *fit, const double *w)
{
    memset(fit->gradient, 0, sizeof fit->gradient);
    memset(fit->hessian, 0, sizeof fit->hessian);
    family f;
    for (size_t edge = 0, term = 0; next_family(fit->examples, w, &edge, &term, &f);)
        add_family(fit, &f);
    for (size_t a = 0; a < F; a++) {
        double penalty = a == 0 ? 1e-6 : ridge;
        fit->gradient[a] += penalty * w[a];
        fit->hessian[a][a] += penalty;
    }
    for (size_t a = 0; a < F; a++) {
        for (size_t b = 0; b <= a; b++) {
            if (fit->held[a] || fit->held[b])
                fit->hessian[a][b] = a == b ? 1.0 : 0.0;
        }
        if (fit->held[a])
            fit->gradient[a] = 0.0;
    }
}

// Solves a x = b in place (x replaces b) for a positive definite a given by its lower triangle.
static bool cholesky_solve(double a[F][F], double *b)
{
    for (size_t j = 0; j < F; j++) {
        for (size_t k = 0; k < j; k++)
            a[j][j] -= a[j][k] * a[j][k];
        if (!(a[j][j] > 1e-12))
            return false;
        a[j][j] = gg_sqrt(a[j][j]);
        for (size_t i = j + 1; i < F; i++) {
            for (size_t k = 0; k < j; k++)
                a[i][j] -= a[i][k] * a[j][k];
            a[i][j] /= a[j][j];
        }
    }
    for (size_t i = 0; i < F; i++) {
        for (size_t k = 0; k < i; k++)
            b[i] -= a[i][k] * b[k];
        b[i] /= a[i][i];
    }
    for (size_t i = F; i-- > 0;) {
        for (size_t k = i + 1; k < F; k++)
            b[i] -= a[k][i] * b[k];
        b[i] /= a[i][i];
    }
    return true;
}

// One damped Newton step; false when nothing improves any more.
static bool newton_step(logit *fit, double *w, double *current)
{
    derive(fit, w);
    if (!cholesky_solve(fit->hessian, fit->gradient))
        return false;
    for (double factor = 1.0; factor > 1e-3; factor *= 0.5) {
        double next[F];
        for (size_t i = 0; i < F; i++)
            next[i] = w[i] - factor * fit->gradient[i];
        double value = loss(fit, next);
        if (value < *current) {
            bool going_on = *current - value > 1e-9 * (1.0 + *current);
            memcpy(w, next, sizeof next);
            *current = value;
            return going_on;
        }
    }
    return false;
}

static void minimise(logit *fit, double *w)
{
    memset(w, 0, F * sizeof *w);
    double current = loss(fit, w);
    for (size_t i = 0; i < ITERATIONS && newton_step(fit, w, &current); i++)
        continue;
}

// Holds scores with negative weights at 0; true if there are new ones.
static bool hold_scores(logit *fit, const double *w)
{
    bool any = false;
    for (size_t p = 0; p < GG_MAX_PROPOSERS; p++) {
        size_t score = gg_said_place(p) + 1;
        any = any || w[score] < 0.0;
        fit->held[score] = fit->held[score] || w[score] < 0.0;
    }
    return any;
}

bool gg_calibration_fit(const gg_examples *e, float weights[GG_WEIGHTS])
{
    logit *fit = gg_alloc(1, sizeof *fit);
    double w[F];
    if (!fit)
        return false;
    fit->examples = e;
    do
        minimise(fit, w);
    while (hold_scores(fit, w));
    for (size_t i = 0; i < F; i++)
        weights[i] = (float)w[i];
    gg_free(fit);
    return true;
}
