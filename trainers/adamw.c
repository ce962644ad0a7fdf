// AdamW and its schedule. Sums run over fixed blocks, so they do not depend on the thread count.
#include "trainers/adamw.h"

#include <math.h>

#include "core/math.h"

enum {
    NORM_BLOCK = 4096, // parameters per partial sum of the gradient norm
    LANES = 16,        // elements per inner loop, a constant for the vectoriser
};

typedef struct update {
    const gg_adamw *state;
    float beta1, beta2, keep1, keep2;
    float clip;  // factor on the gradient
    float rate1; // learning rate / bias correction of the first moment
    float root2; // 1 / bias correction of the second moment
    float epsilon;
    float decay; // learning rate * weight decay
    size_t n_decayed;
} update;

size_t gg_adamw_partials(size_t n)
{
    return n / NORM_BLOCK + 1;
}

static void norm_part(void *context, size_t thread, size_t n_threads)
{
    const gg_adamw *s = context;
    size_t begin, end;
    gg_team_share(s->n, NORM_BLOCK, thread, n_threads, &begin, &end);
    for (size_t block = begin; block < end; block += NORM_BLOCK) {
        size_t stop = block + NORM_BLOCK < end ? block + NORM_BLOCK : end;
        double lanes[4] = {0};
        for (size_t i = block; i < stop; i++)
            lanes[i % 4] += (double)s->gradient[i] * (double)s->gradient[i];
        s->partial[block / NORM_BLOCK] = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
    }
}

static double gradient_norm(gg_team *team, const gg_adamw *state)
{
    gg_adamw copy = *state;
    gg_team_run(team, norm_part, &copy);
    double sum = 0.0;
    for (size_t block = 0; block * NORM_BLOCK < state->n; block++)
        sum += state->partial[block];
    return isfinite(sum) ? gg_sqrt(sum) : sum;
}

static inline void update_element(const update *u, float decay, float *p, float *m, float *v,
                                  float gradient)
{
    float g = gradient * u->clip;
    *m = u->beta1 * *m + u->keep1 * g;
    *v = u->beta2 * *v + u->keep2 * (g * g);
    *p -= u->rate1 * *m / (sqrtf(*v * u->root2) + u->epsilon) + decay * *p;
}

static void update_range(const update *u, size_t begin, size_t end, float decay)
{
    const gg_adamw *s = u->state;
    const update local = *u;
    size_t i = begin;
    for (; i + LANES <= end; i += LANES) {
        float *restrict p = s->parameters + i, *restrict m = s->first + i;
        float *restrict v = s->second + i;
        const float *restrict g = s->gradient + i;
        for (size_t j = 0; j < LANES; j++)
            update_element(&local, decay, p + j, m + j, v + j, g[j]);
    }
    for (; i < end; i++)
        update_element(&local, decay, s->parameters + i, s->first + i, s->second + i,
                       s->gradient[i]);
}

static void update_part(void *context, size_t thread, size_t n_threads)
{
    const update *u = context;
    size_t begin, end;
    gg_team_share(u->state->n, LANES, thread, n_threads, &begin, &end);
    size_t middle = u->n_decayed < begin ? begin : u->n_decayed > end ? end : u->n_decayed;
    update_range(u, begin, middle, u->decay);
    update_range(u, middle, end, 0.0f);
}

static double power(double base, uint64_t exponent)
{
    return gg_exp((double)exponent * gg_log(base));
}

double gg_adamw_step(gg_team *team, const gg_adamw_options *o, const gg_adamw *state, uint64_t step,
                     double learning_rate)
{
    double norm = gradient_norm(team, state);
    if (!isfinite(norm))
        return norm;
    update u = {.state = state, .n_decayed = o->n_decayed};
    u.beta1 = (float)o->beta1;
    u.beta2 = (float)o->beta2;
    u.keep1 = (float)(1.0 - o->beta1);
    u.keep2 = (float)(1.0 - o->beta2);
    u.clip = o->clip > 0.0 && norm > o->clip ? (float)(o->clip / norm) : 1.0f;
    u.rate1 = (float)(learning_rate / (1.0 - power(o->beta1, step)));
    u.root2 = (float)(1.0 / (1.0 - power(o->beta2, step)));
    u.epsilon = (float)o->epsilon;
    u.decay = (float)(learning_rate * o->weight_decay);
    gg_team_run(team, update_part, &u);
    return norm;
}

double gg_learning_rate(double peak, uint64_t warmup, uint64_t total, uint64_t step)
{
    const double pi = 3.14159265358979323846;
    if (step <= warmup)
        return peak * (double)step / (double)warmup;
    if (step >= total)
        return 0.0;
    double sine, cosine;
    gg_sincos(pi * (double)(step - warmup) / (double)(total - warmup), &sine, &cosine);
    return peak * 0.5 * (1.0 + cosine);
}
