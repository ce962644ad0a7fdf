// The planner and the cost of passes, without a model.
#include <criterion/criterion.h>
#include <string.h>

#include "fake_proposer.h"

static gg_cost line_cost(double first, double per_row)
{
    gg_cost c = {.measured = true};
    for (size_t k = 0; k < GG_COST_KNOTS; k++)
        c.base_s[k] = first + per_row * (double)((1 << k) - 1);
    gg_cost_reset(&c);
    return c;
}

static gg_objective objective_of(const gg_cost *cost)
{
    return (gg_objective){.cost = cost, .tokens = 1.0, .rows = 1};
}

Test(plan, nodes_join_while_they_pay)
{
    gg_cost cost = line_cost(1e-3, 0.2e-3);
    gg_objective o = objective_of(&cost);
    for (size_t children = 1; children <= 4; children++) {
        nursery n;
        plant_nursery(&n, 1, 128);
        n.settings[0].n_children = children;
        gg_growth g = gg_grow_best_first(&n.grower, 1, n.sprout, 1, 100, &o);
        double rate = gg_objective_rate(&o, g.nodes, g.path_sum), sum = 0.0;
        // Against every size of the fully grown tree.
        gg_tree_init(&n.tree[0], 1);
        gg_grow_best_first(&n.grower, 1, n.sprout, 1, 100, NULL);
        for (size_t k = 1; k < n.tree[0].n; k++) {
            sum += (double)n.tree[0].path[k];
            cr_assert_leq(gg_objective_rate(&o, k, sum), rate * (1.0 + 1e-9));
        }
        cr_assert_gt(g.nodes, 0);
        gg_grower_clear(&n.grower);
    }
}

Test(plan, a_flat_stretch_is_used_to_its_end)
{
    gg_cost cost = line_cost(1e-3, 0.0);
    for (size_t k = 4; k < GG_COST_KNOTS; k++) // free up to 8 rows, then dear
        cost.table_s[k] = 1e-3 * (double)(1 << k);
    gg_objective o = objective_of(&cost);
    nursery n;
    plant_nursery(&n, 1, 128);
    gg_growth g = gg_grow_best_first(&n.grower, 1, n.sprout, 1, 100, &o);
    cr_assert_eq(g.nodes, 7);
    gg_grower_clear(&n.grower);
}

Test(plan, a_valley_is_crossed_when_the_far_side_is_higher)
{
    gg_cost cost = line_cost(1e-3, 0.0);
    for (size_t k = 1; k < GG_COST_KNOTS; k++) // the second row costs as much as 64 do
        cost.table_s[k] = 1.9e-3;
    gg_objective o = objective_of(&cost);
    nursery n;
    plant_nursery(&n, 1, 128);
    n.settings[0].n_children = 1; // a chain of 0.8: one node alone loses, eight win
    n.settings[0].first = 0.8;
    gg_growth g = gg_grow_best_first(&n.grower, 1, n.sprout, 1, 100, &o);
    cr_assert_eq(g.nodes, 8);
    gg_grower_clear(&n.grower);
}

Test(plan, no_nodes_where_rows_are_dear)
{
    gg_cost cost = line_cost(1e-3, 1e-3);
    gg_objective o = objective_of(&cost);
    nursery n;
    plant_nursery(&n, 1, 128);
    gg_growth g = gg_grow_best_first(&n.grower, 1, n.sprout, 1, 100, &o);
    cr_assert_eq(g.nodes, 0);
    cr_assert_eq(n.tree[0].n, 1);
    gg_grower_clear(&n.grower);
}

Test(plan, prompt_rows_beside_do_not_make_nodes_look_cheap)
{
    gg_cost cost = line_cost(1e-3, 0.6e-3);
    gg_objective alone = objective_of(&cost), beside = alone;
    beside.rows = 33;
    beside.sunk_s = gg_cost_seconds(&cost, 33, 0) - gg_cost_seconds(&cost, 1, 0);
    cr_assert_float_eq(gg_objective_rate(&alone, 4, 0.9), gg_objective_rate(&beside, 4, 0.9), 1e-6);
}

Test(plan, dear_proposer_that_brings_nothing_sleeps_longer_each_time)
{
    gg_cost cost = line_cost(1e-3, 1e-3);
    gg_objective o = objective_of(&cost);
    gg_plan plan = {.mode = GG_TREE_AUTO, .n_proposers = 1};
    plan.account[0].begin_s = 0.2e-3;
    gg_plan_draft_cost(&plan, 1, &o.draft_s, &o.node_draft_s);
    size_t drafted = 0, longest = 0, idle = 0;
    for (size_t i = 0; i < 4000; i++) {
        uint32_t active = gg_plan_active(&plan);
        if (!active) {
            idle++;
            longest = idle > longest ? idle : longest;
            continue;
        }
        idle = 0;
        drafted++;
        gg_credit none = {0};
        gg_plan_settle(&plan, &o, active, 0, 0.0, &none);
    }
    cr_assert_eq(longest, 128);
    cr_assert_lt(drafted, 4000 / 20);
    cr_assert_gt(drafted, 4000 / 150);
}

Test(plan, a_proposer_that_pays_wakes_up_for_good)
{
    gg_cost cost = line_cost(1e-3, 0.1e-3);
    gg_objective o = objective_of(&cost);
    gg_plan plan = {.mode = GG_TREE_AUTO, .n_proposers = 1};
    plan.account[0].begin_s = 0.05e-3;
    gg_plan_draft_cost(&plan, 1, &o.draft_s, &o.node_draft_s);
    size_t drafted = 0;
    for (size_t i = 0; i < 600; i++) {
        uint32_t active = gg_plan_active(&plan);
        if (!active)
            continue;
        bool good = i >= 200;
        gg_credit credit = good ? (gg_credit){4, 1.5} : (gg_credit){0, 0.0};
        gg_plan_settle(&plan, &o, active, credit.nodes, credit.path_sum, &credit);
        drafted += i >= 400;
    }
    cr_assert_eq(drafted, 200);
}

Test(plan, a_proposer_that_costs_nothing_is_never_switched_off)
{
    gg_cost cost = line_cost(1e-3, 1e-3);
    gg_objective o = objective_of(&cost);
    gg_plan plan = {.mode = GG_TREE_AUTO, .n_proposers = 1};
    plan.account[0].begin_s = 1e-7;
    for (size_t i = 0; i < 100; i++) {
        gg_credit none = {0};
        cr_assert_eq(gg_plan_active(&plan), 1);
        gg_plan_settle(&plan, &o, 1, 0, 0.0, &none);
    }
}

Test(plan, redundant_proposers_are_not_both_switched_off)
{
    gg_cost cost = line_cost(1e-3, 0.1e-3);
    gg_objective o = objective_of(&cost);
    gg_plan plan = {.mode = GG_TREE_AUTO, .n_proposers = 2};
    plan.account[0].begin_s = 0.05e-3;
    plan.account[1].begin_s = 0.04e-3;
    uint32_t active = 0;
    for (size_t i = 0; i < 40; i++) {
        active = gg_plan_active(&plan);
        cr_assert_neq(active, 0, "step %zu", i);
        gg_credit credit[2] = {{0}};
        if (active == 1) // alone, all nodes are its own
            credit[0] = (gg_credit){4, 1.5};
        if (active == 2)
            credit[1] = (gg_credit){4, 1.5};
        gg_plan_settle(&plan, &o, active, 4, 1.5, credit);
    }
    cr_assert_eq(active, 2, "the cheaper one stays");
}

Test(plan, words)
{
    gg_plan plan = {0};
    gorgon_error err = {0};
    cr_assert_eq(gg_plan_set_tree(&plan, "auto", &err), GORGON_OK);
    cr_assert_eq(plan.mode, GG_TREE_AUTO);
    cr_assert_eq(gg_plan_set_tree(&plan, "16", &err), GORGON_OK);
    cr_assert(plan.mode == GG_TREE_FIXED && plan.fixed_nodes == 16);
    cr_assert_eq(gg_plan_set_tree(&plan, "0", &err), GORGON_OK);
    cr_assert_eq(plan.mode, GG_TREE_OFF);
    cr_assert_eq(gg_plan_set_tree(&plan, "16", &err), GORGON_OK);
    const char *bad[] = {"512", "99999999999999999999", "16x", "no/such/file.json", "/"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        err = (gorgon_error){0};
        cr_assert_eq(gg_plan_set_tree(&plan, bad[i], &err), GORGON_ERROR_ARGUMENT, "%s", bad[i]);
        cr_assert(strstr(err.message, bad[i]), "%s", err.message);
    }
    cr_assert(plan.mode == GG_TREE_FIXED && plan.fixed_nodes == 16);
}

// ---- cost

Test(cost, interpolation_and_extrapolation)
{
    gg_cost c = line_cost(1e-3, 0.1e-3);
    for (size_t rows = 1; rows <= 200; rows++)
        cr_assert_float_eq(gg_cost_seconds(&c, rows, 0.0), 1e-3 + 0.1e-3 * (double)(rows - 1),
                           1e-9);
    c.position_s = 1e-6;
    cr_assert_float_eq(gg_cost_seconds(&c, 1, 100.0), 1.1e-3, 1e-9);
}

Test(cost, one_wild_pass_does_not_matter)
{
    gg_cost c = line_cost(1e-3, 0.1e-3);
    for (size_t i = 0; i < 8; i++)
        gg_cost_observe(&c, 4, 0.0, 1.3e-3);
    gg_cost_observe(&c, 4, 0.0, 1.3);
    cr_assert_float_eq(gg_cost_seconds(&c, 4, 0.0), 1.3e-3, 0.01e-3);
    cr_assert_float_eq(gg_cost_seconds(&c, 1, 0.0), 1e-3, 0.01e-3);
}

// What the choice of a tree rests on: a pass of 8 rows over one of 1.
static double eight_over_one(const gg_cost *c)
{
    return gg_cost_seconds(c, 8, 0.0) / gg_cost_seconds(c, 1, 0.0);
}

Test(cost, stolen_time_does_not_change_how_sizes_compare)
{
    gg_cost c = line_cost(1e-3, 0.1e-3);
    uint32_t seed = 1;
    double slowest = 0.0;
    for (size_t i = 0; i < 3000; i++) {
        size_t rows = 2 + (seed >> 24) % 7; // never one: a drafting decoder rarely runs that
        double factor = i % 1000 >= 600 ? 3.0 : 1.0; // long bursts
        seed = seed * 1664525u + 1013904223u;
        factor *= seed >> 29 == 0 ? 2.5 : 1.0; // and every eighth pass stolen from alone
        seed = seed * 1664525u + 1013904223u;
        factor *= 0.95 + 0.1 * (double)(seed >> 16) / 65536.0; // and noise
        seed = seed * 1664525u + 1013904223u;
        gg_cost_observe(&c, rows, 0.0, factor * (1e-3 + 0.1e-3 * (double)(rows - 1)));
        cr_assert_float_eq(eight_over_one(&c), 1.7, 0.1, "pass %zu: %f", i, eight_over_one(&c));
        slowest = c.machine > slowest ? c.machine : slowest;
    }
    cr_assert_gt(slowest, 2.5, "%f", slowest);
    cr_assert_float_eq(c.machine, 3.0, 0.3);
    for (size_t i = 0; i < 20; i++)
        gg_cost_observe(&c, 2, 0.0, 1.1e-3);
    cr_assert_float_eq(c.machine, 1.0, 0.05);
}

Test(cost, a_lasting_change_is_learned_and_stays_monotone)
{
    gg_cost c = line_cost(1e-3, 0.1e-3);
    for (size_t i = 0; i < 2000; i++) {
        size_t rows = i % 2 ? 1 : 8;
        gg_cost_observe(&c, rows, 0.0, rows == 1 ? 2e-3 : 2.4e-3);
    }
    cr_assert_float_eq(gg_cost_seconds(&c, 1, 0.0), 2e-3, 0.15e-3);
    cr_assert_float_eq(gg_cost_seconds(&c, 8, 0.0), 2.4e-3, 0.2e-3, "%f",
                       1e3 * gg_cost_seconds(&c, 8, 0.0));
    for (size_t rows = 1; rows < 64; rows++)
        cr_assert_leq(gg_cost_seconds(&c, rows, 0.0), gg_cost_seconds(&c, rows + 1, 0.0));
}
