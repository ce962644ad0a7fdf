// gorgon tokenize: JSON lines on standard input, ids or text out.
#include <stdlib.h>
#include <string.h>

#include "cli.h"

typedef struct tokenize_flags {
    bool decode, chat, json;
} tokenize_flags;

static bool print_ids(json_t *out, const gorgon_token *ids, size_t n)
{
    json_object_set_new(out, "ids", cli_ids_to_json(ids, n));
    return cli_print_json(out);
}

static bool encode_line(const cli_lines *lines, const gorgon_tokenizer *tokenizer, const char *text,
                        size_t length, bool special, json_t *out)
{
    gorgon_error err = {0};
    gorgon_token *ids = NULL;
    size_t n = 0;
    if (gorgon_tokenizer_encode(tokenizer, text, length, special, &ids, &n, &err) != GORGON_OK) {
        json_decref(out);
        return cli_line_error(lines, "%s", err.message);
    }
    bool good = print_ids(out, ids, n);
    gorgon_free(ids);
    return good;
}

static bool decode_line(const cli_lines *lines, const gorgon_tokenizer *tokenizer,
                        const json_t *line, json_t *out)
{
    gorgon_error err = {0};
    gorgon_token *ids = NULL;
    char *text = NULL;
    size_t n = 0, length = 0;
    if (!cli_ids_from_json(lines, json_object_get(line, "ids"), gorgon_tokenizer_size(tokenizer),
                           &ids, &n)) {
        json_decref(out);
        return false;
    }
    gorgon_status status = gorgon_tokenizer_decode(tokenizer, ids, n, &text, &length, &err);
    free(ids);
    if (status != GORGON_OK) {
        json_decref(out);
        return cli_line_error(lines, "%s", err.message);
    }
    json_t *value = json_stringn(text, length);
    gorgon_free(text);
    if (!value) { // ids may end inside a character: JSON cannot carry such text
        json_decref(out);
        return cli_line_error(lines, "these ids do not decode to whole UTF-8 characters");
    }
    json_object_set_new(out, "text", value);
    return cli_print_json(out);
}

static bool chat_line(const cli_lines *lines, const gorgon_tokenizer *tokenizer, const json_t *line,
                      json_t *out)
{
    gorgon_error err = {0};
    size_t n = 0;
    char *text = NULL;
    gorgon_message *messages = cli_messages_from_json(lines, line, &n);
    if (!messages) {
        json_decref(out);
        return false;
    }
    bool prompt = json_is_true(json_object_get(line, "add_generation_prompt"));
    gorgon_status status = gorgon_tokenizer_chat(tokenizer, messages, n, prompt, &text, &err);
    free(messages);
    if (status != GORGON_OK) {
        json_decref(out);
        return cli_line_error(lines, "%s", err.message);
    }
    json_object_set_new(out, "text", json_string(text));
    bool good = encode_line(lines, tokenizer, text, strlen(text), true, out);
    gorgon_free(text);
    return good;
}

static bool tokenize_line(const cli_lines *lines, const gorgon_tokenizer *tokenizer,
                          const tokenize_flags *flags, const json_t *line)
{
    json_t *out = json_object();
    json_object_set(out, "id", json_object_get(line, "id"));
    if (flags->decode)
        return decode_line(lines, tokenizer, line, out);
    if (flags->chat)
        return chat_line(lines, tokenizer, line, out);
    const json_t *text = json_object_get(line, "text");
    if (!json_is_string(text)) {
        json_decref(out);
        return cli_line_error(lines, "expected a string \"text\"");
    }
    return encode_line(lines, tokenizer, json_string_value(text), json_string_length(text),
                       json_is_true(json_object_get(line, "parse_special")), out);
}

static bool set_template(gorgon_tokenizer *tokenizer, const char *name)
{
    gorgon_error err = {0};
    if (!name)
        return true;
    char *source = cli_chat_template(name);
    bool good = source &&
                (gorgon_tokenizer_set_chat(tokenizer, source, &err) == GORGON_OK || cli_fail(&err));
    free(source);
    return good;
}

int cmd_tokenize(int argc, char **argv)
{
    tokenize_flags flags = {0};
    cli_common common;
    cli_common_init(&common);
    cli_spec spec = {
        .command = "tokenize",
        .summary = "text to ids and back; JSON lines on standard input and output",
        .positional = "MODEL|TOKENIZER",
        .min_positional = 1,
        .max_positional = 1,
        .examples =
            "  echo '{\"id\":1,\"text\":\"Hello world\"}' | gorgon tokenize model.gguf\n"
            "  echo '{\"id\":1,\"ids\":[19556,905]}' | gorgon tokenize model.gguf --decode\n"
            "  echo '{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],"
            "\"add_generation_prompt\":true}' | gorgon tokenize model.gguf --chat\n",
    };
    cli_add_flag(&spec, "decode", &flags.decode, "ids to text: {\"id\",\"ids\"}");
    cli_add_flag(&spec, "chat", &flags.chat, "messages through the chat template");
    cli_add_chat_template(&spec, &common);
    cli_add_flag(&spec, "json", &flags.json, "JSON lines (always so here)");
    cli_add_size(&spec, "threads", 't', &common.threads, 0, 256, "threads for loading");
    const char *path = NULL;
    size_t n = 0;
    cli_parsed parsed = cli_parse(&spec, argc, argv, &path, &n);
    if (parsed != CLI_PARSED)
        return parsed == CLI_PARSED_HELP ? CLI_OK : CLI_BAD;
    gorgon_error err = {0};
    gorgon_tokenizer *tokenizer = NULL;
    cli_lines lines;
    bool bad = true;
    if (gorgon_tokenizer_open(path, &tokenizer, &err) != GORGON_OK) {
        cli_fail(&err);
    } else if (set_template(tokenizer, common.chat_template) && cli_lines_open(&lines, NULL)) {
        json_t *line = NULL;
        while ((line = cli_lines_next(&lines, &bad)) != NULL) {
            bad = !tokenize_line(&lines, tokenizer, &flags, line);
            json_decref(line);
            if (bad)
                break;
        }
        cli_lines_close(&lines);
    }
    gorgon_tokenizer_free(tokenizer);
    return bad ? CLI_BAD : CLI_OK;
}
