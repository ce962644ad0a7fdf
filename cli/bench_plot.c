// The cost of a pass against the machine's limits, as an SVG: both axes logarithmic.
#include <math.h>
#include <stdio.h>

#include "bench.h"
#include "plot.h"

// One of the limits, with attention's, over the measured numbers of rows.
static void put_limit(plot *p, const char *class, const bench_result *r, bool work)
{
    double x[BENCH_COSTS], y[BENCH_COSTS];
    for (size_t i = 0; i < r->n_costs; i++) {
        const bench_cost *c = &r->costs[i];
        x[i] = (double)c->rows;
        y[i] = (work ? c->work_limit_ms : c->read_limit_ms) + c->attention_limit_ms;
    }
    plot_line(p, "cost", class, x, y, r->n_costs);
}

static void put_curve(plot *p, const bench_result *r)
{
    double x[BENCH_COSTS], y[BENCH_COSTS];
    for (size_t i = 0; i < r->n_costs; i++) {
        x[i] = (double)r->costs[i].rows;
        y[i] = r->costs[i].ms;
    }
    plot_line(p, "cost", "pass", x, y, r->n_costs);
    for (size_t i = 0; i < r->n_costs; i++) {
        char tip[96];
        snprintf(tip, sizeof tip, "%zu rows: %.2f ms, %.2f x the limit", r->costs[i].rows, y[i],
                 y[i] / r->costs[i].limit_ms);
        plot_point(p, "pass", 0, x[i], y[i], tip);
    }
}

static void put_legend(plot *p, const bench_result *r)
{
    char text[96];
    snprintf(text, sizeof text, "a pass after %zu positions", r->context);
    plot_legend(p, 0, "pass", text);
    snprintf(text, sizeof text, "limit: reading the weights at %.1f GB/s, and attention",
             r->bandwidth_gb_s);
    plot_legend(p, 1, "memory", text);
    snprintf(text, sizeof text, "limit: their multiply-adds at %.0f G/s, and attention",
             r->peak_gmac_s);
    plot_legend(p, 2, "work", text);
}

static plot_axis rows_axis(const bench_result *r, double *ticks)
{
    for (size_t i = 0; i < r->n_costs; i++)
        ticks[i] = (double)r->costs[i].rows;
    double low = ticks[0], high = ticks[r->n_costs - 1];
    return (plot_axis){.title = "rows of a pass",
                       .low = low,
                       .high = high > low ? high : 2 * low,
                       .logarithmic = true,
                       .ticks = ticks,
                       .n_ticks = r->n_costs};
}

// Room for the measured curve, and for both limits where it runs.
static plot_axis ms_axis(const bench_result *r)
{
    double low = r->costs[0].ms, high = r->costs[0].ms;
    for (size_t i = 0; i < r->n_costs; i++) {
        low = fmin(low, fmin(r->costs[i].ms, r->costs[i].limit_ms));
        high = fmax(high, r->costs[i].ms);
    }
    return (plot_axis){.title = "ms", .low = 0.5 * low, .high = 1.5 * high, .logarithmic = true};
}

bool bench_plot(const cli_session *session, const char *path, const bench_result *result)
{
    static const char style[] = "path{fill:none}.grid{stroke:#ddd}.memory{stroke:#0a7;"
                                "stroke-dasharray:6 3}.work{stroke:#c50;stroke-dasharray:6 3}"
                                ".pass{stroke:#229;stroke-width:2}circle{fill:#229}";
    cli_text text = {0};
    plot p;
    char caption[160];
    double ticks[BENCH_COSTS];
    gorgon_model_info info;
    gorgon_model_describe(session->model, &info);
    snprintf(caption, sizeof caption, "%.80s, %s, %zu threads", info.name,
             gorgon_engine_cpu_level(session->engine), gorgon_engine_threads(session->engine));
    plot_begin(&p, &text, "cost", style, caption, rows_axis(result, ticks), ms_axis(result));
    put_limit(&p, "memory", result, false);
    put_limit(&p, "work", result, true);
    put_curve(&p, result);
    put_legend(&p, result);
    plot_end(&p);
    return cli_text_write(&text, path);
}
