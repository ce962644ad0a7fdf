// Fuzz target: whatever the bytes, opening and walking a GGUF file must stay inside them.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// A caller's view of the contract: a broken promise must stop the run.
static void require(bool holds)
{
    if (!holds)
        abort();
}

// Reads every byte, so that the sanitizers see an extent that is too long.
static unsigned touch(const void *data, size_t n)
{
    const uint8_t *bytes = data;
    unsigned sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += bytes[i];
    return sum;
}

static unsigned walk_array(const gg_gguf *file, const char *key)
{
    gg_gguf_kind kind;
    size_t n;
    require(gg_gguf_get_array(file, key, &kind, &n, NULL) == GORGON_OK);
    unsigned sum = 0;
    size_t cursor = 0, strings = 0, length;
    const char *text;
    for (; gg_gguf_array_next_string(file, key, &cursor, &text, &length); strings++)
        sum += touch(text, length);
    require(strings == (kind == GG_GGUF_STRING ? n : 0));

    float *floats = gg_alloc(n, sizeof *floats);
    int64_t *integers = gg_alloc(n, sizeof *integers);
    require(floats && integers);
    if (gg_gguf_array_f32(file, key, floats, n, NULL) == GORGON_OK)
        sum += touch(floats, n * sizeof *floats);
    if (gg_gguf_array_i64(file, key, integers, n, NULL) == GORGON_OK)
        sum += touch(integers, n * sizeof *integers);
    require(gg_gguf_array_f32(file, key, floats, n + 1, NULL) != GORGON_OK);
    gg_free(floats);
    gg_free(integers);
    return sum;
}

static unsigned walk_keys(const gg_gguf *file)
{
    unsigned sum = 0;
    for (size_t i = 0; i < gg_gguf_key_count(file); i++) {
        gg_gguf_kind kind;
        const char *key = gg_gguf_key_at(file, i, &kind);
        require(key && gg_gguf_has(file, key) && gg_gguf_kind_name(kind));
        uint64_t u;
        float f;
        bool b;
        const char *text;
        size_t length;
        if (gg_gguf_get_u64(file, key, &u, NULL) == GORGON_OK)
            sum += (unsigned)u;
        if (gg_gguf_get_f32(file, key, &f, NULL) == GORGON_OK)
            sum += touch(&f, sizeof f);
        if (gg_gguf_get_bool(file, key, &b, NULL) == GORGON_OK)
            sum += b;
        if (gg_gguf_get_string(file, key, &text, &length, NULL) == GORGON_OK)
            sum += touch(text, length + 1);
        if (kind == GG_GGUF_ARRAY)
            sum += walk_array(file, key);
    }
    return sum;
}

static unsigned walk_tensors(const gg_gguf *file)
{
    unsigned sum = 0;
    for (size_t i = 0; i < gg_gguf_tensor_count(file); i++) {
        const gg_tensor *tensor = gg_gguf_tensor_at(file, i);
        require(gg_gguf_find(file, tensor->name) == tensor && tensor->type_name);
        sum += touch(tensor->data, tensor->bytes);
    }
    return sum;
}

// The input as two parts of a split file, the first as long as the u32 in front says.
static unsigned join_parts(const uint8_t *data, size_t size)
{
    if (size < 4)
        return 0;
    uint32_t length;
    memcpy(&length, data, sizeof length);
    data += 4;
    size -= 4;
    const size_t first = length < size ? length : size;
    gg_gguf *parts[2] = {0}, *whole = NULL;
    if (gg_gguf_open_memory(data, first, "part 1", &parts[0], NULL) != GORGON_OK)
        return 0;
    if (gg_gguf_open_memory(data + first, size - first, "part 2", &parts[1], NULL) != GORGON_OK) {
        gg_gguf_close(parts[0]);
        return 0;
    }
    gorgon_error err = {0};
    gorgon_status status = gg_gguf_join(parts, 2, &whole, &err);
    require(status == err.status && (status == GORGON_OK) == (whole != NULL));
    if (status != GORGON_OK)
        return 0;
    unsigned sum = walk_keys(whole) + walk_tensors(whole);
    gg_gguf_close(whole);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    volatile unsigned joined = join_parts(data, size);
    (void)joined;
    gg_gguf *file;
    gorgon_error err = {0};
    gorgon_status status = gg_gguf_open_memory(data, size, "input", &file, &err);
    require(status == err.status && (status == GORGON_OK) == (file != NULL));
    require(status == GORGON_OK || err.message[0] != '\0');
    if (status != GORGON_OK)
        return 0;
    volatile unsigned sink = walk_keys(file) + walk_tensors(file);
    (void)sink;
    gg_gguf_close(file);
    return 0;
}
