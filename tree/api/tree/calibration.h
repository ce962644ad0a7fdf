// Calibration: from what the proposers say about the children of a node to the probability that
// each is accepted given that the node is. At most one child can be: a conditional logit, in which
// every named token competes with its siblings and with "none of them". An edge's log-odds against
// "none" are a weighted sum of terms: what holds of the edge whoever names it, what each proposer
// that names it says, and for each pair of proposers that they agree, and how sure they are. So a
// confident sibling lowers an edge, agreement raises it, and a proposer that is not asked is
// absent. Weights per temperature class and depth class; they travel in the heads file.
#ifndef GG_TREE_CALIBRATION_H
#define GG_TREE_CALIBRATION_H

#include "heads/proposer.h"

enum {
    GG_SHARED = 4,             // terms of an edge: 1, log of the path probability, noise, depth
    GG_SAID = 3 + GG_EVIDENCE, // terms per proposer: 1, score, log1p(rank), evidence
    GG_AGREED = 3,             // terms per pair: 1, scores of the first and the second
    GG_PAIRS = GG_MAX_PROPOSERS * (GG_MAX_PROPOSERS - 1) / 2,
    GG_WEIGHTS = GG_SHARED + GG_MAX_PROPOSERS * GG_SAID + GG_PAIRS * GG_AGREED,
    GG_CALIBRATION_DEPTHS = 4, // classes: depth 1, 2, 3, 4 and deeper
    GG_CALIBRATION_VERSION = 2,
};

// One summand of an edge's log-odds: w[index] * value.
typedef struct gg_term {
    uint32_t index; // below GG_WEIGHTS
    float value;
} gg_term;

// Weights for a list of proposers; places of absent ones are 0.
typedef struct gg_calibration {
    float w[2][GG_CALIBRATION_DEPTHS][GG_WEIGHTS]; // [0 greedy, 1 sampled][depth class][term]
} gg_calibration;

// Who named an edge so far. Zero-initialise.
typedef struct gg_namers {
    uint32_t set; // of proposers, by bits
    float score[GG_MAX_PROPOSERS];
    uint16_t rank[GG_MAX_PROPOSERS];
} gg_namers;

size_t gg_depth_class(size_t depth); // depth >= 1
// Places of weights; proposers count from 0 in the order of the decoder's list.
size_t gg_said_place(size_t proposer);
size_t gg_agreed_place(size_t first, size_t second); // first < second

// Terms that do not depend on who names the edge; noise is the Gumbel noise of the token at its
// position, 0 when greedy. Wild values are clamped.
void gg_shared_terms(size_t depth, float parent_path, float noise, gg_term terms[GG_SHARED]);
// Terms that `proposer` adds by naming the edge after `namers`, whom it joins; none if it is one
// of them. First the GG_SAID of its own, then those of agreement; at most GG_WEIGHTS with those of
// all others together. Returns how many.
size_t gg_said_terms(size_t proposer, const gg_edge *edge, gg_namers *namers, gg_term *terms);
double gg_log_odds(const float weights[GG_WEIGHTS], const gg_term *terms, size_t n);
// Log-odds of siblings -> their probabilities, in place. Returns log(1 + the sum of their odds):
// minus the log of the probability that none is accepted.
double gg_choose(double *siblings, size_t n);

// Weights for these proposers: what `packed` (from a heads file; may be NULL, unreadable or of
// another version) knows of them, else the built-in priors, else the score taken as log-odds.
void gg_calibration_resolve(const float *packed, size_t n, const char *const *names, size_t n_names,
                            gg_calibration *out);
// Serialised form for heads files.
size_t gg_calibration_floats(size_t n_names);
void gg_calibration_pack(const char *const *names, size_t n_names,
                         const gg_calibration *calibration, float *out);

// Examples for a fit: the edges that were named below parents on the true path. Zero-initialise.
typedef struct gg_example_edge {
    uint32_t n_terms; // they follow those of the edge before
    bool accepted;
    bool last; // of its siblings
} gg_example_edge;
typedef struct gg_examples {
    gg_term *terms;
    gg_example_edge *edges;
    size_t n_terms, n_edges, term_capacity, edge_capacity;
} gg_examples;
bool gg_examples_add(gg_examples *e, const gg_term *terms,
                     gg_example_edge edge); // false: no memory
void gg_examples_free(gg_examples *e);      // what it holds, not e itself

// The likeliest weights under a ridge prior. Terms that no example has get 0, and no weight of a
// score turns negative: a better score must never mean a worse chance. False when out of memory.
bool gg_calibration_fit(const gg_examples *e, float weights[GG_WEIGHTS]);

#endif
