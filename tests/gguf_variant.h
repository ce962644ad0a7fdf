// A GGUF file that is another one but for a few keys and tensors.
#ifndef GGUF_VARIANT_H
#define GGUF_VARIANT_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/gguf.h"

typedef struct variant {
    gg_gguf *file;
    gg_gguf_writer *w; // what is put here is added
    char path[64];
} variant;

static inline void copy_array(const gg_gguf *file, gg_gguf_writer *w, const char *key)
{
    gg_gguf_kind kind;
    size_t n;
    cr_assert_eq(gg_gguf_get_array(file, key, &kind, &n, NULL), GORGON_OK);
    if (kind == GG_GGUF_STRING) {
        char **list = calloc(n + 1, sizeof *list);
        const char *string;
        for (size_t i = 0, cursor = 0, length;
             gg_gguf_array_next_string(file, key, &cursor, &string, &length); i++) {
            list[i] = calloc(length + 1, 1);
            memcpy(list[i], string, length);
        }
        cr_assert_eq(gg_gguf_put_array_string(w, key, (const char *const *)list, n, NULL),
                     GORGON_OK);
        for (size_t i = 0; i < n; i++)
            free(list[i]);
        free(list);
    } else if (kind == GG_GGUF_F32) {
        float *list = calloc(n + 1, sizeof *list);
        cr_assert_eq(gg_gguf_array_f32(file, key, list, n, NULL), GORGON_OK);
        cr_assert_eq(gg_gguf_put_array_f32(w, key, list, n, NULL), GORGON_OK);
        free(list);
    } else {
        int64_t *list = calloc(n + 1, sizeof *list);
        uint32_t *small = calloc(n + 1, sizeof *small);
        cr_assert_eq(gg_gguf_array_i64(file, key, list, n, NULL), GORGON_OK);
        for (size_t i = 0; i < n; i++)
            small[i] = (uint32_t)list[i];
        cr_assert_eq(gg_gguf_put_array_u32(w, key, small, n, NULL), GORGON_OK);
        free(list);
        free(small);
    }
}

static inline void copy_key(const gg_gguf *file, gg_gguf_writer *w, const char *key,
                            gg_gguf_kind kind)
{
    const char *string;
    uint64_t integer;
    float f;
    bool truth;
    gorgon_status status = GORGON_OK;
    if (kind == GG_GGUF_ARRAY)
        copy_array(file, w, key);
    else if (kind == GG_GGUF_STRING && gg_gguf_get_string(file, key, &string, NULL, NULL) == 0)
        status = gg_gguf_put_string(w, key, string, NULL);
    else if (kind == GG_GGUF_BOOL && gg_gguf_get_bool(file, key, &truth, NULL) == 0)
        status = gg_gguf_put_bool(w, key, truth, NULL);
    else if (gg_gguf_get_f32(file, key, &f, NULL) == 0)
        status = gg_gguf_put_f32(w, key, f, NULL);
    else if (gg_gguf_get_u64(file, key, &integer, NULL) == 0)
        status = gg_gguf_put_u32(w, key, (uint32_t)integer, NULL);
    cr_assert_eq(status, GORGON_OK, "%s", key);
}

// Whether `name` is one of the words of `dropped`.
static inline bool is_dropped(const char *name, const char *dropped)
{
    const size_t n = strlen(name);
    for (const char *at = dropped; at && (at = strstr(at, name)) != NULL; at += n) {
        if ((at == dropped || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0'))
            return true;
    }
    return false;
}

// All of the file but the keys and tensors that `dropped` names, spaces between them (NULL: none).
static inline variant variant_of(const char *path, const char *dropped)
{
    variant v = {0};
    gg_gguf_kind kind;
    cr_assert_eq(gg_gguf_open(path, &v.file, NULL), GORGON_OK, "%s", path);
    cr_assert_eq(gg_gguf_writer_create(&v.w, NULL), GORGON_OK);
    for (size_t i = 0; i < gg_gguf_key_count(v.file); i++) {
        const char *key = gg_gguf_key_at(v.file, i, &kind);
        if (!is_dropped(key, dropped))
            copy_key(v.file, v.w, key, kind);
    }
    for (size_t i = 0; i < gg_gguf_tensor_count(v.file); i++) {
        const gg_tensor *t = gg_gguf_tensor_at(v.file, i);
        if (!is_dropped(t->name, dropped))
            cr_assert_eq(gg_gguf_put_tensor(v.w, t->name, t->type, t->dims, t->n_dims, t->data,
                                            t->bytes, NULL),
                         GORGON_OK);
    }
    return v;
}

static inline void variant_put_floats(variant *v, const char *name, const float *values, size_t n)
{
    const uint64_t dims[1] = {n};
    cr_assert_eq(gg_gguf_put_tensor(v->w, name, GG_F32, dims, 1, values, n * sizeof *values, NULL),
                 GORGON_OK);
}

// Writes it to v->path, which is the caller's to unlink.
static inline void variant_write(variant *v)
{
    gorgon_error err = {0};
    snprintf(v->path, sizeof v->path, "/tmp/gorgon-test-variant-XXXXXX");
    const int fd = mkstemp(v->path);
    cr_assert_geq(fd, 0);
    close(fd);
    cr_assert_eq(gg_gguf_write(v->w, v->path, &err), GORGON_OK, "%s", err.message);
    gg_gguf_writer_free(v->w);
    gg_gguf_close(v->file);
}

#endif
