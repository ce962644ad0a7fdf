// Hugging Face directories: the same bits as the GGUF file that other software made of them, before
// and after gorgon's own conversion; what is refused, and with which words.
#define _XOPEN_SOURCE 700 // mkdtemp
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/file.h"
#include "forward_fixture.h"

#define FAMILIES GG_TEST_DATA "/families/"

static const char *const names[] = {"llama_rope3", "mistral", "qwen2", "qwen3", "gemma3", "phi3"};
enum { N_NAMES = sizeof names / sizeof names[0], SHOWN = 70 };

static char scratch[64], converted[96];

static void set_up(void)
{
    snprintf(scratch, sizeof scratch, "/tmp/gorgon-checkpoint-XXXXXX");
    cr_assert_not_null(mkdtemp(scratch));
    snprintf(converted, sizeof converted, "%s/out.gguf", scratch);
}

static void tear_down(void)
{
    static const char *const files[] = {"out.gguf", "config.json", "tokenizer.json",
                                        "tokenizer_config.json", "model.safetensors"};
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
    gorgon_engine *engine = make_engine(1, NULL, GORGON_ACTIVATIONS_INT8);
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

static void copy(const char *from, const char *name)
{
    char path[512];
    gg_mapping map;
    snprintf(path, sizeof path, "%s/%s", from, name);
    cr_assert_eq(gg_map_file(path, &map, NULL), GORGON_OK, "%s", path);
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    FILE *out = fopen(path, "wb");
    cr_assert_eq(fwrite(map.data, 1, map.size, out), map.size);
    cr_assert_eq(fclose(out), 0);
    gg_unmap(&map);
}

// A copy of the directory whose config.json has `to` in place of `from` does not open.
static void refused(const char *name, const char *from, const char *to, const char *words)
{
    static const char *const files[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "model.safetensors"};
    char directory[256], path[512], config[8192];
    gorgon_error err = {0};
    gorgon_model *opened = NULL;
    snprintf(directory, sizeof directory, FAMILIES "%s", name);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        copy(directory, files[i]);
    snprintf(path, sizeof path, "%s/config.json", scratch);
    FILE *f = fopen(path, "rb");
    const size_t n = fread(config, 1, sizeof config - 1, f);
    fclose(f);
    config[n] = '\0';
    char *at = strstr(config, from);
    cr_assert_not_null(at, "'%s' is not in %s", from, name);
    f = fopen(path, "wb");
    fprintf(f, "%.*s%s%s", (int)(at - config), config, to, at + strlen(from));
    fclose(f);
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
}
