// Tokenizers from files: a GGUF file, or the files of a Hugging Face directory.
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "core/limits.h"
#include "core/tokenizer.h"
#include "tokenizer_json.h"

static char *join(const char *directory, const char *name)
{
    size_t n = strlen(directory), length = strlen(name);
    char *path = gg_alloc(n + length + 2, 1);
    if (!path)
        return NULL;
    memcpy(path, directory, n);
    if (n > 0 && path[n - 1] != '/')
        path[n++] = '/';
    memcpy(path + n, name, length);
    return path;
}

static bool is_absent(const char *path)
{
    struct stat info;
    return stat(path, &info) != 0 && errno == ENOENT;
}

static gorgon_status read_optional(const char *path, json_t **out, gorgon_error *err)
{
    return is_absent(path) ? GORGON_OK : gg_json_read(path, out, err);
}

static gorgon_status read_text_file(const char *path, char **text, size_t *length,
                                    gorgon_error *err)
{
    gg_mapping file;
    if (is_absent(path))
        return GORGON_OK;
    gorgon_status status = gg_map_file(path, &file, err);
    if (status != GORGON_OK)
        return status;
    if (file.size > GG_MAX_STRING)
        status = gg_fail(err, GORGON_ERROR_LIMIT, "%s: %zu bytes, expected at most %u", path,
                         file.size, GG_MAX_STRING);
    else if (!(*text = gg_alloc(file.size + 1, 1)))
        status = gg_fail(err, GORGON_ERROR_MEMORY, "%s: no memory for %zu bytes", path, file.size);
    else
        memcpy(*text, file.data, *length = file.size);
    gg_unmap(&file);
    return status;
}

static void close_files(gg_tokenizer_files *files, char *label)
{
    json_decref(files->tokenizer);
    json_decref(files->config);
    json_decref(files->generation);
    gg_free(files->chat);
    gg_free(label);
}

// *label is the path of tokenizer.json, owned; on error too.
static gorgon_status open_files(const char *directory, gg_tokenizer_files *files, char **label,
                                gorgon_error *err)
{
    char *paths[] = {join(directory, "tokenizer_config.json"),
                     join(directory, "generation_config.json"),
                     join(directory, "chat_template.jinja")};
    *files = (gg_tokenizer_files){0};
    files->label = *label = join(directory, "tokenizer.json");
    gorgon_status status = GORGON_OK;
    if (!paths[0] || !paths[1] || !paths[2] || !*label)
        status = gg_fail(err, GORGON_ERROR_MEMORY, "%s: no memory for a path", directory);
    if (status == GORGON_OK)
        status = gg_json_read_large(*label, &files->tokenizer, err);
    if (status == GORGON_OK)
        status = read_optional(paths[0], &files->config, err);
    if (status == GORGON_OK)
        status = read_optional(paths[1], &files->generation, err);
    if (status == GORGON_OK)
        status = read_text_file(paths[2], &files->chat, &files->chat_length, err);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        gg_free(paths[i]);
    return status;
}

gorgon_status gg_tokenizer_from_json(const char *directory, size_t n_vocab, gorgon_tokenizer **out,
                                     gorgon_error *err)
{
    gg_tokenizer_files files;
    gg_tokenizer_spec spec = {0};
    char *label;
    gorgon_status status = open_files(directory, &files, &label, err);
    if (status == GORGON_OK)
        status = gg_tokenizer_spec_from_json(&files, n_vocab, &spec, err);
    if (status == GORGON_OK)
        status = gg_tokenizer_build(&spec, out, err);
    gg_tokenizer_spec_clear(&spec);
    close_files(&files, label);
    return status;
}

gorgon_status gg_tokenizer_json_put(const char *directory, size_t n_vocab, gg_gguf_writer *writer,
                                    gorgon_error *err)
{
    gg_tokenizer_files files;
    gg_tokenizer_spec spec = {0};
    char *label;
    gorgon_status status = open_files(directory, &files, &label, err);
    if (status == GORGON_OK)
        status = gg_tokenizer_spec_from_json(&files, n_vocab, &spec, err);
    if (status == GORGON_OK)
        status = gg_tokenizer_spec_put(&spec, writer, err);
    gg_tokenizer_spec_clear(&spec);
    close_files(&files, label);
    return status;
}

static gorgon_status open_gguf(const char *path, gorgon_tokenizer **out, gorgon_error *err)
{
    gg_gguf *file = NULL;
    gorgon_status status = gg_gguf_open(path, &file, err);
    if (status == GORGON_OK)
        status = gg_tokenizer_from_gguf(file, out, err);
    gg_gguf_close(file);
    return status;
}

gorgon_status gorgon_tokenizer_open(const char *path, gorgon_tokenizer **out, gorgon_error *err)
{
    static const char name[] = "tokenizer.json";
    const size_t n = strlen(path), name_length = sizeof name - 1;
    struct stat info;
    *out = NULL;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return gg_tokenizer_from_json(path, 0, out, err);
    if (n < name_length || strcmp(path + n - name_length, name) != 0 ||
        (n > name_length && path[n - name_length - 1] != '/'))
        return open_gguf(path, out, err);
    char *directory = gg_strdup(n > name_length ? path : ".");
    if (!directory)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: no memory for a path", path);
    if (n > name_length)
        directory[n - name_length] = '\0';
    gorgon_status status = gg_tokenizer_from_json(directory, 0, out, err);
    gg_free(directory);
    return status;
}

void gorgon_tokenizer_free(gorgon_tokenizer *tokenizer)
{
    gg_tokenizer_free(tokenizer);
}
