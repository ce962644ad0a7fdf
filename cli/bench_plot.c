// The cost of a pass against the machine's limits, as an SVG: both axes logarithmic.
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

enum { WIDTH = 640, HEIGHT = 420, LEFT = 70, RIGHT = 20, TOP = 50, BOTTOM = 60, TEXT = 16384 };

typedef struct plot {
    char text[TEXT];
    size_t n;
    double rows0, rows1, ms0, ms1; // ends of the axes
} plot;

static void put(plot *p, const char *format, ...) CLI_PRINTF(2, 3);
static void put(plot *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(p->text + p->n, sizeof p->text - p->n, format, args);
    va_end(args);
    if (n > 0)
        p->n += (size_t)n < sizeof p->text - p->n ? (size_t)n : sizeof p->text - p->n - 1;
}

static double x_of(const plot *p, double rows)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * log(rows / p->rows0) / log(p->rows1 / p->rows0);
}

static double y_of(const plot *p, double ms)
{
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * log(ms / p->ms0) / log(p->ms1 / p->ms0);
}

static void put_axes(plot *p, const bench_result *r)
{
    static const double steps[] = {1, 2, 5};
    for (double decade = 1e-3; decade < 1e5; decade *= 10) {
        for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
            double ms = decade * steps[i];
            if (ms < p->ms0 || ms > p->ms1)
                continue;
            put(p, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>", LEFT, y_of(p, ms), WIDTH - RIGHT);
            put(p, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", LEFT - 8,
                y_of(p, ms) + 4, ms);
        }
    }
    for (size_t i = 0; i < r->n_costs; i++) {
        double x = x_of(p, (double)r->costs[i].rows);
        put(p, "<path class=\"grid\" d=\"M%.1f %dV%d\"/>", x, TOP, HEIGHT - BOTTOM);
        put(p, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%zu</text>\n", x,
            HEIGHT - BOTTOM + 18, r->costs[i].rows);
    }
    put(p, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">rows of a pass</text>\n",
        (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 18);
    put(p, "<text transform=\"translate(18 %d) rotate(-90)\" text-anchor=\"middle\">ms</text>\n",
        (TOP + HEIGHT - BOTTOM) / 2);
}

// One of the limits, with attention's, over the measured numbers of rows.
static void put_limit(plot *p, const char *class, const bench_result *r, bool work)
{
    put(p, "<path class=\"%s\" clip-path=\"url(#area)\" d=\"", class);
    for (size_t i = 0; i < r->n_costs; i++) {
        const bench_cost *c = &r->costs[i];
        put(p, "%c%.1f %.1f", i ? 'L' : 'M', x_of(p, (double)c->rows),
            y_of(p, (work ? c->work_limit_ms : c->read_limit_ms) + c->attention_limit_ms));
    }
    put(p, "\"/>\n");
}

static void put_legend(plot *p, size_t line, const char *class, const char *text)
{
    double y = TOP + 18.0 * ((double)line + 1);
    put(p, "<path class=\"%s\" d=\"M%d %.1fh24\"/><text x=\"%d\" y=\"%.1f\">%s</text>\n", class,
        LEFT + 12, y - 4, LEFT + 44, y, text);
}

static void put_curve(plot *p, const bench_result *r)
{
    put(p, "<path class=\"pass\" d=\"");
    for (size_t i = 0; i < r->n_costs; i++)
        put(p, "%c%.1f %.1f", i ? 'L' : 'M', x_of(p, (double)r->costs[i].rows),
            y_of(p, r->costs[i].ms));
    put(p, "\"/>\n");
    for (size_t i = 0; i < r->n_costs; i++)
        put(p,
            "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"><title>%zu rows: %.2f ms, %.2f x the "
            "limit</title></circle>\n",
            x_of(p, (double)r->costs[i].rows), y_of(p, r->costs[i].ms), r->costs[i].rows,
            r->costs[i].ms, r->costs[i].ms / r->costs[i].limit_ms);
}

// Names come from files: at most 80 characters, and only those that text in XML may hold.
static void put_title(plot *p, const cli_session *session)
{
    gorgon_model_info info;
    gorgon_model_describe(session->model, &info);
    put(p, "<text x=\"%d\" y=\"28\" font-size=\"14\">", LEFT);
    for (size_t i = 0; info.name[i] && i < 80; i++) {
        char c = info.name[i];
        put(p, "%c", c < ' ' || c > '~' || strchr("<>&", c) ? ' ' : c);
    }
    put(p, ", %s, %zu threads</text>\n", gorgon_engine_cpu_level(session->engine),
        gorgon_engine_threads(session->engine));
}

static void draw(plot *p, const cli_session *session, const bench_result *r)
{
    put(p,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
        "font-family=\"sans-serif\" "
        "font-size=\"12\">\n<style>path{fill:none}.grid{stroke:#ddd}.memory{stroke:#0a7;"
        "stroke-dasharray:6 3}.work{stroke:#c50;stroke-dasharray:6 3}.pass{stroke:#229;"
        "stroke-width:2}circle{fill:#229}</style>\n<rect width=\"100%%\" height=\"100%%\" "
        "fill=\"#fff\"/>\n<clipPath id=\"area\"><rect x=\"%d\" y=\"%d\" width=\"%d\" "
        "height=\"%d\"/></clipPath>\n",
        WIDTH, HEIGHT, LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    put_title(p, session);
    put_axes(p, r);
    put_limit(p, "memory", r, false);
    put_limit(p, "work", r, true);
    put_curve(p, r);
    char text[96];
    snprintf(text, sizeof text, "a pass after %zu positions", r->context);
    put_legend(p, 0, "pass", text);
    snprintf(text, sizeof text, "limit: reading the weights at %.1f GB/s, and attention",
             r->bandwidth_gb_s);
    put_legend(p, 1, "memory", text);
    snprintf(text, sizeof text, "limit: their multiply-adds at %.0f G/s, and attention",
             r->peak_gmac_s);
    put_legend(p, 2, "work", text);
    put(p, "</svg>");
}

// Room for the measured curve, and for both limits where it runs.
static void set_axes(plot *p, const bench_result *r)
{
    p->rows0 = (double)r->costs[0].rows;
    p->rows1 = (double)r->costs[r->n_costs - 1].rows;
    p->rows1 = p->rows1 > p->rows0 ? p->rows1 : 2 * p->rows0;
    p->ms0 = r->costs[0].ms;
    p->ms1 = r->costs[0].ms;
    for (size_t i = 0; i < r->n_costs; i++) {
        p->ms0 = fmin(p->ms0, fmin(r->costs[i].ms, r->costs[i].limit_ms));
        p->ms1 = fmax(p->ms1, r->costs[i].ms);
    }
    p->ms0 *= 0.5;
    p->ms1 *= 1.5;
}

bool bench_plot(const cli_session *session, const char *path, const bench_result *result)
{
    plot *p = calloc(1, sizeof *p);
    if (!p)
        return cli_complain("out of memory");
    set_axes(p, result);
    draw(p, session, result);
    bool good = cli_write_file(path, p->text);
    free(p);
    return good;
}
