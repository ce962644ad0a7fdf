// The loss of a training over its steps, from the record in a heads file, as an SVG.
#include <math.h>
#include <stdio.h>

#include "cli.h"
#include "plot.h"

enum { MOST_POINTS = 64 };

typedef struct curve {
    size_t n;
    double step[MOST_POINTS], trained[MOST_POINTS], held_out[MOST_POINTS], accepted[MOST_POINTS];
    double least, most; // of both losses
} curve;

static void read_curve(const json_t *points, curve *c)
{
    size_t i;
    json_t *point;
    *c = (curve){.least = HUGE_VAL, .most = -HUGE_VAL};
    json_array_foreach(points, i, point)
    {
        if (c->n == MOST_POINTS)
            return;
        c->step[c->n] = cli_json_number(point, "step");
        c->trained[c->n] = cli_json_number(point, "loss");
        c->held_out[c->n] = cli_json_number(point, "held_out_loss");
        c->accepted[c->n] = cli_json_number(point, "accepted_length");
        c->least = fmin(c->least, fmin(c->trained[c->n], c->held_out[c->n]));
        c->most = fmax(c->most, fmax(c->trained[c->n], c->held_out[c->n]));
        c->n++;
    }
}

static void put_points(plot *p, const curve *c)
{
    for (size_t i = 0; i < c->n; i++) {
        char tip[128];
        snprintf(tip, sizeof tip, "step %.0f: loss %.3f, held out %.3f, accepted length %.3f",
                 c->step[i], c->trained[i], c->held_out[i], c->accepted[i]);
        plot_point(p, "trained", 0, c->step[i], c->trained[i], tip);
        plot_point(p, "held", 0, c->step[i], c->held_out[i], tip);
    }
    char last[48];
    if (c->accepted[c->n - 1] <= 0)
        return;
    snprintf(last, sizeof last, "accepted length %.2f", c->accepted[c->n - 1]);
    plot_label(p, "held", "end", c->step[c->n - 1], c->held_out[c->n - 1], 0, -10, last);
}

static bool draw(const gorgon_head_set_info *set, const curve *c, const char *path)
{
    static const char style[] = "path{fill:none}.grid{stroke:#ddd}path.trained{stroke:#999}"
                                "path.held{stroke:#229;stroke-width:2}circle.trained{fill:#999}"
                                "circle.held{fill:#229}";
    const double room = fmax(0.05 * (c->most - c->least), 1e-3 * fabs(c->most));
    char caption[96];
    cli_text text = {0};
    plot p;
    snprintf(caption, sizeof caption, "%.40s, %zu heads: loss (nats, over all heads)", set->kind,
             set->n_heads);
    plot_begin(&p, &text, "loss", style, caption,
               (plot_axis){.title = "step", .low = 0, .high = c->step[c->n - 1]},
               (plot_axis){.title = "loss", .low = c->least - room, .high = c->most + 3 * room});
    plot_line(&p, "loss", "trained", c->step, c->trained, c->n);
    plot_line(&p, "loss", "held", c->step, c->held_out, c->n);
    put_points(&p, c);
    plot_legend(&p, 0, "trained", "training text, mean since the point before");
    plot_legend(&p, 1, "held", "held-out text");
    plot_end(&p);
    return cli_text_write(&text, path);
}

bool cli_plot_training(const char *heads_path, size_t set, const char *path)
{
    gorgon_error err = {0};
    gorgon_heads *heads = NULL;
    gorgon_head_set_info info;
    if (gorgon_heads_open(heads_path, &heads, &err) != GORGON_OK)
        return cli_fail(&err);
    if (gorgon_heads_describe(heads, set, &info, &err) != GORGON_OK) {
        gorgon_heads_free(heads);
        return cli_fail(&err);
    }
    json_t *record = json_loads(info.training_json, 0, NULL);
    curve c;
    read_curve(json_object_get(record, "loss_curve"), &c);
    bool good = c.n > 0 && c.step[c.n - 1] > 0 && isfinite(c.least) && isfinite(c.most)
                    ? draw(&info, &c, path)
                    : cli_complain("%s: set %zu tells no loss curve of a training, which --plot "
                                   "would draw",
                                   heads_path, set);
    json_decref(record);
    gorgon_heads_free(heads);
    return good;
}
