// GGUF reader and writer: hostile containers, every kind of value, round trips, failing
// allocations.
#define _XOPEN_SOURCE 700
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/gguf.h"
#include "core/limits.h"

#define CORPUS GG_SOURCE_DIR "/tests/corpus/gguf/"

// A GGUF file under construction, byte by byte.
typedef struct image {
    uint8_t bytes[1 << 16];
    size_t n;
} image;

static void put(image *m, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        m->bytes[m->n++] = (uint8_t)(value >> (8 * i));
}

static void put_bytes(image *m, const void *data, size_t n)
{
    memcpy(m->bytes + m->n, data, n);
    m->n += n;
}

static void put_text(image *m, const char *text)
{
    put(m, strlen(text), 8);
    put_bytes(m, text, strlen(text));
}

static void begin(image *m, uint64_t n_tensors, uint64_t n_keys)
{
    m->n = 0;
    put_bytes(m, "GGUF", 4);
    put(m, 3, 4);
    put(m, n_tensors, 8);
    put(m, n_keys, 8);
}

static void put_key(image *m, const char *key, gg_gguf_kind kind)
{
    put_text(m, key);
    put(m, kind, 4);
}

static void put_tensor(image *m, const char *name, uint32_t type, uint64_t n_in, uint64_t n_out,
                       uint64_t offset)
{
    put_text(m, name);
    put(m, 3, 4);
    put(m, n_in, 8);
    put(m, n_out, 8);
    put(m, 1, 8); // says nothing: it is a matrix
    put(m, type, 4);
    put(m, offset, 8);
}

static void put_data(image *m, size_t n)
{
    while (m->n % 32 != 0)
        put(m, 0, 1);
    for (size_t i = 0; i < n; i++)
        put(m, i, 1);
}

// Opens a copy of exactly m->n bytes, so that a sanitizer sees reads beyond the end.
static gorgon_status open_image(const image *m, uint8_t **copy, gg_gguf **file, gorgon_error *err)
{
    *copy = malloc(m->n ? m->n : 1);
    cr_assert_not_null(*copy);
    memcpy(*copy, m->bytes, m->n);
    *err = (gorgon_error){0};
    gorgon_status status = gg_gguf_open_memory(*copy, m->n, "image", file, err);
    cr_assert_eq(status, err->status);
    cr_assert_eq(status == GORGON_OK, *file != NULL);
    return status;
}

static void expect_refused(const image *m, gorgon_status expected, const char *fragment)
{
    uint8_t *copy;
    gg_gguf *file;
    gorgon_error err;
    cr_assert_eq(open_image(m, &copy, &file, &err), expected, "%s: %s", fragment, err.message);
    cr_assert(strstr(err.message, fragment), "'%s' lacks '%s'", err.message, fragment);
    cr_assert(strncmp(err.message, "image: ", 7) == 0, "%s", err.message);
    cr_assert(strstr(err.message, " at byte "), "%s", err.message);
    free(copy);
}

static void expect_accepted(const image *m)
{
    uint8_t *copy;
    gg_gguf *file;
    gorgon_error err;
    cr_assert_eq(open_image(m, &copy, &file, &err), GORGON_OK, "%s", err.message);
    cr_assert(gg_gguf_tensor_count(file) == 0 || gg_gguf_tensor_at(file, 0)->n_dims == 2);
    gg_gguf_close(file);
    free(copy);
}

// Four keys, a string array among them, and two tensors.
static void small_image(image *m)
{
    begin(m, 2, 4);
    put_key(m, "general.name", GG_GGUF_STRING);
    put_text(m, "small");
    put_key(m, "a.flag", GG_GGUF_BOOL);
    put(m, 1, 1);
    put_key(m, "a.words", GG_GGUF_ARRAY);
    put(m, GG_GGUF_STRING, 4);
    put(m, 2, 8);
    put_text(m, "one");
    put_text(m, "");
    put_key(m, "a.width", GG_GGUF_U32);
    put(m, 32, 4);
    put_tensor(m, "first", GG_Q4_0, 32, 2, 0);
    put_tensor(m, "second", GG_F32, 4, 1, 64);
    put_data(m, 64 + 16);
}

Test(gguf, hostile_files_are_refused_with_one_precise_line)
{
    static const struct {
        const char *name, *item, *expected, *got;
    } cases[] = {
        {"alignment_zero", "key 'general.alignment'", "power of two", "got 0"},
        {"array_nesting", "key 'x.nested'", "at most 8 deep", "got more"},
        {"count_overflow", "tensor 'token_embd.weight'", "F32 can hold",
         "got 4294967296 x 4294967296"},
        {"duplicate_tensor", "tensor 'blk.0.ffn_gate.weight'", "a name of its own", "already used"},
        {"n_dims_huge", "tensor 'blk.0.attn_q.weight'", "1 to 4 dimensions", "got 4294967295"},
        {"offset_past_end", "tensor 'blk.0.ffn_down.weight'", "inside the file of 64000",
         "1073741824"},
        {"overlapping_tensors", "tensor 'blk.0.attn_q.weight'", "data of its own",
         "inside tensor 'token_embd.weight'"},
        {"string_length", "key 'general.name'", "at most 16777216 bytes",
         "got 9223372036854775808"},
        {"truncated_data", "tensor 'token_embd.weight'", "33792 bytes", "file of 10220 bytes"},
        {"truncated_header", "key 'tokenizer.ggml.tokens'", "a count of at most 31", "got 264"},
        {"unknown_type", "tensor 'blk.0.attn_q.weight'", "id of a GGML type", "unknown type 9999"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[1024];
        snprintf(path, sizeof path, CORPUS "%s.gguf", cases[i].name);
        gg_gguf *file = (gg_gguf *)path;
        gorgon_error err = {0};
        cr_assert_eq(gg_gguf_open(path, &file, &err), GORGON_ERROR_FORMAT, "%s", path);
        cr_assert_null(file);
        char shown[64];
        snprintf(shown, sizeof shown, "/%s.gguf: %s at byte ", cases[i].name, cases[i].item);
        cr_assert(strstr(err.message, shown), "'%s' lacks '%s'", err.message, shown);
        cr_assert(strstr(err.message, "expected "), "%s", err.message);
        cr_assert(strstr(err.message, cases[i].expected), "%s", err.message);
        cr_assert(strstr(err.message, cases[i].got), "%s", err.message);
    }
}

Test(gguf, control_file_is_read)
{
    gg_gguf *file;
    gorgon_error err = {0};
    cr_assert_eq(gg_gguf_open(CORPUS "control_valid.gguf", &file, &err), GORGON_OK, "%s",
                 err.message);
    cr_assert_str_eq(gg_gguf_path(file), CORPUS "control_valid.gguf");
    cr_assert_eq(gg_gguf_size(file), 64000);
    cr_assert_eq(gg_gguf_tensor_count(file), 11);
    cr_assert_eq(gg_gguf_key_count(file), 21);
    gg_gguf_kind kind;
    cr_assert_str_eq(gg_gguf_key_at(file, 1, &kind), "general.name");
    cr_assert_eq(kind, GG_GGUF_STRING);
    cr_assert_null(gg_gguf_key_at(file, 21, &kind));
    cr_assert_null(gg_gguf_tensor_at(file, 11));

    const gg_tensor *embedding = gg_gguf_find(file, "token_embd.weight");
    cr_assert_not_null(embedding);
    cr_assert_eq(embedding->type, GG_F32);
    cr_assert_str_eq(embedding->type_name, "F32");
    cr_assert_eq(embedding->n_dims, 2);
    cr_assert(embedding->dims[0] == 32 && embedding->dims[1] == 264 && embedding->dims[2] == 1);
    cr_assert_eq(embedding->bytes, 33792);
    cr_assert_eq(embedding->offset, 5248);

    float eps = 0;
    cr_assert_eq(gg_gguf_get_f32(file, "llama.attention.layer_norm_rms_epsilon", &eps, &err),
                 GORGON_OK);
    cr_assert_eq(eps, 1e-5f);
    size_t cursor = 0, tokens = 0, bytes = 0, length;
    const char *text;
    for (; gg_gguf_array_next_string(file, "tokenizer.ggml.tokens", &cursor, &text, &length);
         tokens++)
        bytes += length;
    cr_assert_eq(tokens, 264);
    cr_assert_eq(bytes, 463);
    gg_gguf_close(file);
}

Test(gguf, every_prefix_is_refused)
{
    image m;
    small_image(&m);
    expect_accepted(&m);
    for (size_t whole = m.n, n = 0; n < whole; n++) {
        m.n = n;
        expect_refused(&m, GORGON_ERROR_FORMAT, "image");
    }
}

// Any byte may change to anything: the reader accepts or refuses, and stays inside the file.
Test(gguf, every_changed_byte_is_survived)
{
    static const uint8_t values[] = {0x00, 0x01, 0x09, 0x20, 0x7f, 0x80, 0xff};
    image m;
    small_image(&m);
    size_t refused = 0;
    for (size_t i = 0; i < m.n; i++) {
        uint8_t before = m.bytes[i];
        for (size_t v = 0; v < sizeof values; v++) {
            uint8_t *copy;
            gg_gguf *file;
            gorgon_error err;
            m.bytes[i] = values[v];
            refused += open_image(&m, &copy, &file, &err) != GORGON_OK;
            gg_gguf_close(file);
            free(copy);
        }
        m.bytes[i] = before;
    }
    cr_assert_gt(refused, 1000);
}

Test(gguf, header)
{
    image m;
    small_image(&m);
    m.bytes[3] = 'L';
    expect_refused(&m, GORGON_ERROR_FORMAT,
                   "expected the bytes 47 47 55 46 (\"GGUF\"), got 47 47 55 4c");
    small_image(&m);
    m.bytes[4] = 1;
    expect_refused(&m, GORGON_ERROR_UNSUPPORTED, "expected version 2 or 3, got 1");
    m.bytes[4] = 4;
    expect_refused(&m, GORGON_ERROR_FORMAT, "expected version 2 or 3, got 4");
    m.bytes[4] = 0;
    m.bytes[7] = 3;
    expect_refused(&m, GORGON_ERROR_UNSUPPORTED, "got a big-endian one");
    small_image(&m);
    m.bytes[4] = 2;
    expect_accepted(&m);
}

// Counts are compared with what the file can hold before any memory is asked for: a huge one is a
// format error, not a failed allocation, and the third allocation (after view and path) never
// comes.
Test(gguf, counts_are_checked_before_allocation)
{
    static const uint64_t counts[] = {65536, 65537, UINT64_C(1) << 40, UINT64_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        image m;
        begin(&m, counts[i], 0);
        gg_alloc_fail_at(3);
        expect_refused(&m, GORGON_ERROR_FORMAT,
                       "tensor count at byte 8: expected a count of at most");
        begin(&m, 0, counts[i]);
        gg_alloc_fail_at(3);
        expect_refused(&m, GORGON_ERROR_FORMAT,
                       "key count at byte 16: expected a count of at most");
        cr_assert_eq(gg_alloc_fail_at(0), 2);

        begin(&m, 0, 1);
        put_key(&m, "a.list", GG_GGUF_ARRAY);
        put(&m, GG_GGUF_U64, 4);
        put(&m, counts[i], 8);
        expect_refused(&m, GORGON_ERROR_FORMAT,
                       "key 'a.list' at byte 46: expected a count of at most 0");
    }
}

static void one_key(image *m, const char *key)
{
    begin(m, 0, 1);
    put_key(m, key, GG_GGUF_U8);
    put(m, 7, 1);
}

Test(gguf, keys)
{
    image m;
    one_key(&m, "");
    put(&m, 0, 8);
    expect_refused(&m, GORGON_ERROR_FORMAT,
                   "name of key 0 at byte 24: expected 1 to 256 bytes, got 0");

    char name[GG_MAX_NAME + 2] = {0};
    memset(name, 'k', GG_MAX_NAME + 1);
    one_key(&m, name);
    expect_refused(&m, GORGON_ERROR_FORMAT, "expected 1 to 256 bytes, got 257");
    name[GG_MAX_NAME] = '\0';
    one_key(&m, name);
    expect_accepted(&m);

    static const char *const bad[] = {"a\nb",     "a\x7f",        "\xff",
                                      "\xc0\x80", "\xed\xa0\x80", "\xe2\x82"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        one_key(&m, bad[i]);
        expect_refused(&m, GORGON_ERROR_FORMAT, "name of key 0 at byte 24: expected UTF-8");
    }

    begin(&m, 0, 2);
    put_key(&m, "a", GG_GGUF_U8);
    put(&m, 7, 1);
    put_key(&m, "a", GG_GGUF_U8);
    put(&m, 7, 1);
    expect_refused(
        &m, GORGON_ERROR_FORMAT,
        "key 'a' at byte 38: expected a name of its own, got one already used at byte 24");

    begin(&m, 0, 1);
    put_key(&m, "a", (gg_gguf_kind)13);
    put(&m, 7, 8);
    expect_refused(&m, GORGON_ERROR_FORMAT,
                   "key 'a' at byte 33: expected a value kind of 0 to 12, got 13");

    begin(&m, 0, 1);
    put_key(&m, "a", GG_GGUF_BOOL);
    put(&m, 2, 1);
    expect_refused(&m, GORGON_ERROR_FORMAT, "key 'a' at byte 37: expected a bool of 0 or 1, got 2");

    begin(&m, 0, 1);
    put_key(&m, "general.alignment", GG_GGUF_U64);
    put(&m, 32, 8);
    expect_refused(&m, GORGON_ERROR_FORMAT, "expected a u32, got u64");
}

Test(gguf, tensors)
{
    image m;
    begin(&m, 1, 0);
    put_tensor(&m, "t", GG_Q4_0, 33, 1, 0);
    put_data(&m, 4096);
    expect_refused(&m, GORGON_ERROR_FORMAT, "the first dimension is not a whole number of blocks");

    begin(&m, 1, 0);
    put_tensor(&m, "t", GG_F32, 4, 0, 0);
    put_data(&m, 64);
    expect_refused(&m, GORGON_ERROR_FORMAT, "got 4 x 0 x 1 x 1: a dimension is 0");

    begin(&m, 1, 0);
    put_tensor(&m, "t", GG_F32, UINT64_C(1) << 62, 1, 0);
    put_data(&m, 64);
    expect_refused(&m, GORGON_ERROR_FORMAT, "the byte count overflows");

    begin(&m, 1, 0);
    put_tensor(&m, "t", GG_F32, 4, 1, 8);
    put_data(&m, 64);
    expect_refused(&m, GORGON_ERROR_FORMAT, "a data offset that is a multiple of 32, got 8");

    begin(&m, 1, 1);
    put_key(&m, "general.alignment", GG_GGUF_U32);
    put(&m, 8, 4);
    put_tensor(&m, "t", GG_F32, 4, 1, 8);
    put_data(&m, 64);
    expect_accepted(&m);

    begin(&m, 1, 0);
    put_tensor(&m, "t", GG_F32, 4, 1, UINT64_MAX - 31);
    put_data(&m, 64);
    expect_refused(&m, GORGON_ERROR_FORMAT, "expected 16 bytes of data inside the file");

    // Touching spans are legal, in any order of the directory; one byte more is not.
    for (uint64_t width = 8; width <= 9; width++) {
        begin(&m, 2, 0);
        put_tensor(&m, "high", GG_F32, 8, 1, 32);
        put_tensor(&m, "low", GG_F32, width, 1, 0);
        put_data(&m, 64);
        if (width == 8)
            expect_accepted(&m);
        else
            expect_refused(&m, GORGON_ERROR_FORMAT, "inside tensor 'low'");
    }
}

Test(gguf, long_paths_and_names_leave_room_for_the_reason)
{
    char path[1000], name[GG_MAX_NAME + 1];
    memset(path, 'p', sizeof path);
    path[sizeof path - 1] = '\0';
    memset(name, 'n', GG_MAX_NAME);
    name[GG_MAX_NAME] = '\0';
    image m;
    begin(&m, 1, 0);
    put_tensor(&m, name, 9999, 4, 1, 0);
    gg_gguf *file;
    gorgon_error err = {0};
    cr_assert_eq(gg_gguf_open_memory(m.bytes, m.n, path, &file, &err), GORGON_ERROR_FORMAT);
    cr_assert(strstr(err.message, "got unknown type 9999"), "%s", err.message);
}

Test(gguf, known_types_that_this_build_does_not_read_are_named)
{
    image m;
    begin(&m, 1, 0);
    put_tensor(&m, "blk.0.attn_k.weight", 23, 256, 2, 0);
    put_data(&m, 272);
    uint8_t *copy;
    gg_gguf *file;
    gorgon_error err;
    cr_assert_eq(open_image(&m, &copy, &file, &err), GORGON_OK, "%s", err.message);
    const gg_tensor *tensor = gg_gguf_find(file, "blk.0.attn_k.weight");
    cr_assert_str_eq(tensor->type_name, "IQ4_XS");
    cr_assert_eq(tensor->bytes, 272);
    cr_assert_eq(gg_gguf_require(file, "blk.0.attn_k.weight", &tensor, &err),
                 GORGON_ERROR_UNSUPPORTED);
    cr_assert_null(tensor);
    cr_assert(strstr(err.message, "tensor 'blk.0.attn_k.weight' has type IQ4_XS, which this build "
                                  "does not read"),
              "%s", err.message);
    err = (gorgon_error){0};
    cr_assert_eq(gg_gguf_require(file, "absent", &tensor, &err), GORGON_ERROR_FORMAT);
    cr_assert_str_eq(err.message, "image: tensor 'absent' is missing");
    gg_gguf_close(file);
    free(copy);
    m.n -= 1;
    expect_refused(&m, GORGON_ERROR_FORMAT, "expected 272 bytes of data");
}

Test(gguf, arrays_nest_eight_deep)
{
    for (size_t depth = 1; depth <= GG_MAX_NESTING + 1; depth++) {
        image m;
        begin(&m, 0, 2);
        put_key(&m, "nested", GG_GGUF_ARRAY);
        for (size_t i = 1; i < depth; i++) {
            put(&m, GG_GGUF_ARRAY, 4);
            put(&m, 1, 8);
        }
        put(&m, GG_GGUF_U16, 4);
        put(&m, 3, 8);
        put(&m, 0, 6);
        put_key(&m, "after", GG_GGUF_U8);
        put(&m, 9, 1);
        if (depth <= GG_MAX_NESTING)
            expect_accepted(&m);
        else
            expect_refused(&m, GORGON_ERROR_FORMAT, "expected arrays nested at most 8 deep");
    }
    // Siblings and empty arrays: [[1, 2], [], [[]]]
    image m;
    begin(&m, 0, 2);
    put_key(&m, "mixed", GG_GGUF_ARRAY);
    put(&m, GG_GGUF_ARRAY, 4);
    put(&m, 3, 8);
    put(&m, GG_GGUF_U8, 4);
    put(&m, 2, 8);
    put(&m, 0x0201, 2);
    put(&m, GG_GGUF_ARRAY, 4);
    put(&m, 0, 8);
    put(&m, GG_GGUF_ARRAY, 4);
    put(&m, 1, 8);
    put(&m, GG_GGUF_STRING, 4);
    put(&m, 0, 8);
    put_key(&m, "after", GG_GGUF_U8);
    put(&m, 9, 1);
    uint8_t *copy;
    gg_gguf *file;
    gorgon_error err;
    cr_assert_eq(open_image(&m, &copy, &file, &err), GORGON_OK, "%s", err.message);
    uint64_t after = 0;
    cr_assert_eq(gg_gguf_get_u64(file, "after", &after, &err), GORGON_OK);
    cr_assert_eq(after, 9);
    gg_gguf_kind kind;
    size_t n;
    cr_assert_eq(gg_gguf_get_array(file, "mixed", &kind, &n, &err), GORGON_OK);
    cr_assert_eq(kind, GG_GGUF_ARRAY);
    cr_assert_eq(n, 3);
    float values[3];
    cr_assert_eq(gg_gguf_array_f32(file, "mixed", values, 3, &err), GORGON_ERROR_FORMAT);
    gg_gguf_close(file);
    free(copy);
}

// One key per kind and value; u64 is what gg_gguf_get_u64 must give, or a failure.
Test(gguf, integers_of_every_kind)
{
    static const struct {
        gg_gguf_kind kind;
        size_t bytes;
        uint64_t bits, value;
        bool readable;
    } cases[] = {
        {GG_GGUF_U8, 1, 0xff, 255, true},
        {GG_GGUF_I8, 1, 0x7f, 127, true},
        {GG_GGUF_I8, 1, 0x80, 0, false},
        {GG_GGUF_U16, 2, 0xfffe, 65534, true},
        {GG_GGUF_I16, 2, 0x7fff, 32767, true},
        {GG_GGUF_I16, 2, 0xffff, 0, false},
        {GG_GGUF_U32, 4, 0xffffffff, 4294967295, true},
        {GG_GGUF_I32, 4, 0x7fffffff, 2147483647, true},
        {GG_GGUF_I32, 4, 0x80000000, 0, false},
        {GG_GGUF_U64, 8, UINT64_MAX, UINT64_MAX, true},
        {GG_GGUF_I64, 8, INT64_MAX, INT64_MAX, true},
        {GG_GGUF_I64, 8, UINT64_MAX, 0, false},
        {GG_GGUF_F32, 4, 0x3f800000, 0, false},
        {GG_GGUF_BOOL, 1, 1, 0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        image m;
        begin(&m, 0, 1);
        put_key(&m, "k", cases[i].kind);
        put(&m, cases[i].bits, cases[i].bytes);
        uint8_t *copy;
        gg_gguf *file;
        gorgon_error err;
        cr_assert_eq(open_image(&m, &copy, &file, &err), GORGON_OK, "%s", err.message);
        uint64_t value = 1;
        gorgon_status expected = cases[i].readable ? GORGON_OK : GORGON_ERROR_FORMAT;
        cr_assert_eq(gg_gguf_get_u64(file, "k", &value, &err), expected, "case %zu", i);
        if (cases[i].readable)
            cr_assert_eq(value, cases[i].value, "case %zu", i);
        else
            cr_assert(strstr(err.message, "image: key 'k' at byte 24: expected an integer"), "%s",
                      err.message);
        gg_gguf_close(file);
        free(copy);
    }
}

Test(gguf, other_values)
{
    image m;
    begin(&m, 0, 6);
    double wide = -0.5;
    uint64_t bits;
    memcpy(&bits, &wide, sizeof bits);
    put_key(&m, "wide", GG_GGUF_F64);
    put(&m, bits, 8);
    put_key(&m, "text", GG_GGUF_STRING);
    put(&m, 3, 8);
    put_bytes(&m, "a\0b", 3);
    put_key(&m, "empty", GG_GGUF_STRING);
    put(&m, 0, 8);
    put_key(&m, "signed", GG_GGUF_ARRAY);
    put(&m, GG_GGUF_I16, 4);
    put(&m, 2, 8);
    put(&m, 0x7fff8000, 4);
    put_key(&m, "large", GG_GGUF_ARRAY);
    put(&m, GG_GGUF_U64, 4);
    put(&m, 1, 8);
    put(&m, UINT64_MAX, 8);
    put_key(&m, "truths", GG_GGUF_ARRAY);
    put(&m, GG_GGUF_BOOL, 4);
    put(&m, 2, 8);
    put(&m, 0x0001, 2);
    uint8_t *copy;
    gg_gguf *file;
    gorgon_error err;
    cr_assert_eq(open_image(&m, &copy, &file, &err), GORGON_OK, "%s", err.message);
    float f = 0;
    cr_assert(gg_gguf_get_f32(file, "wide", &f, &err) == GORGON_OK && f == -0.5f);
    const char *text;
    size_t length;
    cr_assert_eq(gg_gguf_get_string(file, "text", &text, &length, &err), GORGON_OK);
    cr_assert_eq(length, 3);
    cr_assert_eq(memcmp(text, "a\0b", 4), 0);
    cr_assert_eq(gg_gguf_get_string(file, "empty", &text, &length, &err), GORGON_OK);
    cr_assert_str_eq(text, "");
    int64_t integers[2];
    float floats[2];
    cr_assert_eq(gg_gguf_array_i64(file, "signed", integers, 2, &err), GORGON_OK);
    cr_assert(integers[0] == -32768 && integers[1] == 32767);
    cr_assert_eq(gg_gguf_array_f32(file, "signed", floats, 2, &err), GORGON_OK);
    cr_assert_eq(floats[0], -32768.0f);
    cr_assert_eq(gg_gguf_array_i64(file, "signed", integers, 1, &err), GORGON_ERROR_FORMAT);
    cr_assert(strstr(err.message, "expected 1 elements, got 2"), "%s", err.message);
    err = (gorgon_error){0};
    cr_assert_eq(gg_gguf_array_i64(file, "truths", integers, 2, &err), GORGON_OK);
    cr_assert(integers[0] == 1 && integers[1] == 0);
    cr_assert_eq(gg_gguf_array_i64(file, "large", integers, 1, &err), GORGON_ERROR_FORMAT);
    cr_assert(strstr(err.message, "integers below 2^63, got an array of u64"), "%s", err.message);
    err = (gorgon_error){0};
    cr_assert_eq(gg_gguf_get_string(file, "wide", &text, &length, &err), GORGON_ERROR_FORMAT);
    cr_assert(strstr(err.message, "expected a string, got a value of kind f64"), "%s", err.message);
    err = (gorgon_error){0};
    bool flag;
    cr_assert_eq(gg_gguf_get_bool(file, "absent", &flag, &err), GORGON_ERROR_FORMAT);
    cr_assert_str_eq(err.message, "image: key 'absent' is missing");
    size_t cursor = 0;
    cr_assert_not(gg_gguf_array_next_string(file, "signed", &cursor, &text, &length));
    cr_assert_not(gg_gguf_array_next_string(file, "absent", &cursor, &text, &length));
    gg_gguf_close(file);
    free(copy);
}
