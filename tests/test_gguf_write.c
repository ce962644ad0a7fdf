// GGUF writer: round trips, deterministic bytes, refused arguments, failing allocations and disks.
#define _XOPEN_SOURCE 700 // mkdtemp, SIGXFSZ
#include <criterion/criterion.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/file.h"
#include "core/gguf.h"
#include "core/limits.h"

#define CONTROL GG_SOURCE_DIR "/tests/corpus/gguf/control_valid.gguf"

typedef struct scratch {
    char directory[64];
    char path[96]; // of the file that a test writes
} scratch;

static scratch scratch_create(void)
{
    scratch s = {.directory = "/tmp/gorgon-test-XXXXXX"};
    cr_assert_not_null(mkdtemp(s.directory));
    snprintf(s.path, sizeof s.path, "%s/out.gguf", s.directory);
    return s;
}

static size_t count_files(const char *directory)
{
    DIR *stream = opendir(directory);
    cr_assert_not_null(stream);
    size_t n = 0;
    for (struct dirent *entry; (entry = readdir(stream)) != NULL;)
        n += entry->d_name[0] != '.';
    closedir(stream);
    return n;
}

static void scratch_remove(const scratch *s)
{
    unlink(s->path);
    cr_assert_eq(rmdir(s->directory), 0);
}

static gorgon_status put_everything(gg_gguf_writer *w, gorgon_error *err)
{
    static const float floats[] = {0.5f, -0.0f, 1e-30f};
    static const uint32_t integers[] = {0, 1, UINT32_MAX};
    static const char *const words[] = {"", "word", "\xc4\xa0line\n"};
    static const uint8_t blocks[3 * 20 * 2] = {1, 2, 3, [119] = 4};
    static const float ones[5] = {1, 1, 1, 1, 1};
    static const uint64_t shape[] = {32, 3, 2}, vector[] = {5};
    gorgon_status status = gg_gguf_put_string(w, "general.architecture", "llama", err);
    if (status == GORGON_OK)
        status = gg_gguf_put_u32(w, "a.u32", UINT32_MAX, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_u64(w, "a.u64", UINT64_MAX, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_f32(w, "a.f32", 1e-5f, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_bool(w, "a.bool", true, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_array_f32(w, "a.floats", floats, 3, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_array_u32(w, "a.integers", integers, 3, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_array_u32(w, "a.nothing", NULL, 0, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_array_string(w, "a.words", words, 3, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_tensor(w, "vector", GG_F32, vector, 1, ones, sizeof ones, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_tensor(w, "blocks", GG_Q4_1, shape, 3, blocks, sizeof blocks, err);
    return status;
}

static gorgon_status write_everything(const char *path, gorgon_error *err)
{
    gg_gguf_writer *w;
    gorgon_status status = gg_gguf_writer_create(&w, err);
    if (status != GORGON_OK)
        return status;
    status = put_everything(w, err);
    if (status == GORGON_OK)
        status = gg_gguf_write(w, path, err);
    gg_gguf_writer_free(w);
    return status;
}

static void check_everything(const gg_gguf *file)
{
    gorgon_error err = {0};
    const char *text;
    size_t length, n;
    cr_assert_eq(gg_gguf_key_count(file), 9);
    cr_assert_eq(gg_gguf_get_string(file, "general.architecture", &text, &length, &err), GORGON_OK);
    cr_assert_str_eq(text, "llama");
    uint64_t u;
    cr_assert_eq(gg_gguf_get_u64(file, "a.u32", &u, &err), GORGON_OK);
    cr_assert_eq(u, UINT32_MAX);
    cr_assert_eq(gg_gguf_get_u64(file, "a.u64", &u, &err), GORGON_OK);
    cr_assert_eq(u, UINT64_MAX);
    float f, floats[3];
    cr_assert_eq(gg_gguf_get_f32(file, "a.f32", &f, &err), GORGON_OK);
    cr_assert_eq(f, 1e-5f);
    bool flag;
    cr_assert_eq(gg_gguf_get_bool(file, "a.bool", &flag, &err), GORGON_OK);
    cr_assert(flag);
    cr_assert_eq(gg_gguf_array_f32(file, "a.floats", floats, 3, &err), GORGON_OK);
    cr_assert_eq(memcmp(floats, (float[]){0.5f, -0.0f, 1e-30f}, sizeof floats), 0);
    int64_t integers[3];
    cr_assert_eq(gg_gguf_array_i64(file, "a.integers", integers, 3, &err), GORGON_OK);
    cr_assert_eq(integers[2], UINT32_MAX);
    gg_gguf_kind kind;
    cr_assert_eq(gg_gguf_get_array(file, "a.nothing", &kind, &n, &err), GORGON_OK);
    cr_assert_eq(n, 0);
    size_t cursor = 0;
    cr_assert(gg_gguf_array_next_string(file, "a.words", &cursor, &text, &length));
    cr_assert_eq(length, 0);
    cr_assert(gg_gguf_array_next_string(file, "a.words", &cursor, &text, &length));
    cr_assert_eq(length, 4);
    cr_assert(gg_gguf_array_next_string(file, "a.words", &cursor, &text, &length));
    cr_assert_eq(memcmp(text, "\xc4\xa0line\n", 7), 0);
    cr_assert_not(gg_gguf_array_next_string(file, "a.words", &cursor, &text, &length));

    const gg_tensor *blocks = gg_gguf_find(file, "blocks");
    cr_assert_not_null(blocks);
    cr_assert_eq(blocks->type, GG_Q4_1);
    cr_assert_eq(blocks->n_dims, 3);
    cr_assert_eq(blocks->dims[0], 32);
    cr_assert_eq(blocks->dims[2], 2);
    cr_assert_eq(blocks->dims[3], 1);
    cr_assert_eq(blocks->bytes, 120);
    cr_assert_eq(blocks->data[2], 3);
    cr_assert_eq(blocks->data[119], 4);
    for (size_t i = 0; i < gg_gguf_tensor_count(file); i++)
        cr_assert_eq(gg_gguf_tensor_at(file, i)->offset % 32, 0);
}

static uint64_t hash_file(const char *path, size_t *size)
{
    gg_mapping mapping;
    gorgon_error err = {0};
    cr_assert_eq(gg_map_file(path, &mapping, &err), GORGON_OK, "%s", err.message);
    uint64_t hash = gg_hash(mapping.data, mapping.size, 0);
    *size = mapping.size;
    gg_unmap(&mapping);
    return hash;
}

Test(gguf_write, what_was_put_is_read_back)
{
    scratch s = scratch_create();
    gorgon_error err = {0};
    cr_assert_eq(write_everything(s.path, &err), GORGON_OK, "%s", err.message);
    gg_gguf *file;
    cr_assert_eq(gg_gguf_open(s.path, &file, &err), GORGON_OK, "%s", err.message);
    check_everything(file);
    gg_gguf_close(file);
    cr_assert_eq(count_files(s.directory), 1);
    scratch_remove(&s);
}

// The layout is fixed: 24 bytes of header, entries and directory as the format says, then data.
Test(gguf_write, bytes_of_a_minimal_file)
{
    static const uint8_t expected[] = {
        'G', 'G', 'U', 'F', 3, 0, 0, 0, 1,        0, 0, 0, 0, 0, 0,         0, 1,
        0,   0,   0,   0,   0, 0, 0,                                              //
        1,   0,   0,   0,   0, 0, 0, 0, 'k',      4, 0, 0, 0, 7, 0,         0, 0, //
        1,   0,   0,   0,   0, 0, 0, 0, 't',      1, 0, 0, 0, 3, 0,         0, 0,
        0,   0,   0,   0,   1, 0, 0, 0, //
        0,   0,   0,   0,   0, 0, 0, 0, [96] = 9, 8, 7, 6, 5, 4, [127] = 0,
    };
    scratch s = scratch_create();
    gorgon_error err = {0};
    gg_gguf_writer *w;
    cr_assert_eq(gg_gguf_writer_create(&w, &err), GORGON_OK);
    cr_assert_eq(gg_gguf_put_u32(w, "k", 7, &err), GORGON_OK);
    const uint8_t data[] = {9, 8, 7, 6, 5, 4};
    cr_assert_eq(gg_gguf_put_tensor(w, "t", GG_F16, (uint64_t[]){3}, 1, data, sizeof data, &err),
                 GORGON_OK, "%s", err.message);
    cr_assert_eq(gg_gguf_write(w, s.path, &err), GORGON_OK, "%s", err.message);
    gg_gguf_writer_free(w);
    gg_mapping mapping;
    cr_assert_eq(gg_map_file(s.path, &mapping, &err), GORGON_OK);
    cr_assert_eq(mapping.size, sizeof expected);
    cr_assert_arr_eq(mapping.data, expected, sizeof expected);
    gg_unmap(&mapping);
    scratch_remove(&s);
}

Test(gguf_write, the_same_calls_give_the_same_bytes)
{
    scratch s = scratch_create();
    gorgon_error err = {0};
    size_t first_size, second_size;
    cr_assert_eq(write_everything(s.path, &err), GORGON_OK);
    uint64_t first = hash_file(s.path, &first_size);
    cr_assert_eq(write_everything(s.path, &err), GORGON_OK);
    cr_assert_eq(hash_file(s.path, &second_size), first);
    cr_assert_eq(first_size, second_size);
    cr_assert_eq(first_size % 32, 0);
    scratch_remove(&s);
}

static void copy_key(gg_gguf_writer *w, const gg_gguf *file, const char *key, gg_gguf_kind kind)
{
    gorgon_error err = {0};
    uint64_t u = 0;
    float f = 0;
    const char *text = NULL;
    size_t length = 0;
    gorgon_status status = GORGON_ERROR_UNSUPPORTED;
    if (kind == GG_GGUF_U32 && gg_gguf_get_u64(file, key, &u, &err) == GORGON_OK)
        status = gg_gguf_put_u32(w, key, (uint32_t)u, &err);
    else if (kind == GG_GGUF_F32 && gg_gguf_get_f32(file, key, &f, &err) == GORGON_OK)
        status = gg_gguf_put_f32(w, key, f, &err);
    else if (kind == GG_GGUF_STRING &&
             gg_gguf_get_string(file, key, &text, &length, &err) == GORGON_OK)
        status = gg_gguf_put_string(w, key, text, &err);
    else
        status = GORGON_OK; // arrays and bools have their own round trip above
    cr_assert_eq(status, GORGON_OK, "%s: %s", key, err.message);
}

// Reading a file and writing what was read reaches a fixed point after one write.
Test(gguf_write, read_and_written_again_is_identical)
{
    scratch s = scratch_create();
    gorgon_error err = {0};
    uint64_t hashes[2];
    size_t size;
    for (size_t round = 0; round < 2; round++) {
        gg_gguf *file;
        gg_gguf_writer *w;
        cr_assert_eq(gg_gguf_open(round ? s.path : CONTROL, &file, &err), GORGON_OK);
        cr_assert_eq(gg_gguf_writer_create(&w, &err), GORGON_OK);
        for (size_t i = 0; i < gg_gguf_key_count(file); i++) {
            gg_gguf_kind kind;
            const char *key = gg_gguf_key_at(file, i, &kind);
            copy_key(w, file, key, kind);
        }
        for (size_t i = 0; i < gg_gguf_tensor_count(file); i++) {
            const gg_tensor *t = gg_gguf_tensor_at(file, i);
            cr_assert_eq(gg_gguf_put_tensor(w, t->name, t->type, t->dims, t->n_dims, t->data,
                                            t->bytes, &err),
                         GORGON_OK, "%s", err.message);
        }
        gg_gguf_close(file);
        cr_assert_eq(gg_gguf_write(w, s.path, &err), GORGON_OK);
        gg_gguf_writer_free(w);
        hashes[round] = hash_file(s.path, &size);
    }
    cr_assert_eq(hashes[0], hashes[1]);
    cr_assert_gt(size, 58000);
    scratch_remove(&s);
}

Test(gguf_write, many_names_are_found)
{
    enum { N = 3000 };
    scratch s = scratch_create();
    gorgon_error err = {0};
    gg_gguf_writer *w;
    cr_assert_eq(gg_gguf_writer_create(&w, &err), GORGON_OK);
    char name[32];
    for (uint32_t i = 0; i < N; i++) {
        snprintf(name, sizeof name, "n%u", i * 7919 % N);
        cr_assert_eq(gg_gguf_put_u32(w, name, i, &err), GORGON_OK);
        cr_assert_eq(gg_gguf_put_tensor(w, name, GG_F32, (uint64_t[]){1}, 1, &i, 4, &err),
                     GORGON_OK);
    }
    cr_assert_eq(gg_gguf_write(w, s.path, &err), GORGON_OK, "%s", err.message);
    gg_gguf_writer_free(w);
    gg_gguf *file;
    cr_assert_eq(gg_gguf_open(s.path, &file, &err), GORGON_OK, "%s", err.message);
    for (uint32_t i = 0; i < N; i++) {
        uint64_t value = N;
        snprintf(name, sizeof name, "n%u", i * 7919 % N);
        cr_assert_eq(gg_gguf_get_u64(file, name, &value, &err), GORGON_OK, "%s", err.message);
        cr_assert_eq(value, i);
        const gg_tensor *t = gg_gguf_find(file, name);
        cr_assert(t && memcmp(t->data, &i, 4) == 0 && strcmp(t->name, name) == 0);
    }
    cr_assert_null(gg_gguf_find(file, "n3000"));
    cr_assert_not(gg_gguf_has(file, "n"));
    gg_gguf_close(file);
    scratch_remove(&s);
}

static void expect_argument(gorgon_status status, gorgon_error *err, const char *fragment)
{
    cr_assert_eq(status, GORGON_ERROR_ARGUMENT, "%s", fragment);
    cr_assert(strstr(err->message, fragment), "'%s' lacks '%s'", err->message, fragment);
    *err = (gorgon_error){0};
}

Test(gguf_write, what_a_reader_would_refuse_is_refused)
{
    gorgon_error err = {0};
    gg_gguf_writer *w;
    cr_assert_eq(gg_gguf_writer_create(&w, &err), GORGON_OK);
    cr_assert_eq(gg_gguf_put_u32(w, "k", 7, &err), GORGON_OK);
    expect_argument(gg_gguf_put_bool(w, "k", true, &err), &err, "'k' was put before");
    expect_argument(gg_gguf_put_u32(w, "", 7, &err), &err, "expected 1 to 256 bytes, got 0");
    expect_argument(gg_gguf_put_u32(w, "a\tb", 7, &err), &err, "without control characters");
    expect_argument(gg_gguf_put_u32(w, "general.alignment", 64, &err), &err, "set by the writer");

    const uint64_t dims[] = {32, 2, 1, 1, 1};
    const uint8_t data[256] = {0};
    expect_argument(gg_gguf_put_tensor(w, "t", GG_Q8_0, dims, 2, data, 67, &err), &err,
                    "tensor 't' of type Q8_0: expected 68 bytes, got 67");
    expect_argument(gg_gguf_put_tensor(w, "t", GG_Q8_0, dims + 1, 1, data, 34, &err), &err,
                    "not a whole number of blocks");
    expect_argument(gg_gguf_put_tensor(w, "t", GG_F32, dims, 5, data, 256, &err), &err,
                    "expected 1 to 4 dimensions, got 5");
    expect_argument(gg_gguf_put_tensor(w, "t", (gg_dtype)31, dims, 2, data, 64, &err), &err,
                    "unknown type 31");
    cr_assert_eq(gg_gguf_put_tensor(w, "t", GG_Q8_0, dims, 2, data, 68, &err), GORGON_OK);
    expect_argument(gg_gguf_put_tensor(w, "t", GG_Q8_0, dims, 2, data, 68, &err), &err,
                    "'t' was put before");
    gg_gguf_writer_free(w);
}

// Whichever allocation fails, the call says so, nothing leaks and no file is left behind.
Test(gguf_write, writing_survives_every_failed_allocation)
{
    scratch s = scratch_create();
    gorgon_status status = GORGON_ERROR_MEMORY;
    size_t n = 0;
    while (status != GORGON_OK) {
        gorgon_error err = {0};
        cr_assert_eq(count_files(s.directory), 0);
        gg_alloc_fail_at(++n);
        status = write_everything(s.path, &err);
        gg_alloc_fail_at(0);
        cr_assert(status == GORGON_OK || status == GORGON_ERROR_MEMORY);
        cr_assert(status == GORGON_OK || strstr(err.message, "out of memory"), "%s", err.message);
    }
    cr_assert_gt(n, 20);
    scratch_remove(&s);
}

Test(gguf_write, opening_survives_every_failed_allocation)
{
    gorgon_status status = GORGON_ERROR_MEMORY;
    size_t n = 0;
    while (status != GORGON_OK) {
        gg_gguf *file;
        gorgon_error err = {0};
        gg_alloc_fail_at(++n);
        status = gg_gguf_open(CONTROL, &file, &err);
        gg_alloc_fail_at(0);
        cr_assert(status == GORGON_OK || status == GORGON_ERROR_MEMORY);
        cr_assert_eq(status == GORGON_OK, file != NULL);
        cr_assert(status == GORGON_OK || strstr(err.message, "out of memory"), "%s", err.message);
        gg_gguf_close(file);
    }
    cr_assert_gt(n, 6);
    cr_assert_lt(n, 20);
}

// A disk that fills up at any byte leaves the old file whole and nothing beside it.
Test(gguf_write, a_full_disk_leaves_the_old_file)
{
    scratch s = scratch_create();
    gorgon_error err = {0};
    size_t size, left;
    cr_assert_eq(write_everything(s.path, &err), GORGON_OK);
    uint64_t before = hash_file(s.path, &size);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit old;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    for (size_t limit = 0; limit < size; limit += 37) {
        err = (gorgon_error){0};
        struct rlimit full = {.rlim_cur = limit, .rlim_max = old.rlim_max};
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &full), 0);
        gorgon_status status = write_everything(s.path, &err);
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
        cr_assert_eq(status, GORGON_ERROR_IO);
        cr_assert(strstr(err.message, s.path) && strstr(err.message, "File too large"), "%s",
                  err.message);
        cr_assert_eq(hash_file(s.path, &left), before);
        cr_assert_eq(count_files(s.directory), 1);
    }
    scratch_remove(&s);
}
