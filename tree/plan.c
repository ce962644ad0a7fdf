// See plan.h.
#include "plan.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"

enum {
    FIRST_SLEEP = 8,
    LAST_SLEEP = 128,
    TRIAL = 4,   // steps before a proposer is judged
    STEADY = 32, // good steps after which its back-off starts anew
};
static const double worthwhile = 0.01;  // share of a plain pass
static const double negligible = 0.002; // drafting cheaper than this share is never switched off
static const double pace = 1.0 / 16.0;  // of the moving averages

static double seconds(const gg_objective *o, size_t nodes)
{
    double attended = o->attended + (double)nodes * o->node_attended;
    return gg_cost_seconds(o->cost, o->rows + nodes, attended) - o->sunk_s;
}

double gg_objective_plain(const gg_objective *o)
{
    return o->tokens / seconds(o, 0);
}

double gg_objective_rate(const gg_objective *o, size_t nodes, double path_sum)
{
    double draft = o->draft_s + (double)nodes * o->node_draft_s;
    return (o->tokens + path_sum) / (seconds(o, nodes) + draft);
}

// Between two knots of the cost both sides of the rate are linear in the number of nodes, so its
// largest value lies at a knot or at the end.
bool gg_objective_can_improve(const gg_objective *o, size_t nodes, double path_sum, double path,
                              size_t max_nodes, double best)
{
    for (size_t knot = 1; nodes < max_nodes; knot *= 2) {
        if (knot <= o->rows + nodes)
            continue;
        size_t end = knot - o->rows < max_nodes ? knot - o->rows : max_nodes;
        double sum = path_sum + path * (double)(end - nodes);
        if (gg_objective_rate(o, end, sum) > best)
            return true;
        if (end == max_nodes)
            return false;
    }
    return false;
}

static gorgon_status parse_nodes(gg_plan *plan, const char *tree, gorgon_error *err)
{
    char *end;
    unsigned long n = strtoul(tree, &end, 10);
    if (*end != '\0' || n >= GG_MAX_TREE_NODES)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "tree '%s': expected at most %d draft nodes",
                       tree, GG_MAX_TREE_NODES - 1);
    plan->mode = n ? GG_TREE_FIXED : GG_TREE_OFF;
    plan->fixed_nodes = n;
    return GORGON_OK;
}

static gorgon_status read_shape(gg_plan *plan, const char *path, gorgon_error *err)
{
    gg_static_tree shape;
    gorgon_error why = {0};
    gorgon_status status = gg_static_tree_read(path, &shape, &why);
    if (status == GORGON_ERROR_IO)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "tree is none of auto, off, a number of nodes, or a static-tree file: %s",
                       why.message);
    if (status != GORGON_OK)
        return gg_fail(err, status, "%s", why.message);
    plan->shape = shape;
    plan->mode = GG_TREE_STATIC;
    return GORGON_OK;
}

gorgon_status gg_plan_set_tree(gg_plan *plan, const char *tree, gorgon_error *err)
{
    if (!tree || strcmp(tree, "auto") == 0)
        plan->mode = GG_TREE_AUTO;
    else if (strcmp(tree, "off") == 0)
        plan->mode = GG_TREE_OFF;
    else if (tree[0] >= '0' && tree[0] <= '9')
        return parse_nodes(plan, tree, err);
    else
        return read_shape(plan, tree, err);
    return GORGON_OK;
}

uint32_t gg_plan_active(gg_plan *plan)
{
    uint32_t active = 0;
    if (plan->mode == GG_TREE_OFF)
        return 0;
    for (size_t i = 0; i < plan->n_proposers; i++) {
        gg_account *a = &plan->account[i];
        if (plan->mode == GG_TREE_AUTO && a->sleep > 0)
            a->sleep--;
        else
            active |= UINT32_C(1) << i;
    }
    return active;
}

// The first value is taken as it is; later ones count at most fourfold the average.
static void average(double *mean, double value)
{
    if (*mean <= 0.0)
        *mean = value;
    else
        *mean += pace * ((value < 4.0 * *mean ? value : 4.0 * *mean) - *mean);
}

void gg_plan_begin_time(gg_plan *plan, size_t proposer, double seconds_)
{
    average(&plan->account[proposer].begin_s, seconds_);
}

void gg_plan_learn_time(gg_plan *plan, size_t proposer, double seconds_)
{
    average(&plan->account[proposer].learn_s, seconds_);
}

void gg_plan_expand_time(gg_plan *plan, size_t proposer, double seconds_, size_t nodes)
{
    if (nodes > 0)
        average(&plan->account[proposer].expand_s, seconds_ / (double)nodes);
}

void gg_plan_draft_cost(const gg_plan *plan, uint32_t active, double *draft_s, double *node_draft_s)
{
    *draft_s = 0.0;
    *node_draft_s = 0.0;
    for (size_t i = 0; i < plan->n_proposers; i++) {
        if (active & UINT32_C(1) << i) {
            *draft_s += plan->account[i].begin_s + plan->account[i].learn_s;
            *node_draft_s += plan->account[i].expand_s;
        }
    }
}

// Share of a plain pass that the step would lose without proposer's own nodes.
static double net_gain(const gg_objective *o, const gg_account *a, size_t nodes, double rate,
                       const gg_credit *credit)
{
    double saved = credit->path_sum / rate;
    double rows = seconds(o, nodes) - seconds(o, nodes - credit->nodes);
    double draft = a->begin_s + a->learn_s + a->expand_s * (double)(nodes + 1);
    return (saved - rows - draft) / seconds(o, 0);
}

static bool pays(const gg_objective *o, const gg_account *a)
{
    double draft = a->begin_s + a->learn_s + a->expand_s;
    return a->seen < TRIAL || a->net >= worthwhile || draft < negligible * seconds(o, 0);
}

static void put_to_sleep(gg_plan *plan, size_t proposer)
{
    gg_account *a = &plan->account[proposer];
    if (a->backoff == 0)
        a->backoff = FIRST_SLEEP;
    a->sleep = a->backoff;
    a->backoff = a->backoff * 2 < LAST_SLEEP ? a->backoff * 2 : LAST_SLEEP;
    for (size_t i = 0; i < plan->n_proposers; i++) // the others now stand differently
        plan->account[i].seen = 0;
}

void gg_plan_settle(gg_plan *plan, const gg_objective *o, uint32_t active, size_t nodes,
                    double path_sum, const gg_credit *credit)
{
    double rate = gg_objective_rate(o, nodes, path_sum);
    size_t worst = plan->n_proposers;
    for (size_t i = 0; i < plan->n_proposers; i++) {
        gg_account *a = &plan->account[i];
        if (!(active & UINT32_C(1) << i))
            continue;
        double net = net_gain(o, a, nodes, rate, &credit[i]);
        a->net = a->seen == 0 ? net : a->net + (net - a->net) * (a->seen < 16 ? 0.25 : pace);
        a->seen++;
        if (a->seen >= STEADY && a->net >= worthwhile)
            a->backoff = FIRST_SLEEP;
        if (!pays(o, a) && (worst == plan->n_proposers || a->net < plan->account[worst].net))
            worst = i;
    }
    if (worst < plan->n_proposers)
        put_to_sleep(plan, worst);
}
