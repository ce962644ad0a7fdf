// The drawings of the comparison's page. A figure is a list of marks; axes follow from them.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "plot.h"

enum { MOST_TASKS = 12, FEW_EDGES = 20 };

typedef struct mark {
    double x, y, low, high; // low < high: a range over seeds is drawn
    size_t colour, shape;
    bool joined; // to the mark before
    char name[112];
} mark;

typedef struct figure {
    const char *id, *caption, *note;
    plot_axis x, y; // with low < high as given, else to be found
    mark *marks;
    size_t n, capacity;
    bool bars, diagonal;
    double bar_width;
} figure;

static mark *add_mark(figure *f)
{
    if (f->n == f->capacity) {
        size_t wanted = f->capacity ? 2 * f->capacity : 64;
        mark *grown = realloc(f->marks, wanted * sizeof *grown);
        if (!grown)
            return NULL;
        f->marks = grown;
        f->capacity = wanted;
    }
    mark *m = &f->marks[f->n++];
    *m = (mark){.shape = 0};
    return m;
}

static void add(figure *f, const char *name, size_t colour, size_t shape, bool joined, double x,
                double y)
{
    mark *m = isfinite(x) && isfinite(y) ? add_mark(f) : NULL;
    if (!m)
        return;
    *m = (mark){x, y, y, y, colour, shape, joined && f->n > 1, ""};
    snprintf(m->name, sizeof m->name, "%s", name);
}

// With the range over the seeds that a number of the summary has.
static void add_spread(figure *f, const char *name, size_t colour, size_t shape, bool joined,
                       double x, const json_t *spread)
{
    size_t before = f->n;
    add(f, name, colour, shape, joined, x, cli_json_number(spread, "mean"));
    if (f->n > before) {
        f->marks[f->n - 1].low = cli_json_number(spread, "min");
        f->marks[f->n - 1].high = cli_json_number(spread, "max");
    }
}

// Room around all marks; from zero unless that would waste most of the drawing.
static void fit_axis(plot_axis *axis, double low, double high)
{
    if (axis->high > axis->low)
        return;
    double room = 0.06 * (high > low ? high - low : fabs(high) + 1.0);
    axis->low = low >= 0 && low < 0.5 * high ? 0.0 : low - room;
    axis->high = high + room;
    axis->low = low >= 0 && axis->low < 0 ? 0.0 : axis->low;
}

static void fit_axes(figure *f)
{
    double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY;
    for (size_t i = 0; i < f->n; i++) {
        const mark *m = &f->marks[i];
        x0 = fmin(x0, m->x);
        x1 = fmax(x1, m->x);
        y0 = fmin(y0, m->low);
        y1 = fmax(y1, m->high);
    }
    if (f->x.ticks && f->x.n_ticks == 0) { // counting
        f->x.n_ticks = (size_t)x1;
        f->x.low = 0.5;
        f->x.high = x1 + 0.5;
    }
    fit_axis(&f->x, x0, x1);
    fit_axis(&f->y, f->bars ? 0 : y0, y1);
}

static void draw_lines(const figure *f, plot *p)
{
    for (size_t i = 0; i < f->n;) {
        double x[64], y[64];
        size_t n = 0;
        char class[24];
        snprintf(class, sizeof class, "line s%zu", f->marks[i].colour);
        do {
            x[n] = f->marks[i].x;
            y[n++] = f->marks[i++].y;
        } while (i < f->n && f->marks[i].joined && n < 64);
        if (n > 1)
            plot_line(p, f->id, class, x, y, n);
    }
}

static void draw_mark(const figure *f, plot *p, const mark *m)
{
    char tip[224], class[24];
    snprintf(class, sizeof class, "s%zu", m->colour);
    snprintf(tip, sizeof tip, "%s: %.4g (%s %.4g)", m->name, m->y, f->x.title, m->x);
    if (m->high > m->low) {
        const double x[2] = {m->x, m->x}, y[2] = {m->low, m->high};
        char range[32];
        snprintf(range, sizeof range, "line thin s%zu", m->colour);
        plot_line(p, f->id, range, x, y, 2);
    }
    if (f->bars) {
        snprintf(tip, sizeof tip, "%s: %.4g", m->name, m->y);
        plot_bar(p, class, m->x - 0.46 * f->bar_width, m->x + 0.46 * f->bar_width, m->y, tip);
    } else {
        plot_point(p, class, m->shape, m->x, m->y, tip);
    }
}

static void draw(figure *f, cli_text *page)
{
    plot p;
    if (f->n > 0) {
        fit_axes(f);
        cli_text_put(page, "<figure>\n");
        plot_begin(&p, page, f->id, NULL, f->caption, f->x, f->y);
        if (f->diagonal) {
            const double ends[2] = {0, 1};
            plot_line(&p, f->id, "line diagonal", ends, ends, 2);
        }
        if (!f->bars)
            draw_lines(f, &p);
        for (size_t i = 0; i < f->n; i++)
            draw_mark(f, &p, &f->marks[i]);
        plot_end(&p);
        cli_text_put(page, "<figcaption>");
        cli_text_escape(page, f->note);
        cli_text_put(page, "</figcaption>\n</figure>\n");
    }
    free(f->marks);
    f->marks = NULL;
    f->n = f->capacity = 0;
}

size_t compare_colour(const json_t *comparison, const char *name)
{
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(comparison, "contestants"), i, c)
    {
        if (strcmp(cli_json_text(c, "name"), name) == 0)
            return json_is_string(json_object_get(c, "architecture")) ? i % COMPARE_COLOURS
                                                                      : COMPARE_COLOURS;
    }
    return COMPARE_COLOURS;
}

size_t compare_list(const json_t *comparison, const json_t *row)
{
    const char *name = cli_json_text(row, "name");
    size_t i, list = json_is_string(json_object_get(row, "architecture")) ? 0 : 1;
    json_t *other;
    json_array_foreach(json_object_get(comparison, "summary"), i, other)
    {
        if (other == row)
            break;
        list += strcmp(cli_json_text(other, "name"), name) == 0;
    }
    return list;
}

static void append(char *name, size_t size, const char *text)
{
    size_t n = strlen(name);
    snprintf(name + n, size - n, "%s", text);
}

void compare_row_name(const json_t *row, char *name, size_t size)
{
    const char *propose = cli_json_text(row, "propose");
    name[0] = '\0';
    if (json_is_string(json_object_get(row, "architecture"))) {
        append(name, size, cli_json_text(row, "name"));
        propose += strcspn(propose, ","); // past "heads"
    }
    for (size_t n; *propose; propose += n) {
        char part[COMPARE_NAME];
        propose += *propose == ',';
        n = strcspn(propose, ",");
        snprintf(part, sizeof part, "%s%.*s", name[0] ? " + " : "", (int)n, propose);
        append(name, size, part);
    }
}

static size_t shown_tree(void)
{
    size_t i = 0;
    while (compare_sizes[i] != COMPARE_NODES)
        i++;
    return i;
}

static void put_trade_offs(const json_t *comparison, cli_text *page)
{
    figure tokens = {.id = "draft",
                     .caption = "Tokens per pass against what drafting costs",
                     .note = "15-node trees. Up: more tokens from each pass of the model. Right: "
                             "more time spent on drafts before it.",
                     .x = {.title = "ms of drafting per pass"},
                     .y = {.title = "tokens per pass"}};
    figure speed = {.id = "speed",
                    .caption = "Speed-up on this machine against parameters",
                    .note = "The planner's own trees, in turn with plain decoding: median over "
                            "prompts. 1 is plain decoding.",
                    .x = {.title = "parameters of the heads"},
                    .y = {.title = "speed-up"}};
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(comparison, "summary"), i, row)
    {
        char name[112];
        size_t colour = compare_colour(comparison, cli_json_text(row, "name"));
        size_t shape = compare_list(comparison, row);
        const json_t *tree = json_array_get(json_object_get(row, "trees"), shown_tree());
        compare_row_name(row, name, sizeof name);
        add_spread(&tokens, name, colour, shape, false, cli_json_number(tree, "draft_ms.mean"),
                   json_object_get(tree, "tokens_per_pass"));
        add_spread(&speed, name, colour, shape, false, cli_json_number(row, "parameters.mean"),
                   json_object_get(row, "median_speedup"));
    }
    draw(&tokens, page);
    draw(&speed, page);
}

// A number of every tree size as a line per row: of heads alone, or of the last list beside them.
static void put_by_size(const json_t *comparison, cli_text *page, figure f, const char *key,
                        bool alone)
{
    double ticks[COMPARE_SIZES];
    size_t i, rows = json_array_size(json_object_get(comparison, "summary"));
    for (i = 0; i < COMPARE_SIZES; i++)
        ticks[i] = (double)compare_sizes[i];
    f.x = (plot_axis){"draft nodes", ticks[0] * 0.9, ticks[COMPARE_SIZES - 1] * 1.1, true, ticks,
                      NULL,          COMPARE_SIZES};
    for (i = 0; i < rows; i++) {
        const json_t *summary = json_object_get(comparison, "summary");
        const json_t *row = json_array_get(summary, i), *next = json_array_get(summary, i + 1);
        const char *contestant = cli_json_text(row, "name");
        bool trained = json_is_string(json_object_get(row, "architecture"));
        bool last = strcmp(contestant, cli_json_text(next, "name")) != 0;
        if (alone ? trained && strcmp(cli_json_text(row, "propose"), "heads") != 0 : !last)
            continue;
        char name[112];
        compare_row_name(row, name, sizeof name);
        for (size_t k = 0; k < COMPARE_SIZES; k++)
            add_spread(&f, name, compare_colour(comparison, contestant),
                       compare_list(comparison, row), k > 0, ticks[k],
                       json_object_get(json_array_get(json_object_get(row, "trees"), k), key));
    }
    draw(&f, page);
}

static void put_tree_sizes(const json_t *comparison, cli_text *page)
{
    put_by_size(comparison, page,
                (figure){.id = "alone",
                         .caption = "Tokens per pass by tree size, alone",
                         .note = "Trees of a fixed number of draft nodes; greedy; these figures "
                                 "do not depend on the machine.",
                         .y = {.title = "tokens per pass"}},
                "tokens_per_pass", true);
    put_by_size(comparison, page,
                (figure){.id = "merged",
                         .caption = "Tokens per pass by tree size, merged",
                         .note = "Heads and the last list of untrained proposers in one tree, "
                                 "merged by calibrated probability.",
                         .y = {.title = "tokens per pass"}},
                "tokens_per_pass", false);
}

// The first seed of every trained contestant in turn; NULL after the last. Begin with *i = 0.
static const json_t *next_heads(const json_t *comparison, size_t *i, const char **name)
{
    const json_t *all = json_object_get(comparison, "contestants");
    while (*i < json_array_size(all)) {
        const json_t *c = json_array_get(all, (*i)++);
        *name = cli_json_text(c, "name");
        if (json_is_string(json_object_get(c, "architecture")))
            return cli_json_at(c, "seeds.0");
    }
    return NULL;
}

// Heads alone in the largest trees.
static json_t *largest_tree(const json_t *heads)
{
    return json_array_get(cli_json_at(heads, "mixes.0.trees"), COMPARE_SIZES - 1);
}

static void add_accuracy(const json_t *heads, const char *name, size_t colour, figure *by_depth,
                         figure *by_rank)
{
    size_t k, rank;
    json_t *head, *share;
    json_array_foreach(cli_json_at(heads, "accuracy.heads"), k, head)
    {
        add(by_depth, name, colour, 0, k > 0, (double)(k + 1), cli_json_number(head, "top.0"));
    }
    json_array_foreach(cli_json_at(heads, "accuracy.heads.0.top"), rank, share)
    {
        add(by_rank, name, colour, 0, rank > 0, (double)(rank + 1), json_number_value(share));
    }
}

// Share of the accepted parents with an accepted child, from the counts of the largest trees.
static void add_acceptance(const json_t *heads, const char *name, size_t colour, figure *f)
{
    const json_t *tree = largest_tree(heads);
    double parents = cli_json_number(tree, "passes");
    size_t i;
    json_t *depth;
    json_array_foreach(cli_json_at(tree, "acceptance.0.depths"), i, depth)
    {
        double accepted = cli_json_number(depth, "accepted");
        if (parents < FEW_EDGES)
            break;
        add(f, name, colour, 0, i > 0, cli_json_number(depth, "depth"), accepted / parents);
        parents = accepted;
    }
}

static void add_reliability(const json_t *heads, const char *name, size_t colour, figure *f)
{
    bool joined = false;
    size_t i;
    json_t *bucket;
    json_array_foreach(cli_json_at(largest_tree(heads), "acceptance.0.reliability"), i, bucket)
    {
        double n = cli_json_number(bucket, "suggested");
        if (n < FEW_EDGES)
            continue;
        add(f, name, colour, 0, joined, cli_json_number(bucket, "predicted") / n,
            cli_json_number(bucket, "came_true") / n);
        joined = true;
    }
}

static void add_curve(const json_t *heads, const char *name, size_t colour, figure *f)
{
    double batch = cli_json_number(heads, "training.options.batch");
    size_t i;
    json_t *point;
    json_array_foreach(cli_json_at(heads, "training.loss_curve"), i, point)
    {
        add(f, name, colour, 0, i > 0, batch * cli_json_number(point, "step"),
            cli_json_number(point, "held_out_loss"));
    }
}

// 1, 2, 3 .. with room at both ends.
static plot_axis counting_axis(const char *title)
{
    static const double ticks[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    return (plot_axis){.title = title, .ticks = ticks};
}

static void put_heads(const json_t *comparison, cli_text *page)
{
    figure depth = {.id = "depth",
                    .caption = "Accuracy by depth",
                    .note = "Held-out text, likeliest token of the head. Heads that see the "
                            "drafted tokens are given the true ones here.",
                    .x = counting_axis("depth"),
                    .y = {.title = "share of positions"}};
    figure rank = {.id = "rank",
                   .caption = "Accuracy by rank, first depth",
                   .note = "The true token is among so many likeliest ones.",
                   .x = counting_axis("ranks looked at"),
                   .y = {.title = "share of positions"}};
    figure conditional = {.id = "conditional",
                          .caption = "Conditional acceptance by depth",
                          .note = "Decoding with the largest trees: how often one of a node's "
                                  "children is accepted once the node is.",
                          .x = counting_axis("depth"),
                          .y = {.title = "share of accepted parents"}};
    figure reliable = {.id = "reliable",
                       .caption = "Reliability of the calibration",
                       .note = "Edges suggested below accepted nodes, in tenths by the probability "
                               "they were given; on the diagonal it means what it says.",
                       .x = {.title = "probability given", .low = 0, .high = 1},
                       .y = {.title = "share that came true", .low = 0, .high = 1},
                       .diagonal = true};
    const char *name;
    size_t i = 0;
    for (const json_t *heads; (heads = next_heads(comparison, &i, &name)) != NULL;) {
        size_t colour = compare_colour(comparison, name);
        add_accuracy(heads, name, colour, &depth, &rank);
        add_acceptance(heads, name, colour, &conditional);
        add_reliability(heads, name, colour, &reliable);
    }
    draw(&depth, page);
    draw(&rank, page);
    draw(&conditional, page);
    draw(&reliable, page);
}

static void put_curves(const json_t *comparison, cli_text *page)
{
    figure curve = {.id = "curve",
                    .caption = "Held-out loss while training",
                    .note = "Weighted over depths as training weighs them, so only contestants "
                            "of as many depths compare.",
                    .x = {.title = "positions seen"},
                    .y = {.title = "loss, nats"}};
    const char *name;
    size_t i = 0;
    for (const json_t *heads; (heads = next_heads(comparison, &i, &name)) != NULL;)
        add_curve(heads, name, compare_colour(comparison, name), &curve);
    draw(&curve, page);
}

static void put_tasks(const json_t *comparison, cli_text *page)
{
    const char *labels[MOST_TASKS], *key, *name;
    double ticks[MOST_TASKS];
    size_t n = 0, group = 0, i = 0, index = 0;
    json_t *value;
    char at[48];
    figure f = {.id = "tasks",
                .caption = "Tokens per pass by task, heads alone",
                .note = "15-node trees.",
                .y = {.title = "tokens per pass"},
                .bars = true};
    snprintf(at, sizeof at, "mixes.0.trees.%zu.tasks", shown_tree());
    while (next_heads(comparison, &i, &name))
        group++;
    f.bar_width = 0.8 / (double)(group ? group : 1);
    i = 0;
    for (const json_t *heads; (heads = next_heads(comparison, &i, &name)) != NULL; index++) {
        n = 0;
        json_object_foreach(cli_json_at(heads, at), key, value)
        {
            if (n == MOST_TASKS)
                break;
            labels[n] = key;
            ticks[n] = (double)n;
            double middle = ((double)index - 0.5 * (double)(group - 1)) * f.bar_width;
            add(&f, name, compare_colour(comparison, name), 0, false, ticks[n++] + middle,
                cli_json_number(value, "tokens_per_pass"));
        }
    }
    f.x = (plot_axis){"", -0.5, (double)n - 0.5, false, ticks, labels, n};
    draw(&f, page);
}

static void put_draft_time(const json_t *comparison, cli_text *page)
{
    put_by_size(comparison, page,
                (figure){.id = "cost",
                         .caption = "Drafting time by tree size, alone",
                         .note = "Time from the verified pass to the finished tree.",
                         .y = {.title = "ms of drafting per pass"}},
                "draft_ms", true);
}

void compare_put_plots(const json_t *comparison, cli_text *page)
{
    cli_text_put(page, "<div class=\"plots\">\n");
    put_trade_offs(comparison, page);
    put_tree_sizes(comparison, page);
    put_heads(comparison, page);
    put_tasks(comparison, page);
    put_draft_time(comparison, page);
    put_curves(comparison, page);
    cli_text_put(page, "</div>\n");
}
