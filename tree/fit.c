// Logistic regression by iteratively reweighted least squares: Newton steps on the ridge-penalised
// log-likelihood, halved while they do not improve it.
#include <string.h>

#include "core/math.h"
#include "numeric.h"
#include "tree/calibration.h"

enum { F = GG_FEATURES, ITERATIONS = 40, SCORE_FEATURE = 1 };
static const double ridge = 1.0; // in observations: negligible once hundreds are there

typedef struct sample_set {
    const float *features; // [n][F]
    const uint8_t *accepted;
    size_t n;
    bool without_score; // the score's weight is held at zero
} sample_set;

static double dot(const double *w, const float *x)
{
    double sum = 0.0;
    for (size_t i = 0; i < F; i++)
        sum += w[i] * (double)x[i];
    return sum;
}

// Negative penalised log-likelihood.
static double loss(const sample_set *s, const double *w)
{
    double sum = 0.0;
    for (size_t i = 1; i < F; i++)
        sum += 0.5 * ridge * w[i] * w[i];
    for (size_t i = 0; i < s->n; i++) {
        double z = dot(w, s->features + i * F);
        double a = z < 0.0 ? -z : z; // log(1 + e^z) = max(z, 0) + log(1 + e^-|z|)
        sum += gg_log(1.0 + gg_exp(-a)) + (z > 0.0 ? z : 0.0);
        sum -= s->accepted[i] ? z : 0.0;
    }
    return sum;
}

// gradient[F] and the lower triangle of hessian[F][F] of the loss.
static void derivatives(const sample_set *s, const double *w, double *gradient,
                        double hessian[F][F])
{
    memset(gradient, 0, F * sizeof *gradient);
    memset(hessian, 0, sizeof(double[F][F]));
    for (size_t i = 0; i < s->n; i++) {
        const float *x = s->features + i * F;
        double p = gg_num_sigmoid(dot(w, x));
        double residual = p - (s->accepted[i] ? 1.0 : 0.0);
        double weight = p * (1.0 - p);
        for (size_t a = 0; a < F; a++) {
            gradient[a] += residual * (double)x[a];
            for (size_t b = 0; b <= a; b++)
                hessian[a][b] += weight * (double)x[a] * (double)x[b];
        }
    }
    for (size_t a = 0; a < F; a++) {
        double penalty = a == 0 ? 1e-6 : ridge; // the bias is free
        gradient[a] += penalty * w[a];
        hessian[a][a] += penalty;
    }
    if (s->without_score) {
        gradient[SCORE_FEATURE] = 0.0;
        for (size_t i = 0; i < F; i++) {
            if (i <= SCORE_FEATURE)
                hessian[SCORE_FEATURE][i] = 0.0;
            if (i > SCORE_FEATURE)
                hessian[i][SCORE_FEATURE] = 0.0;
        }
        hessian[SCORE_FEATURE][SCORE_FEATURE] = 1.0;
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
static bool newton_step(const sample_set *s, double *w, double *current)
{
    double step[F], hessian[F][F];
    derivatives(s, w, step, hessian);
    if (!cholesky_solve(hessian, step))
        return false;
    for (double factor = 1.0; factor > 1e-3; factor *= 0.5) {
        double next[F];
        for (size_t i = 0; i < F; i++)
            next[i] = w[i] - factor * step[i];
        double value = loss(s, next);
        if (value < *current) {
            bool going_on = *current - value > 1e-9 * (1.0 + *current);
            memcpy(w, next, sizeof next);
            *current = value;
            return going_on;
        }
    }
    return false;
}

static void minimise(const sample_set *s, double *w)
{
    memset(w, 0, F * sizeof *w);
    double current = loss(s, w);
    for (size_t i = 0; i < ITERATIONS && newton_step(s, w, &current); i++)
        continue;
}

void gg_calibration_fit(const float *features, const uint8_t *accepted, size_t n,
                        float weights[GG_FEATURES])
{
    sample_set s = {.features = features, .accepted = accepted, .n = n};
    double w[F];
    minimise(&s, w);
    if (w[SCORE_FEATURE] < 0.0) { // a better score must never mean a worse chance
        s.without_score = true;
        minimise(&s, w);
    }
    for (size_t i = 0; i < F; i++)
        weights[i] = (float)w[i];
}
