// Opens a Hugging Face directory as the GGUF file that it could be converted to.
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/alloc.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/tokenizer.h"
#include "gorgon/model.h"
#include "hf_tensors.h"

enum { PATH_BYTES = 4096 };

// The checkpoint while it is open.
typedef struct hf {
    gg_hf_config config;
    gg_tensor_file *file;
    gg_hf_tensors tensors;
    gg_gguf_writer *keys;
} hf;

static void close_hf(void *opaque)
{
    hf *h = opaque;
    gg_gguf_writer_free(h->keys);
    gg_hf_tensors_clear(&h->tensors);
    gg_tensor_file_close(h->file);
    gg_free(h);
}

// The last part of the path: what the model is called.
static gorgon_status put_name(const char *directory, gg_gguf_writer *w, gorgon_error *err)
{
    char name[256];
    size_t end = strlen(directory);
    while (end > 1 && directory[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && directory[begin - 1] != '/')
        begin--;
    snprintf(name, sizeof name, "%.*s", (int)(end - begin), directory + begin);
    return gg_gguf_put_string(w, "general.name", name, err);
}

static gorgon_status put_keys(const char *directory, hf *h, gorgon_error *err)
{
    gorgon_status status = gg_gguf_writer_create(&h->keys, err);
    if (status == GORGON_OK)
        status = gg_hf_config_put(&h->config, h->keys, err);
    if (status == GORGON_OK)
        status = put_name(directory, h->keys, err);
    return status == GORGON_OK ? gg_tokenizer_json_put(directory, h->config.n_vocab, h->keys, err)
                               : status;
}

// Free it with close_hf.
static gorgon_status open_hf(const char *directory, hf **out, gorgon_error *err)
{
    char path[PATH_BYTES];
    hf *h = gg_alloc(1, sizeof *h);
    *out = NULL;
    if (!h)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", directory);
    const int n = snprintf(path, sizeof path, "%s/config.json", directory);
    gorgon_status status = n < (int)sizeof path
                               ? gg_hf_config_open(path, &h->config, err)
                               : gg_fail(err, GORGON_ERROR_IO, "%.80s...: path too long", path);
    if (status == GORGON_OK)
        status = put_keys(directory, h, err);
    if (status == GORGON_OK)
        status = gg_tensor_file_open(directory, &h->file, err);
    if (status == GORGON_OK)
        status = gg_hf_tensors_create(&h->config, h->file, &h->tensors, err);
    if (status == GORGON_OK)
        *out = h;
    else
        close_hf(h);
    return status;
}

gorgon_status gg_checkpoint_open(const char *path, gg_gguf **out, gorgon_error *err)
{
    struct stat info;
    hf *h;
    *out = NULL;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return gg_gguf_open(path, out, err);
    gorgon_status status = open_hf(path, &h, err);
    if (status != GORGON_OK)
        return status;
    status =
        gg_gguf_assemble(h->keys, path, h->tensors.tensors, h->tensors.n, close_hf, h, out, err);
    if (status != GORGON_OK)
        close_hf(h);
    return status;
}

gorgon_status gorgon_model_convert(const char *directory, const char *path, gorgon_error *err)
{
    hf *h;
    gorgon_model *model;
    gorgon_status status = gorgon_model_open(directory, 0, &model, err); // is all there?
    if (status != GORGON_OK)
        return status;
    gorgon_model_free(model);
    status = open_hf(directory, &h, err);
    if (status != GORGON_OK)
        return status;
    for (size_t i = 0; i < h->tensors.n && status == GORGON_OK; i++)
        status = gg_gguf_put_view(h->keys, &h->tensors.tensors[i], err);
    if (status == GORGON_OK)
        status = gg_gguf_write(h->keys, path, err);
    close_hf(h);
    return status;
}
