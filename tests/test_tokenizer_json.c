// tokenizer.json: what is refused and how that is said, the files beside it, failing allocations.
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/json.h"
#include "core/tokenizer.h"
#include "normalize.h"
#include "tokenizer_json.h"

// {model, added_tokens, normalizer, pre_tokenizer}
#define MODEL                                                                                      \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"c\":5},"                    \
    "\"merges\":[\"a b\"]}"
#define BYTES       "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define ADDED(more) "\"added_tokens\":[{\"id\":3,\"content\":\"<e>\",\"special\":true" more "}]"

#define MARKS                                                                                      \
    "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":"             \
    "\"\xe2\x96\x81\"}"
#define POST(items)   "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[" items "]}"
#define SPECIAL(text) "{\"SpecialToken\":{\"id\":\"" text "\"}}"
#define TEN(text)     text text text text text text text text text text

static gorgon_status build(const char *text, const char *config, size_t n_vocab,
                           gorgon_tokenizer **out, gorgon_error *err)
{
    gg_tokenizer_files files = {.label = "t.json"};
    gg_tokenizer_spec spec = {0};
    gorgon_status status = gg_json_parse(text, strlen(text), files.label, &files.tokenizer, err);
    if (status == GORGON_OK && config)
        status = gg_json_parse(config, strlen(config), "config", &files.config, err);
    if (status == GORGON_OK)
        status = gg_tokenizer_spec_from_json(&files, n_vocab, &spec, err);
    if (status == GORGON_OK)
        status = gg_tokenizer_build(&spec, out, err);
    gg_tokenizer_spec_clear(&spec);
    json_decref(files.tokenizer);
    json_decref(files.config);
    return status;
}

static void check_refused(const char *text, const char *expected)
{
    gorgon_error err = {0};
    gorgon_tokenizer *tokenizer = NULL;
    cr_assert_neq(build(text, NULL, 0, &tokenizer, &err), GORGON_OK, "%s", text);
    cr_assert(strstr(err.message, expected), "%s: '%s' lacks '%s'", text, err.message, expected);
    cr_assert(strstr(err.message, "t.json"), "%s", err.message);
    cr_assert_null(tokenizer);
}

static const char *const bad_files[][2] = {
    {"", "not JSON"},
    {"[1]", "model: expected an object, got nothing"},
    {"{}", "model: expected an object, got nothing"},
    {"{\"model\":{\"type\":\"WordPiece\"}}",
     "model.type: expected BPE or Unigram, got 'WordPiece'"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":[]}}",
     "model.vocab: expected an object, got an array"},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":{}}}", "expected an array, got an object"},
    {"{" MODEL "}", "expected a ByteLevel pre_tokenizer or U+2581 for spaces, got neither"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}," BYTES "}",
     "expected an id below 1048576 for 'a'"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":9999999},\"merges\":[]}," BYTES "}",
     "expected an id below"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}," BYTES "}",
     "id 0 is both 'a' and 'b'"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}," BYTES "}", "expected 1 to"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"aa\"]}," BYTES "}",
     "model.merges[0]: expected two tokens, got a string"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}," BYTES "}",
     "expected two tokens, got an array"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"x\"]]}," BYTES "}",
     "the right part of model.merges[0] is no token"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":5}," BYTES "}",
     "model.merges: expected an array, got an integer"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}," BYTES "}",
     "model.dropout: expected null, got a number"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],"
     "\"end_of_word_suffix\":\"</w>\"}," BYTES "}",
     "end_of_word_suffix: expected none, got '</w>'"},
    {"{" MODEL "," BYTES ",\"added_tokens\":7}", "added_tokens: expected an array"},
    {"{" MODEL "," BYTES ",\"added_tokens\":[{\"id\":3}]}", "content: expected a string"},
    {"{" MODEL "," BYTES ",\"added_tokens\":[{\"content\":\"x\"}]}", "id: expected an id"},
    {"{" MODEL "," BYTES ",\"added_tokens\":[{\"id\":0,\"content\":\"x\"}]}",
     "id 0 is 'x', in model.vocab it is 'a'"},
    {"{" MODEL "," BYTES ",\"added_tokens\":[{\"id\":3,\"content\":\"a\"}]}",
     "are the same token 'a'"},
    {"{" MODEL "," BYTES ",\"added_tokens\":[{\"id\":3,\"content\":\"\"}]}", "has 0 bytes"},
    {"{" MODEL "," BYTES "," ADDED(",\"single_word\":true") "}", "single_word: expected false"},
    {"{" MODEL "," BYTES ",\"normalizer\":{\"type\":\"Lowercase\"}}",
     "normalizer: expected NFC, Prepend, Replace, Strip, Precompiled or a Sequence, got "
     "'Lowercase'"},
    {"{" MODEL "," BYTES ",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"x\"},"
     "\"content\":\"y\"}}",
     "got 'x'"},
    {"{" MODEL ",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"A?\"}}",
     "byte 1 (0x3f) is not base64"},
    {"{" MODEL ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":"
     "\"Precompiled\",\"precompiled_charsmap\":\"AAAAAAAA\"},{\"type\":\"Replace\",\"pattern\":"
     "{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}]}}",
     "is not a trie"},
    // A trie of one unit, then 303 bytes without a NUL.
    {"{" MODEL ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":"
     "\"Precompiled\",\"precompiled_charsmap\":\"BAAAAAAAAABh" TEN(
         TEN("YWFh")) "YWEA\"},"
                      "{\"type\":\"Replace\",\"pattern\":{\"String\":\" "
                      "\"},\"content\":\"\xe2\x96\x81\"}]}}",
     "a replacement of 303 bytes, expected at most 256"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"a\","
     "\"fuse_unk\":false}," MARKS "}",
     "model.fuse_unk: expected true beside an unk_token, got false"},
    {"{" MODEL "," BYTES "," POST(SPECIAL("a") "," SPECIAL("b")) "}",
     "post_processor: TemplateProcessing.single: expected at most one token on each side"},
    {"{" MODEL "," BYTES "," POST(SPECIAL("zz")) "}",
     "expected a token of the vocabulary, got 'zz'"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true}}",
     "add_prefix_space: expected false"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Bert\"}}", "got 'Bert'"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":{}}}",
     "expected a Sequence of at most 16 items"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
     "\"pattern\":{\"Regex\":\"x+\"},\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\","
     "\"use_regex\":false}]}}",
     "expected patterns of a known pre-tokenizer, got 1, the last is 'x+'"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x\"},"
     "\"behavior\":\"Contiguous\"}}",
     "Split.behavior: expected Isolated, got 'Contiguous'"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\"}}",
     "Metaspace.replacement: expected U+2581, got '_'"},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]},\"pre_tokenizer\":{\"type\":"
     "\"Metaspace\",\"replacement\":\"\xe2\x96\x81\"}}",
     "model.vocab[0]: expected a token and its score"},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]],\"unk_id\":4},\"pre_tokenizer\":"
     "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\"}}",
     "unk_id: expected an id of the vocabulary"},
    {"{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":1}}}}}}}}}", "nested"},
    {"{\"a\":1,\"a\":2}", "duplicate object key"},
};

Test(tokenizer_json, what_is_refused)
{
    for (size_t i = 0; i < sizeof bad_files / sizeof bad_files[0]; i++)
        check_refused(bad_files[i][0], bad_files[i][1]);
}

// A map whose trie leads from 'a' to the same 'a' for ever, and replaces nothing.
Test(tokenizer_json, a_map_that_goes_round_in_circles)
{
    enum { UNITS = 'a' + 1, LENGTH = 1 << 20 };
    uint8_t map[4 + 4 * UNITS + 4] = {(uint8_t)(4 * UNITS % 256), 4 * UNITS / 256};
    const uint32_t unit = 'a' | 'a' << 10;
    for (size_t i = 0; i < 4; i++)
        map[4 + 4 * 'a' + i] = (uint8_t)(unit >> 8 * i);
    gorgon_error err = {0};
    const gg_text_rules rules = {.charsmap = map, .charsmap_length = sizeof map};
    cr_assert_eq(gg_charsmap_check("t", map, sizeof map, &err), GORGON_OK, "%s", err.message);
    char *text = gg_alloc(LENGTH, 1);
    gg_normal_text out = {0};
    memset(text, 'a', LENGTH);
    cr_assert_eq(gg_normalize(&rules, text, LENGTH, true, &out, &err), GORGON_OK);
    cr_assert(out.n == LENGTH && memcmp(out.bytes, text, LENGTH) == 0);
    gg_normal_text_clear(&out);
    gg_free(text);
}

Test(tokenizer_json, ids_that_no_file_names)
{
    gorgon_error err = {0};
    gorgon_tokenizer *t = NULL;
    size_t length;
    cr_assert_eq(build("{" MODEL "," BYTES "," ADDED("") "}", NULL, 9, &t, &err), GORGON_OK, "%s",
                 err.message);
    cr_assert_eq(gorgon_tokenizer_size(t), 9);
    cr_assert_str_eq(gorgon_tokenizer_bytes(t, 4, &length), "[PAD4]");
    cr_assert_str_eq(gorgon_tokenizer_bytes(t, 8, &length), "[PAD8]");
    cr_assert(gorgon_tokenizer_is_control(t, 3));
    cr_assert_not(gorgon_tokenizer_is_control(t, 8));
    gorgon_token *ids = NULL;
    size_t n;
    cr_assert_eq(gorgon_tokenizer_encode(t, "abc<e>a", 7, true, &ids, &n, &err), GORGON_OK);
    cr_assert(n == 4 && ids[0] == 2 && ids[1] == 5 && ids[2] == 3 && ids[3] == 0);
    gorgon_free(ids);
    gorgon_tokenizer_free(t);
    gorgon_tokenizer *none = NULL;
    cr_assert_eq(build("{" MODEL "," BYTES "}", NULL, 5, &none, &err), GORGON_ERROR_FORMAT);
    cr_assert(strstr(err.message, "go up to 5, expected 1 to 5 tokens"), "%s", err.message);
}

Test(tokenizer_json, begin_and_end_come_from_config_or_template)
{
    static const char post[] = "{" MODEL "," BYTES "," ADDED(
        "") ",\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":"
            "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<e>\"}},{\"Sequence\":"
            "{\"id\":\"A\"}}]}]}}";
    gorgon_error err = {0};
    gorgon_tokenizer *t = NULL;
    cr_assert_eq(build(post, NULL, 0, &t, &err), GORGON_OK, "%s", err.message);
    cr_assert(gorgon_tokenizer_adds_bos(t) && gorgon_tokenizer_bos(t) == 3);
    cr_assert(gorgon_tokenizer_eos(t) == GORGON_TOKEN_NONE && !gorgon_tokenizer_adds_eos(t));
    gorgon_tokenizer_free(t);
    cr_assert_eq(build(post,
                       "{\"add_bos_token\":false,\"eos_token\":{\"content\":\"c\"},\"bos_token\":"
                       "\"b\",\"chat_template\":[{\"name\":\"tools\",\"template\":\"{{ x\"},"
                       "{\"name\":\"default\",\"template\":\"{{ bos_token }}\"}]}",
                       0, &t, &err),
                 GORGON_OK, "%s", err.message);
    cr_assert(!gorgon_tokenizer_adds_bos(t) && gorgon_tokenizer_bos(t) == 1);
    cr_assert(gorgon_tokenizer_eos(t) == 5 && gorgon_tokenizer_is_end(t, 5));
    char *text = NULL;
    cr_assert_eq(gorgon_tokenizer_chat(t, NULL, 0, true, &text, &err), GORGON_OK);
    cr_assert_str_eq(text, "b");
    gorgon_free(text);
    gorgon_tokenizer_free(t);
    gorgon_tokenizer *none = NULL;
    cr_assert_eq(build(post, "{\"eos_token\":\"zz\"}", 0, &none, &err), GORGON_ERROR_FORMAT);
    cr_assert(strstr(err.message, "eos_token"), "%s", err.message);
}

static void write_file(const char *directory, const char *name, const char *text)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "wb");
    cr_assert(file);
    fputs(text, file);
    fclose(file);
}

Test(tokenizer_json, files_of_a_directory)
{
    char directory[] = "/tmp/gorgon_tokenizer_XXXXXX", path[300];
    cr_assert_not_null(mkdtemp(directory));
    gorgon_error err = {0}, second = {0};
    gorgon_tokenizer *t = NULL;
    cr_assert_eq(gorgon_tokenizer_open(directory, &t, &err), GORGON_ERROR_IO);
    cr_assert(strstr(err.message, "tokenizer.json"), "%s", err.message);
    write_file(directory, "tokenizer.json", "{" MODEL "," BYTES "," ADDED("") "}");
    write_file(directory, "generation_config.json", "{\"eos_token_id\":[3,1,99]}");
    write_file(directory, "chat_template.jinja", "{{ messages | length }}");
    cr_assert_eq(gorgon_tokenizer_open(directory, &t, &second), GORGON_OK, "%s", second.message);
    cr_assert(gorgon_tokenizer_is_end(t, 3) && gorgon_tokenizer_is_end(t, 1));
    cr_assert_not(gorgon_tokenizer_is_end(t, 0));
    cr_assert(gorgon_tokenizer_has_chat(t));
    gorgon_tokenizer_free(t);
    static const char *const names[] = {"tokenizer.json", "generation_config.json",
                                        "chat_template.jinja"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        unlink(path);
    }
    rmdir(directory);
}

// Allocation n fails, for every n, for each kind of model: an error or the right ids.
static void fail_allocations(const char *path, const char *text)
{
    gorgon_token *expected = NULL;
    size_t n_expected = 0, refused = 0;
    for (size_t fail = 0;; fail++) {
        gorgon_error err = {0};
        gorgon_tokenizer *t = NULL;
        gorgon_token *ids = NULL;
        size_t n = 0;
        gg_alloc_fail_at(fail);
        gorgon_status status = gorgon_tokenizer_open(path, &t, &err);
        if (status == GORGON_OK)
            status = gorgon_tokenizer_prompt(t, text, strlen(text), true, &ids, &n, &err);
        size_t made = gg_alloc_fail_at(0);
        if (status == GORGON_OK && fail == 0) {
            expected = ids;
            n_expected = n;
            ids = NULL;
        } else if (status == GORGON_OK) {
            cr_assert(n == n_expected && memcmp(ids, expected, n * sizeof *ids) == 0);
        } else {
            cr_assert_eq(status, GORGON_ERROR_MEMORY, "%s", err.message);
            refused++;
        }
        gorgon_free(ids);
        gorgon_tokenizer_free(t);
        if (status == GORGON_OK && fail > 0 && made < fail)
            break;
    }
    gorgon_free(expected);
    cr_assert_gt(refused, 15, "%s: %zu", path, refused);
}

Test(tokenizer_json, every_allocation_may_fail)
{
    static const char text[] = "  e\xcc\x81 the <s> \xf0\x9f\x98\x80 and a word of more than "
                               "twenty-four characters</s>";
    fail_allocations(GG_TEST_DATA "/families/qwen2", text);
    fail_allocations(GG_TEST_DATA "/families/mistral", text);
    fail_allocations(GG_TEST_DATA "/families/mistral.f16.gguf", text);
    fail_allocations(GG_TEST_DATA "/tokenizers/unigram/vocab.gguf", text);
}
