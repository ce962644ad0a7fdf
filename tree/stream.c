// See stream.h.
#include "stream.h"

#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/limits.h"
#include "core/sampling.h"

const char *gorgon_stop_name(gorgon_stop stop)
{
    switch (stop) {
    case GORGON_STOP_END:
        return "end";
    case GORGON_STOP_STRING:
        return "string";
    case GORGON_STOP_LENGTH:
        return "length";
    case GORGON_STOP_CONTEXT:
        return "context";
    case GORGON_STOP_FAILED:
        return "failed";
    case GORGON_STOP_NONE:
        break;
    }
    return "none";
}

void gorgon_request_init(gorgon_request *request)
{
    *request = (gorgon_request){.max_tokens = 256};
    gorgon_sampling_init(&request->sampling);
}

static gorgon_status check(const gorgon_request *r, size_t context, size_t n_vocab,
                           gorgon_error *err)
{
    if (r->n_prompt == 0 || !r->prompt)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "prompt is empty, expected at least 1 token");
    if (r->n_prompt > context)
        return gg_fail(err, GORGON_ERROR_LIMIT,
                       "prompt has %zu tokens, the context holds %zu positions", r->n_prompt,
                       context);
    for (size_t i = 0; i < r->n_prompt; i++) {
        if (r->prompt[i] < 0 || (size_t)r->prompt[i] >= n_vocab)
            return gg_fail(err, GORGON_ERROR_ARGUMENT,
                           "prompt token %zu is id %d, the vocabulary has ids 0 to %zu", i,
                           r->prompt[i], n_vocab - 1);
    }
    return gg_sampling_check(&r->sampling, err);
}

// The context holds the prompt and all generated tokens but the last, which needs no position.
static size_t token_limit(const gorgon_request *r, size_t context)
{
    size_t room = context - r->n_prompt + 1;
    return r->max_tokens < room ? r->max_tokens : room;
}

gorgon_status gg_stream_create(const gorgon_request *request, size_t context, size_t n_vocab,
                               size_t token_bytes, gorgon_stream **out, gorgon_error *err)
{
    *out = NULL;
    gorgon_status status = check(request, context, n_vocab, err);
    if (status != GORGON_OK)
        return status;
    gorgon_stream *s = gg_alloc(1, sizeof *s);
    if (!s)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for a stream");
    s->limit = token_limit(request, context);
    s->context = context;
    s->n_prompt = request->n_prompt;
    s->n_tokens = request->n_prompt;
    s->request = *request;
    s->request.prompt = NULL;
    s->request.stop = NULL;
    s->tokens = gg_alloc(s->n_prompt + s->limit, sizeof *s->tokens);
    size_t bytes = 0;
    if (!s->tokens || !gg_mul(s->limit, token_bytes, &bytes))
        status = gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for a stream of %zu tokens",
                         s->n_prompt + s->limit);
    else
        status = gg_text_create(&s->text, bytes, request->stop, request->n_stop, err);
    if (status != GORGON_OK) {
        gg_stream_destroy(s);
        return status;
    }
    memcpy(s->tokens, request->prompt, s->n_prompt * sizeof *s->tokens);
    *out = s;
    return GORGON_OK;
}

void gg_stream_destroy(gorgon_stream *stream)
{
    if (!stream)
        return;
    gg_text_clear(&stream->text);
    gg_free(stream->tokens);
    gg_free(stream);
}

size_t gg_stream_generated(const gorgon_stream *stream)
{
    return stream->n_tokens - stream->n_prompt;
}

size_t gg_stream_remaining(const gorgon_stream *stream)
{
    return stream->limit - gg_stream_generated(stream);
}

// A path of d nodes decides d + 1 tokens. The limit accounts for the context as well: a node at
// depth d stands at position n_tokens - 1 + d, and limit <= context - n_prompt + 1.
size_t gg_stream_max_depth(const gorgon_stream *stream)
{
    size_t left = gg_stream_remaining(stream);
    left = left > 0 ? left - 1 : 0;
    return left < GG_MAX_DRAFT_DEPTH ? left : GG_MAX_DRAFT_DEPTH;
}

// Adds one token; returns what it ends the stream with, if anything.
static gorgon_stop take_one(gorgon_stream *s, const gorgon_tokenizer *tokenizer, gorgon_token token)
{
    s->tokens[s->n_tokens++] = token;
    if (gorgon_tokenizer_is_end(tokenizer, token) && !s->request.ignore_end)
        return GORGON_STOP_END;
    if (!gorgon_tokenizer_is_control(tokenizer, token)) {
        size_t n = 0;
        const char *bytes = gorgon_tokenizer_bytes(tokenizer, token, &n);
        if (gg_text_append(&s->text, bytes, n))
            return GORGON_STOP_STRING;
    }
    if (gg_stream_generated(s) == s->request.max_tokens)
        return GORGON_STOP_LENGTH;
    if (gg_stream_remaining(s) == 0)
        return GORGON_STOP_CONTEXT;
    return GORGON_STOP_NONE;
}

static void stream_out(gorgon_stream *s, size_t first)
{
    size_t length = 0;
    const char *text = gg_text_take(&s->text, s->stop != GORGON_STOP_NONE, &length);
    if (s->request.on_tokens)
        s->request.on_tokens(s->request.context, s->tokens + first, s->n_tokens - first, text,
                             length);
}

size_t gg_stream_take(gorgon_stream *stream, const gorgon_tokenizer *tokenizer,
                      const gorgon_token *tokens, size_t n)
{
    size_t first = stream->n_tokens, taken = 0;
    while (taken < n && stream->stop == GORGON_STOP_NONE)
        stream->stop = take_one(stream, tokenizer, tokens[taken++]);
    if (stream->stop != GORGON_STOP_NONE && stream->stop != GORGON_STOP_STRING)
        gg_text_finish(&stream->text);
    stream_out(stream, first);
    return taken;
}

void gg_stream_end(gorgon_stream *stream, gorgon_stop stop)
{
    if (stream->stop != GORGON_STOP_NONE)
        return;
    stream->stop = stop;
    gg_text_finish(&stream->text);
    stream_out(stream, stream->n_tokens);
}

void gorgon_stream_describe(const gorgon_stream *stream, gorgon_stream_result *result)
{
    *result = (gorgon_stream_result){
        .ids = stream->tokens + stream->n_prompt,
        .n_ids = gg_stream_generated(stream),
        .text = stream->text.bytes,
        .text_length = stream->text.length,
        .prompt_tokens = stream->n_prompt,
        .passes = stream->passes,
        .prefill_s = stream->prefill_s,
        .decode_s = stream->decode_s,
        .draft_s = stream->draft_s,
        .verify_s = stream->verify_s,
        .stop = stream->stop,
        .logits_hash = stream->logits_hash,
    };
}

void *gorgon_stream_context(const gorgon_stream *stream)
{
    return stream->request.context;
}
