// Loading models: what is refused, and with which words. Variants are made by overwriting bytes
// of the embedded model.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/file.h"
#include "core/model.h"

#define TINY_MODEL GG_SOURCE_DIR "/models/tiny/tiny.gguf"

static char scratch[64];

static uint8_t *copy_of_tiny(size_t *size)
{
    gg_mapping map;
    cr_assert_eq(gg_map_file(TINY_MODEL, &map, NULL), GORGON_OK);
    uint8_t *bytes = malloc(map.size);
    cr_assert_not_null(bytes);
    memcpy(bytes, map.data, map.size);
    *size = map.size;
    gg_unmap(&map);
    return bytes;
}

static uint8_t *find(uint8_t *bytes, size_t size, const char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i + n <= size; i++) {
        if (memcmp(bytes + i, text, n) == 0)
            return bytes + i;
    }
    cr_assert_fail("'%s' is not in the embedded model", text);
    return NULL;
}

static void write_scratch(const uint8_t *bytes, size_t size)
{
    snprintf(scratch, sizeof scratch, "/tmp/gorgon-test-model-XXXXXX");
    int fd = mkstemp(scratch);
    cr_assert_geq(fd, 0);
    FILE *f = fdopen(fd, "wb");
    cr_assert_eq(fwrite(bytes, 1, size, f), size);
    cr_assert_eq(fclose(f), 0);
}

// Opens the bytes as a model; expects a refusal that names the file and says `words`.
static void expect_refusal(const uint8_t *bytes, size_t size, gorgon_status status,
                           const char *words)
{
    gorgon_error err = {0};
    gorgon_model *model = NULL;
    write_scratch(bytes, size);
    cr_expect_eq(gorgon_model_open(scratch, 1, &model, &err), status, "%s: status %d, '%s'", words,
                 (int)err.status, err.message);
    cr_expect_null(model);
    cr_expect_not_null(strstr(err.message, words), "expected '%s' in '%s'", words, err.message);
    cr_expect_not_null(strstr(err.message, scratch), "no file name in '%s'", err.message);
    unlink(scratch);
}

// `key` of the embedded model with the 4 bytes of its value replaced.
static void expect_value_refused(const char *key, const void *value, gorgon_status status,
                                 const char *words)
{
    size_t size;
    uint8_t *bytes = copy_of_tiny(&size);
    memcpy(find(bytes, size, key) + strlen(key) + 4, value, 4);
    expect_refusal(bytes, size, status, words);
    free(bytes);
}

static void expect_text_refused(const char *from, const char *to, gorgon_status status,
                                const char *words)
{
    size_t size;
    uint8_t *bytes = copy_of_tiny(&size);
    cr_assert_eq(strlen(from), strlen(to));
    memcpy(find(bytes, size, from), to, strlen(to));
    expect_refusal(bytes, size, status, words);
    free(bytes);
}

Test(model, geometry_is_counted_from_the_file)
{
    gorgon_model *model = NULL;
    cr_assert_eq(gorgon_model_open(TINY_MODEL, 2, &model, NULL), GORGON_OK);
    gorgon_model_info info;
    gorgon_model_describe(model, &info);
    cr_expect_eq(info.n_layers, 3);
    cr_expect_eq(info.d_model, 128);
    cr_expect_eq(info.n_heads, 4);
    cr_expect_eq(info.n_kv_heads, 2);
    cr_expect_eq(info.head_dim, 32);
    cr_expect_eq(info.d_ff, 352);
    cr_expect_eq(info.n_vocab, 645);
    cr_expect(info.tied_output);
    cr_expect_str_eq(info.matrix_type, "Q4_1");
    cr_expect_str_eq(info.output_type, "Q8_0");
    gorgon_model_free(model);
}

Test(model, a_well_formed_foreign_file_opens)
{
    gorgon_model *model = NULL;
    gorgon_error err = {0};
    cr_assert_eq(
        gorgon_model_open(GG_SOURCE_DIR "/tests/corpus/gguf/control_valid.gguf", 1, &model, &err),
        GORGON_OK, "%s", err.message);
    gorgon_model_info info;
    gorgon_model_describe(model, &info);
    cr_expect_eq(info.d_model, 32);
    cr_expect_eq(info.n_vocab, 264);
    gorgon_model_free(model);
}

Test(model, values_out_of_range_are_refused)
{
    const uint32_t zero = 0, huge = 1u << 30, three = 3, odd = 31;
    const float nan = 0.0f / 0.0f, negative = -1.0f;
    expect_value_refused("llama.attention.head_count", &zero, GORGON_ERROR_FORMAT,
                         "head_count is 0");
    expect_value_refused("llama.block_count", &huge, GORGON_ERROR_FORMAT, "block_count");
    expect_value_refused("llama.block_count", &zero, GORGON_ERROR_FORMAT, "block_count");
    expect_value_refused("llama.embedding_length", &three, GORGON_ERROR_FORMAT, "embedding_length");
    expect_value_refused("llama.attention.head_count_kv", &three, GORGON_ERROR_FORMAT,
                         "4 attention heads over 3 KV heads");
    expect_value_refused("llama.rope.dimension_count", &odd, GORGON_ERROR_UNSUPPORTED,
                         "rotary width 31");
    expect_value_refused("llama.attention.layer_norm_rms_epsilon", &nan, GORGON_ERROR_FORMAT,
                         "nan, expected");
    expect_value_refused("llama.attention.layer_norm_rms_epsilon", &negative, GORGON_ERROR_FORMAT,
                         "epsilon is -1");
    expect_value_refused("llama.context_length", &zero, GORGON_ERROR_FORMAT, "context_length is 0");
}

Test(model, contradictions_are_refused)
{
    const uint32_t two = 2, four = 4, ff = 384;
    expect_value_refused("llama.block_count", &two, GORGON_ERROR_FORMAT, "block_count contradicts");
    expect_value_refused("llama.block_count", &four, GORGON_ERROR_FORMAT, "blk.3.attn_q.weight");
    expect_value_refused("llama.feed_forward_length", &ff, GORGON_ERROR_FORMAT,
                         "shape [128, 352], expected [128, 384]");
    expect_text_refused("blk.1.ffn_up.weight", "blk.1.ffn_xx.weight", GORGON_ERROR_FORMAT,
                        "tensor 'blk.1.ffn_up.weight'");
}

Test(model, truncated_files_are_refused_wherever_they_end)
{
    size_t size;
    uint8_t *bytes = copy_of_tiny(&size);
    for (size_t n = 1; n < size; n += n < 2000 ? 97 : 20011)
        expect_refusal(bytes, n, GORGON_ERROR_FORMAT, "");
    free(bytes);
}

Test(model, a_missing_file_is_an_io_error)
{
    gorgon_error err = {0};
    gorgon_model *model = NULL;
    cr_expect_eq(gorgon_model_open("/nonexistent/x.gguf", 1, &model, &err), GORGON_ERROR_IO);
    cr_expect_not_null(strstr(err.message, "/nonexistent/x.gguf"));
}

Test(model, every_failing_allocation_is_survived)
{
    for (size_t n = 1;; n++) {
        gorgon_model *model = NULL;
        gorgon_error err = {0};
        gg_alloc_fail_at(n);
        gorgon_status status = gorgon_model_open(TINY_MODEL, 1, &model, &err);
        gg_alloc_fail_at(0);
        gorgon_model_free(model);
        if (status == GORGON_OK)
            break;
        cr_assert_eq(status, GORGON_ERROR_MEMORY, "allocation %zu: %s", n, err.message);
        cr_assert(n < 5000);
    }
}
