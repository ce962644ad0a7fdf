// Chat templates: which ones are recognised, and what they render.
#include <criterion/criterion.h>
#include <string.h>

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
    cr_assert_not(gorgon_tokenizer_has_chat(tokenizer));
    cr_assert_eq(gorgon_tokenizer_chat(tokenizer, user, 1, true, &text, &err),
                 GORGON_ERROR_UNSUPPORTED, "%s", chat_template);
    cr_assert(strstr(err.message, expected) && strstr(err.message, "known: chatml"), "%s",
              err.message);
    cr_assert_null(text);
    gg_tokenizer_free(tokenizer);
}

// Anything that would render otherwise is refused, however much it resembles ChatML.
Test(chat, other_templates_are_unsupported)
{
    static const char *const others[] = {
        "",
        "{{",
        "{% for message in messages %}",
        "{{ bos_token }}" CHATML,
        CHATML "x",
        "x" CHATML,
        " {{ '' }}" CHATML, // a space that would be rendered
        CHATML " ",         // likewise
        LOOP " " TURN "{% endfor %}" GENERATION,
        LOOP TURN "{% endfor %}",
        LOOP TURN "\n{% endfor %}" GENERATION, // trim_blocks spares the newline after }}
        LOOP "{{'<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>'"
             " + '\n'}}{% endfor %}" GENERATION,
        LOOP SYSTEM "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}" GENERATION,
        LOOP SYSTEM "{{ '<|im_end|>\n' }}{% endif %}" TURN "{% endfor %}" GENERATION,
        LOOP SYSTEM "{{ '<|im_start|>system\n",
        "{% if tools %}{{ tools }}{% endif %}" CHATML,
        "{% for message in messages %}{{'<|im_start|>\\x' }}",
        "{% for m in messages %}{{'[INST] ' + m['content']}}{% endfor %}",
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        check_unsupported(others[i], "not one that gorgon knows");
    check_unsupported(NULL, "absent");
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
