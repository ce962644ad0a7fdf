// Fuzz target: heads of other trainers. The input lists tensors, a line each, "NAME DTYPE SIZE
// SIZE", whose values are the bytes of the input; a safetensors file is made of them and opened as
// heads.
#include <stdio.h>

#include "heads_walk.h"

enum { MAX_TENSORS = 200, MAX_BYTES = 1 << 18 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct line {
    char name[64], type[8];
    unsigned sizes[2];
    int n_sizes;
    size_t bytes;
} line;

static size_t element_bytes(const char *type)
{
    return strcmp(type, "I64") == 0 ? 8 : strstr(type, "32") ? 4 : strstr(type, "16") ? 2 : 1;
}

// False for a line that is none.
static bool read_line(const char *text, line *l)
{
    *l = (line){.n_sizes = 0};
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
static size_t print_entry(char *to, size_t room, const line *l, bool first, size_t at)
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { ROOM = 1 << 16 };
    char *text = calloc(size + 1, 1);
    uint8_t *file = calloc(8 + ROOM + MAX_BYTES + 1, 1);
    size_t n = 0, at = 0, lines = 0;
    require(text && file);
    if (size)
        memcpy(text, data, size);
    char *header = (char *)file + 8;
    for (char *start = text; start && *start && lines < MAX_TENSORS; lines++) {
        char *end = strchr(start, '\n');
        line l;
        if (end)
            *end++ = '\0';
        if (read_line(start, &l) && at + l.bytes <= MAX_BYTES) {
            n += print_entry(header + n, ROOM - 1 - n, &l, n == 0, at);
            at += l.bytes;
        }
        start = end;
    }
    if (n > 0) {
        header[n++] = '}';
        for (size_t i = 0; i < 8; i++)
            file[i] = (uint8_t)((uint64_t)n >> (8 * i));
        for (size_t i = 0; i < at; i++)
            file[8 + n + i] = data[i % size] & 0x3f; // halves below infinity
        walk_heads(file, 8 + n + at);
    }
    free(file);
    free(text);
    return 0;
}
