// Torch archives built in memory: a zip of stored or deflated entries, and pickles word by word.
#ifndef TORCH_FIXTURE_H
#define TORCH_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "core/alloc.h"
#include "core/tensor_file.h"

typedef struct bytes {
    uint8_t data[1 << 16];
    size_t n;
} bytes;

static inline void put(bytes *b, const void *data, size_t n)
{
    cr_assert(n <= sizeof b->data - b->n);
    memcpy(b->data + b->n, data, n);
    b->n += n;
}

static inline void put_number(bytes *b, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++, value >>= 8) {
        uint8_t byte = value & 0xff;
        put(b, &byte, 1);
    }
}

static inline void put_text(bytes *b, const char *text)
{
    put(b, text, strlen(text));
}

typedef struct zip_entry {
    const char *name;
    const void *data;
    size_t n;
    bool deflated;
} zip_entry;

static inline size_t deflate_to(const zip_entry *e, uint8_t *to, size_t room)
{
    z_stream s = {0};
    cr_assert_eq(deflateInit2(&s, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    union {
        const void *from;
        Bytef *to;
    } source = {.from = e->data};
    s.next_in = source.to;
    s.avail_in = (uInt)e->n;
    s.next_out = to;
    s.avail_out = (uInt)room;
    cr_assert_eq(deflate(&s, Z_FINISH), Z_STREAM_END);
    deflateEnd(&s);
    return s.total_out;
}

// Part of both headers: version to the lengths of name and extra field.
static inline void put_zip_header(bytes *b, const zip_entry *e, size_t packed)
{
    put_number(b, 20, 2);
    put_number(b, 0, 2);
    put_number(b, e->deflated ? 8 : 0, 2);
    put_number(b, 0, 4);
    put_number(b, crc32(0, e->data, (uInt)e->n), 4);
    put_number(b, packed, 4);
    put_number(b, e->n, 4);
    put_number(b, strlen(e->name), 2);
    put_number(b, 0, 2);
}

static inline void zip(bytes *b, const zip_entry *entries, size_t n)
{
    static bytes directory;
    static uint8_t packed[1 << 15];
    directory.n = b->n = 0;
    for (size_t i = 0; i < n; i++) {
        const zip_entry *e = &entries[i];
        const size_t at = b->n, size = e->deflated ? deflate_to(e, packed, sizeof packed) : e->n;
        put_number(b, 0x04034b50, 4);
        put_zip_header(b, e, size);
        put_text(b, e->name);
        put(b, e->deflated ? packed : e->data, size);
        put_number(&directory, 0x02014b50, 4);
        put_number(&directory, 20, 2);
        put_zip_header(&directory, e, size);
        put_number(&directory, 0, 10);
        put_number(&directory, at, 4);
        put_text(&directory, e->name);
    }
    const size_t at = b->n;
    put(b, directory.data, directory.n);
    put_number(b, 0x06054b50, 4);
    put_number(b, 0, 4);
    put_number(b, n, 2);
    put_number(b, n, 2);
    put_number(b, directory.n, 4);
    put_number(b, at, 4);
    put_number(b, 0, 2);
}

static inline void pickle_text(bytes *b, const char *text)
{
    put_text(b, "X");
    put_number(b, strlen(text), 4);
    put_text(b, text);
}

static inline void pickle_integer(bytes *b, uint64_t value)
{
    put_text(b, "J");
    put_number(b, value, 4);
}

static inline void pickle_sizes(bytes *b, const uint64_t *sizes, size_t n)
{
    put_text(b, "(");
    for (size_t i = 0; i < n; i++)
        pickle_integer(b, sizes[i]);
    put_text(b, "t");
}

typedef struct pickled {
    const char *name, *storage, *key; // "FloatStorage", "0"
    uint64_t n_storage, first;
    size_t n_dims;
    uint64_t dims[4], strides[4];
} pickled;

// Leaves the tensor on the stack.
static inline void pickle_tensor(bytes *b, const pickled *t)
{
    put_text(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
    pickle_text(b, "storage");
    put_text(b, "ctorch\n");
    put_text(b, t->storage);
    put_text(b, "\n");
    pickle_text(b, t->key);
    pickle_text(b, "cpu");
    pickle_integer(b, t->n_storage);
    put_text(b, "tQ");
    pickle_integer(b, t->first);
    pickle_sizes(b, t->dims, t->n_dims);
    pickle_sizes(b, t->strides, t->n_dims);
    put_text(b, "\x89"
                "ccollections\nOrderedDict\n)RtR");
}

static inline void pickle_begin(bytes *b)
{
    b->n = 0;
    put_text(b, "\x80\x02"
                "ccollections\nOrderedDict\n)R(");
}

static inline void pickle_item(bytes *b, const pickled *t)
{
    pickle_text(b, t->name);
    pickle_tensor(b, t);
}

#endif
