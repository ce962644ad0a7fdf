// A safetensors file made of lines, for fuzz targets: "NAME DTYPE SIZE SIZE" each, whose values are
// the bytes of the lines.
#ifndef TENSOR_LINES_H
#define TENSOR_LINES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TENSORS = 200, MAX_BYTES = 1 << 18 };

typedef struct tensor_line {
    char name[64], type[8];
    unsigned sizes[2];
    int n_sizes;
    size_t bytes;
} tensor_line;

static inline size_t element_bytes(const char *type)
{
    return strcmp(type, "I64") == 0 ? 8 : strstr(type, "32") ? 4 : strstr(type, "16") ? 2 : 1;
}

// False for a line that is none.
static inline bool read_tensor_line(const char *text, tensor_line *l)
{
    *l = (tensor_line){.n_sizes = 0};
    const int n = sscanf(text, "%63s %7s %u %u", l->name, l->type, &l->sizes[0], &l->sizes[1]);
    if (n < 2 || strpbrk(l->name, "\"\\") || strpbrk(l->type, "\"\\"))
        return false;
    l->n_sizes = n - 2;
    l->bytes = element_bytes(l->type);
    for (int i = 0; i < l->n_sizes; i++) {
        if (l->sizes[i] > 4096)
            return false;
        l->bytes *= l->sizes[i];
    }
    return l->bytes <= MAX_BYTES;
}

// One entry of the header; returns its length.
static inline size_t print_entry(char *to, size_t room, const tensor_line *l, bool first, size_t at)
{
    char shape[32] = "";
    if (l->n_sizes == 1)
        snprintf(shape, sizeof shape, "%u", l->sizes[0]);
    else if (l->n_sizes == 2)
        snprintf(shape, sizeof shape, "%u,%u", l->sizes[0], l->sizes[1]);
    const int n =
        snprintf(to, room, "%c\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                 first ? '{' : ',', l->name, l->type, shape, at, at + l->bytes);
    return n < 0 || (size_t)n >= room ? 0 : (size_t)n;
}

// malloc; *n is 0 if no line is a tensor.
static inline uint8_t *file_of_lines(const uint8_t *data, size_t size, size_t *n)
{
    enum { ROOM = 1 << 16 };
    char *text = calloc(size + 1, 1);
    uint8_t *file = calloc(8 + ROOM + MAX_BYTES + 1, 1);
    size_t used = 0, at = 0, lines = 0;
    if (!text || !file)
        abort();
    if (size)
        memcpy(text, data, size);
    char *header = (char *)file + 8;
    for (char *start = text; start && *start && lines < MAX_TENSORS; lines++) {
        char *end = strchr(start, '\n');
        tensor_line l;
        if (end)
            *end++ = '\0';
        if (read_tensor_line(start, &l) && at + l.bytes <= MAX_BYTES) {
            used += print_entry(header + used, ROOM - 1 - used, &l, used == 0, at);
            at += l.bytes;
        }
        start = end;
    }
    free(text);
    *n = 0;
    if (used == 0)
        return file;
    header[used++] = '}';
    for (size_t i = 0; i < 8; i++)
        file[i] = (uint8_t)((uint64_t)used >> (8 * i));
    for (size_t i = 0; i < at; i++)
        file[8 + used + i] = data[i % size] & 0x3f; // halves below infinity
    *n = 8 + used + at;
    return file;
}

#endif
