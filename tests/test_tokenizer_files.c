// Tokenizers of all models against the ids of the reference libraries: from GGUF files, from
// tokenizer.json, and from GGUF keys written by gorgon.
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/file.h"
#include "core/json.h"
#include "core/tokenizer.h"
#include "tokenizer_json.h"

#define DATA     GG_TEST_DATA "/tokenizers/"
#define FAMILIES GG_TEST_DATA "/families/"

static gorgon_tokenizer *open_tokenizer(const char *path)
{
    gorgon_error err = {0};
    gorgon_tokenizer *tokenizer = NULL;
    cr_assert_eq(gorgon_tokenizer_open(path, &tokenizer, &err), GORGON_OK, "%s", err.message);
    return tokenizer;
}

static void check_ids(const gorgon_tokenizer *tokenizer, const char *label, const json_t *text,
                      const json_t *expected, bool parse_special)
{
    gorgon_error err = {0};
    gorgon_token *ids = NULL;
    size_t n;
    cr_assert_eq(gorgon_tokenizer_encode(tokenizer, json_string_value(text),
                                         json_string_length(text), parse_special, &ids, &n, &err),
                 GORGON_OK, "%s: %s", label, err.message);
    bool same = n == json_array_size(expected);
    for (size_t i = 0; same && i < n; i++)
        same = ids[i] == json_integer_value(json_array_get(expected, i));
    cr_assert(same, "%s: other ids for '%s'", label, json_string_value(text));
    gorgon_free(ids);
}

// The text comes back, unless the tokenizer normalises.
static void check_decode(const gorgon_tokenizer *tokenizer, const char *label, const json_t *text)
{
    gorgon_error err = {0};
    gorgon_token *ids = NULL;
    char *decoded = NULL;
    size_t n, length;
    cr_assert_eq(gorgon_tokenizer_encode(tokenizer, json_string_value(text),
                                         json_string_length(text), false, &ids, &n, &err),
                 GORGON_OK);
    cr_assert_eq(gorgon_tokenizer_decode(tokenizer, ids, n, &decoded, &length, &err), GORGON_OK);
    cr_assert(length == json_string_length(text) &&
                  memcmp(decoded, json_string_value(text), length) == 0,
              "%s: '%s' comes back as '%s'", label, json_string_value(text), decoded);
    gorgon_free(ids);
    gorgon_free(decoded);
}

// with_nfc: what transformers gives where that differs from what runtimes of GGUF files give.
// plain_text: nothing is a special token, and the tokenizer may change the text.
static void check_lines(const gorgon_tokenizer *tokenizer, const char *path, bool with_nfc,
                        bool plain_text)
{
    FILE *stream = fopen(path, "rb");
    cr_assert(stream, "cannot open %s", path);
    gorgon_error err = {0};
    char *line = NULL;
    size_t capacity = 0, length, n = 0;
    bool got;
    while (gg_read_line(stream, path, &line, &capacity, &length, &got, &err) == GORGON_OK && got) {
        json_error_t problem;
        json_t *item = json_loadb(line, length, JSON_ALLOW_NUL, &problem);
        cr_assert(item, "%s: %s", path, problem.text);
        const json_t *plain = json_object_get(item, "ids_without_nfc");
        const json_t *ids = json_object_get(item, "ids");
        const json_t *text = json_object_get(item, "text");
        check_ids(tokenizer, path, text, plain && !with_nfc ? plain : ids, !plain_text);
        if (!plain_text && (!plain || !with_nfc))
            check_decode(tokenizer, path, text);
        json_decref(item);
        n++;
    }
    cr_assert_geq(n, 30);
    fclose(stream);
    gg_free(line);
}

// The tokenizer of a directory written as GGUF and read again.
static gorgon_tokenizer *through_gguf(const char *directory)
{
    char path[] = "/tmp/gorgon_tokenizer_XXXXXX";
    gorgon_error err = {0};
    gg_gguf_writer *writer = NULL;
    int descriptor = mkstemp(path);
    cr_assert_geq(descriptor, 0);
    close(descriptor);
    cr_assert_eq(gg_gguf_writer_create(&writer, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(gg_tokenizer_json_put(directory, 0, writer, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(gg_gguf_write(writer, path, &err), GORGON_OK, "%s", err.message);
    gg_gguf_writer_free(writer);
    gorgon_tokenizer *tokenizer = open_tokenizer(path);
    unlink(path);
    return tokenizer;
}

Test(tokenizer_files, families)
{
    static const struct {
        const char *gguf, *directory;
    } families[] = {
        {FAMILIES "llama_rope3.f16.gguf", FAMILIES "llama_rope3"},
        {FAMILIES "mistral.f16.gguf", FAMILIES "mistral"},
        {FAMILIES "gemma3.f16.gguf", FAMILIES "gemma3"},
        {FAMILIES "qwen2.f16.gguf", FAMILIES "qwen2"},
        {DATA "llama_tied/vocab.gguf", DATA "llama_tied"},
    };
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        const char *directory = families[i].directory;
        char lines[300], path[300];
        snprintf(lines, sizeof lines, "%s/tokenize.jsonl", directory);
        snprintf(path, sizeof path, "%s/tokenizer.json", directory);
        gorgon_tokenizer *gguf = open_tokenizer(families[i].gguf);
        check_lines(gguf, lines, false, false);
        gorgon_tokenizer *json = open_tokenizer(path);
        check_lines(json, lines, true, false);
        gorgon_tokenizer *written = through_gguf(directory);
        check_lines(written, lines, true, false);
        // Heads that were trained with one file serve with the other.
        cr_assert_eq(gg_tokenizer_hash(gguf), gg_tokenizer_hash(json), "%s", directory);
        cr_assert_eq(gg_tokenizer_hash(written), gg_tokenizer_hash(json), "%s", directory);
        const gorgon_tokenizer *all[] = {gguf, json, written};
        for (size_t k = 1; k < 3; k++) {
            cr_assert_eq(gorgon_tokenizer_bos(all[k]), gorgon_tokenizer_bos(gguf));
            cr_assert_eq(gorgon_tokenizer_eos(all[k]), gorgon_tokenizer_eos(gguf));
            cr_assert_eq(gorgon_tokenizer_adds_bos(all[k]), gorgon_tokenizer_adds_bos(gguf));
            cr_assert_eq(gorgon_tokenizer_has_chat(all[k]), gorgon_tokenizer_has_chat(gguf));
        }
        gorgon_tokenizer_free(gguf);
        gorgon_tokenizer_free(json);
        gorgon_tokenizer_free(written);
    }
}

Test(tokenizer_files, unigram)
{
    static const char *const models[] = {"unigram", "unigram-bytes"};
    for (size_t i = 0; i < 2; i++) {
        char lines[300], path[300];
        snprintf(lines, sizeof lines, DATA "%s/tokenize.jsonl", models[i]);
        snprintf(path, sizeof path, DATA "%s/vocab.gguf", models[i]);
        gorgon_tokenizer *tokenizer = open_tokenizer(path);
        check_lines(tokenizer, lines, false, true);
        cr_assert(gorgon_tokenizer_adds_eos(tokenizer));
        cr_assert_not(gorgon_tokenizer_adds_bos(tokenizer));
        gorgon_tokenizer_free(tokenizer);
    }
}

static gorgon_tokenizer *build(json_t *root)
{
    gg_tokenizer_files files = {.label = "composed", .tokenizer = root};
    gg_tokenizer_spec spec = {0};
    gorgon_tokenizer *tokenizer = NULL;
    gorgon_error err = {0};
    cr_assert_eq(gg_tokenizer_spec_from_json(&files, 0, &spec, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(gg_tokenizer_build(&spec, &tokenizer, &err), GORGON_OK, "%s", err.message);
    gg_tokenizer_spec_clear(&spec);
    return tokenizer;
}

static json_t *read_json(const char *path)
{
    gorgon_error err = {0};
    json_t *root = NULL;
    cr_assert_eq(gg_json_read(path, &root, &err), GORGON_OK, "%s", err.message);
    return root;
}

static void check_texts(const gorgon_tokenizer *tokenizer, const json_t *item, const json_t *texts,
                        const char *ids, bool parse_special)
{
    const json_t *expected = json_object_get(item, ids);
    cr_assert_eq(json_array_size(expected), json_array_size(texts));
    for (size_t i = 0; i < json_array_size(texts); i++)
        check_ids(tokenizer, json_string_value(json_object_get(item, "name")),
                  json_array_get(texts, i), json_array_get(expected, i), parse_special);
}

// Every pre-tokenizer on a vocabulary whose merges would cross all of its borders.
Test(tokenizer_files, splits)
{
    json_t *root = read_json(DATA "splits.json"), *split;
    json_t *tokenizer_json = json_object_get(root, "tokenizer");
    size_t i;
    json_array_foreach(json_object_get(root, "splits"), i, split)
    {
        json_object_set(tokenizer_json, "pre_tokenizer", json_object_get(split, "pre_tokenizer"));
        json_object_set(json_object_get(tokenizer_json, "model"), "ignore_merges",
                        json_object_get(split, "ignore_merges"));
        gorgon_tokenizer *tokenizer = build(tokenizer_json);
        check_texts(tokenizer, split, json_object_get(root, "texts"), "ids", true);
        gorgon_tokenizer_free(tokenizer);
    }
    cr_assert_eq(i, 12);
    json_decref(root);
}

// Added tokens of all flags, and the ways to put spaces before texts.
Test(tokenizer_files, rules)
{
    json_t *root = read_json(DATA "rules.json"), *rule;
    json_t *tokenizer_json = json_object_get(root, "tokenizer");
    static const char *const parts[] = {"normalizer", "pre_tokenizer", "decoder"};
    size_t i;
    json_array_foreach(json_object_get(root, "rules"), i, rule)
    {
        for (size_t k = 0; k < 3; k++)
            json_object_set(tokenizer_json, parts[k], json_object_get(rule, parts[k]));
        gorgon_tokenizer *tokenizer = build(tokenizer_json);
        check_texts(tokenizer, rule, json_object_get(root, "texts"), "special", true);
        check_texts(tokenizer, rule, json_object_get(root, "texts"), "plain", false);
        gorgon_tokenizer_free(tokenizer);
    }
    cr_assert_eq(i, 5);
    json_decref(root);
}

// One character a quarter of a million times, with every way to cut and merge: quadratic work would
// take hours.
static void check_long_texts(const gorgon_tokenizer *tokenizer)
{
    enum { LENGTH = 1 << 18 };
    static const char *const units[] = {" ",
                                        "a",
                                        "7",
                                        "A",
                                        "\n",
                                        "\xcc\x81\xcc\xa7",
                                        "\xe4\xb8\xad",
                                        " \n",
                                        "<",
                                        "\xe2\x96\x81",
                                        "aA",
                                        "\xca\xb0"};
    char *text = gg_alloc(LENGTH + 8, 1);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        gorgon_error err = {0};
        gorgon_token *ids = NULL;
        size_t n, step = strlen(units[i]), length = 0;
        for (; length + step <= LENGTH; length += step)
            memcpy(text + length, units[i], step);
        text[length++] = 'x';
        cr_assert_eq(gorgon_tokenizer_encode(tokenizer, text, length, true, &ids, &n, &err),
                     GORGON_OK, "%s", err.message);
        gorgon_free(ids);
    }
    gg_free(text);
}

Test(tokenizer_files, long_texts)
{
    static const char *const names[] = {"tekken", "gpt-4o", "deepseek-llm", "deepseek-v3",
                                        "llama3"};
    json_t *root = read_json(DATA "splits.json"), *split;
    json_t *tokenizer_json = json_object_get(root, "tokenizer");
    size_t i;
    json_object_set_new(tokenizer_json, "normalizer", json_pack("{s:s}", "type", "NFC"));
    json_array_foreach(json_object_get(root, "splits"), i, split)
    {
        bool chosen = false;
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
            chosen =
                chosen || strcmp(names[k], json_string_value(json_object_get(split, "name"))) == 0;
        if (!chosen)
            continue;
        json_object_set(tokenizer_json, "pre_tokenizer", json_object_get(split, "pre_tokenizer"));
        gorgon_tokenizer *tokenizer = build(tokenizer_json);
        check_long_texts(tokenizer);
        gorgon_tokenizer_free(tokenizer);
    }
    json_decref(root);
    static const char *const paths[] = {FAMILIES "mistral.f16.gguf",
                                        DATA "unigram-bytes/vocab.gguf"};
    for (size_t k = 0; k < 2; k++) {
        gorgon_tokenizer *tokenizer = open_tokenizer(paths[k]);
        check_long_texts(tokenizer);
        gorgon_tokenizer_free(tokenizer);
    }
}

Test(tokenizer_files, prompts_begin_with_bos_once)
{
    gorgon_tokenizer *tokenizer = open_tokenizer(FAMILIES "mistral");
    static const char *const texts[] = {"hi", "<s>hi", ""};
    for (size_t i = 0; i < 3; i++) {
        gorgon_error err = {0};
        gorgon_token *ids = NULL;
        size_t n;
        cr_assert_eq(
            gorgon_tokenizer_prompt(tokenizer, texts[i], strlen(texts[i]), true, &ids, &n, &err),
            GORGON_OK);
        cr_assert(n > 0 && ids[0] == gorgon_tokenizer_bos(tokenizer));
        cr_assert(n < 2 || ids[1] != ids[0]);
        gorgon_free(ids);
    }
    gorgon_tokenizer_free(tokenizer);
}

// Bytes of one character in several tokens: what is ready to be shown ends before the cut.
Test(tokenizer_files, byte_tokens_stream_whole_characters)
{
    gorgon_tokenizer *tokenizer = open_tokenizer(FAMILIES "mistral.f16.gguf");
    gorgon_error err = {0};
    gorgon_token *ids = NULL;
    size_t n, used = 0, shown = 0;
    static const char text[] = "a\xf0\x9f\x98\x80\xc3\xa9 z";
    char bytes[64];
    cr_assert_eq(gorgon_tokenizer_encode(tokenizer, text, strlen(text), false, &ids, &n, &err),
                 GORGON_OK);
    for (size_t i = 0; i < n; i++) {
        size_t length, bad;
        const char *token = gorgon_tokenizer_bytes(tokenizer, ids[i], &length);
        memcpy(bytes + used, token, length);
        used += length;
        size_t whole = gorgon_utf8_complete(bytes, used);
        cr_assert(whole >= shown && gorgon_utf8_valid(bytes, whole, &bad), "token %zu", i);
        shown = whole;
    }
    cr_assert(shown == strlen(text) + 1 && memcmp(bytes + 1, text, strlen(text)) == 0);
    gorgon_free(ids);
    gorgon_tokenizer_free(tokenizer);
}
