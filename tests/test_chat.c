// Chat templates against jinja2, and what is refused.
#include <criterion/criterion.h>
#include <jansson.h>
#include <string.h>

#include "core/alloc.h"
#include "core/file.h"
#include "core/tokenizer.h"
#include "tokenizer_fixture.h"

#define TURN                                                                                       \
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
#define LOOP       "{% for message in messages %}"
#define SYSTEM     "{% if loop.first and messages[0]['role'] != 'system' %}"
#define GENERATION "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
#define CHATML     LOOP TURN "{% endfor %}" GENERATION
#define CHATML_SYSTEM                                                                              \
    LOOP SYSTEM "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}" TURN                 \
                "{% endfor %}" GENERATION

static tiny_gguf tiny_file; // each test runs in a process of its own

static gorgon_tokenizer *load(const char *chat_template)
{
    gg_gguf *file = NULL;
    gorgon_error err = {0};
    gorgon_tokenizer *tokenizer = NULL;
    tiny_spec spec = {.eos = TINY_EOS, .chat_template = chat_template};
    tiny_build(&tiny_file, &spec);
    cr_assert_eq(gg_gguf_open_memory(tiny_file.bytes, tiny_file.n, "t", &file, &err), GORGON_OK,
                 "%s", err.message);
    cr_assert_eq(gg_tokenizer_from_gguf(file, &tokenizer, &err), GORGON_OK, "%s", err.message);
    gg_gguf_close(file);
    return tokenizer;
}

static void check_render(const char *chat_template, const gorgon_message *messages, size_t n,
                         bool add_generation_prompt, const char *expected)
{
    gorgon_tokenizer *tokenizer = load(chat_template);
    gorgon_error err = {0};
    char *text = NULL;
    cr_assert(gorgon_tokenizer_has_chat(tokenizer), "not known: %s", chat_template);
    cr_assert_eq(gorgon_tokenizer_chat(tokenizer, messages, n, add_generation_prompt, &text, &err),
                 GORGON_OK, "%s", err.message);
    cr_assert_str_eq(text, expected);
    gorgon_free(text);
    gg_tokenizer_free(tokenizer);
}

static const gorgon_message user[] = {{"user", "Hi"}, {"assistant", ""}};
static const gorgon_message led[] = {{"system", ""}, {"user", "Hi"}};
static const gorgon_message late[] = {{"user", "Hi"}, {"system", "x"}};

Test(chat, without_a_default_system_prompt)
{
    check_render(CHATML, user, 2, false,
                 "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n");
    check_render(CHATML, user, 1, true, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    check_render(CHATML, NULL, 0, true, "<|im_start|>assistant\n");
    check_render(CHATML, NULL, 0, false, "");
}

Test(chat, default_system_prompt_comes_from_the_template)
{
    check_render(CHATML_SYSTEM, user, 1, false,
                 "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n");
    check_render(CHATML_SYSTEM, led, 2, false,
                 "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n");
    check_render(CHATML_SYSTEM, late, 2, false,
                 "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
                 "<|im_start|>system\nx<|im_end|>\n");
    check_render(CHATML_SYSTEM, NULL, 0, false, ""); // the loop does not run
}

// The same program in other spellings.
Test(chat, spellings)
{
    static const char *const spellings[] = {
        CHATML "\n",
        "  " CHATML,   // lstrip_blocks
        CHATML "\n\n", // one goes with the end of the template, one with the tag before it
        "{%- for message in messages -%}\n  " TURN "\n{%- endfor -%}\n" GENERATION,
        "{% for message in messages %}\n" TURN "{% endfor %}\n    {% if add_generation_prompt %}\n"
        "{{ '<|im_start|>assistant\n' }}{% endif %}\n",
        "{% for message in messages %}{{\"<|im_start|>\" + message[\"role\"] + \"\\n\" + "
        "message['content'] + '<|im_end|>\\n'}}{% endfor %}{%if add_generation_prompt%}"
        "{{'<|im_start|>assistant' + '\\n'}}{%endif%}",
        "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}"
        "{% endif %}" CHATML,
    };
    for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++)
        check_render(spellings[i], user, 1, true,
                     "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

Test(chat, quotes_inside_the_default_prompt)
{
    check_render(LOOP SYSTEM "{{ '<|im_start|>system\nDon\\'t \"say\" a + b.<|im_end|>\n' }}"
                             "{% endif %}" TURN "{% endfor %}" GENERATION,
                 user, 1, false,
                 "<|im_start|>system\nDon't \"say\" a + b.<|im_end|>\n"
                 "<|im_start|>user\nHi<|im_end|>\n");
}

static void check_unsupported(const char *chat_template, const char *expected)
{
    gorgon_tokenizer *tokenizer = load(chat_template);
    gorgon_error err = {0};
    char *text = NULL;
    cr_assert_not(gorgon_tokenizer_has_chat(tokenizer), "%s", chat_template);
    cr_assert_eq(gorgon_tokenizer_chat(tokenizer, user, 1, true, &text, &err),
                 GORGON_ERROR_UNSUPPORTED, "%s", chat_template);
    cr_assert(strstr(err.message, expected) && strstr(err.message, "by name: chatml, smollm2"),
              "%s", err.message);
    cr_assert_null(text);
    gg_tokenizer_free(tokenizer);
}

Test(chat, what_is_no_template)
{
    static const struct {
        const char *source, *expected;
    } others[] = {
        {"{{", "line 1: a tag does not end"},
        {"\n{% for message in messages %}", "line 2: the template ends inside a block"},
        {"{% include 'x' %}", "line 1: expected if, for, set"},
        {"{% for message in messages %}{{ 'a\\x' }}", "an escape"},
        {"{{ 'abc }}", "a string does not end"},
        {"{{ a ? b }}", "a character that"},
        {"{{ 1 + }}", "expected a value"},
        {"{{ f(a=1, 2) }}", "expected a named argument"},
        {"{% if a %}b{% endfor %}", "got endfor"},
        {"{% endif %}", "got endif"},
        {"{{ a }", "expected"},
        {"{{ a %}", "expected }}"},
        {"{# b", "a comment does not end"},
        {"{{ 99999999999999999999 }}", "too large"},
        {"\xff", "no valid UTF-8"},
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        check_unsupported(others[i].source, others[i].expected);
    check_unsupported(NULL, "absent");
    check_unsupported("", "absent");
}

// Nesting is refused before anything recurses that deep.
Test(chat, nesting_is_bounded)
{
    static const struct {
        const char *begin, *unit;
    } cases[] = {{"{{ ", "("},
                 {"{{ ", "["},
                 {"{{ ", "-"},
                 {"{{ ", "not "},
                 {"{{ ", "a if b else "},
                 {"{{ ", "a["},
                 {"", "{% if a %}"},
                 {"", "{% for a in b %}"}};
    static char source[16384];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t used = (size_t)snprintf(source, sizeof source, "%s", cases[i].begin);
        for (size_t k = 0; k < 500; k++)
            used += (size_t)snprintf(source + used, sizeof source - used, "%s", cases[i].unit);
        check_unsupported(source, "expected less nesting");
    }
}

static void check_error(const char *chat_template, gorgon_status status, const char *expected)
{
    gorgon_tokenizer *tokenizer = load(chat_template);
    gorgon_error err = {0};
    char *text = NULL;
    cr_assert(gorgon_tokenizer_has_chat(tokenizer), "%s", chat_template);
    cr_assert_eq(gorgon_tokenizer_chat(tokenizer, user, 2, true, &text, &err), status, "%s: %s",
                 chat_template, err.message);
    cr_assert(strstr(err.message, expected), "%s: %s", chat_template, err.message);
    cr_assert_null(text);
    gg_tokenizer_free(tokenizer);
}

Test(chat, what_a_template_cannot_do)
{
    check_error("{{ raise_exception('only one') }}", GORGON_ERROR_ARGUMENT,
                "line 1: it refuses these messages: only one");
    check_error("\n{{ a.b }}", GORGON_ERROR_ARGUMENT, "line 2: 'a' is undefined, it has no 'b'");
    check_error("{{ 'a' + 1 }}", GORGON_ERROR_ARGUMENT, "cannot combine a string with an integer");
    check_error("{{ 'a' + nothing }}", GORGON_ERROR_ARGUMENT, "undefined: nothing");
    check_error("{{ messages | nonsense }}", GORGON_ERROR_UNSUPPORTED,
                "the filter 'nonsense' of a list is not known");
    check_error("{{ messages }}", GORGON_ERROR_UNSUPPORTED, "expected a text to print");
    check_error("{{ 'a' | trim(sep='a') }}", GORGON_ERROR_UNSUPPORTED, "the argument 'sep'");
    check_error("{% macro f(a) %}{% endmacro %}{{ f(b=1) }}", GORGON_ERROR_UNSUPPORTED,
                "the argument 'b' is not known here");
    check_error("{{ 'a' | tojson(ensure_ascii=true) }}", GORGON_ERROR_UNSUPPORTED, "ensure_ascii");
    check_error("{{ dict([1]) }}", GORGON_ERROR_UNSUPPORTED, "expected a mapping to copy");
    check_error("{{ 'a' | nonsense }}", GORGON_ERROR_UNSUPPORTED, "filter 'nonsense'");
    check_error("{{ 'a' is nonsense }}", GORGON_ERROR_UNSUPPORTED, "test 'nonsense'");
    check_error("{{ 'a'.nonsense() }}", GORGON_ERROR_UNSUPPORTED, "'nonsense' of a string");
    check_error("{{ nonsense() }}", GORGON_ERROR_UNSUPPORTED, "undefined nonsense");
    check_error("{{ 1 // 0 }}", GORGON_ERROR_ARGUMENT, "division by zero");
    check_error("{{ 1 < 'a' }}", GORGON_ERROR_ARGUMENT, "cannot compare");
    check_error("{% for x in 5 %}{% endfor %}", GORGON_ERROR_ARGUMENT, "to loop over");
    check_error("{{ 9000000000000000 * 9000000000000000 }}", GORGON_ERROR_LIMIT, "too large");
}

// Programs that would run for long or grow without end are stopped.
Test(chat, work_is_bounded)
{
    check_error("{% for i in range(1000000000) %}{% endfor %}", GORGON_ERROR_MEMORY, "no memory");
    check_error("{% set l = range(3000) %}{% for i in l %}{% for j in l %}{% for k in l %}"
                "{% endfor %}{% endfor %}{% endfor %}",
                GORGON_ERROR_LIMIT, "less work");
    check_error("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", GORGON_ERROR_LIMIT,
                "nested at most");
    check_error("{% set ns = namespace(a='aaaaaaaa') %}{% for i in range(100) %}"
                "{% set ns.a = ns.a + ns.a %}{% endfor %}",
                GORGON_ERROR_MEMORY, "no memory");
    check_error("{% set ns = namespace(a='aaaaaaaa') %}{% for i in range(20) %}"
                "{% set ns.a = ns.a + ns.a %}{% endfor %}"
                "{% for i in range(1000) %}{{ ns.a }}{% endfor %}",
                GORGON_ERROR_LIMIT, "the text grows above");
    check_error("{% set a = [1] %}{% set b = [1] %}{% set c = a.append(a) %}"
                "{% set c = b.append(b) %}{{ a == b }}",
                GORGON_ERROR_LIMIT, "nested at most");
}

#define MEGABYTE                                                                                   \
    "{% set ns = namespace(a='aaaaaaaa') %}{% for i in range(17) %}"                               \
    "{% set ns.a = ns.a + ns.a %}{% endfor %}"

// Long strings count as much work, and looking for one in another takes linear time.
Test(chat, work_on_long_strings_is_bounded)
{
    check_error(MEGABYTE "{% for i in range(100000) %}{% set n = ns.a | length %}{% endfor %}",
                GORGON_ERROR_LIMIT, "less work");
    check_error(MEGABYTE "{{ ('b' ~ ns.a).strip('b' ~ ns.a) }}", GORGON_ERROR_LIMIT, "less work");
    check_render(MEGABYTE "{{ (ns.a ~ 'b') in (ns.a ~ ns.a) }}", user, 1, true, "False");
}

Test(chat, a_message_without_role_or_content)
{
    gorgon_tokenizer *tokenizer = load(CHATML);
    const gorgon_message messages[] = {{"user", "Hi"}, {"user", NULL}};
    const gorgon_message nameless[] = {{NULL, "Hi"}};
    gorgon_error err = {0}, second = {0};
    char *text = NULL;
    cr_assert_eq(gorgon_tokenizer_chat(tokenizer, messages, 2, true, &text, &err),
                 GORGON_ERROR_ARGUMENT);
    cr_assert_str_eq(err.message, "message 1 of 2 has no content");
    cr_assert_eq(gorgon_tokenizer_chat(tokenizer, nameless, 1, true, &text, &second),
                 GORGON_ERROR_ARGUMENT);
    cr_assert_str_eq(second.message, "message 0 of 1 has no role");
    gg_tokenizer_free(tokenizer);
}

static gorgon_tokenizer *load_with_ends(void)
{
    gorgon_tokenizer *tokenizer = NULL;
    gorgon_error err = {0};
    cr_assert_eq(gg_tokenizer_from_json(GG_TEST_DATA "/families/mistral", 0, &tokenizer, &err),
                 GORGON_OK, "%s", err.message);
    return tokenizer;
}

static void check_case(gorgon_tokenizer *tokenizer, const json_t *item, size_t line)
{
    const json_t *list = json_object_get(item, "messages");
    const char *name = json_string_value(json_object_get(item, "name"));
    const char *source =
        name ? gorgon_chat_template(name) : json_string_value(json_object_get(item, "template"));
    const char *expected = json_string_value(json_object_get(item, "text"));
    gorgon_message messages[8];
    gorgon_error err = {0};
    char *text = NULL;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *message = json_array_get(list, i);
        messages[i].role = json_string_value(json_object_get(message, "role"));
        messages[i].content = json_string_value(json_object_get(message, "content"));
    }
    cr_assert_not_null(source, "line %zu", line);
    cr_assert_eq(gorgon_tokenizer_set_chat(tokenizer, source, &err), GORGON_OK, "line %zu: %s",
                 line, err.message);
    gorgon_status status = gorgon_tokenizer_chat(
        tokenizer, messages, json_array_size(list),
        json_is_true(json_object_get(item, "add_generation_prompt")), &text, &err);
    if (!expected) {
        cr_assert_eq(status, GORGON_ERROR_ARGUMENT, "line %zu: %s", line, err.message);
        return;
    }
    cr_assert_eq(status, GORGON_OK, "line %zu: %s", line, err.message);
    cr_assert_str_eq(text, expected, "line %zu: '%s', expected '%s'", line, text, expected);
    gorgon_free(text);
}

Test(chat, equals_jinja2)
{
    static const char path[] = GG_TEST_DATA "/chat.jsonl";
    gorgon_tokenizer *tokenizer = load_with_ends();
    FILE *stream = fopen(path, "rb");
    cr_assert(stream, "cannot open %s", path);
    gorgon_error err = {0};
    char *line = NULL;
    size_t capacity = 0, length, n = 0;
    bool got;
    while (gg_read_line(stream, path, &line, &capacity, &length, &got, &err) == GORGON_OK && got) {
        json_error_t problem;
        json_t *item = json_loadb(line, length, 0, &problem);
        cr_assert(item, "line %zu: %s", n + 1, problem.text);
        check_case(tokenizer, item, ++n);
        json_decref(item);
    }
    cr_assert_eq(n, 96);
    fclose(stream);
    gg_free(line);
    gg_tokenizer_free(tokenizer);
}

Test(chat, names)
{
    size_t n = 0;
    for (; gorgon_chat_name(n); n++)
        cr_assert_not_null(gorgon_chat_template(gorgon_chat_name(n)));
    cr_assert_eq(n, 15);
    cr_assert_null(gorgon_chat_template("nonsense"));
    gorgon_tokenizer *tokenizer = load(CHATML);
    gorgon_error err = {0};
    cr_assert_eq(gorgon_tokenizer_set_chat(tokenizer, "{% x %}", &err), GORGON_ERROR_UNSUPPORTED);
    cr_assert(gorgon_tokenizer_has_chat(tokenizer)); // the old one stays
    gg_tokenizer_free(tokenizer);
}

// Allocation n fails, for every n.
Test(chat, every_allocation_may_fail)
{
    static const char source[] =
        "{% macro f(a) %}{{ a | upper }}{% endmacro %}{% set x %}{{ f('b\\n') }}{% endset %}"
        "{% for m in messages %}{{ x + m.content.replace('i', 'a') }}{{ [1, {'k': 2}] | tojson }}"
        "{% endfor %}";
    gorgon_tokenizer *tokenizer = load(CHATML);
    size_t refused = 0;
    for (size_t fail = 1;; fail++) {
        gorgon_error err = {0};
        char *text = NULL;
        gg_alloc_fail_at(fail);
        gorgon_status status = gorgon_tokenizer_set_chat(tokenizer, source, &err);
        if (status == GORGON_OK)
            status = gorgon_tokenizer_chat(tokenizer, user, 1, true, &text, &err);
        size_t made = gg_alloc_fail_at(0);
        if (status == GORGON_OK)
            cr_assert_str_eq(text, "B\nHa[1, {\"k\": 2}]");
        else
            cr_assert_eq(status, GORGON_ERROR_MEMORY, "%s", err.message);
        refused += status != GORGON_OK;
        gorgon_free(text);
        if (status == GORGON_OK && made < fail)
            break;
    }
    cr_assert_gt(refused, 4);
    gg_tokenizer_free(tokenizer);
}
