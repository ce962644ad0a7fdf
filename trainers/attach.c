// attach: synthesis, training and calibration in a row. Each stage finds out by itself what an
// interrupted run left behind; the heads file appears under its name only when all is done.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/engine.h"
#include "core/error.h"
#include "core/file.h"
#include "core/model.h"
#include "gorgon/trainers.h"
#include "train_options.h"
#include "trainers/cache.h"

enum { PATH_BYTES = 4096 };
#define ALL_HELD_OUT 0.9 // of the text, where nothing is trained on it

void gorgon_attach_options_init(gorgon_attach_options *options)
{
    memset(options, 0, sizeof *options);
    gorgon_synth_options_init(&options->synth);
    gorgon_train_options_init(&options->train);
    options->train.architecture = "hydra++";
    options->train.weight_type = "Q8_0";
    gorgon_calibrate_options_init(&options->calibrate);
}

typedef struct paths {
    char cache[PATH_BYTES], heads[PATH_BYTES];
} paths;

static gorgon_status make_paths(const gorgon_attach_options *o, paths *p, gorgon_error *err)
{
    int n = o->synth.cache ? snprintf(p->cache, sizeof p->cache, "%s", o->synth.cache)
                           : snprintf(p->cache, sizeof p->cache, "%s.cache", o->out);
    if (n > 0 && (size_t)n < sizeof p->cache)
        n = snprintf(p->heads, sizeof p->heads, "%s/heads.gguf", p->cache);
    if (n <= 0 || (size_t)n >= sizeof p->heads)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "attach: the path of the cache is too long");
    return GORGON_OK;
}

// An unwritable place is found before the work, not after it.
static gorgon_status check_writable(const char *path, gorgon_error *err)
{
    gorgon_output *probe = NULL;
    gorgon_status status = gorgon_output_create(path, &probe, err);
    gorgon_output_discard(probe);
    return status;
}

static gorgon_train_options training_of(const gorgon_attach_options *options, const paths *p)
{
    gorgon_train_options train = options->train;
    train.cache = p->cache;
    train.out = p->heads;
    return train;
}

// What would be refused later is found before the model has written its text.
static gorgon_status check_heads(const gorgon_model *model, const gorgon_attach_options *options,
                                 const paths *p, gorgon_error *err)
{
    if (options->heads) {
        gorgon_heads *heads = NULL;
        gorgon_status status = gorgon_heads_open(options->heads, &heads, err);
        if (status == GORGON_OK)
            status = gorgon_heads_check(heads, model, NULL, err);
        gorgon_heads_free(heads);
        return status;
    }
    const gorgon_train_options train = training_of(options, p);
    gg_train_plan plan;
    return gg_train_plan_make(&train, model, &plan, err);
}

// Heads from elsewhere as a side-car in the cache.
static gorgon_status take_over(const gorgon_model *model, const char *path, const paths *p,
                               gorgon_error *err)
{
    const gorgon_convert_options convert = {.to = "gguf", .model = model};
    gorgon_heads *heads = NULL;
    gorgon_status status = gorgon_heads_open(path, &heads, err);
    if (status == GORGON_OK)
        status = gorgon_heads_convert(heads, &convert, p->heads, err);
    gorgon_heads_free(heads);
    return status;
}

static gorgon_status make_heads(gorgon_engine *engine, const gorgon_attach_options *options,
                                const gorgon_train_options *train, const paths *p,
                                gorgon_error *err)
{
    gorgon_self_check check;
    if (!options->heads)
        return gorgon_train(engine, train, err);
    gorgon_status status = take_over(gg_engine_model(engine), options->heads, p, err);
    if (status == GORGON_OK)
        status = gorgon_heads_self_check(engine, p->heads, 0, p->cache, &check, err);
    if (status == GORGON_OK && options->check)
        *options->check = check;
    return status;
}

static gorgon_status run_trainers(const gorgon_model *model, const gorgon_attach_options *options,
                                  const paths *p, gorgon_error *err)
{
    const gorgon_train_options train = training_of(options, p);
    gorgon_calibrate_options calibrate = options->calibrate;
    calibrate.cache = p->cache;
    calibrate.heads = p->heads;
    calibrate.held_out = options->heads ? ALL_HELD_OUT : train.held_out;
    gorgon_engine *engine = NULL;
    gorgon_engine_options engine_options;
    gorgon_engine_options_init(&engine_options);
    engine_options.threads = options->threads;
    engine_options.cpu_level = options->cpu_level;
    gorgon_status status = gorgon_engine_create(model, &engine_options, &engine, err);
    if (status == GORGON_OK)
        status = make_heads(engine, options, &train, p, err);
    if (status == GORGON_OK)
        status = gorgon_calibrate(engine, &calibrate, err);
    gorgon_engine_free(engine);
    return status;
}

static gorgon_status run_stages(const gorgon_model *model, const gorgon_attach_options *options,
                                const paths *p, gorgon_error *err)
{
    gorgon_synth_options synth = options->synth;
    synth.cache = p->cache;
    synth.threads = options->threads;
    synth.cpu_level = options->cpu_level;
    gorgon_status status = gorgon_synth(model, &synth, err);
    return status == GORGON_OK ? run_trainers(model, options, p, err) : status;
}

static gorgon_status copy_file(const char *from, const char *to, gorgon_error *err)
{
    gg_mapping file;
    gorgon_output *out = NULL;
    gorgon_status status = gg_map_file(from, &file, err);
    if (status != GORGON_OK)
        return status;
    status = gorgon_output_create(to, &out, err);
    if (status == GORGON_OK)
        status = gorgon_output_write(out, file.data, file.size, err);
    if (status == GORGON_OK)
        status = gorgon_output_commit(out, err);
    else
        gorgon_output_discard(out);
    gg_unmap(&file);
    return status;
}

gorgon_status gorgon_attach(const gorgon_model *model, const gorgon_attach_options *options,
                            gorgon_error *err)
{
    if (!options->out)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "attach: no output file given");
    paths *p = gg_alloc(1, sizeof *p);
    if (!p)
        return gg_fail(err, GORGON_ERROR_MEMORY, "attach: out of memory");
    gorgon_status status = make_paths(options, p, err);
    if (status == GORGON_OK)
        status = check_writable(options->out, err);
    if (status == GORGON_OK)
        status = check_heads(model, options, p, err);
    if (status == GORGON_OK)
        status = run_stages(model, options, p, err);
    if (status == GORGON_OK)
        status = copy_file(p->heads, options->out, err);
    if (status == GORGON_OK && !options->keep_cache) {
        remove(p->heads);
        status = gg_cache_remove(p->cache, err);
    }
    gg_free(p);
    return status;
}
