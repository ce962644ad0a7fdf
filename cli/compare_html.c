// The page of a comparison: one file without references to anything outside it.
#include <math.h>
#include <string.h>

#include "compare.h"
#include "plot.h"

static const char style[] =
    ":root{--bg:#fff;--fg:#1c1e21;--dim:#5c6370;--rule:#dfe2e6;--soft:#f4f5f7;--s0:#2563eb;"
    "--s1:#d9660b;--s2:#15803d;--s3:#c81e4b;--s4:#7c3aed;--s5:#0e7c96;--s6:#a3227c;--s7:#7a6a00;"
    "--s8:#6b7280}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#16181c;--fg:#e4e6ea;--dim:#9aa1ad;"
    "--rule:#33373e;--soft:#1f2227;--s0:#7ba4ff;--s1:#f5a057;--s2:#5ccf87;--s3:#ff7d96;"
    "--s4:#b69bff;--s5:#52c5dc;--s6:#ee8acb;--s7:#d0bf4a;--s8:#9aa1ad}}\n"
    "body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}\n"
    "main{max-width:1280px;margin:0 auto;padding:24px 20px 60px}\n"
    "h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:36px 0 8px}\n"
    "p{max-width:80ch;margin:6px 0}.dim,figcaption{color:var(--dim);font-size:13px}\n"
    ".plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));"
    "gap:8px 28px}\n"
    "figure{margin:0}figcaption{padding:0 8px 12px}svg{width:100%;height:auto;display:block}\n"
    "svg text{fill:var(--fg)}.caption{font-weight:600}.grid{stroke:var(--rule)}\n"
    ".line{fill:none!important;stroke-width:2}.thin{stroke-width:1}"
    ".diagonal{stroke:var(--dim);stroke-dasharray:5 4;stroke-width:1}\n"
    ".s0{fill:var(--s0);stroke:var(--s0)}.s1{fill:var(--s1);stroke:var(--s1)}"
    ".s2{fill:var(--s2);stroke:var(--s2)}.s3{fill:var(--s3);stroke:var(--s3)}"
    ".s4{fill:var(--s4);stroke:var(--s4)}.s5{fill:var(--s5);stroke:var(--s5)}"
    ".s6{fill:var(--s6);stroke:var(--s6)}.s7{fill:var(--s7);stroke:var(--s7)}"
    ".s8{fill:var(--s8);stroke:var(--s8)}\n"
    ".keys{display:flex;flex-wrap:wrap;gap:4px 20px;margin:10px 0}"
    ".keys span{display:flex;align-items:center;gap:6px}.keys svg{width:16px;flex:none}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;"
    "font-size:13px}th,td{padding:4px 7px;text-align:right;border-bottom:1px solid var(--rule);"
    "white-space:nowrap}th{background:var(--soft);font-weight:600;vertical-align:bottom}"
    "td:first-child,th:first-child,td.text,th.text{text-align:left}"
    "td small{color:var(--dim);display:block}\n"
    ".share{display:flex;width:220px;height:14px}.share i{display:block;height:14px}\n"
    "pre{background:var(--soft);padding:10px 14px;overflow-x:auto;white-space:pre-wrap;"
    "overflow-wrap:anywhere;font-size:13px}.bad{color:var(--s3);font-weight:600}\n";

static void put_escaped(cli_text *page, const char *before, const char *text, const char *after)
{
    cli_text_put(page, "%s", before);
    cli_text_escape(page, text);
    cli_text_put(page, "%s", after);
}

// 1234567 as 1.23 M
static void put_count(cli_text *page, double count)
{
    if (count >= 1e6)
        cli_text_put(page, "%.3g M", count / 1e6);
    else if (count >= 1e4)
        cli_text_put(page, "%.3g k", count / 1e3);
    else
        cli_text_put(page, "%.0f", count);
}

static void put_duration(cli_text *page, double seconds)
{
    if (seconds >= 90)
        cli_text_put(page, "%.1f min", seconds / 60);
    else
        cli_text_put(page, "%.1f s", seconds);
}

// A cell with a mean; the range below it if there are several seeds.
static void put_figure(cli_text *page, const json_t *spread, int digits)
{
    double low = cli_json_number(spread, "min"), high = cli_json_number(spread, "max");
    cli_text_put(page, "<td>%.*f", digits, cli_json_number(spread, "mean"));
    if (high > low)
        cli_text_put(page, "<small>%.*f&#8211;%.*f</small>", digits, low, digits, high);
    cli_text_put(page, "</td>");
}

static void put_lead(const json_t *c, cli_text *page)
{
    const json_t *model = json_object_get(c, "model"), *prompts = json_object_get(c, "prompts");
    size_t i, trained = 0;
    json_t *one;
    json_array_foreach(json_object_get(c, "contestants"), i, one)
    {
        trained += json_is_string(json_object_get(one, "architecture"));
    }
    put_escaped(page, "<h1>Prediction heads for ", cli_json_text(model, "name"), "</h1>\n<p>");
    cli_text_put(page, "%zu architecture%s, trained on the same text (", trained,
                 trained == 1 ? "" : "s");
    put_count(page, cli_json_number(c, "cache.tokens"));
    cli_text_put(page, " tokens that the model wrote), each for ");
    if (cli_json_at(c, "budget.minutes"))
        cli_text_put(page, "%.4g minutes", cli_json_number(c, "budget.minutes"));
    else
        cli_text_put(page, "%.4g epochs of it", cli_json_number(c, "budget.epochs"));
    if (cli_json_at(c, "budget.parameters")) {
        cli_text_put(page, " and at most ");
        put_count(page, cli_json_number(c, "budget.parameters"));
        cli_text_put(page, " parameters");
    }
    cli_text_put(page, ", calibrated, and measured on %.0f answers of ",
                 cli_json_number(prompts, "count"));
    cli_text_put(page, "up to %.0f tokens.", cli_json_number(prompts, "answer_tokens"));
    put_escaped(page, " ", cli_json_text(json_object_get(c, "machine"), "cpu"), "");
    double threads = cli_json_number(c, "machine.threads");
    cli_text_put(page, ", %.0f thread%s", threads, threads > 1 ? "s" : "");
    put_escaped(page, ", level ", cli_json_text(json_object_get(c, "machine"), "level"), ".</p>\n");
    bool same = json_is_true(json_object_get(c, "same_output"));
    cli_text_put(page, "<p%s>Every speculative output %s that of plain decoding.</p>\n",
                 same ? "" : " class=\"bad\"", same ? "was" : "should be, but was NOT always,");
}

// The marks as the plot draws them: colours are contestants, shapes their companions.
static void put_key(cli_text *page, size_t colour, size_t shape, const char *text)
{
    plot p = {.text = page,
              .x = {.low = 0, .high = 1},
              .y = {.low = 0, .high = 1},
              .width = 16,
              .height = 16};
    char class[8];
    snprintf(class, sizeof class, "s%zu", colour);
    cli_text_put(page, "<span><svg viewBox=\"0 0 16 16\">");
    plot_point(&p, class, shape, 0.5, 0.5, text);
    put_escaped(page, "</svg>", text, "</span>\n");
}

static void put_keys(const json_t *c, cli_text *page)
{
    size_t i;
    json_t *one, *row;
    const json_t *first = json_array_get(json_object_get(c, "contestants"), 0);
    cli_text_put(page, "<div class=\"keys\"><b>Colour</b>\n");
    json_array_foreach(json_object_get(c, "contestants"), i, one)
    {
        const char *name = cli_json_text(one, "name");
        put_key(page, compare_colour(c, name), 0, name);
    }
    cli_text_put(page, "</div>\n<div class=\"keys\"><b>Shape</b>\n");
    json_array_foreach(json_object_get(c, "summary"), i, row)
    {
        const char *contestant = cli_json_text(first, "name");
        char text[112];
        if (strcmp(cli_json_text(row, "name"), contestant) != 0)
            continue;
        compare_row_name(row, text, sizeof text);
        bool alone = strlen(text) == strlen(contestant);
        put_key(page, COMPARE_COLOURS, compare_list(c, row),
                alone ? "heads alone" : text + strlen(contestant) + 1);
    }
    cli_text_put(page, "</div>\n<p class=\"dim\">Point at a mark for its figures. With several "
                       "seeds marks are means, and a thin line shows least and most.</p>\n");
}

static void put_summary_row(const json_t *row, cli_text *page)
{
    static const char *const figures[] = {"tokens_per_pass", "tokens_per_s", "plain_tokens_per_s",
                                          "speedup", "median_speedup"};
    static const int digits[] = {2, 0, 0, 2, 2};
    char name[112];
    size_t i;
    json_t *tree;
    bool trained = json_is_string(json_object_get(row, "architecture"));
    compare_row_name(row, name, sizeof name);
    put_escaped(page, "<tr><td>", name, "</td>");
    json_array_foreach(json_object_get(row, "trees"), i, tree)
    {
        put_figure(page, json_object_get(tree, "tokens_per_pass"), 2);
    }
    json_array_foreach(json_object_get(row, "trees"), i, tree)
    {
        if (cli_json_number(tree, "nodes") == (double)COMPARE_NODES)
            put_figure(page, json_object_get(tree, "draft_ms"), 2);
    }
    for (i = 0; i < sizeof figures / sizeof figures[0]; i++)
        put_figure(page, json_object_get(row, figures[i]), digits[i]);
    cli_text_put(page, "<td>");
    if (trained)
        put_count(page, cli_json_number(row, "parameters.mean"));
    cli_text_put(page, "</td><td>");
    if (trained)
        put_duration(page, cli_json_number(row, "train_seconds.mean"));
    bool same = json_is_true(json_object_get(row, "same_output"));
    cli_text_put(page, "</td><td%s>%s</td></tr>\n", same ? "" : " class=\"bad\"",
                 same ? "yes" : "NO");
}

static void put_summary(const json_t *c, cli_text *page)
{
    size_t i;
    json_t *row;
    cli_text_put(page,
                 "<h2>All figures</h2>\n<div class=\"wide\"><table>\n<thead><tr>"
                 "<th></th><th colspan=\"%d\">tokens per pass by draft nodes</th><th></th>"
                 "<th colspan=\"5\">the planner's own trees</th><th colspan=\"3\"></th></tr>\n"
                 "<tr><th>proposers</th>",
                 COMPARE_SIZES);
    for (i = 0; i < COMPARE_SIZES; i++)
        cli_text_put(page, "<th>%zu</th>", compare_sizes[i]);
    cli_text_put(page,
                 "<th>draft ms<br/>%d nodes</th><th>tokens<br/>per pass</th><th>tokens/s</th>"
                 "<th>plain<br/>tokens/s</th><th>speed-up</th><th>speed-up,<br/>median</th>"
                 "<th>parameters</th><th>training</th><th>same<br/>output</th></tr></thead>\n"
                 "<tbody>\n",
                 COMPARE_NODES);
    json_array_foreach(json_object_get(c, "summary"), i, row)
    {
        put_summary_row(row, page);
    }
    cli_text_put(page, "</tbody></table></div>\n");
}

// Proposers in the order in which they are met, for their colours.
typedef struct proposer_names {
    const char *name[PAIRS_MAX_PROPOSERS];
    size_t n;
} proposer_names;

static size_t proposer_colour(proposer_names *known, const char *name)
{
    size_t i = 0;
    while (i < known->n && strcmp(known->name[i], name) != 0)
        i++;
    if (i == known->n && i < PAIRS_MAX_PROPOSERS)
        known->name[known->n++] = name;
    return i % COMPARE_COLOURS;
}

static void put_winners(const char *name, const json_t *acceptance, proposer_names *known,
                        cli_text *page)
{
    double total = 0;
    size_t i;
    json_t *proposer;
    json_array_foreach(acceptance, i, proposer)
    {
        total += cli_json_number(proposer, "won");
    }
    put_escaped(page, "<tr><td>", name, "</td><td class=\"text\"><div class=\"share\">");
    json_array_foreach(acceptance, i, proposer)
    {
        double won = cli_json_number(proposer, "won");
        if (won > 0)
            cli_text_put(page, "<i style=\"width:%.1f%%;background:var(--s%zu)\"></i>",
                         100 * won / total,
                         proposer_colour(known, cli_json_text(proposer, "proposer")));
    }
    cli_text_put(page, "</div></td><td class=\"text\">");
    json_array_foreach(acceptance, i, proposer)
    {
        const char *text = cli_json_text(proposer, "proposer");
        cli_text_put(page, "%s<span style=\"color:var(--s%zu)\">&#9632;</span> ", i ? "; " : "",
                     proposer_colour(known, text));
        cli_text_escape(page, text);
        cli_text_put(page, " %.0f of %.0f, expected %.0f", cli_json_number(proposer, "won"),
                     cli_json_number(proposer, "accepted"), cli_json_number(proposer, "expected"));
    }
    cli_text_put(page, "</td></tr>\n");
}

// Calls put for the first seed's mixes of all contestants.
static void for_each_mix(const json_t *c, cli_text *page, void *context,
                         void (*put)(const char *name, const json_t *mix, cli_text *page,
                                     void *context))
{
    size_t i, k;
    json_t *contestant, *mix;
    json_array_foreach(json_object_get(c, "contestants"), i, contestant)
    {
        json_array_foreach(cli_json_at(contestant, "seeds.0.mixes"), k, mix)
        {
            char name[112];
            json_t *row = json_pack("{s:O?,s:O?,s:O?}", "name", json_object_get(contestant, "name"),
                                    "architecture", json_object_get(contestant, "architecture"),
                                    "propose", json_object_get(mix, "propose"));
            compare_row_name(row, name, sizeof name);
            put(name, mix, page, context);
            json_decref(row);
        }
    }
}

static void put_mix_winners(const char *name, const json_t *mix, cli_text *page, void *context)
{
    const json_t *tree = json_array_get(json_object_get(mix, "trees"), COMPARE_SIZES - 1);
    put_winners(name, json_object_get(tree, "acceptance"), context, page);
}

static void put_who_won(const json_t *c, cli_text *page)
{
    proposer_names known = {.n = 0};
    cli_text_put(page,
                 "<h2>Who was right</h2>\n<p class=\"dim\">Accepted nodes of %zu-node trees. Won: "
                 "it gave the node the highest probability; of: all accepted ones that it named; "
                 "expected: as many as its calibrated probabilities promised. First seed."
                 "</p>\n<div class=\"wide\"><table>\n<tbody>\n",
                 compare_sizes[COMPARE_SIZES - 1]);
    for_each_mix(c, page, &known, put_mix_winners);
    cli_text_put(page, "</tbody></table></div>\n");
}

// Tokens per pass of each task, the speed-up below.
static void put_mix_tasks(const char *name, const json_t *mix, cli_text *page, void *context)
{
    const char *task;
    size_t i;
    json_t *counts, *tree;
    const json_t *rates = cli_json_at(mix, "auto.tasks");
    (void)context;
    put_escaped(page, "<tr><td>", name, "</td>");
    json_array_foreach(json_object_get(mix, "trees"), i, tree)
    {
        if (cli_json_number(tree, "nodes") != (double)COMPARE_NODES)
            continue;
        json_object_foreach(json_object_get(tree, "tasks"), task, counts)
        {
            cli_text_put(
                page, "<td>%.2f<small>%.2f x</small></td>",
                cli_json_number(counts, "tokens_per_pass"),
                cli_json_number(json_object_get(rates, task), "speculative.median_speedup"));
        }
    }
    cli_text_put(page, "</tr>\n");
}

static void put_tasks(const json_t *c, cli_text *page)
{
    const char *task;
    json_t *rates;
    cli_text_put(page,
                 "<h2>By task</h2>\n<p class=\"dim\">Tokens per pass of %d-node trees; below it "
                 "the median speed-up of the planner's own trees. First seed.</p>\n"
                 "<div class=\"wide\"><table>\n<thead><tr><th>proposers</th>",
                 COMPARE_NODES);
    json_object_foreach(cli_json_at(c, "contestants.0.seeds.0.mixes.0.auto.tasks"), task, rates)
    {
        put_escaped(page, "<th>", task, "</th>");
    }
    cli_text_put(page, "</tr></thead>\n<tbody>\n");
    for_each_mix(c, page, NULL, put_mix_tasks);
    cli_text_put(page, "</tbody></table></div>\n");
}

static void put_heads_row(const char *name, const json_t *heads, cli_text *page)
{
    size_t k;
    json_t *head;
    put_escaped(page, "<tr><td>", name, "</td>");
    cli_text_put(page, "<td>%.0f</td><td>%.0f</td><td>%.0f</td><td>%.0f</td><td>",
                 cli_json_number(heads, "seed"), cli_json_number(heads, "n_heads"),
                 cli_json_number(heads, "n_blocks"), cli_json_number(heads, "draft_vocab"));
    put_count(page, cli_json_number(heads, "parameters"));
    cli_text_put(page, "</td><td>%.2f MB</td><td>%.3g</td><td>%.0f</td><td>",
                 cli_json_number(heads, "file_bytes") / 1e6, cli_json_number(heads, "train.epochs"),
                 cli_json_number(heads, "training.steps"));
    put_count(page, cli_json_number(heads, "training.steps") *
                        cli_json_number(heads, "training.options.batch"));
    cli_text_put(page, "</td><td>");
    put_duration(page, cli_json_number(heads, "train.seconds"));
    cli_text_put(page, "</td><td>");
    put_duration(page, cli_json_number(heads, "calibrate.seconds"));
    cli_text_put(page, "</td><td class=\"text\">");
    json_array_foreach(cli_json_at(heads, "accuracy.heads"), k, head)
    {
        cli_text_put(page, "%s%.1f/%.1f", k ? ", " : "", 100 * cli_json_number(head, "top.0"),
                     100 * cli_json_number(head, "top.9"));
    }
    put_escaped(page, "</td><td class=\"text\">", cli_json_text(heads, "commit"), "</td></tr>\n");
}

static void put_training(const json_t *c, cli_text *page)
{
    size_t i, k;
    json_t *contestant, *heads;
    cli_text_put(page, "<h2>Heads and their training</h2>\n<div class=\"wide\"><table>\n<thead><tr>"
                       "<th>heads</th><th>seed</th><th>depths</th><th>blocks</th><th>draft ids</th>"
                       "<th>parameters</th><th>file</th><th>epochs</th><th>steps</th>"
                       "<th>positions</th><th>training</th><th>calibration</th><th class=\"text\">"
                       "top-1/top-10 by depth, %%</th><th class=\"text\">measured at commit</th>"
                       "</tr></thead>\n<tbody>\n");
    json_array_foreach(json_object_get(c, "contestants"), i, contestant)
    {
        if (!json_is_string(json_object_get(contestant, "architecture")))
            continue;
        json_array_foreach(json_object_get(contestant, "seeds"), k, heads)
        {
            put_heads_row(cli_json_text(contestant, "name"), heads, page);
        }
    }
    cli_text_put(page, "</tbody></table></div>\n");
}

static void put_origin(const json_t *c, cli_text *page)
{
    const json_t *model = json_object_get(c, "model"), *cache = json_object_get(c, "cache");
    put_escaped(page, "<h2>How this was made</h2>\n<pre>", cli_json_text(c, "command"), "</pre>\n");
    put_escaped(page, "<p class=\"dim\">Model ", cli_json_text(model, "file"), ", ");
    put_escaped(page, "", cli_json_text(model, "matrix_type"), ", ");
    put_count(page, cli_json_number(model, "parameters"));
    put_escaped(page, " parameters, tensors ", cli_json_text(model, "tensors"), "");
    put_escaped(page, ", vocabulary ", cli_json_text(model, "vocabulary"), ". ");
    put_escaped(page, "Feature cache ", cli_json_text(cache, "directory"), ": ");
    put_escaped(page, "seed ", cli_json_text(cache, "seed"), "");
    put_escaped(page, ", options ", cli_json_text(cache, "options_hash"), "");
    cli_text_put(page, ", %.0f sequences, %.0f tokens. ", cli_json_number(cache, "sequences"),
                 cli_json_number(cache, "tokens"));
    put_escaped(page, "Prompts: ", cli_json_text(json_object_get(c, "prompts"), "file"),
                ", greedy unless they say otherwise. ");
    put_escaped(page, "gorgon ", cli_json_text(c, "gorgon"), "");
    put_escaped(page, ", commit ", cli_json_text(c, "commit"), "");
    cli_text_put(page, ". All figures, and those of every seed, task, depth and rank, are in "
                       "compare.json beside this page.</p>\n");
}

void compare_page(const json_t *comparison, cli_text *page)
{
    cli_text_put(page,
                 "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n"
                 "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\n");
    put_escaped(page, "<title>gorgon compare: ",
                cli_json_text(json_object_get(comparison, "model"), "name"), "</title>\n");
    cli_text_put(page, "<style>\n%s</style></head>\n<body><main>\n", style);
    put_lead(comparison, page);
    put_keys(comparison, page);
    compare_put_plots(comparison, page);
    put_summary(comparison, page);
    put_tasks(comparison, page);
    put_who_won(comparison, page);
    put_training(comparison, page);
    put_origin(comparison, page);
    cli_text_put(page, "</main></body></html>");
}
