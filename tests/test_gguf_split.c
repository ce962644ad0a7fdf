// Split GGUF files: any part opens all; what is missing, twice or contradictory is refused with the
// name of the file.
#define _XOPEN_SOURCE 700 // mkdtemp
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/gguf.h"

enum {
    PARTS = 3,
    TENSORS = 2, // per part
};

static char directory[64];

// What the parts say; 0 where a number is right.
typedef struct numbers {
    uint32_t number[PARTS], count[PARTS], tensors[PARTS];
    const char *tensor; // name of the first tensor of the last part
    bool no_total;      // part 1 lacks split.tensors.count
} numbers;

static const char *path_of(size_t part)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/m-%05zu-of-%05d.gguf", directory, part + 1, PARTS);
    return path;
}

// Part p holds tensors t<2p> and t<2p + 1>, four floats each: the tensor's number.
static void write_part(const numbers *wrong, size_t p)
{
    static const uint64_t dims[] = {4};
    gg_gguf_writer *w = NULL;
    cr_assert_eq(gg_gguf_writer_create(&w, NULL), GORGON_OK);
    gg_gguf_put_u32(w, "split.no", wrong->number[p] ? wrong->number[p] : (uint32_t)p, NULL);
    gg_gguf_put_u32(w, "split.count", wrong->count[p] ? wrong->count[p] : PARTS, NULL);
    if (!wrong->no_total || p != 1)
        gg_gguf_put_u32(w, "split.tensors.count",
                        wrong->tensors[p] ? wrong->tensors[p] : PARTS * TENSORS, NULL);
    if (p == 0)
        gg_gguf_put_string(w, "general.name", "split", NULL);
    for (size_t t = 0; t < TENSORS; t++) {
        char name[32];
        const float value = (float)(p * TENSORS + t), data[4] = {value, value, value, value};
        snprintf(name, sizeof name, "t%zu", p * TENSORS + t);
        const bool other = wrong->tensor && p == PARTS - 1 && t == 0;
        cr_assert_eq(gg_gguf_put_tensor(w, other ? wrong->tensor : name, GG_F32, dims, 1, data,
                                        sizeof data, NULL),
                     GORGON_OK);
    }
    cr_assert_eq(gg_gguf_write(w, path_of(p), NULL), GORGON_OK);
    gg_gguf_writer_free(w);
}

static void write_parts(const numbers *wrong)
{
    for (size_t p = 0; p < PARTS; p++)
        write_part(wrong, p);
}

static void begin(void)
{
    snprintf(directory, sizeof directory, "/tmp/gorgon-split-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
}

static void end(void)
{
    for (size_t p = 0; p < PARTS; p++)
        unlink(path_of(p));
    cr_assert_eq(rmdir(directory), 0);
}

TestSuite(gguf_split, .init = begin, .fini = end);

// Opening part `part` fails; the line names part `named` and says `words`.
static void expect_refused(size_t part, size_t named, gorgon_status status, const char *words)
{
    gg_gguf *file = NULL;
    gorgon_error err = {0};
    cr_expect_eq(gg_gguf_open(path_of(part), &file, &err), status, "%s: '%s'", words, err.message);
    cr_expect_null(file);
    cr_expect_not_null(strstr(err.message, path_of(named)), "'%s'", err.message);
    cr_expect_not_null(strstr(err.message, words), "'%s' lacks '%s'", err.message, words);
}

static void expect_wrong(const numbers *wrong, size_t named, const char *words)
{
    write_parts(wrong);
    expect_refused(0, named, GORGON_ERROR_FORMAT, words);
}

Test(gguf_split, any_part_opens_all)
{
    write_parts(&(numbers){0});
    for (size_t p = 0; p < PARTS; p++) {
        gg_gguf *file = NULL;
        gorgon_error err = {0};
        uint64_t bytes = 0;
        cr_assert_eq(gg_gguf_open(path_of(p), &file, &err), GORGON_OK, "%s", err.message);
        cr_assert_eq(gg_gguf_tensor_count(file), PARTS * TENSORS);
        cr_expect(gg_gguf_has(file, "general.name"));
        for (size_t t = 0; t < PARTS * TENSORS; t++) {
            char name[32];
            float data[4];
            snprintf(name, sizeof name, "t%zu", t);
            const gg_tensor *tensor = gg_gguf_find(file, name);
            cr_assert_eq(tensor, gg_gguf_tensor_at(file, t));
            cr_assert_eq(tensor->bytes, sizeof data);
            memcpy(data, tensor->data, sizeof data);
            cr_expect_eq(data[3], (float)t);
        }
        cr_expect_null(gg_gguf_find(file, "t6"));
        for (size_t i = 0; i < PARTS; i++) {
            FILE *f = fopen(path_of(i), "rb");
            fseek(f, 0, SEEK_END);
            bytes += (uint64_t)ftell(f);
            fclose(f);
        }
        cr_expect_eq(gg_gguf_size(file), bytes);
        gg_gguf_close(file);
    }
}

Test(gguf_split, wrong_numbers_are_refused)
{
    expect_wrong(&(numbers){.number = {0, 2, 0}}, 1, "split.no is 2, expected 1");
    expect_wrong(&(numbers){.count = {0, 0, 4}}, 2, "split.count is 4, expected 3");
    expect_wrong(&(numbers){.tensors = {0, 5, 0}}, 1, "split.tensors.count is 5, expected 6");
    expect_wrong(&(numbers){.tensors = {7, 7, 7}}, 0, "hold 6 tensors");
    expect_wrong(&(numbers){.tensor = "t1"}, 2, "tensor 't1' is also in another part");
    expect_wrong(&(numbers){.no_total = true}, 1, "'split.tensors.count' is missing");
    expect_wrong(&(numbers){.number = {3}}, 0, "split.no is 3");
    expect_wrong(&(numbers){.count = {100000}}, 0, "split.count 100000");
}

Test(gguf_split, missing_and_misnamed_parts_are_refused)
{
    char other[128];
    gg_gguf *file = NULL;
    gorgon_error err = {0};
    write_parts(&(numbers){0});
    snprintf(other, sizeof other, "%s/whole.gguf", directory);
    cr_assert_eq(rename(path_of(1), other), 0);
    expect_refused(0, 1, GORGON_ERROR_IO, "open");
    expect_refused(2, 1, GORGON_ERROR_IO, "open");
    cr_expect_eq(gg_gguf_open(other, &file, &err), GORGON_ERROR_FORMAT);
    cr_expect_not_null(strstr(err.message, "-00002-of-00003.gguf"), "'%s'", err.message);
    cr_expect_not_null(strstr(err.message, other), "'%s'", err.message);
    unlink(other);
}

Test(gguf_split, every_failing_allocation_is_survived)
{
    write_parts(&(numbers){0});
    for (size_t n = 1;; n++) {
        gg_gguf *file = NULL;
        gorgon_error err = {0};
        gg_alloc_fail_at(n);
        gorgon_status status = gg_gguf_open(path_of(1), &file, &err);
        gg_alloc_fail_at(0);
        gg_gguf_close(file);
        if (status == GORGON_OK)
            break;
        cr_assert_eq(status, GORGON_ERROR_MEMORY, "allocation %zu: %s", n, err.message);
        cr_assert(n < 200);
    }
}
