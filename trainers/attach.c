// attach: synthesis, training and calibration in a row. Each stage finds out by itself what an
// interrupted run left behind; the heads file appears under its name only when all is done.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"
#include "core/model.h"
#include "gorgon/trainers.h"
#include "train_options.h"
#include "trainers/cache.h"

enum { PATH_BYTES = 4096 };

void gorgon_attach_options_init(gorgon_attach_options *options)
{
    memset(options, 0, sizeof *options);
    gorgon_synth_options_init(&options->synth);
    gorgon_train_options_init(&options->train);
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

// Options that training would refuse are found before the model has written its text.
static gorgon_status check_training(const gorgon_model *model, const gorgon_attach_options *options,
                                    const paths *p, gorgon_error *err)
{
    const gorgon_train_options train = training_of(options, p);
    gg_train_plan plan;
    return gg_train_plan_make(&train, model, &plan, err);
}

static gorgon_status run_trainers(const gorgon_model *model, const gorgon_attach_options *options,
                                  const paths *p, gorgon_error *err)
{
    const gorgon_train_options train = training_of(options, p);
    gorgon_calibrate_options calibrate = options->calibrate;
    calibrate.cache = p->cache;
    calibrate.heads = p->heads;
    calibrate.held_out = train.held_out;
    gorgon_engine *engine = NULL;
    gorgon_engine_options engine_options;
    gorgon_engine_options_init(&engine_options);
    engine_options.threads = options->threads;
    engine_options.cpu_level = options->cpu_level;
    gorgon_status status = gorgon_engine_create(model, &engine_options, &engine, err);
    if (status == GORGON_OK)
        status = gorgon_train(engine, &train, err);
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
        status = check_training(model, options, p, err);
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
