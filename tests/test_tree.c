// Topology, static trees, and growth with fake proposers.
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/alloc.h"
#include "fake_proposer.h"
#include "gorgon/decode.h"

// ---- topology

Test(topology, children_and_prefixes)
{
    gg_draft_tree t;
    gg_tree_init(&t, 7);
    cr_assert(gg_tree_valid(&t));
    int32_t a = gg_tree_add(&t, 0, 10, 0.5f, 1, 0);
    int32_t b = gg_tree_add(&t, 0, 11, 0.25f, 1, 1);
    int32_t c = gg_tree_add(&t, (uint32_t)a, 10, 0.5f, 2, 0);
    cr_assert(a == 1 && b == 2 && c == 3 && gg_tree_valid(&t));
    cr_assert_eq(t.depth[c], 2);
    cr_assert_float_eq(t.path[c], 0.25f, 0.0f);
    cr_assert_eq(gg_tree_child(&t, 0, 11), b);
    cr_assert_eq(gg_tree_child(&t, (uint32_t)a, 10), c);
    cr_assert_eq(gg_tree_child(&t, (uint32_t)b, 10), GG_NO_NODE);
    gg_tree_truncate(&t, 3);
    cr_assert(gg_tree_valid(&t));
    cr_assert_eq(gg_tree_child(&t, (uint32_t)a, 10), GG_NO_NODE);
}

Test(topology, invalid_trees_are_recognised)
{
    gg_draft_tree t;
    gg_tree_init(&t, 1);
    gg_tree_add(&t, 0, 5, 0.5f, 1, 0);
    gg_tree_add(&t, 0, 5, 0.5f, 1, 1); // the same child twice
    cr_assert_not(gg_tree_valid(&t));
    t.token[2] = 6;
    cr_assert(gg_tree_valid(&t));
    t.parent[1] = 2; // parent after child
    cr_assert_not(gg_tree_valid(&t));
}

Test(topology, limits)
{
    gg_draft_tree t;
    gg_tree_init(&t, 1);
    int32_t node = 0;
    for (int i = 0; i < GG_MAX_DRAFT_DEPTH; i++)
        node = gg_tree_add(&t, (uint32_t)node, 5, 1.0f, 1, 0);
    cr_assert_eq(node, GG_MAX_DRAFT_DEPTH);
    cr_assert_eq(gg_tree_add(&t, (uint32_t)node, 5, 1.0f, 1, 0), GG_NO_NODE);
    for (int i = GG_MAX_DRAFT_DEPTH + 1; i < GG_MAX_TREE_NODES; i++)
        cr_assert_neq(gg_tree_add(&t, 0, 100 + i, 0.0f, 1, 0), GG_NO_NODE);
    cr_assert_eq(gg_tree_add(&t, 0, 99, 0.0f, 1, 0), GG_NO_NODE);
}

// ---- static trees

static gorgon_status parse(const char *json, gg_static_tree *t, gorgon_error *err)
{
    *err = (gorgon_error){0};
    return gg_static_tree_parse(json, strlen(json), "t.json", t, err);
}

Test(static_tree, order_and_implied_prefixes)
{
    gg_static_tree t;
    gorgon_error err;
    cr_assert_eq(parse("[[1,0,2], [0,0],[0], [0,1], [0]]", &t, &err), GORGON_OK);
    cr_assert_eq(t.n, 7); // root, [0], [1], [0,0], [0,1], [1,0], [1,0,2]
    const uint16_t parent[] = {0, 0, 0, 1, 1, 2, 5}, rank[] = {0, 0, 1, 0, 1, 0, 2},
                   depth[] = {0, 1, 1, 2, 2, 2, 3};
    cr_assert_arr_eq(t.parent, parent, sizeof parent);
    cr_assert_arr_eq(t.rank, rank, sizeof rank);
    cr_assert_arr_eq(t.depth, depth, sizeof depth);
}

Test(static_tree, medusa_choices)
{
    // mc_sim_7b_63 begins so; every prefix is listed.
    const char *json = "[[0], [0, 0], [1], [0, 1], [2], [0, 0, 0], [1, 0], [0, 2], [3], [0, 3],"
                       "[4], [0, 4], [2, 0], [0, 5], [0, 0, 1], [5], [0, 6], [6], [0, 7]]";
    gg_static_tree t;
    gorgon_error err;
    cr_assert_eq(parse(json, &t, &err), GORGON_OK);
    cr_assert_eq(t.n, 20);
    for (size_t i = 1; i < t.n; i++)
        cr_assert(t.parent[i] < i && t.depth[i] == t.depth[t.parent[i]] + 1);
}

Test(static_tree, errors_name_the_place)
{
    const struct {
        const char *json, *needle;
    } cases[] = {
        {"[[0],[16]]", "path 1, rank 0 is not an integer from 0 to 15"},
        {"[[0],[0,-1]]", "path 1, rank 1"},
        {"[[0],[0,1.5]]", "path 1, rank 1"},
        {"[[0],[]]", "path 1 has 0 ranks"},
        {"[[0],3]", "path 1 has 0 ranks"},
        {"[]", "non-empty list"},
        {"{\"a\":1}", "non-empty list"},
        {"[[0],[0,", "line 1"},
        {"", "line 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gg_static_tree t;
        gorgon_error err;
        cr_assert_eq(parse(cases[i].json, &t, &err), GORGON_ERROR_FORMAT, "%s", cases[i].json);
        cr_assert(strstr(err.message, cases[i].needle), "%s: %s", cases[i].json, err.message);
        cr_assert(strstr(err.message, "t.json"));
    }
}

Test(static_tree, size_caps)
{
    static char json[64 * 1024];
    size_t used = 0;
    gg_static_tree t;
    gorgon_error err;
    used += (size_t)snprintf(json, sizeof json, "[[0");
    for (int i = 1; i <= GG_MAX_DRAFT_DEPTH; i++)
        used += (size_t)snprintf(json + used, sizeof json - used, ",0");
    snprintf(json + used, sizeof json - used, "]]");
    cr_assert_eq(parse(json, &t, &err), GORGON_ERROR_FORMAT);
    cr_assert(strstr(err.message, "33 ranks"), "%s", err.message);

    used = (size_t)snprintf(json, sizeof json, "[[0]");
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 16; b++)
            for (int c = 0; c < 16; c++)
                used += (size_t)snprintf(json + used, sizeof json - used, ",[%d,%d,%d]", a, b, c);
    snprintf(json + used, sizeof json - used, "]");
    cr_assert_eq(parse(json, &t, &err), GORGON_ERROR_FORMAT);
    cr_assert(strstr(err.message, "more than 511 draft nodes"), "%s", err.message);
}

Test(static_tree, calibrated_from_acceptance)
{
    gorgon_telemetry t = {.proposer = "heads"};
    const uint64_t accepted[2][3] = {{600, 200, 100}, {500, 100, 0}};
    for (size_t d = 0; d < 2; d++) {
        for (size_t r = 0; r < 3; r++) {
            t.offered[d][r] = 999;
            t.accepted[d][r] = accepted[d][r];
        }
    }
    char *json = NULL;
    gorgon_error err = {0};
    // .6, .6 * .5, .2, .1 (rank 2, a tie with .2 * .5 goes to the earlier parent), then the rest.
    cr_assert_eq(gorgon_tree_calibrate(&t, 4, &json, &err), GORGON_OK);
    cr_assert_str_eq(json, "[[0],[0,0],[1],[2]]");
    gorgon_free(json);
    cr_assert_eq(gorgon_tree_calibrate(&t, 500, &json, &err), GORGON_OK); // all there are
    gg_static_tree shape;
    cr_assert_eq(parse(json, &shape, &err), GORGON_OK);
    cr_assert_eq(shape.n, 1 + 3 + 3 * 2);
    gorgon_free(json);
    memset(t.accepted, 0, sizeof t.accepted);
    cr_assert_eq(gorgon_tree_calibrate(&t, 4, &json, &err), GORGON_ERROR_ARGUMENT);
    cr_assert(json == NULL && strstr(err.message, "heads"));
}

// ---- growth

// Best achievable sum of path probabilities of n nodes when a node of edges e1, e2, ... may have
// children first * ratio^rank: enumerate all paths up to depth 4, 4 children, sort.
static double best_sum(size_t n_nodes)
{
    double all[4 + 16 + 64 + 256];
    size_t n = 0;
    for (size_t depth = 1, count = 4; depth <= 4; depth++, count *= 4) {
        for (size_t code = 0; code < count; code++) {
            double p = 1.0;
            for (size_t d = 0, c = code; d < depth; d++, c /= 4)
                p *= 0.5 * pow(0.5, (double)(c % 4));
            all[n++] = p;
        }
    }
    double sum = 0.0;
    for (size_t k = 0; k < n_nodes; k++) {
        size_t best = 0;
        for (size_t i = 1; i < n; i++)
            best = all[i] > all[best] ? i : best;
        sum += all[best];
        all[best] = 0.0;
    }
    return sum;
}

Test(grow, best_first_finds_the_likeliest_nodes)
{
    for (size_t budget = 1; budget <= 20; budget++) {
        nursery n;
        plant_nursery(&n, 1, 64);
        n.sprout[0].max_depth = 4;
        gg_growth g = gg_grow_best_first(&n.grower, 1, n.sprout, 1, budget, NULL);
        cr_assert_eq(g.nodes, budget);
        cr_assert_eq(n.tree[0].n, budget + 1);
        cr_assert(gg_tree_valid(&n.tree[0]));
        cr_assert_float_eq(g.path_sum, best_sum(budget), 1e-5);
        for (size_t i = 2; i < n.tree[0].n; i++)
            cr_assert(n.tree[0].path[i] <= n.tree[0].path[i - 1]);
        gg_grower_clear(&n.grower);
    }
}

Test(grow, exactly_the_budget_or_all_there_is)
{
    nursery n;
    plant_nursery(&n, 1, 128);
    n.settings[0].n_children = 2;
    n.sprout[0].max_depth = 3;
    gg_growth g = gg_grow_best_first(&n.grower, 1, n.sprout, 1, 100, NULL);
    cr_assert_eq(g.nodes, 14); // 2 + 4 + 8
    for (size_t i = 1; i < n.tree[0].n; i++)
        cr_assert(n.tree[0].depth[i] <= 3);
    gg_grower_clear(&n.grower);
}

Test(grow, proposer_depth_and_stream_limits_hold)
{
    nursery n;
    plant_nursery(&n, 1, 128);
    n.proposer[0].max_depth = 2;
    n.sprout[0].max_nodes = 3;
    n.sprout[1].max_depth = 1;
    gg_growth g = gg_grow_best_first(&n.grower, 1, n.sprout, 2, 100, NULL);
    cr_assert_eq(n.tree[0].n, 4);
    cr_assert_eq(n.tree[1].n, 5); // four children of the root
    cr_assert_eq(g.nodes, 7);
    gg_grower_clear(&n.grower);
}

Test(grow, one_budget_over_two_streams)
{
    nursery n;
    plant_nursery(&n, 1, 128);
    gg_growth g = gg_grow_best_first(&n.grower, 1, n.sprout, 2, 6, NULL);
    cr_assert_eq(g.nodes, 6);
    cr_assert(n.tree[0].n == 4 && n.tree[1].n == 4); // equal proposals, equal shares
    gg_grower_clear(&n.grower);
}

Test(grow, same_edges_of_two_proposers_merge)
{
    nursery n;
    plant_nursery(&n, 2, 64);
    n.settings[0] = (fake_settings){1, 0.5, 0.5, 100}; // odds 1
    n.settings[1] = (fake_settings){2, 0.4, 0.5, 100}; // tokens 100 and 101: odds 1 and 0.5
    n.grower.calibration.w[0][0][gg_agreed_place(0, 1)] = logf(3.0f);
    n.sprout[0].max_depth = 1;
    gg_grow_best_first(&n.grower, 3, n.sprout, 1, 10, NULL);
    gg_draft_tree *t = &n.tree[0];
    cr_assert_eq(t->n, 3);
    cr_assert_eq(t->token[1], 100);
    cr_assert_eq(t->proposers[1], 3);
    cr_assert_float_eq(t->edge[1], 3.0f / 4.5f, 1e-4, "%g", (double)t->edge[1]);
    cr_assert_eq(t->proposers[2], 2);
    cr_assert_eq(t->rank[2], 1);
    cr_assert_float_eq(t->edge[2], 0.5f / 4.5f, 1e-4);
    gg_grower_clear(&n.grower);
}

Test(grow, one_who_is_sure_of_another_token_lowers_an_edge)
{
    float edge[2];
    for (size_t i = 0; i < 2; i++) {
        nursery n;
        plant_nursery(&n, 2, 64);
        n.settings[0] = (fake_settings){1, i ? 0.95 : 0.1, 0.5, 500};
        n.settings[1] = (fake_settings){1, 0.5, 0.5, 100};
        n.sprout[0].max_depth = 1;
        gg_grow_best_first(&n.grower, 3, n.sprout, 1, 10, NULL);
        edge[i] = n.tree[0].edge[gg_tree_child(&n.tree[0], 0, 100)];
        gg_grower_clear(&n.grower);
    }
    cr_assert(edge[0] > 0.45f && edge[0] < 0.5f && edge[1] < 0.1f);
}

Test(grow, inactive_proposers_stay_silent)
{
    nursery n;
    plant_nursery(&n, 2, 64);
    n.settings[1].base = 1000;
    gg_grow_best_first(&n.grower, 2, n.sprout, 1, 10, NULL);
    for (size_t i = 1; i < n.tree[0].n; i++)
        cr_assert_eq(n.tree[0].proposers[i], 2);
    gg_grower_clear(&n.grower);
}

Test(grow, siblings_are_no_more_than_certain_together)
{
    nursery n;
    plant_nursery(&n, 2, 64);
    n.settings[0] = (fake_settings){4, 0.24, 1.0, 100};
    n.settings[1] = (fake_settings){4, 0.24, 1.0, 500};
    n.sprout[0].max_depth = 1;
    for (size_t i = 0; i < 2000; i++) // the correction believes in more than there can be
        gg_online_observe(&n.grower.online, 1, 0.12f, i % 2 == 0);
    gg_grow_best_first(&n.grower, 3, n.sprout, 1, 64, NULL);
    double sum = 0.0;
    for (size_t i = 1; i < n.tree[0].n; i++)
        sum += (double)n.tree[0].edge[i];
    cr_assert_eq(n.tree[0].n, 9);
    cr_assert_float_eq(sum, 1.0, 1e-5);
    gg_grower_clear(&n.grower);
}

Test(grow, noise_reorders_children_when_sampling)
{
    nursery n;
    plant_nursery(&n, 1, 64);
    n.settings[0] = (fake_settings){8, 0.1, 1.0, 100}; // equal scores
    n.sampling.temperature = 1.0f;
    n.sprout[0].max_depth = 1;
    for (size_t d = 0; d < GG_CALIBRATION_DEPTHS; d++)
        n.grower.calibration.w[1][d][2] = 1.0f; // the noise
    bool moved = false;
    for (uint64_t seed = 0; seed < 8; seed++) {
        n.sampling.seed = seed;
        gg_tree_init(&n.tree[0], 1);
        gg_grow_best_first(&n.grower, 1, n.sprout, 1, 8, NULL);
        moved = moved || n.tree[0].token[1] != 100;
        cr_assert(n.tree[0].edge[1] >= n.tree[0].edge[2]);
    }
    cr_assert(moved);
    gg_grower_clear(&n.grower);
}

Test(grow, static_shape_takes_merged_ranks)
{
    nursery n;
    plant_nursery(&n, 2, 64);
    n.settings[0] = (fake_settings){2, 0.3, 0.4, 100};  // odds 0.52, 0.21
    n.settings[1] = (fake_settings){2, 0.2, 0.25, 200}; // 0.27, 0.07
    gg_static_tree shape;
    gorgon_error err;
    cr_assert_eq(parse("[[0],[1],[3],[4],[0,0],[0,0,0],[0,0,0,0]]", &shape, &err), GORGON_OK);
    n.sprout[0].max_depth = 3;
    gg_growth g = gg_grow_static(&n.grower, 3, n.sprout, 1, &shape);
    gg_draft_tree *t = &n.tree[0];
    cr_assert(gg_tree_valid(t));
    // Rank 4 does not exist; [2] is not asked for; depth 4 is beyond the limit.
    cr_assert_eq(g.nodes, 5);
    const gorgon_token expected[] = {1, 100, 200, 201, 200, 300};
    cr_assert_arr_eq(t->token, expected, sizeof expected);
    gg_grower_clear(&n.grower);
}

Test(grow, growing_does_not_allocate)
{
    nursery n;
    plant_nursery(&n, 2, 64);
    gg_alloc_fail_at(0);
    gg_grow_best_first(&n.grower, 3, n.sprout, 2, 60, NULL);
    cr_assert_eq(gg_alloc_fail_at(0), 0);
    gg_grower_clear(&n.grower);
}
