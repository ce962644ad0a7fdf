// The curve that gorgon_train writes: what it tells, that stopping does not change it, refusals.
#define _XOPEN_SOURCE 700 // mkdtemp
#include "train_fixture.h"

TestSuite(train_curve, .init = set_up, .fini = tear_down);

static size_t count_lines(const char *text, size_t n)
{
    size_t lines = 0;
    for (size_t i = 0; i < n; i++)
        lines += text[i] == '\n';
    return lines;
}

// A row per step, figures of the held-out positions ten times; stopped and resumed it is the same
// file, whatever rows the interrupted run had written beyond its state.
Test(train_curve, tells_every_step)
{
    char out[128], a[128], b[128];
    make_cache(true, true);
    gorgon_train_options options = options_for("a.csv", a);
    options = options_for("b.csv", b);
    options = options_for("a.gguf", out);
    watch seen = {0};
    options.progress = on_progress;
    options.context = &seen;
    options.curve = a;
    train(engine, &options);
    size_t n;
    char *text = (char *)read_out(a, &n); // zeroed beyond n
    cr_assert_eq(count_lines(text, n), seen.total + 1);
    cr_assert_eq(
        strncmp(text, "step,learning_rate,loss,held_out_loss,top1_1,top1_2,top1_3\n1,", 60), 0,
        "%.100s", text);
    size_t scored = 0;
    for (const char *row = text; (row = strchr(row, '\n')) && row[1]; row++) {
        unsigned step;
        double rate, loss, held_out, top[3];
        int got = sscanf(row + 1, "%u,%lf,%lf,%lf,%lf,%lf,%lf", &step, &rate, &loss, &held_out, top,
                         top + 1, top + 2);
        cr_assert(got == 3 || got == 7, "%.80s", row + 1);
        cr_assert(rate >= 0.0 && rate <= 3e-3 && loss > 0.0);
        scored += got == 7;
        cr_assert(got == 3 || (held_out > 0.0 && top[2] >= 0.0 && top[2] <= 1.0));
    }
    cr_assert_eq(scored, 10);

    options.curve = b;
    options.learning_rate = 1e-3; // another run: starts over
    train(engine, &options);
    options.learning_rate = 3e-3;
    seen.stop_at = 10;
    cr_assert_eq(gorgon_train(engine, &options, NULL), GORGON_ERROR_CANCELLED);
    FILE *f = fopen(b, "a");
    cr_assert(f && fputs("11,0.5,0.5,,,,\n12,0.5", f) >= 0);
    fclose(f);
    seen.stop_at = 0;
    train(engine, &options);
    check_same_files(a, b);
    gg_free(text);
}

Test(train_curve, refusals)
{
    char out[128], csv[128];
    make_cache(true, true);
    gorgon_train_options options = options_for("a.csv", csv);
    options = options_for("a.gguf", out);
    options.curve = csv;
    FILE *f = fopen(csv, "w");
    cr_assert(f && fputs("somebody's own notes\n", f) >= 0);
    fclose(f);
    gorgon_error err = {0};
    cr_assert_eq(gorgon_train(engine, &options, &err), GORGON_ERROR_FORMAT);
    cr_assert(strstr(err.message, "a.csv: is there and not the curve"), "%s", err.message);
    size_t n;
    uint8_t *kept = read_out(csv, &n);
    cr_assert_eq(memcmp(kept, "somebody's own notes\n", n), 0);
    gg_free(kept);
    options.curve = "/tmp/gorgon-no-such-directory/a.csv";
    cr_assert_eq(gorgon_train(engine, &options, &err), GORGON_ERROR_IO, "%s", err.message);
}
