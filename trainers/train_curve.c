// The curve in memory and in its file, which is always written as a whole.
#include "train_curve.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"

enum { LINE = 1024 }; // bytes of a row or of the header, at most

static gorgon_status append(gg_train_curve *curve, const char *data, size_t n, gorgon_error *err)
{
    if (curve->capacity - curve->n < n) {
        size_t capacity = 2 * (curve->n + n);
        char *text = gg_alloc(capacity, 1);
        if (!text)
            return gg_fail(err, GORGON_ERROR_MEMORY, "training curve: out of memory");
        memcpy(text, curve->text ? curve->text : "", curve->n);
        gg_free(curve->text);
        curve->text = text;
        curve->capacity = capacity;
    }
    memcpy(curve->text + curve->n, data, n);
    curve->n += n;
    return GORGON_OK;
}

static size_t make_header(size_t n_heads, char line[LINE])
{
    int used = snprintf(line, LINE, "step,learning_rate,loss,held_out_loss");
    for (size_t k = 1; k <= n_heads; k++)
        used += snprintf(line + used, LINE - (size_t)used, ",top1_%zu", k);
    used += snprintf(line + used, LINE - (size_t)used, "\n");
    return (size_t)used;
}

// The step that a row begins with; 0 when it begins otherwise.
static uint64_t step_of(const char *row, size_t n)
{
    uint64_t step = 0;
    for (size_t i = 0; i < n && i < 19; i++) {
        if (row[i] == ',')
            return step;
        if (row[i] < '0' || row[i] > '9')
            return 0;
        step = 10 * step + (uint64_t)(row[i] - '0');
    }
    return 0;
}

// Bytes of the whole rows, in order, whose steps are done.
static size_t rows_until(const char *data, size_t size, uint64_t done)
{
    size_t at = 0;
    for (uint64_t before = 0; at < size;) {
        const char *end = memchr(data + at, '\n', size - at);
        uint64_t step = end ? step_of(data + at, size - at) : 0;
        if (step <= before || step > done)
            break;
        before = step;
        at = (size_t)(end - data) + 1;
    }
    return at;
}

static gorgon_status keep_rows(gg_train_curve *curve, uint64_t done, gorgon_error *err)
{
    struct stat info;
    gg_mapping map;
    if (stat(curve->path, &info) != 0 && errno == ENOENT)
        return GORGON_OK;
    gorgon_status status = gg_map_file(curve->path, &map, err);
    if (status != GORGON_OK)
        return status;
    const char *data = (const char *)map.data;
    if (map.size < curve->n || memcmp(data, curve->text, curve->n) != 0)
        status = gg_fail(err, GORGON_ERROR_FORMAT,
                         "%s: is there and not the curve of a training of %zu heads; expected "
                         "'%.*s' as its first line",
                         curve->path, curve->n_heads, (int)curve->n - 1, curve->text);
    else
        status = append(curve, data + curve->n,
                        rows_until(data + curve->n, map.size - curve->n, done), err);
    gg_unmap(&map);
    return status;
}

gorgon_status gg_train_curve_open(const char *path, size_t n_heads, uint64_t done,
                                  gg_train_curve *curve, gorgon_error *err)
{
    char header[LINE];
    *curve = (gg_train_curve){.path = path, .n_heads = n_heads};
    if (!path)
        return GORGON_OK;
    gorgon_status status = append(curve, header, make_header(n_heads, header), err);
    if (status == GORGON_OK)
        status = keep_rows(curve, done, err);
    return status == GORGON_OK ? gg_train_curve_save(curve, err) : status;
}

void gg_train_curve_clear(gg_train_curve *curve)
{
    gg_free(curve->text);
    *curve = (gg_train_curve){0};
}

gorgon_status gg_train_curve_add(gg_train_curve *curve, uint64_t step, double learning_rate,
                                 double loss, const gg_train_scores *scores, gorgon_error *err)
{
    if (!curve->path)
        return GORGON_OK;
    char line[LINE];
    bool scored = scores && scores->positions > 0;
    int used = snprintf(line, LINE, "%" PRIu64 ",%.9g,%.9g,", step, learning_rate, loss);
    if (scored)
        used += snprintf(line + used, LINE - (size_t)used, "%.9g", scores->loss);
    for (size_t k = 0; k < curve->n_heads; k++) {
        used += snprintf(line + used, LINE - (size_t)used, ",");
        if (scored)
            used +=
                snprintf(line + used, LINE - (size_t)used, "%.6g", gg_train_accuracy(scores, k, 1));
    }
    used += snprintf(line + used, LINE - (size_t)used, "\n");
    return append(curve, line, (size_t)used, err);
}

gorgon_status gg_train_curve_save(const gg_train_curve *curve, gorgon_error *err)
{
    if (!curve->path)
        return GORGON_OK;
    gorgon_output *out;
    gorgon_status status = gorgon_output_create(curve->path, &out, err);
    if (status != GORGON_OK)
        return status;
    status = gorgon_output_write(out, curve->text, curve->n, err);
    if (status == GORGON_OK)
        return gorgon_output_commit(out, err);
    gorgon_output_discard(out);
    return status;
}
