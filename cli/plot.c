// See plot.h.
#include "plot.h"

#include <math.h>

enum { WIDTH = 640, HEIGHT = 420, LEFT = 70, RIGHT = 20, TOP = 50, BOTTOM = 60, MOST_TICKS = 12 };

static double place(const plot_axis *axis, double value)
{
    if (axis->logarithmic)
        return log(value / axis->low) / log(axis->high / axis->low);
    return (value - axis->low) / (axis->high - axis->low);
}

double plot_x(const plot *p, double value)
{
    return p->left + (p->width - p->left - p->right) * place(&p->x, value);
}

double plot_y(const plot *p, double value)
{
    return p->height - p->bottom - (p->height - p->top - p->bottom) * place(&p->y, value);
}

// Round numbers inside the axis, at most MOST_TICKS.
static size_t linear_ticks(const plot_axis *axis, double *ticks)
{
    static const double factors[] = {1, 2, 5, 10};
    double rough = (axis->high - axis->low) / 6.0, decade = pow(10.0, floor(log10(rough)));
    size_t f = 0, n = 0;
    while (f < 3 && decade * factors[f] < rough)
        f++;
    double step = decade * factors[f];
    for (double i = ceil(axis->low / step - 1e-9);
         i * step <= axis->high + 1e-9 * step && n < MOST_TICKS; i += 1.0)
        ticks[n++] = i * step;
    return n;
}

static size_t logarithmic_ticks(const plot_axis *axis, double *ticks)
{
    static const double steps[] = {1, 2, 5};
    size_t n = 0;
    for (int decade = -6; decade < 12; decade++) {
        for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
            double value = steps[i] * pow(10.0, decade);
            if (value >= axis->low && value <= axis->high && n < MOST_TICKS)
                ticks[n++] = value;
        }
    }
    return n;
}

static void put_number(cli_text *t, double value)
{
    if (fabs(value) >= 1e6)
        cli_text_put(t, "%gM", value / 1e6);
    else if (fabs(value) >= 1e4)
        cli_text_put(t, "%gk", value / 1e3);
    else
        cli_text_put(t, "%.6g", fabs(value) < 1e-12 ? 0.0 : value);
}

static void put_tick(plot *p, const plot_axis *axis, size_t index, double value)
{
    bool across = axis == &p->x;
    if (across)
        cli_text_put(p->text, "<path class=\"grid\" d=\"M%.1f %.0fV%.0f\"/><text x=\"%.1f\" ",
                     plot_x(p, value), p->top, p->height - p->bottom, plot_x(p, value));
    else
        cli_text_put(p->text, "<path class=\"grid\" d=\"M%.0f %.1fH%.0f\"/><text x=\"%.0f\" ",
                     p->left, plot_y(p, value), p->width - p->right, p->left - 8);
    cli_text_put(p->text, "y=\"%.1f\" text-anchor=\"%s\">",
                 across ? p->height - p->bottom + 18 : plot_y(p, value) + 4,
                 across ? "middle" : "end");
    if (axis->labels)
        cli_text_escape(p->text, axis->labels[index]);
    else
        put_number(p->text, value);
    cli_text_put(p->text, "</text>\n");
}

static void put_axis(plot *p, const plot_axis *axis)
{
    double own[MOST_TICKS];
    const double *ticks = axis->ticks;
    size_t n = axis->n_ticks;
    if (!ticks) {
        n = axis->logarithmic ? logarithmic_ticks(axis, own) : linear_ticks(axis, own);
        ticks = own;
    }
    for (size_t i = 0; i < n; i++)
        put_tick(p, axis, i, ticks[i]);
    if (axis == &p->x)
        cli_text_put(p->text, "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">",
                     0.5 * (p->left + p->width - p->right), p->height - 18);
    else
        cli_text_put(p->text,
                     "<text transform=\"translate(18 %.0f) rotate(-90)\" text-anchor=\"middle\">",
                     0.5 * (p->top + p->height - p->bottom));
    cli_text_escape(p->text, axis->title);
    cli_text_put(p->text, "</text>\n");
}

void plot_begin(plot *p, cli_text *text, const char *id, const char *style, const char *caption,
                plot_axis x, plot_axis y)
{
    *p = (plot){text, x, y, WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM};
    cli_text_put(text,
                 "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\" "
                 "font-family=\"sans-serif\" font-size=\"12\">\n",
                 WIDTH, HEIGHT);
    if (style)
        cli_text_put(text,
                     "<style>%s</style>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
                     style);
    cli_text_put(text,
                 "<clipPath id=\"%s\"><rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>"
                 "</clipPath>\n<text class=\"caption\" x=\"%d\" y=\"28\" font-size=\"14\">",
                 id, LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM, LEFT);
    cli_text_escape(text, caption);
    cli_text_put(text, "</text>\n");
    put_axis(p, &p->y);
    put_axis(p, &p->x);
}

void plot_end(plot *p)
{
    cli_text_put(p->text, "</svg>\n");
}

void plot_line(plot *p, const char *id, const char *class, const double *x, const double *y,
               size_t n)
{
    if (n == 0)
        return;
    cli_text_put(p->text, "<path class=\"%s\" clip-path=\"url(#%s)\" d=\"", class, id);
    for (size_t i = 0; i < n; i++)
        cli_text_put(p->text, "%c%.1f %.1f", i ? 'L' : 'M', plot_x(p, x[i]), plot_y(p, y[i]));
    cli_text_put(p->text, "\"/>\n");
}

static void put_tip(plot *p, const char *element, const char *tip)
{
    cli_text_put(p->text, "><title>");
    cli_text_escape(p->text, tip);
    cli_text_put(p->text, "</title></%s>\n", element);
}

void plot_point(plot *p, const char *class, size_t shape, double x, double y, const char *tip)
{
    static const char *const outlines[PLOT_SHAPES] = {
        NULL,
        "m-4-4h8v8h-8z",
        "m0-5.5l5 9h-10z",
        "m0-5.5l5.5 5.5l-5.5 5.5l-5.5-5.5z",
        "m0 5.5l5-9h-10z",
        "m-1.5-5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",
    };
    const char *outline = outlines[shape % PLOT_SHAPES];
    if (outline)
        cli_text_put(p->text, "<path class=\"%s\" d=\"M%.1f %.1f%s\"", class, plot_x(p, x),
                     plot_y(p, y), outline);
    else
        cli_text_put(p->text, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"", class,
                     plot_x(p, x), plot_y(p, y));
    put_tip(p, outline ? "path" : "circle", tip);
}

void plot_bar(plot *p, const char *class, double x0, double x1, double y, const char *tip)
{
    double left = plot_x(p, x0), top = plot_y(p, y), foot = p->height - p->bottom;
    cli_text_put(p->text, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"",
                 class, left, top < foot ? top : foot, plot_x(p, x1) - left,
                 top < foot ? foot - top : 0);
    put_tip(p, "rect", tip);
}

void plot_label(plot *p, const char *class, const char *anchor, double x, double y, double dx,
                double dy, const char *text)
{
    cli_text_put(p->text, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", class,
                 plot_x(p, x) + dx, plot_y(p, y) + dy, anchor);
    cli_text_escape(p->text, text);
    cli_text_put(p->text, "</text>\n");
}

void plot_legend(plot *p, size_t line, const char *class, const char *text)
{
    double y = p->top + 18.0 * ((double)line + 1.0);
    cli_text_put(p->text, "<path class=\"%s\" d=\"M%.0f %.0fh24\"/><text x=\"%.0f\" y=\"%.0f\">",
                 class, p->left + 12, y - 4, p->left + 44, y);
    cli_text_escape(p->text, text);
    cli_text_put(p->text, "</text>\n");
}
