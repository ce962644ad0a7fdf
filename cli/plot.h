// Drawings as SVG: axes with grid and ticks, lines, points, bars, labels. Colours are the caller's:
// everything that is drawn bears a class.
#ifndef CLI_PLOT_H
#define CLI_PLOT_H

#include "text.h"

typedef struct plot_axis {
    const char *title;
    double low, high; // high > low; both > 0 if logarithmic
    bool logarithmic;
    // Where ticks stand, and what they say; NULL: round numbers, and the number itself.
    const double *ticks; // [n_ticks]
    const char *const *labels;
    size_t n_ticks;
} plot_axis;

typedef struct plot {
    cli_text *text;
    plot_axis x, y;
    double width, height, left, right, top, bottom;
} plot;

enum { PLOT_SHAPES = 6 }; // of points

// Opens the drawing. `id` is unique within a page; `style`: CSS of a drawing that stands alone,
// NULL within a page. `caption` stands above (escaped).
void plot_begin(plot *p, cli_text *text, const char *id, const char *style, const char *caption,
                plot_axis x, plot_axis y);
void plot_end(plot *p);
double plot_x(const plot *p, double value); // value to coordinate
double plot_y(const plot *p, double value);

// Through the points, cut off at the edge of the area.
void plot_line(plot *p, const char *id, const char *class, const double *x, const double *y,
               size_t n);
// Shape 0 is a circle. `tip` is shown when pointed at (escaped).
void plot_point(plot *p, const char *class, size_t shape, double x, double y, const char *tip);
// From the x axis up to y, between two x.
void plot_bar(plot *p, const char *class, double x0, double x1, double y, const char *tip);
// `anchor`: "start", "middle" or "end" of the text is at the place, moved by (dx, dy) (escaped).
void plot_label(plot *p, const char *class, const char *anchor, double x, double y, double dx,
                double dy, const char *text);
// The line-th entry of a legend in the upper left corner: a stroke of the class and what it is.
void plot_legend(plot *p, size_t line, const char *class, const char *text);

#endif
