// Checkpoints in several GGUF files, as llama.cpp's gguf-split and converters write them: every
// part is a GGUF file whose keys split.no, split.count and split.tensors.count place it; the first
// has all other keys.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/limits.h"
#include "gguf_view.h"

#define COUNT_KEY   "split.count"
#define NUMBER_KEY  "split.no"
#define TENSORS_KEY "split.tensors.count"

enum {
    SUFFIX_BYTES = 20, // "-00001-of-00003.gguf"
    SUFFIX_ROOM = 64,
    SHOWN = 80, // bytes of a second path or a name in an error line
};

static void close_all(gg_gguf *const *parts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gg_gguf_close(parts[i]);
}

static gorgon_status check_number(const gg_gguf *part, const char *key, uint64_t expected,
                                  gorgon_error *err)
{
    uint64_t value = 0;
    gorgon_status status = gg_gguf_get_u64(part, key, &value, err);
    if (status == GORGON_OK && value != expected)
        status = gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s is %" PRIu64 ", expected %" PRIu64,
                         part->label, key, value, expected);
    return status;
}

// The numbers that the parts give; *n_tensors is what they hold.
static gorgon_status check_parts(gg_gguf *const *parts, size_t n, size_t *n_tensors,
                                 gorgon_error *err)
{
    uint64_t tensors = 0;
    gorgon_status status = gg_gguf_get_u64(parts[0], TENSORS_KEY, &tensors, err);
    *n_tensors = 0;
    for (size_t i = 0; i < n && status == GORGON_OK; i++) {
        status = check_number(parts[i], NUMBER_KEY, i, err);
        if (status == GORGON_OK)
            status = check_number(parts[i], COUNT_KEY, n, err);
        if (status == GORGON_OK)
            status = check_number(parts[i], TENSORS_KEY, tensors, err);
        *n_tensors += parts[i]->n_tensors; // at most GG_MAX_PARTS * GG_MAX_TENSORS
    }
    if (status == GORGON_OK && (*n_tensors != tensors || tensors > GG_MAX_TENSORS))
        status = gg_fail(err, GORGON_ERROR_FORMAT,
                         "%s: " TENSORS_KEY " is %" PRIu64 ", but the %zu parts hold %zu tensors "
                         "(at most %d)",
                         parts[0]->label, tensors, n, *n_tensors, GG_MAX_TENSORS);
    return status;
}

// Which part the tensor with this number among all is in.
static const gg_gguf *part_of(gg_gguf *const *parts, size_t n, size_t tensor)
{
    size_t i = 0;
    while (i + 1 < n && tensor >= parts[i]->n_tensors)
        tensor -= parts[i++]->n_tensors;
    return parts[i];
}

static gorgon_status check_names(gg_gguf *const *parts, size_t n, const gg_gguf_ref *names,
                                 size_t n_tensors, gorgon_error *err)
{
    for (size_t i = 1; i < n_tensors; i++) {
        const gg_gguf_ref *a = &names[i - 1], *b = &names[i];
        if (a->length == b->length && memcmp(a->name, b->name, a->length) == 0)
            return gg_fail(err, GORGON_ERROR_FORMAT,
                           "%s: tensor '%.*s' is also in another part, '%.*s'",
                           part_of(parts, n, b->item)->label, SHOWN, b->name, SHOWN,
                           part_of(parts, n, a->item)->label);
    }
    return GORGON_OK;
}

// Tensors of all parts in order, and their names, sorted.
static gorgon_status merge(gg_gguf *const *parts, size_t n, size_t n_tensors, gorgon_error *err)
{
    gg_gguf *whole = parts[0];
    gg_tensor *tensors = gg_alloc(n_tensors, sizeof *tensors);
    gg_gguf_ref *names = gg_alloc(n_tensors, sizeof *names);
    gg_gguf **others = gg_alloc(n, sizeof *others);
    gorgon_status status = GORGON_OK;
    if (!tensors || !names || !others)
        status = gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", whole->label);
    for (size_t i = 0, at = 0; i < n && status == GORGON_OK; at += parts[i++]->n_tensors) {
        for (size_t t = 0; t < parts[i]->n_tensors; t++) {
            tensors[at + t] = parts[i]->tensors[t];
            names[at + t] = parts[i]->names[t];
            names[at + t].item += at;
        }
    }
    if (status == GORGON_OK) {
        qsort(names, n_tensors, sizeof *names, gg_gguf_ref_compare);
        status = check_names(parts, n, names, n_tensors, err);
    }
    if (status != GORGON_OK) {
        gg_free(tensors);
        gg_free(names);
        gg_free(others);
        return status;
    }
    for (size_t i = 1; i < n; i++) {
        others[i - 1] = parts[i];
        whole->size += parts[i]->size;
    }
    gg_free(whole->tensors);
    gg_free(whole->names);
    whole->tensors = tensors;
    whole->names = names;
    whole->n_tensors = n_tensors;
    whole->parts = others;
    whole->n_parts = n - 1;
    return GORGON_OK;
}

gorgon_status gg_gguf_join(gg_gguf *const *parts, size_t n, gg_gguf **out, gorgon_error *err)
{
    size_t n_tensors;
    gorgon_status status = check_parts(parts, n, &n_tensors, err);
    if (status == GORGON_OK && n > 1)
        status = merge(parts, n, n_tensors, err);
    if (status != GORGON_OK)
        close_all(parts, n);
    *out = status == GORGON_OK ? parts[0] : NULL;
    return status;
}

// What the name of part `index` of n ends in.
static void write_suffix(char suffix[SUFFIX_ROOM], uint64_t index, uint64_t n)
{
    snprintf(suffix, SUFFIX_ROOM, "-%05" PRIu64 "-of-%05" PRIu64 ".gguf", index + 1, n);
}

// The path of part `index` of n, given that of any; to be freed. NULL: out of memory.
static char *part_path(const char *path, size_t index, size_t n)
{
    char suffix[SUFFIX_ROOM];
    char *copy = gg_strdup(path);
    write_suffix(suffix, index, n);
    if (copy)
        memcpy(copy + strlen(copy) - SUFFIX_BYTES, suffix, SUFFIX_BYTES);
    return copy;
}

// Opens all parts beside the one that is open already, which is part `index` of n.
static gorgon_status open_parts(gg_gguf *open, size_t index, size_t n, gg_gguf **out,
                                gorgon_error *err)
{
    gg_gguf **parts = gg_alloc(n, sizeof(gg_gguf *));
    gorgon_status status = GORGON_OK;
    if (!parts)
        status = gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", open->label);
    for (size_t i = 0; i < n && status == GORGON_OK; i++) {
        char *path = i == index ? NULL : part_path(open->path, i, n);
        if (i == index)
            parts[i] = open;
        else if (path)
            status = gg_gguf_open_file(path, &parts[i], err);
        else
            status = gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", open->label);
        gg_free(path);
    }
    if (status == GORGON_OK) {
        status = gg_gguf_join(parts, n, out, err);
    } else {
        for (size_t i = 0; parts && i < n; i++) {
            if (i != index)
                gg_gguf_close(parts[i]);
        }
        gg_gguf_close(open);
    }
    gg_free(parts);
    return status;
}

// Which of how many parts an open file is; 0 of 1 if it is whole. Its name must say the same.
static gorgon_status find_place(const gg_gguf *file, uint64_t *index, uint64_t *n,
                                gorgon_error *err)
{
    *index = 0;
    *n = 1;
    if (!gg_gguf_has(file, COUNT_KEY))
        return GORGON_OK;
    gorgon_status status = gg_gguf_get_u64(file, COUNT_KEY, n, err);
    if (status != GORGON_OK || *n <= 1)
        return status;
    status = gg_gguf_get_u64(file, NUMBER_KEY, index, err);
    if (status != GORGON_OK)
        return status;
    if (*n > GG_MAX_PARTS || *index >= *n)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: " NUMBER_KEY " is %" PRIu64 " and " COUNT_KEY " %" PRIu64
                       ", expected a number below a count of at most %d",
                       file->label, *index, *n, GG_MAX_PARTS);
    char suffix[SUFFIX_ROOM];
    write_suffix(suffix, *index, *n);
    const size_t length = strlen(file->path);
    if (length <= SUFFIX_BYTES || strcmp(file->path + length - SUFFIX_BYTES, suffix) != 0)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: part %" PRIu64 " of %" PRIu64 " of a split file (" NUMBER_KEY
                       ", " COUNT_KEY "), expected a name that ends in %s",
                       file->label, *index + 1, *n, suffix);
    return GORGON_OK;
}

gorgon_status gg_gguf_open(const char *path, gg_gguf **out, gorgon_error *err)
{
    *out = NULL;
    gg_gguf *file = NULL;
    uint64_t index, n;
    gorgon_status status = gg_gguf_open_file(path, &file, err);
    if (status != GORGON_OK)
        return status;
    status = find_place(file, &index, &n, err);
    if (status != GORGON_OK) {
        gg_gguf_close(file);
        return status;
    }
    if (n > 1)
        return open_parts(file, (size_t)index, (size_t)n, out, err);
    *out = file;
    return GORGON_OK;
}
