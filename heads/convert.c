// gorgon_heads_convert: heads from any format into any that can say what they are.
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "convert.h"
#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"

static const gg_convert_format *const formats[] = {
    &gg_convert_fasterdecoding,
    &gg_convert_fasterdecoding_v2,
    &gg_convert_vllm,
};

gorgon_status gg_conversion_refuse(const gg_conversion *c, const char *format, const char *what)
{
    return gg_fail(c->err, GORGON_ERROR_UNSUPPORTED, "%s: %s cannot express %s", c->heads->label,
                   format, what);
}

static gorgon_status write_side_car(const gorgon_heads *h, const gorgon_model *model,
                                    const char *path, gorgon_error *err)
{
    gorgon_fingerprint base = h->base;
    const char *name = gorgon_heads_base_name(h);
    gorgon_model_info info;
    if (model) {
        gorgon_model_describe(model, &info);
        base = gorgon_model_fingerprint(model);
        name = info.name;
    }
    gg_head_set_source *sources = gg_alloc(h->n_sets, sizeof *sources);
    if (!sources)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", h->label);
    for (size_t i = 0; i < h->n_sets; i++) {
        const gg_head_set *s = &h->sets[i];
        sources[i] = (gg_head_set_source){
            .shape = s->shape,
            .weight_type = s->weight_type,
            .draft_ids = s->draft_ids,
            .stored = s->data,
            .training_json = *s->training_json ? s->training_json : NULL,
            .accuracy_json = *s->accuracy_json ? s->accuracy_json : NULL,
            .calibration = s->calibration,
            .n_calibration = s->n_calibration,
            .successors = s->successors.n ? &s->successors : NULL,
        };
    }
    gorgon_status status = gg_heads_write_for(path, name, &base, sources, h->n_sets, err);
    gg_free(sources);
    return status;
}

// A new directory, or one that holds nothing but what is about to be replaced. *made: it is new.
static gorgon_status prepare_directory(const gg_convert_format *f, const char *path, bool *made,
                                       gorgon_error *err)
{
    *made = mkdir(path, 0777) == 0;
    if (*made)
        return GORGON_OK;
    if (errno != EEXIST)
        return gg_fail_errno(err, "make the directory", path, errno);
    DIR *directory = opendir(path);
    if (!directory)
        return gg_fail_errno(err, "write into the directory", path, errno);
    gorgon_status status = GORGON_OK;
    for (struct dirent *e; status == GORGON_OK && (e = readdir(directory)) != NULL;) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            strcmp(e->d_name, f->weights) != 0 && strcmp(e->d_name, "config.json") != 0)
            status = gg_fail(err, GORGON_ERROR_ARGUMENT,
                             "%s: expected a new directory, or one with nothing but %s and "
                             "config.json, got one with '%.80s'",
                             gg_path_end(path), f->weights, e->d_name);
    }
    closedir(directory);
    return status;
}

static gorgon_status open_output(const char *directory, const char *name, gorgon_output **out,
                                 gorgon_error *err)
{
    char path[GG_MAX_PATH];
    if (!gg_path_join(directory, name, path))
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "%s: expected a path of at most %d bytes",
                       gg_path_end(directory), GG_MAX_PATH);
    return gorgon_output_create(path, out, err);
}

static gorgon_status write_config(const gg_conversion *c, gorgon_output *out)
{
    char *text = json_dumps(c->config, JSON_INDENT(2));
    if (!text)
        return gg_fail(c->err, GORGON_ERROR_MEMORY, "%s: out of memory", c->heads->label);
    gorgon_status status = gorgon_output_write(out, text, strlen(text), c->err);
    if (status == GORGON_OK)
        status = gorgon_output_write(out, "\n", 1, c->err);
    free(text);
    return status;
}

// Both files are written before either takes its place.
static gorgon_status write_files(const gg_conversion *c, const gg_convert_format *f,
                                 const char *directory)
{
    gorgon_output *weights = NULL, *config = NULL;
    gorgon_status status = open_output(directory, f->weights, &weights, c->err);
    if (status == GORGON_OK)
        status = open_output(directory, "config.json", &config, c->err);
    if (status == GORGON_OK)
        status = gg_safetensors_write(c->writer, weights, c->err);
    if (status == GORGON_OK)
        status = write_config(c, config);
    if (status != GORGON_OK) {
        gorgon_output_discard(weights);
        gorgon_output_discard(config);
        return status;
    }
    status = gorgon_output_commit(weights, c->err);
    if (status == GORGON_OK)
        return gorgon_output_commit(config, c->err);
    gorgon_output_discard(config);
    return status;
}

static gorgon_status write_format(gg_conversion *c, const gg_convert_format *f, const char *path)
{
    bool made = false;
    c->config = json_object();
    gorgon_status status =
        c->config ? gg_safetensors_create(&c->writer, c->err)
                  : gg_fail(c->err, GORGON_ERROR_MEMORY, "%s: out of memory", c->heads->label);
    if (status == GORGON_OK)
        status = f->fill(c);
    if (status == GORGON_OK)
        status = prepare_directory(f, path, &made, c->err);
    if (status == GORGON_OK)
        status = write_files(c, f, path);
    if (status != GORGON_OK && made)
        rmdir(path);
    for (size_t i = 0; i < c->n_buffers; i++)
        gg_free(c->buffers[i]);
    gg_free(c->buffers);
    gg_safetensors_free(c->writer);
    json_decref(c->config);
    return status;
}

gorgon_status gorgon_heads_convert(const gorgon_heads *heads, const gorgon_convert_options *o,
                                   const char *path, gorgon_error *err)
{
    char list[120] = "gguf";
    gorgon_status status = o->model ? gorgon_heads_check(heads, o->model, NULL, err) : GORGON_OK;
    if (status != GORGON_OK)
        return status;
    if (strcmp(o->to, "gguf") == 0)
        return write_side_car(heads, o->model, path, err);
    gg_conversion c = {.heads = heads,
                       .set = gg_heads_set(heads, o->set),
                       .model = o->model,
                       .n_vocab =
                           o->model ? gg_model_geometry(o->model)->n_vocab : heads->base.n_vocab,
                       .err = err};
    if (!c.set)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "%s: no set %zu, expected 0 to %zu",
                       heads->label, o->set, heads->n_sets - 1);
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (strcmp(formats[i]->name, o->to) == 0)
            return write_format(&c, formats[i], path);
        gg_list_append(list, sizeof list, formats[i]->name);
    }
    return gg_fail(err, GORGON_ERROR_ARGUMENT, "no format '%.40s', expected one of: %s", o->to,
                   list);
}
