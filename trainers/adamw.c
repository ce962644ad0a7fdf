// AdamW and its schedule. Sums run over fixed blocks, so they do not depend on the thread count.
#include "trainers/adamw.h"

#include <math.h>

#include "core/math.h"

enum {
    NORM_BLOCK = 4096, // parameters per partial sum of the gradient norm
    LINE = 16,         // floats of a cache line
};

typedef struct update {
    const gg_adamw *state;
    const gg_kernels *kernels;
    gg_adamw_constants constants;
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

static void update_range(const update *u, size_t begin, size_t end, bool decayed)
{
    const gg_adamw *s = u->state;
    gg_adamw_constants c = u->constants;
    if (!decayed)
        c.decay = 0.0f;
    u->kernels->adamw(&c, s->gradient + begin, end - begin, s->parameters + begin, s->first + begin,
                      s->second + begin);
}

static void update_part(void *context, size_t thread, size_t n_threads)
{
    const update *u = context;
    size_t begin, end;
    gg_team_share(u->state->n, LINE, thread, n_threads, &begin, &end);
    size_t middle = u->n_decayed < begin ? begin : u->n_decayed > end ? end : u->n_decayed;
    update_range(u, begin, middle, true);
    update_range(u, middle, end, false);
}

static double power(double base, uint64_t exponent)
{
    return gg_exp((double)exponent * gg_log(base));
}

double gg_adamw_step(gg_team *team, const gg_kernels *kernels, const gg_adamw_options *o,
                     const gg_adamw *state, uint64_t step, double learning_rate)
{
    double norm = gradient_norm(team, state);
    if (!isfinite(norm))
        return norm;
    update u = {.state = state, .kernels = kernels, .n_decayed = o->n_decayed};
    gg_adamw_constants *c = &u.constants;
    c->beta1 = (float)o->beta1;
    c->beta2 = (float)o->beta2;
    c->keep1 = (float)(1.0 - o->beta1);
    c->keep2 = (float)(1.0 - o->beta2);
    c->clip = o->clip > 0.0 && norm > o->clip ? (float)(o->clip / norm) : 1.0f;
    c->rate1 = (float)(learning_rate / (1.0 - power(o->beta1, step)));
    c->root2 = (float)(1.0 / (1.0 - power(o->beta2, step)));
    c->epsilon = (float)o->epsilon;
    c->decay = (float)(learning_rate * o->weight_decay);
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
