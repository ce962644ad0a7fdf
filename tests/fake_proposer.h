// Proposers whose edges are a pure function of their settings, and trees that grow from them.
#ifndef FAKE_PROPOSER_H
#define FAKE_PROPOSER_H

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "grow.h"

// Children of a node at depth d: tokens base * (d + 1) + rank, with scores that the plain
// calibration (score taken as log-odds against "none of them") turns into probabilities first *
// ratio^rank for a proposer that is alone, as long as these sum to less than 1.
typedef struct fake_settings {
    size_t n_children;
    double first, ratio;
    gorgon_token base;
} fake_settings;

static inline size_t fake_expand(const gg_proposer *p, const gg_draft *draft,
                                 const gg_draft_tree *tree, const uint32_t *parents,
                                 size_t n_parents, gg_edge *edges, size_t capacity)
{
    const fake_settings *f = p->self;
    (void)draft;
    size_t n = 0;
    double none = 1.0;
    for (size_t r = 0; r < f->n_children; r++)
        none -= f->first * pow(f->ratio, (double)r);
    for (size_t i = 0; i < n_parents; i++) {
        for (size_t r = 0; r < f->n_children && n < capacity; r++) {
            double probability = f->first * pow(f->ratio, (double)r);
            gorgon_token token = f->base * (tree->depth[parents[i]] + 1) + (gorgon_token)r;
            edges[n++] = (gg_edge){.parent = parents[i],
                                   .token = token,
                                   .score = (float)log(probability / none),
                                   .rank = (uint16_t)r};
        }
    }
    return n;
}

static const gg_proposer_ops fake_ops = {.expand = fake_expand};

// Up to two proposers with equal settings and two streams with nothing but a root.
typedef struct nursery {
    gg_plan plan;
    gg_proposer proposer[2];
    fake_settings settings[2];
    gg_grower grower;
    gg_draft_tree tree[2];
    gorgon_sampling sampling;
    gg_draft draft;
    gg_sprout sprout[2];
} nursery;

static inline void plant_nursery(nursery *n, size_t n_proposers, size_t max_nodes)
{
    memset(n, 0, sizeof *n);
    gorgon_sampling_init(&n->sampling);
    n->draft = (gg_draft){.root = 1, .root_position = 5, .sampling = &n->sampling};
    n->plan.n_proposers = n_proposers;
    n->grower.n_proposers = n_proposers;
    n->grower.plan = &n->plan;
    for (size_t i = 0; i < n_proposers; i++) {
        n->settings[i] = (fake_settings){4, 0.5, 0.5, 100};
        n->proposer[i] = (gg_proposer){"fake", 8, &n->settings[i], NULL, &fake_ops};
        n->grower.proposer[i] = &n->proposer[i];
        for (size_t c = 0; c < 2 * GG_CALIBRATION_DEPTHS; c++) // odds = e^score
            n->grower.calibration.w[c % 2][c / 2][gg_said_place(i) + 1] = 1.0f;
    }
    for (size_t i = 0; i < 2; i++) {
        gg_tree_init(&n->tree[i], 1);
        n->sprout[i] = (gg_sprout){&n->tree[i], {&n->draft, &n->draft}, 8, 100};
    }
    cr_assert_eq(gg_grower_create(&n->grower, max_nodes, 2, NULL), GORGON_OK);
}

#endif
