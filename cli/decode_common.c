// Prompts, requests and results of the decoding commands.
#include "decode_common.h"

#include <stdlib.h>
#include <string.h>

static bool encode(const gorgon_tokenizer *tokenizer, const cli_lines *lines, const char *text,
                   size_t length, gorgon_token **ids, size_t *n)
{
    gorgon_error err = {0};
    gorgon_token *encoded = NULL;
    if (gorgon_tokenizer_prompt(tokenizer, text, length, true, &encoded, n, &err) != GORGON_OK)
        return cli_line_error(lines, "%s", err.message);
    *ids = malloc((*n + 1) * sizeof **ids);
    if (*ids && *n > 0)
        memcpy(*ids, encoded, *n * sizeof **ids);
    gorgon_free(encoded);
    return *ids || cli_line_error(lines, "out of memory");
}

bool cli_prompt_ids(const gorgon_model *model, const cli_lines *lines, const char *text,
                    size_t length, bool chat, gorgon_token **ids, size_t *n)
{
    gorgon_error err = {0};
    const gorgon_tokenizer *tokenizer = gorgon_model_tokenizer(model);
    *ids = NULL;
    if (!chat) {
        if (!encode(tokenizer, lines, text, length, ids, n))
            return false;
        if (*n > 0)
            return true;
        free(*ids);
        *ids = NULL;
        return cli_line_error(lines, "the prompt is empty, expected at least one token");
    }
    if (memchr(text, '\0', length))
        return cli_line_error(lines, "the prompt holds a NUL byte, which a chat message cannot");
    gorgon_message message = {"user", text};
    char *rendered = NULL;
    if (gorgon_tokenizer_chat(tokenizer, &message, 1, true, &rendered, &err) != GORGON_OK)
        return cli_line_error(lines, "%s", err.message);
    bool good = encode(tokenizer, lines, rendered, strlen(rendered), ids, n);
    gorgon_free(rendered);
    return good;
}

double cli_decoded_tokens(const gorgon_stream_result *result)
{
    return result->n_ids > 0 ? (double)(result->n_ids - 1) : 0.0;
}

gorgon_request cli_request(const cli_common *common, const gorgon_token *prompt, size_t n_prompt)
{
    gorgon_request request;
    gorgon_request_init(&request);
    request.prompt = prompt;
    request.n_prompt = n_prompt;
    request.max_tokens = common->tokens;
    request.sampling = cli_sampling(common);
    request.stop = common->stop.values;
    request.n_stop = common->stop.n;
    request.ignore_end = common->ignore_end;
    return request;
}

json_t *cli_result_json(const gorgon_stream *stream, const cli_session *session,
                        const cli_common *common)
{
    gorgon_stream_result r;
    gorgon_stream_describe(stream, &r);
    double tokens = cli_decoded_tokens(&r);
    json_t *text = json_stringn(r.text, gorgon_utf8_complete(r.text, r.text_length));
    json_t *out = json_object();
    json_object_set_new(out, "text", text ? text : json_string(""));
    json_object_set_new(out, "ids", cli_ids_to_json(r.ids, r.n_ids));
    json_object_set_new(out, "prompt_tokens", json_integer((json_int_t)r.prompt_tokens));
    json_object_set_new(out, "tokens", json_integer((json_int_t)r.n_ids));
    json_object_set_new(out, "passes", json_integer((json_int_t)r.passes));
    json_object_set_new(out, "tokens_per_pass",
                        json_real(r.passes ? tokens / (double)r.passes : 0.0));
    json_object_set_new(out, "prefill_s", json_real(r.prefill_s));
    json_object_set_new(out, "decode_s", json_real(r.decode_s));
    json_object_set_new(out, "tokens_per_s", json_real(r.decode_s > 0 ? tokens / r.decode_s : 0));
    json_object_set_new(out, "draft_s", json_real(r.draft_s));
    json_object_set_new(out, "verify_s", json_real(r.verify_s));
    json_object_set_new(out, "rule", json_string(common->rule));
    json_object_set_new(out, "tree", json_string(common->tree));
    json_object_set_new(out, "threads",
                        json_integer((json_int_t)gorgon_engine_threads(session->engine)));
    json_object_set_new(out, "cpu_level", json_string(gorgon_engine_cpu_level(session->engine)));
    json_object_set_new(out, "stop", json_string(gorgon_stop_name(r.stop)));
    return out;
}
