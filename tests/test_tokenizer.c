// The tokenizer against the reference's ids, a naive BPE, hostile checkpoints and hostile text.
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/file.h"
#include "core/tokenizer.h"
#include "tokenizer_fixture.h"

static const tiny_spec plain_spec = {.eos = TINY_EOS};
static tiny_gguf tiny_file; // each test runs in a process of its own

static gorgon_status load_tiny(const tiny_spec *spec, gorgon_tokenizer **out, gorgon_error *err)
{
    gg_gguf *file = NULL;
    tiny_build(&tiny_file, spec);
    gorgon_status status =
        gg_gguf_open_memory(tiny_file.bytes, tiny_file.n, "tiny.gguf", &file, err);
    if (status == GORGON_OK)
        status = gg_tokenizer_from_gguf(file, out, err);
    gg_gguf_close(file); // a tokenizer keeps nothing of the file
    memset(&tiny_file, 0xa5, sizeof tiny_file);
    return status;
}

static gorgon_tokenizer *tiny_tokenizer(void)
{
    gorgon_error err = {0};
    gorgon_tokenizer *tokenizer = NULL;
    cr_assert_eq(load_tiny(&plain_spec, &tokenizer, &err), GORGON_OK, "%s", err.message);
    return tokenizer;
}

static gorgon_tokenizer *real_tokenizer(void)
{
    const char *path = getenv("GORGON_TEST_MODEL");
    if (!path)
        path = GG_SOURCE_DIR "/.models/SmolLM2-135M-Instruct.Q4_1.gguf";
    gorgon_error err = {0};
    gg_gguf *file = NULL;
    gorgon_tokenizer *tokenizer = NULL;
    cr_assert_eq(gg_gguf_open(path, &file, &err), GORGON_OK, "%s; run scripts/fetch-model",
                 err.message);
    cr_assert_eq(gg_tokenizer_from_gguf(file, &tokenizer, &err), GORGON_OK, "%s", err.message);
    gg_gguf_close(file);
    return tokenizer;
}

// encode, and decode(ids) == expected.
static void check_round_trip(const gorgon_tokenizer *tokenizer, const char *text, size_t length,
                             bool parse_special, const char *expected, size_t expected_length)
{
    gorgon_error err = {0};
    gorgon_token *ids = NULL;
    size_t n, decoded_length;
    char *decoded = NULL;
    cr_assert_eq(gorgon_tokenizer_encode(tokenizer, text, length, parse_special, &ids, &n, &err),
                 GORGON_OK, "%s", err.message);
    cr_assert_eq(gorgon_tokenizer_decode(tokenizer, ids, n, &decoded, &decoded_length, &err),
                 GORGON_OK, "%s", err.message);
    cr_assert_eq(decoded_length, expected_length);
    cr_assert_eq(memcmp(decoded, expected, expected_length), 0);
    cr_assert_eq(decoded[decoded_length], '\0');
    gorgon_free(ids);
    gorgon_free(decoded);
}

// Fails unless text encodes to the NUL-separated decoded tokens of `pieces` (ended by NULL).
static void check_tokens(const gorgon_tokenizer *tokenizer, const char *text, bool parse_special,
                         const char *const *pieces)
{
    gorgon_error err = {0};
    gorgon_token *ids = NULL;
    size_t n, i = 0, length;
    cr_assert_eq(
        gorgon_tokenizer_encode(tokenizer, text, strlen(text), parse_special, &ids, &n, &err),
        GORGON_OK, "%s", err.message);
    for (; pieces[i]; i++) {
        cr_assert_lt(i, n, "'%s' ends before token '%s'", text, pieces[i]);
        const char *bytes = gorgon_tokenizer_bytes(tokenizer, ids[i], &length);
        cr_assert(length == strlen(pieces[i]) && memcmp(bytes, pieces[i], length) == 0,
                  "'%s' token %zu is '%s', expected '%s'", text, i, bytes, pieces[i]);
    }
    cr_assert_eq(n, i, "'%s' has %zu tokens, expected %zu", text, n, i);
    gorgon_free(ids);
}

static void check_ids(const gorgon_tokenizer *tokenizer, const char *text, size_t length,
                      bool parse_special, const json_t *expected, size_t line)
{
    gorgon_error err = {0};
    gorgon_token *ids = NULL;
    size_t n;
    cr_assert_eq(gorgon_tokenizer_encode(tokenizer, text, length, parse_special, &ids, &n, &err),
                 GORGON_OK, "line %zu: %s", line, err.message);
    cr_assert_eq(n, json_array_size(expected), "line %zu: %zu ids, expected %zu", line, n,
                 json_array_size(expected));
    for (size_t i = 0; i < n; i++) {
        json_int_t id = json_integer_value(json_array_get(expected, i));
        cr_assert_eq(ids[i], id, "line %zu: id %zu is %d, expected %d", line, i, (int)ids[i],
                     (int)id);
    }
    gorgon_free(ids);
}

typedef void golden_check(const gorgon_tokenizer *tokenizer, const json_t *item, size_t line);

static void for_each_line(const char *path, golden_check *check, size_t expected_lines)
{
    gorgon_tokenizer *tokenizer = real_tokenizer();
    FILE *stream = fopen(path, "rb");
    cr_assert(stream, "cannot open %s", path);
    gorgon_error err = {0};
    char *line = NULL;
    size_t capacity = 0, length, n = 0;
    bool got;
    while (gg_read_line(stream, path, &line, &capacity, &length, &got, &err) == GORGON_OK && got) {
        json_error_t json_error;
        json_t *item = json_loadb(line, length, JSON_ALLOW_NUL, &json_error);
        cr_assert(item, "%s line %zu: %s", path, n + 1, json_error.text);
        check(tokenizer, item, ++n);
        json_decref(item);
    }
    cr_assert_eq(err.status, GORGON_OK, "%s", err.message);
    cr_assert_eq(n, expected_lines);
    fclose(stream);
    gg_free(line);
    gg_tokenizer_free(tokenizer);
}

static void check_tokenize_line(const gorgon_tokenizer *tokenizer, const json_t *item, size_t line)
{
    const json_t *text = json_object_get(item, "text");
    const json_t *decoded = json_object_get(item, "decodes_to");
    bool parse_special = json_is_true(json_object_get(item, "parse_special"));
    const char *bytes = json_string_value(text);
    size_t length = json_string_length(text);
    check_ids(tokenizer, bytes, length, parse_special, json_object_get(item, "ids"), line);
    if (!decoded)
        decoded = text;
    check_round_trip(tokenizer, bytes, length, parse_special, json_string_value(decoded),
                     json_string_length(decoded));
}

Test(tokenizer, golden_ids)
{
    for_each_line(GG_TEST_DATA "/smollm2/tokenize.jsonl", check_tokenize_line, 200);
}

static void check_chat_line(const gorgon_tokenizer *tokenizer, const json_t *item, size_t line)
{
    const json_t *list = json_object_get(item, "messages");
    size_t n = json_array_size(list);
    gorgon_message messages[64];
    cr_assert_leq(n, 64);
    for (size_t i = 0; i < n; i++) {
        const json_t *message = json_array_get(list, i);
        messages[i].role = json_string_value(json_object_get(message, "role"));
        messages[i].content = json_string_value(json_object_get(message, "content"));
    }
    gorgon_error err = {0};
    char *text = NULL;
    cr_assert_eq(gorgon_tokenizer_chat(tokenizer, messages, n,
                                       json_is_true(json_object_get(item, "add_generation_prompt")),
                                       &text, &err),
                 GORGON_OK, "line %zu: %s", line, err.message);
    cr_assert_str_eq(text, json_string_value(json_object_get(item, "text")), "line %zu", line);
    check_ids(tokenizer, text, strlen(text), true, json_object_get(item, "ids"), line);
    gorgon_free(text);
}

Test(tokenizer, golden_chat)
{
    for_each_line(GG_TEST_DATA "/smollm2/chat.jsonl", check_chat_line, 20);
}

Test(tokenizer, queries_of_the_real_checkpoint)
{
    gorgon_tokenizer *t = real_tokenizer();
    size_t length;
    cr_assert_eq(gorgon_tokenizer_size(t), 49152);
    cr_assert_eq(gorgon_tokenizer_bos(t), 1);
    cr_assert_eq(gorgon_tokenizer_eos(t), 2);
    cr_assert_not(gorgon_tokenizer_adds_bos(t));
    cr_assert(gorgon_tokenizer_has_chat(t));
    cr_assert(gorgon_tokenizer_is_end(t, 0) && gorgon_tokenizer_is_end(t, 2));
    cr_assert_not(gorgon_tokenizer_is_end(t, 1) || gorgon_tokenizer_is_end(t, 17));
    for (gorgon_token id = 0; id < 49152; id++) {
        const char *bytes = gorgon_tokenizer_bytes(t, id, &length);
        cr_assert_eq(gorgon_tokenizer_find(t, bytes, length), id);
        cr_assert_eq(gorgon_tokenizer_is_control(t, id), id < 17);
    }
    cr_assert_null(gorgon_tokenizer_bytes(t, -1, &length));
    cr_assert_eq(length, 0);
    cr_assert_null(gorgon_tokenizer_bytes(t, 49152, &length));
    cr_assert_not(gorgon_tokenizer_is_control(t, 49152) || gorgon_tokenizer_is_end(t, -1));
    gg_tokenizer_free(t);
}

static uint32_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

static size_t put_utf8(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(c | (n == 2 ? 0xc0u : n == 3 ? 0xe0u : 0xf0u));
    return n;
}

// A random character: letters, digits, spaces, marks of special tokens, or anything in Unicode.
static uint32_t random_character(uint64_t *state)
{
    static const char common[] = "aaab  helo\n\t'!1<|im_end|>\r\0.";
    if (next_random(state) % 4 != 0)
        return (uint8_t)common[next_random(state) % (sizeof common - 1)];
    uint32_t c = next_random(state) % (next_random(state) % 2 ? 0x110000 : 0x3100);
    return c >= 0xd800 && c < 0xe000 ? ' ' : c;
}

Test(tokenizer, random_text_comes_back)
{
    gorgon_tokenizer *tokenizer = tiny_tokenizer();
    uint64_t state = 7;
    for (int round = 0; round < 2000; round++) {
        char text[600], kept[600];
        size_t length = 0, n_kept = 0;
        size_t characters = next_random(&state) % 150;
        for (size_t i = 0; i < characters; i++)
            length += put_utf8(random_character(&state), text + length);
        for (size_t i = 0; i < length; i++) {
            if (text[i] != TINY_MISSING_BYTE)
                kept[n_kept++] = text[i];
        }
        check_round_trip(tokenizer, text, length, false, kept, n_kept);
        check_round_trip(tokenizer, text, length, true, kept, n_kept);
    }
    gg_tokenizer_free(tokenizer);
}

// Bytes that the real vocabulary lacks; everything else must come back.
static bool real_vocabulary_lacks(uint8_t byte)
{
    return memchr("\x04\x06\x13\x14\x16\x1d\xc0\xc1\xf1\xf2", byte, 10) != NULL || byte >= 0xf5;
}

Test(tokenizer, random_text_comes_back_from_the_real_checkpoint)
{
    gorgon_tokenizer *tokenizer = real_tokenizer();
    uint64_t state = 11;
    for (int round = 0; round < 500; round++) {
        char text[2000], kept[2000];
        size_t length = 0, n_kept = 0;
        for (size_t i = 0; i < 400; i++)
            length += put_utf8(random_character(&state), text + length);
        for (size_t i = 0; i < length; i++) {
            if (!real_vocabulary_lacks((uint8_t)text[i]))
                kept[n_kept++] = text[i];
        }
        check_round_trip(tokenizer, text, length, round % 2 != 0, kept, n_kept);
    }
    gg_tokenizer_free(tokenizer);
}

// Rank of the pair of byte strings, TINY_MERGES if no line merges them.
static size_t naive_rank(const char *left, const char *right)
{
    for (size_t i = 0; i < TINY_MERGES; i++) {
        const char *space = strchr(tiny_merges[i], ' ');
        size_t n = (size_t)(space - tiny_merges[i]);
        if (strlen(left) == n && memcmp(left, tiny_merges[i], n) == 0 &&
            strcmp(right, space + 1) == 0)
            return i;
    }
    return TINY_MERGES;
}

// Merges the leftmost pair of lowest rank, again and again, over the letters of one piece.
static size_t naive_bpe(const char *text, char pieces[][16])
{
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) {
        pieces[i][0] = text[i];
        pieces[i][1] = '\0';
    }
    for (;;) {
        size_t best = TINY_MERGES, at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            size_t rank = naive_rank(pieces[i], pieces[i + 1]);
            if (rank < best) {
                best = rank;
                at = i;
            }
        }
        if (best == TINY_MERGES)
            return n;
        size_t used = strlen(pieces[at]);
        for (size_t i = 0; pieces[at + 1][i]; i++)
            pieces[at][used++] = pieces[at + 1][i];
        pieces[at][used] = '\0';
        n--;
        memmove(pieces[at + 1], pieces[at + 2], (n - at - 1) * sizeof pieces[0]);
    }
}

// Pieces on both sides of the length where merging changes from scanning to a heap.
Test(tokenizer, merges_as_a_naive_bpe)
{
    gorgon_tokenizer *tokenizer = tiny_tokenizer();
    uint64_t state = 3;
    for (int round = 0; round < 3000; round++) {
        char text[80] = "", pieces[80][16];
        const char *expected[80];
        size_t length = 1 + next_random(&state) % 70;
        for (size_t i = 0; i < length; i++)
            text[i] = round % 3 == 0 ? "hello"[next_random(&state) % 5]
                                     : (char)('a' + (next_random(&state) % 4 == 0));
        size_t n = naive_bpe(text, pieces);
        for (size_t i = 0; i < n; i++)
            expected[i] = pieces[i];
        expected[n] = NULL;
        check_tokens(tokenizer, text, false, expected);
    }
    gg_tokenizer_free(tokenizer);
}

#define TOKENS(...) ((const char *const[]){__VA_ARGS__, NULL})

Test(tokenizer, special_tokens_are_matched_leftmost_longest)
{
    gorgon_tokenizer *t = tiny_tokenizer();
    check_tokens(t, "a<|im|>b", true, TOKENS("a", "<|im|>", "b"));
    check_tokens(t, "<|im|>!!!", true, TOKENS("<|im|>!", "!!"));
    check_tokens(t, "<<|im_end|><|im_en", true,
                 TOKENS("<", "<|im_end|>", "<", "|", "i", "m", "_", "e", "n"));
    check_tokens(t, "<|im_end|>", false, TOKENS("<", "|", "i", "m", "_", "e", "n", "d", "|", ">"));
    check_tokens(t, "<|im|>", false, TOKENS("<|im|>")); // what users add is always matched
    check_tokens(t, "a<|im_end|>a", true, TOKENS("a", "<|im_end|>", "a"));
    check_tokens(t, "<|im_end|><|im_end|>", true, TOKENS("<|im_end|>", "<|im_end|>"));
    cr_assert(gorgon_tokenizer_is_control(t, 0));
    cr_assert_not(gorgon_tokenizer_is_control(t, 3)); // user-defined, printable
    gg_tokenizer_free(t);
}

Test(tokenizer, pieces_of_smollm)
{
    gorgon_tokenizer *t = tiny_tokenizer();
    check_tokens(t, " hello hello", false, TOKENS(" hello", " hello"));
    check_tokens(t, "   hello", false, TOKENS("  ", " hello"));
    check_tokens(t, "    1", false, TOKENS("  ", "  ", "1")); // a digit does not take the space
    check_tokens(t, "  !!", false, TOKENS(" ", " ", "!!"));
    check_tokens(t, "a  ", false, TOKENS("a", "  "));
    check_tokens(t, "!\x06!", false, TOKENS("!!")); // dropped before merging
    check_tokens(t, "\xc3\xa9", false, TOKENS("\xc3\xa9"));
    check_tokens(t, "aa'aa", false, TOKENS("aa", "'", "aa"));
    gg_tokenizer_free(t);
}

Test(tokenizer, names_of_pretokenizers)
{
    static const char *const names[] = {"default",   "phi-2",        "llama3",     "qwen2",
                                        "starcoder", "dbrx",         "tekken",     "gpt-4o",
                                        "none",      "deepseek-llm", "deepseek-v3"};
    static const char text[] = "  hello, aab12345!!\r\n\n \xc3\xa9\xe4\xb8\xad'll  ";
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const tiny_spec spec = {.eos = TINY_EOS, .pre = names[i]};
        gorgon_error err = {0};
        gorgon_tokenizer *t = NULL;
        cr_assert_eq(load_tiny(&spec, &t, &err), GORGON_OK, "%s: %s", names[i], err.message);
        check_round_trip(t, text, sizeof text - 1, false, text, sizeof text - 1);
        check_tokens(t, "hello", false, TOKENS("hello"));
        gg_tokenizer_free(t);
    }
}

Test(tokenizer, nul_bytes_and_empty_text)
{
    gorgon_tokenizer *t = tiny_tokenizer();
    check_round_trip(t, "a\0b\0<|im|>\0", 11, true, "a\0b\0<|im|>\0", 11);
    check_round_trip(t, "\0\0\0", 3, false, "\0\0\0", 3);
    check_round_trip(t, "", 0, true, "", 0);
    check_round_trip(t, NULL, 0, true, "", 0);
    gorgon_token *ids = NULL;
    size_t n;
    gorgon_error err = {0};
    cr_assert_eq(gorgon_tokenizer_encode(t, NULL, 1, true, &ids, &n, &err), GORGON_ERROR_ARGUMENT);
    gg_tokenizer_free(t);
}

Test(tokenizer, invalid_utf8_is_refused_with_its_offset)
{
    static const struct {
        const char *text;
        const char *offset;
    } cases[] = {
        {"\x80", "offset 0 "},
        {"abcdefghijk\xff", "offset 11 "},
        {"\xc3\xa9\xc0\xaf", "offset 2 "},
        {"ab\xc3", "offset 2 "},
        {"\xe0\x9f\xbf", "offset 0 "},
        {"a\xed\xa0\x80", "offset 1 "}, // surrogate
        {"\xf4\x90\x80\x80", "offset 0 "},
        {"\xf0\x8f\xbf\xbf", "offset 0 "},
        {"\xe2\x82\xac\xe2\x82z", "offset 3 "},
        {"\xf5\x80\x80\x80", "offset 0 "},
    };
    gorgon_tokenizer *t = tiny_tokenizer();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gorgon_error err = {0};
        gorgon_token *ids = NULL;
        size_t n;
        cr_assert_eq(
            gorgon_tokenizer_encode(t, cases[i].text, strlen(cases[i].text), false, &ids, &n, &err),
            GORGON_ERROR_ARGUMENT, "case %zu", i);
        cr_assert(strstr(err.message, cases[i].offset), "case %zu: %s", i, err.message);
    }
    gg_tokenizer_free(t);
}

Test(tokenizer, decode_names_an_id_out_of_range)
{
    gorgon_tokenizer *t = tiny_tokenizer();
    gorgon_token ids[] = {0, 1, 100000};
    gorgon_error err = {0};
    char *text = NULL;
    size_t length;
    cr_assert_eq(gorgon_tokenizer_decode(t, ids, 3, &text, &length, &err), GORGON_ERROR_ARGUMENT);
    cr_assert(strstr(err.message, "100000") && strstr(err.message, "index 2"), "%s", err.message);
    gg_tokenizer_free(t);
}

// Pieces of a megabyte: quadratic merging or backtracking would take hours here.
Test(tokenizer, long_pieces)
{
    gorgon_tokenizer *t = tiny_tokenizer();
    enum { LENGTH = 1 << 20 };
    char *text = gg_alloc(LENGTH, 1);
    static const char fills[] = "a !\n<";
    for (size_t i = 0; i < sizeof fills - 1; i++) {
        memset(text, fills[i], LENGTH);
        check_round_trip(t, text, LENGTH, true, text, LENGTH);
    }
    for (size_t i = 0; i < LENGTH; i++)
        text[i] = (char)('a' + i % 7 / 4);
    check_round_trip(t, text, LENGTH, false, text, LENGTH);
    gg_free(text);
    gg_tokenizer_free(t);
}

Test(tokenizer, malformed_checkpoints_are_refused)
{
    static const struct {
        tiny_spec spec;
        gorgon_status status;
        const char *message;
    } cases[] = {
        {{.model = "bert"}, GORGON_ERROR_UNSUPPORTED, "'bert', known: gpt2, llama, t5"},
        {{.pre = "smollmx"}, GORGON_ERROR_UNSUPPORTED, "'smollmx'"},
        {{.pre = ""}, GORGON_ERROR_UNSUPPORTED, "known: none, metaspace, gpt-2, smollm"},
        {{.types_cut = 1}, GORGON_ERROR_FORMAT, "token_type has"},
        {{.eos = 277}, GORGON_ERROR_FORMAT, "eos_token_id is 277"},
        {{.adds_bos = true, .no_bos = true}, GORGON_ERROR_FORMAT, "add_bos_token"},
        {{.extra_token = "aa", .extra_kind = 1}, GORGON_ERROR_FORMAT, "same token 'aa'"},
        {{.extra_token = "aa", .extra_kind = 3}, GORGON_ERROR_FORMAT, "same token 'aa'"},
        {{.extra_token = "x y", .extra_kind = 1}, GORGON_ERROR_FORMAT, "alphabet at its byte 1"},
        {{.extra_token = "\xe2\x82\xac", .extra_kind = 1}, GORGON_ERROR_FORMAT, "(0xe2)"},
        {{.extra_token = "x\xc4", .extra_kind = 1}, GORGON_ERROR_FORMAT, "at its byte 1"},
        {{.extra_token = "", .extra_kind = 3}, GORGON_ERROR_FORMAT, "0 bytes"},
        {{.extra_token = "<0x06>", .extra_kind = 6}, GORGON_ERROR_UNSUPPORTED, "of type 6"},
        {{.extra_token = "xx", .extra_kind = -1}, GORGON_ERROR_UNSUPPORTED, "is -1"},
        {{.extra_merge = "a a"}, GORGON_ERROR_FORMAT, "merges[18] repeats [2]"},
        {{.extra_merge = "a zz"}, GORGON_ERROR_FORMAT, "the right part"},
        {{.extra_merge = "zz a"}, GORGON_ERROR_FORMAT, "the left part"},
        {{.extra_merge = "a z"}, GORGON_ERROR_FORMAT, "the result"},
        {{.extra_merge = "aa"}, GORGON_ERROR_FORMAT, "one space"},
        {{.extra_merge = "a a a"}, GORGON_ERROR_FORMAT, "one space"},
        {{.extra_merge = " a"}, GORGON_ERROR_FORMAT, "one space"},
        {{.extra_merge = "a "}, GORGON_ERROR_FORMAT, "one space"},
        {{.extra_merge = ""}, GORGON_ERROR_FORMAT, "one space"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gorgon_error err = {0};
        gorgon_tokenizer *tokenizer = NULL;
        cr_assert_eq(load_tiny(&cases[i].spec, &tokenizer, &err), cases[i].status,
                     "case %zu (%s): %s", i, cases[i].message, err.message);
        cr_assert(strstr(err.message, cases[i].message), "case %zu: '%s' lacks '%s'", i,
                  err.message, cases[i].message);
        cr_assert_null(tokenizer);
    }
}

// A user token of two spaces and the byte-level token of two spaces are two spellings: both load.
// The user's is what text of two spaces becomes.
Test(tokenizer, equal_bytes_of_two_spellings)
{
    tiny_spec spec = {.eos = -1, .no_bos = true, .extra_token = "  ", .extra_kind = 4};
    gorgon_tokenizer *t = NULL;
    gorgon_error err = {0};
    cr_assert_eq(load_tiny(&spec, &t, &err), GORGON_OK, "%s", err.message);
    gorgon_token user = (gorgon_token)gorgon_tokenizer_size(t) - 1;
    gorgon_token normal = gorgon_tokenizer_find(t, "  ", 2);
    cr_assert(normal != GORGON_TOKEN_NONE && normal != user);
    gorgon_token *ids = NULL;
    size_t n;
    for (int special = 0; special < 2; special++) {
        cr_assert_eq(gorgon_tokenizer_encode(t, "  ", 2, special, &ids, &n, &err), GORGON_OK);
        cr_assert(n == 1 && ids[0] == user);
        gorgon_free(ids);
    }
    cr_assert_eq(gorgon_tokenizer_eos(t), GORGON_TOKEN_NONE);
    cr_assert_eq(gorgon_tokenizer_bos(t), GORGON_TOKEN_NONE);
    cr_assert(gorgon_tokenizer_is_end(t, 0)); // known by its name
    gg_tokenizer_free(t);
}

Test(tokenizer, hash_depends_on_merges_and_kinds)
{
    const tiny_spec specs[] = {
        {.eos = 2},
        {.eos = 2, .extra_merge = "a ab"},
        {.eos = 2, .extra_token = "zzz", .extra_kind = 1},
        {.eos = 2, .extra_token = "zzz", .extra_kind = 3},
        {.eos = 2, .chat_template = "x"}, // the ids are the same
    };
    uint64_t hashes[5];
    for (size_t i = 0; i < 5; i++) {
        gorgon_error err = {0};
        gorgon_tokenizer *t = NULL;
        cr_assert_eq(load_tiny(&specs[i], &t, &err), GORGON_OK, "%s", err.message);
        hashes[i] = gg_tokenizer_hash(t);
        gg_tokenizer_free(t);
    }
    cr_assert_eq(hashes[0], hashes[4]);
    for (size_t i = 0; i < 4; i++) {
        for (size_t j = 0; j < i; j++)
            cr_assert_neq(hashes[i], hashes[j], "%zu and %zu", i, j);
    }
}

// Allocation n fails, for every n: an error or a right answer, and no leak (sanitizers look).
Test(tokenizer, every_allocation_may_fail)
{
    char text[200];
    memset(text, 'a', sizeof text);
    size_t refused = 0;
    for (size_t fail = 1;; fail++) {
        gorgon_error err = {0};
        gorgon_tokenizer *t = NULL;
        gorgon_token *ids = NULL;
        char *decoded = NULL, *chat = NULL;
        size_t n, length;
        gg_gguf *file = NULL;
        tiny_spec spec = {.eos = 2,
                          .chat_template = "{% for message in messages %}{{'<|im_start|>' "
                                           "+ message['role'] + '\\n' + message["
                                           "'content'] + '<|im_end|>' + '\\n'}}"
                                           "{% endfor %}{% if add_generation_prompt %}{{ "
                                           "'<|im_start|>assistant\\n' }}{% endif %}"};
        gorgon_message message = {"user", "hello"};
        tiny_build(&tiny_file, &spec);
        gg_alloc_fail_at(0);
        cr_assert_eq(gg_gguf_open_memory(tiny_file.bytes, tiny_file.n, "t", &file, &err), GORGON_OK,
                     "%s", err.message);
        gg_alloc_fail_at(fail);
        gorgon_status status = gg_tokenizer_from_gguf(file, &t, &err);
        if (status == GORGON_OK)
            status = gorgon_tokenizer_encode(t, text, sizeof text, true, &ids, &n, &err);
        if (status == GORGON_OK)
            status = gorgon_tokenizer_decode(t, ids, n, &decoded, &length, &err);
        if (status == GORGON_OK)
            status = gorgon_tokenizer_chat(t, &message, 1, true, &chat, &err);
        size_t made = gg_alloc_fail_at(0);
        if (status == GORGON_OK) {
            cr_assert(length == sizeof text && memcmp(decoded, text, length) == 0);
            cr_assert_str_eq(chat, "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n");
        } else {
            cr_assert_eq(status, GORGON_ERROR_MEMORY, "%s", err.message);
            cr_assert_neq(err.message[0], '\0');
            refused++;
        }
        gorgon_free(chat);
        gorgon_free(decoded);
        gorgon_free(ids);
        gg_tokenizer_free(t);
        gg_gguf_close(file);
        if (status == GORGON_OK && made < fail)
            break;
    }
    cr_assert_gt(refused, 15);
}
