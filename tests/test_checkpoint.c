// Hugging Face directories: the same bits as the GGUF file that other software made of them, before
// and after gorgon's own conversion; what is refused, and with which words; failing allocations,
// files that end early.
#define _XOPEN_SOURCE 700 // mkdtemp
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/checkpoint.h"
#include "core/file.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "forward_fixture.h"

#define FAMILIES GG_TEST_DATA "/families/"

static const char *const names[] = {"llama_rope3", "mistral", "qwen2", "qwen3", "gemma3", "phi3"};
enum { N_NAMES = sizeof names / sizeof names[0], SHOWN = 70 };

static char scratch[64], converted[96];

// For jansson, which has no hook of its own: calls until the one that fails, 0: none does.
static size_t left;

static void *failing_malloc(size_t n)
{
    return left > 0 && --left == 0 ? NULL : malloc(n);
}

static void set_up(void)
{
    snprintf(scratch, sizeof scratch, "/tmp/gorgon-checkpoint-XXXXXX");
    cr_assert_not_null(mkdtemp(scratch));
    snprintf(converted, sizeof converted, "%s/out.gguf", scratch);
}

static void tear_down(void)
{
    static const char *const files[] = {"out.gguf",
                                        "config.json",
                                        "tokenizer.json",
                                        "tokenizer_config.json",
                                        "generation_config.json",
                                        "chat_template.jinja",
                                        "model.safetensors",
                                        "model.safetensors.index.json",
                                        "a.safetensors",
                                        "b.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", scratch, files[i]);
        unlink(path);
    }
    cr_assert_eq(rmdir(scratch), 0, "files were left behind");
}

TestSuite(checkpoint, .init = set_up, .fini = tear_down);

// Logits of the text; the model stays open.
static float *logits_of(const char *path)
{
    open_model_at(path);
    gorgon_engine *engine = make_engine(1, NULL, GORGON_ACTIVATIONS_F32);
    float *logits = logits_by_chunks(engine, SHOWN, 64);
    gorgon_engine_free(engine);
    return logits;
}

// Rope factors of llama 3 are computed on conversion: that file's in single precision, whose last
// bits differ.
static void expect_same(const float *a, const float *b, const char *name)
{
    const bool computed = strcmp(name, "llama_rope3") == 0;
    for (size_t i = 0; i < SHOWN * n_vocab; i++)
        cr_assert(computed ? fabsf(a[i] - b[i]) < 1e-3f : a[i] == b[i], "%s: %zu: %g, %g", name, i,
                  (double)a[i], (double)b[i]);
}

Test(checkpoint, directories_compute_what_their_gguf_files_do)
{
    for (size_t i = 0; i < N_NAMES; i++) {
        char directory[256], file[256];
        snprintf(directory, sizeof directory, FAMILIES "%s", names[i]);
        snprintf(file, sizeof file, FAMILIES "%s.f16.gguf", names[i]);
        float *a = logits_of(file);
        const uint64_t vocabulary = gorgon_model_fingerprint(model).vocabulary;
        close_model();
        float *b = logits_of(directory);
        cr_expect_eq(gorgon_model_fingerprint(model).vocabulary, vocabulary, "%s", names[i]);
        close_model();
        expect_same(a, b, names[i]);
        gg_free(a);
        gg_free(b);
    }
}

Test(checkpoint, converted_they_are_the_same_model)
{
    for (size_t i = 0; i < N_NAMES; i++) {
        char directory[256];
        gorgon_error err = {0};
        snprintf(directory, sizeof directory, FAMILIES "%s", names[i]);
        cr_assert_eq(gorgon_model_convert(directory, converted, &err), GORGON_OK, "%s",
                     err.message);
        float *a = logits_of(directory);
        const gorgon_fingerprint before = gorgon_model_fingerprint(model);
        close_model();
        float *b = logits_of(converted);
        const gorgon_fingerprint after = gorgon_model_fingerprint(model);
        close_model();
        cr_expect_eq(memcmp(&before, &after, sizeof before), 0, "%s", names[i]);
        cr_expect_eq(memcmp(a, b, SHOWN * n_vocab * sizeof *a), 0, "%s", names[i]);
        gg_free(a);
        gg_free(b);
    }
}

static void write_bytes(const char *name, const void *data, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    FILE *out = fopen(path, "wb");
    cr_assert(out && fwrite(data, 1, n, out) == n && fclose(out) == 0, "%s", path);
}

// The whole file, to be unmapped.
static gg_mapping read_bytes(const char *family, const char *name)
{
    char path[512];
    gg_mapping map;
    snprintf(path, sizeof path, FAMILIES "%s/%s", family, name);
    cr_assert_eq(gg_map_file(path, &map, NULL), GORGON_OK, "%s", path);
    return map;
}

static void copy_as(const char *family, const char *from, const char *to)
{
    gg_mapping map = read_bytes(family, from);
    write_bytes(to, map.data, map.size);
    gg_unmap(&map);
}

static void copy_directory(const char *family)
{
    static const char *const files[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "model.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        copy_as(family, files[i], files[i]);
}

// A copy of the directory whose config.json has `to` in place of `from` does not open.
static void refused(const char *name, const char *from, const char *to, const char *words)
{
    gorgon_error err = {0};
    gorgon_model *opened = NULL;
    char config[8192];
    copy_directory(name);
    gg_mapping map = read_bytes(name, "config.json");
    snprintf(config, sizeof config, "%.*s", (int)map.size, (const char *)map.data);
    gg_unmap(&map);
    const char *at = strstr(config, from);
    cr_assert_not_null(at, "'%s' is not in %s", from, name);
    char changed[8192];
    const int n = snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - config), config, to,
                           at + strlen(from));
    write_bytes("config.json", changed, (size_t)n);
    cr_expect_neq(gorgon_model_open(scratch, 1, &opened, &err), GORGON_OK, "%s", words);
    cr_expect(strstr(err.message, words) && strstr(err.message, "gorgon-checkpoint-"),
              "expected '%s' in '%s'", words, err.message);
    cr_expect_null(opened);
    cr_expect_neq(gorgon_model_convert(scratch, converted, NULL), GORGON_OK, "%s", words);
    cr_expect_neq(access(converted, F_OK), 0, "%s: a file was written", words);
}

Test(checkpoint, configs_that_cannot_be_computed)
{
    refused("qwen3", "\"qwen3\"", "\"mamba\"", "'model_type' is mamba, expected llama, ");
    refused("qwen3", "\"silu\"", "\"relu\"", "'hidden_act' is relu, expected silu");
    refused("qwen3", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2",
            "is not part of a plain qwen3 model of 2 layers");
    refused("qwen3", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4",
            "'blk.3.attn_q.weight' is missing");
    refused("qwen3", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 0",
            "'num_hidden_layers': expected a whole number from 1 to 512, got 0");
    refused("qwen3", "\"hidden_size\": 64", "\"hidden_size\": \"64\"",
            "'hidden_size': expected a whole number from 1 to 131072, got \"64\"");
    refused("qwen3", "\"vocab_size\": 384", "\"vocab_size\": 200", "200");
    refused("qwen3", "\"use_sliding_window\": false", "\"use_sliding_window\": true",
            "'use_sliding_window' is true, expected false");
    refused("qwen3", "\"rope_type\": \"default\"", "\"rope_type\": \"yarn\"",
            "'rope_type' is yarn, expected default");
    refused("gemma3", "\"final_logit_softcapping\": null", "\"final_logit_softcapping\": 30",
            "'final_logit_softcapping' is set, expected null");
    refused("gemma3", "\"full_attention\",", "\"sliding_attention\",",
            "'layer_types' is sliding_attention");
    refused("llama_rope3", "\"factor\": 8.0,", "", "'factor': expected a number");
    refused("mistral", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": 1",
            "'tie_word_embeddings': expected true or false, got 1");
    refused("qwen2", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false",
            "there is no tensor 'lm_head.weight'");
    refused("qwen2", "{", "", "config.json");
    refused("gemma3", "\"hidden_activation\": \"gelu_pytorch_tanh\"",
            "\"hidden_activation\": \"silu\"", "'hidden_activation' is silu, expected gelu");
    refused("gemma3", "\"use_bidirectional_attention\": false",
            "\"use_bidirectional_attention\": true",
            "'use_bidirectional_attention' is true, expected false");
    refused("qwen3", "\"use_sliding_window\": false", "\"partial_rotary_factor\": 0.5",
            "'partial_rotary_factor' is less than 1, expected 1");
}

Test(checkpoint, longrope_that_cannot_be_computed)
{
    static const struct {
        const char *scaling, *words;
    } cases[] = {
        {"{\"type\": \"linear\", \"factor\": 2}",
         "'rope_type' is linear, expected default or longrope"},
        {"{\"type\": \"longrope\"}", "'short_factor': expected an array of 8 numbers from 0.25 to"},
        {"{\"type\": \"longrope\", \"short_factor\": [1, 1]}",
         "'short_factor': expected an array of 8 numbers from 0.25 to 1e+06, got 2 elements"},
        {"{\"type\": \"su\", \"short_factor\": [1, 1, 1, 1, 1, 1, 1, 0]}",
         "'short_factor': expected an array of 8 numbers from 0.25 to 1e+06, got 0"},
        {"{\"type\": \"yarn\", \"short_factor\": [1, 1, 1, 1, 1, 1, 1, 1], \"long_factor\": {}}",
         "'long_factor': expected an array of 8 numbers from 0.25 to 1e+06, got {}"},
        {"{\"type\": \"longrope\", \"factor\": \"2\"}", "'factor': expected a number"},
        {"{\"type\": \"longrope\", \"attention_factor\": -1}",
         "'attention_factor': expected a number from 0.001 to 1000, got -1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char to[256];
        snprintf(to, sizeof to, "\"rope_scaling\": %s", cases[i].scaling);
        refused("phi3", "\"rope_scaling\": null", to, cases[i].words);
    }
    refused("phi3", "\"original_max_position_embeddings\": 512",
            "\"original_max_position_embeddings\": 1, \"rope_parameters\": {\"rope_type\": "
            "\"longrope\"}",
            "'original_max_position_embeddings': expected a whole number from 2");
}

// Logits of n ids under a context that just holds them: short factors up to the original context,
// long ones beyond.
static void check_longrope(const char *path, const gg_named_tensor *ids,
                           const gg_named_tensor *expected, gg_tensor_file *golden)
{
    const uint8_t *id_bytes, *logit_bytes;
    gorgon_error err = {0};
    gorgon_engine *engine = NULL;
    gorgon_engine_options options;
    open_model_at(path);
    gorgon_engine_options_init(&options);
    options.threads = 1;
    options.activations = GORGON_ACTIVATIONS_F32;
    const size_t n = options.context = options.max_logit_rows = (size_t)expected->dims[0];
    cr_assert_eq(gorgon_engine_create(model, &options, &engine, &err), GORGON_OK, "%s",
                 err.message);
    cr_assert_eq(gg_tensor_file_data(golden, ids, &id_bytes, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(gg_tensor_file_data(golden, expected, &logit_bytes, &err), GORGON_OK, "%s",
                 err.message);
    cr_assert(n <= ids->n && expected->n == n * n_vocab);
    for (size_t i = 0; i < n; i++)
        memcpy(&text[i], id_bytes + i * sizeof *text, sizeof *text);
    float *logits = logits_by_chunks(engine, n, n);
    for (size_t i = 0; i < expected->n; i++) {
        float value;
        gg_element_floats(expected->element, logit_bytes, i, 1, &value);
        cr_assert(fabsf(logits[i] - value) < 1e-3f, "%s: %s: %zu: %g, expected %g", path,
                  expected->name, i, (double)logits[i], (double)value);
    }
    free(logits);
    gorgon_engine_free(engine);
    close_model();
}

Test(checkpoint, longrope_is_that_of_transformers)
{
    static const char *const cases[] = {"older_8", "older_16", "su_8", "newer_8", "newer_16"};
    gg_tensor_file *golden = NULL;
    gorgon_error err = {0};
    cr_assert_eq(gg_tensor_file_open(FAMILIES "phi3_longrope/golden.safetensors", &golden, &err),
                 GORGON_OK, "%s", err.message);
    copy_directory("phi3");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char config[32];
        snprintf(config, sizeof config, "%.*s.json", (int)strcspn(cases[i], "_"), cases[i]);
        copy_as("phi3_longrope", config, "config.json");
        cr_assert_eq(gorgon_model_convert(scratch, converted, &err), GORGON_OK, "%s", err.message);
        const gg_named_tensor *ids = gg_tensor_file_find(golden, "ids");
        const gg_named_tensor *logits = gg_tensor_file_find(golden, cases[i]);
        cr_assert(ids && logits);
        check_longrope(scratch, ids, logits, golden);
        check_longrope(converted, ids, logits, golden);
    }
    gg_tensor_file_close(golden);
}

static void write_shard(gg_tensor_file *from, size_t begin, size_t end, const char *name)
{
    char path[128];
    gg_safetensors_writer *w = NULL;
    gorgon_output *out = NULL;
    cr_assert_eq(gg_safetensors_create(&w, NULL), GORGON_OK);
    for (size_t i = begin; i < end; i++) {
        const gg_named_tensor *t = gg_tensor_file_at(from, i);
        const uint8_t *data;
        cr_assert_eq(gg_tensor_file_data(from, t, &data, NULL), GORGON_OK);
        gg_safetensors_put(w, t->name, t->element, t->dims, t->n_dims, data, NULL);
    }
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    cr_assert_eq(gorgon_output_create(path, &out, NULL), GORGON_OK);
    cr_assert_eq(gg_safetensors_write(w, out, NULL), GORGON_OK);
    cr_assert_eq(gorgon_output_commit(out, NULL), GORGON_OK);
    gg_safetensors_free(w);
}

// llama_rope3 in two shards, with every optional file.
static void make_shards(void)
{
    static const char chat[] = "{% for m in messages %}{{ m.content }}{% endfor %}";
    static const char generation[] = "{\"eos_token_id\": [0, 1]}";
    static const char *const shards[] = {"a.safetensors", "b.safetensors"};
    char path[128], index[8192];
    gg_tensor_file *whole = NULL;
    copy_directory("llama_rope3");
    snprintf(path, sizeof path, "%s/model.safetensors", scratch);
    cr_assert_eq(gg_tensor_file_open(path, &whole, NULL), GORGON_OK);
    const size_t n = gg_tensor_file_count(whole), half = n / 2;
    write_shard(whole, 0, half, shards[0]);
    write_shard(whole, half, n, shards[1]);
    size_t used = (size_t)snprintf(index, sizeof index, "{\"weight_map\": ");
    for (size_t i = 0; i < n; i++)
        used +=
            (size_t)snprintf(index + used, sizeof index - used, "%c\"%s\": \"%s\"", i ? ',' : '{',
                             gg_tensor_file_at(whole, i)->name, shards[i >= half]);
    used += (size_t)snprintf(index + used, sizeof index - used, "}}");
    gg_tensor_file_close(whole);
    unlink(path);
    write_bytes("model.safetensors.index.json", index, used);
    write_bytes("generation_config.json", generation, sizeof generation - 1);
    write_bytes("chat_template.jinja", chat, sizeof chat - 1);
}

Test(checkpoint, shards_hold_the_same_model)
{
    make_shards();
    float *a = logits_of(FAMILIES "llama_rope3");
    close_model();
    float *b = logits_of(scratch);
    close_model();
    cr_expect_eq(memcmp(a, b, SHOWN * n_vocab * sizeof *a), 0);
    free(a);
    free(b);
}

static gorgon_status open_scratch(size_t n)
{
    gg_gguf *file = NULL;
    gorgon_error err = {0};
    gorgon_status status = gg_checkpoint_open(scratch, &file, &err);
    gg_alloc_fail_at(0);
    cr_assert((status == GORGON_OK) == (file != NULL) && status == err.status);
    cr_assert(status == GORGON_OK || err.message[0], "%zu", n);
    gg_gguf_close(file);
    return status;
}

// Every allocation fails in turn: a MEMORY error, and nothing leaks (see the asan preset).
Test(checkpoint, failing_allocations)
{
    size_t n = 0;
    gorgon_status status;
    make_shards();
    do {
        gg_alloc_fail_at(++n);
        status = open_scratch(n);
        cr_assert(status == GORGON_OK || status == GORGON_ERROR_MEMORY, "%zu: %d", n, status);
    } while (status != GORGON_OK);
    cr_assert_gt(n, 40);
}

// The same below jansson, which takes some of them for bad syntax and passes over others: no more
// than that it ends, cleanly. A sample of the thousands that read long lists.
Test(checkpoint, failing_allocations_of_json)
{
    make_shards();
    json_set_alloc_funcs(failing_malloc, free);
    size_t n = 0;
    do {
        left = n += 1 + n / 64;
        open_scratch(n);
    } while (left == 0);
    json_set_alloc_funcs(malloc, free);
    cr_assert_gt(n, 1000);
}

// What is left of a file whose reading ends early: opened or refused by its name, and never read
// beyond its end. Each cut is a file of its own, so that a page holds nothing behind it.
static void check_cuts(const char *name, size_t end, size_t step)
{
    char path[128];
    gg_mapping whole;
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    cr_assert_eq(gg_map_file(path, &whole, NULL), GORGON_OK);
    uint8_t *bytes = gg_alloc(whole.size, 1);
    const size_t size = whole.size;
    memcpy(bytes, whole.data, size);
    gg_unmap(&whole);
    for (size_t n = 0; n < (end < size ? end : size); n += step) {
        gg_gguf *file = NULL;
        gorgon_error err = {0};
        write_bytes(name, bytes, n);
        cr_assert_neq(gg_checkpoint_open(scratch, &file, &err), GORGON_OK, "%s: %zu", name, n);
        cr_assert(strstr(err.message, name) && !file, "%s: %zu: %s", name, n, err.message);
    }
    write_bytes(name, bytes, size);
    gg_free(bytes);
}

Test(checkpoint, files_that_end_early)
{
    make_shards();
    check_cuts("config.json", SIZE_MAX, 1);
    check_cuts("model.safetensors.index.json", SIZE_MAX, 7);
    check_cuts("tokenizer_config.json", SIZE_MAX, 7);
    check_cuts("generation_config.json", SIZE_MAX, 1);
    check_cuts("tokenizer.json", SIZE_MAX, 61);
    check_cuts("a.safetensors", 4096, 31);
    check_cuts("b.safetensors", SIZE_MAX, 997);
    cr_assert_eq(open_scratch(0), GORGON_OK);
}
