// Running requests on the embedded model and comparing what came out.
#ifndef DECODE_FIXTURE_H
#define DECODE_FIXTURE_H

#include "gorgon/decode.h"
#include "heads_fixture.h"

// How a run is set up; zero means the default of each.
typedef struct setup {
    const char *propose, *tree, *level;
    size_t threads, context, max_streams, max_rows, kv_positions;
    const gorgon_heads *heads;
} setup;

typedef struct rig {
    gorgon_engine *engine;
    gorgon_decoder *decoder;
} rig;

static inline rig rig_create(const gorgon_model *model, const setup *s)
{
    rig r = {0};
    gorgon_error err = {0};
    gorgon_engine_options eo;
    gorgon_engine_options_init(&eo);
    eo.threads = s->threads ? s->threads : 1;
    eo.cpu_level = s->level;
    eo.context = s->context ? s->context : 512;
    eo.max_sequences = s->max_streams ? s->max_streams : 1;
    eo.kv_positions = s->kv_positions ? s->kv_positions : eo.context * eo.max_sequences;
    if (s->max_rows) {
        eo.max_rows = s->max_rows;
        eo.max_logit_rows = s->max_rows;
    }
    cr_assert_eq(gorgon_engine_create(model, &eo, &r.engine, &err), GORGON_OK, "%s", err.message);
    gorgon_decoder_options o;
    gorgon_decoder_options_init(&o);
    o.heads = s->heads;
    o.propose = s->propose;
    o.tree = s->tree ? s->tree : "off";
    o.max_streams = eo.max_sequences;
    o.record_logits = true;
    cr_assert_eq(gorgon_decoder_create(r.engine, &o, &r.decoder, &err), GORGON_OK, "%s",
                 err.message);
    return r;
}

static inline void rig_free(rig *r)
{
    gorgon_decoder_free(r->decoder);
    gorgon_engine_free(r->engine);
}

// What a request gave, copied, and what was streamed on the way.
enum { MOST_TOKENS = 1100, MOST_TEXT = 16384 };
typedef struct outcome {
    gorgon_token ids[MOST_TOKENS];
    size_t n_ids, passes, streamed_ids, n_rows, n_logit_rows;
    char text[MOST_TEXT], streamed[MOST_TEXT]; // a model may say NUL
    size_t n_text, n_streamed;
    gorgon_stop stop;
    uint64_t logits_hash;
} outcome;

static inline void collect_tokens(void *context, const gorgon_token *ids, size_t n,
                                  const char *text, size_t length)
{
    outcome *o = context;
    (void)ids;
    o->streamed_ids += n;
    cr_assert_lt(o->n_streamed + length, sizeof o->streamed);
    memcpy(o->streamed + o->n_streamed, text, length);
    o->n_streamed += length;
}

static inline void collect_row(void *context, const gorgon_committed_row *row)
{
    outcome *o = context;
    cr_assert_eq(row->position, o->n_rows);
    cr_assert_not_null(row->hidden);
    o->n_rows++;
    o->n_logit_rows += row->logits != NULL;
}

static inline gorgon_token *encode(const gorgon_model *model, const char *text, size_t *n)
{
    gorgon_token *ids = NULL;
    gorgon_error err = {0};
    cr_assert_eq(gorgon_tokenizer_encode(gorgon_model_tokenizer(model), text, strlen(text), true,
                                         &ids, n, &err),
                 GORGON_OK, "%s", err.message);
    return ids;
}

static inline gorgon_stream *submit(rig *r, gorgon_request *request, outcome *o)
{
    gorgon_stream *stream = NULL;
    gorgon_error err = {0};
    memset(o, 0, sizeof *o);
    request->context = o;
    request->on_tokens = collect_tokens;
    request->on_row = collect_row;
    cr_assert_eq(gorgon_decoder_submit(r->decoder, request, &stream, &err), GORGON_OK, "%s",
                 err.message);
    return stream;
}

static inline void finish(gorgon_stream *stream, outcome *o)
{
    gorgon_stream_result result;
    gorgon_stream_describe(stream, &result);
    cr_assert(result.n_ids <= MOST_TOKENS && result.text_length < MOST_TEXT);
    memcpy(o->ids, result.ids, result.n_ids * sizeof *o->ids);
    o->n_ids = result.n_ids;
    memcpy(o->text, result.text, result.text_length + 1);
    o->n_text = result.text_length;
    o->passes = result.passes;
    o->stop = result.stop;
    o->logits_hash = result.logits_hash;
    cr_assert_eq(o->n_streamed, o->n_text);
    cr_assert_arr_eq(o->text, o->streamed, o->n_text);
    cr_assert_eq(o->streamed_ids, o->n_ids);
    gorgon_stream_free(stream);
}

static inline void run_all(rig *r)
{
    size_t active = 1;
    gorgon_error err = {0};
    while (active)
        cr_assert_eq(gorgon_decoder_step(r->decoder, &active, &err), GORGON_OK, "%s", err.message);
}

static inline void run_one(rig *r, gorgon_request *request, outcome *o)
{
    gorgon_stream *stream = submit(r, request, o);
    run_all(r);
    finish(stream, o);
}

static inline void assert_same(const outcome *a, const outcome *b, const char *what)
{
    cr_assert_eq(a->n_ids, b->n_ids, "%s: %zu ids against %zu", what, a->n_ids, b->n_ids);
    for (size_t i = 0; i < a->n_ids; i++)
        cr_assert_eq(a->ids[i], b->ids[i], "%s: token %zu is %d, not %d", what, i, b->ids[i],
                     a->ids[i]);
    cr_assert_eq(a->n_text, b->n_text, "%s", what);
    cr_assert_arr_eq(a->text, b->text, a->n_text, "%s", what);
    cr_assert_eq(a->stop, b->stop, "%s: stop %s, not %s", what, gorgon_stop_name(b->stop),
                 gorgon_stop_name(a->stop));
    cr_assert_eq(a->logits_hash, b->logits_hash, "%s: logits differ", what);
    cr_assert_eq(a->n_rows, b->n_rows, "%s", what);
    cr_assert_eq(a->n_logit_rows, b->n_logit_rows, "%s", what);
}

static const char *const prompts[] = {
    "Tell me about the garden",
    "the cat sat on the mat. the cat sat on the mat. the cat",
    "Write a story about a clever fox and a happy wolf.",
    "a",
};
enum { N_PROMPTS = sizeof prompts / sizeof prompts[0] };

static inline gorgon_request request_of(const gorgon_token *ids, size_t n, size_t tokens, float t)
{
    gorgon_request q;
    gorgon_request_init(&q);
    q.prompt = ids;
    q.n_prompt = n;
    q.max_tokens = tokens;
    q.sampling.temperature = t;
    q.sampling.seed = 11;
    return q;
}

static inline gorgon_heads *random_heads_of(const gorgon_model *model, const scratch *s,
                                            const heads_spec *spec)
{
    gorgon_model_info info;
    gorgon_model_describe(model, &info);
    heads_fixture f = heads_fixture_create(info.d_model, info.n_vocab, spec);
    gorgon_heads *heads = write_and_open(s, model, &f.source);
    heads_fixture_free(&f);
    return heads;
}

static inline gorgon_heads *random_heads(const gorgon_model *model, const scratch *s)
{
    const heads_spec spec = {.n_heads = 3, .n_blocks = 1, .type = GG_F16, .seed = 5, .scale = 0.2f};
    return random_heads_of(model, s, &spec);
}

// Heads that see the drafted tokens.
static inline gorgon_heads *random_followers(const gorgon_model *model, const scratch *s,
                                             gg_head_kind kind)
{
    const gg_head_traits *traits = gg_head_traits_of(kind);
    const bool layer = traits->layer != GG_LAYER_NONE;
    const heads_spec spec = {.n_heads = 4,
                             .n_blocks = traits->activated ? 2 : 1,
                             .root = true,
                             .type = GG_F16,
                             .seed = 6,
                             .scale = 0.2f,
                             .kind = kind,
                             .n_attention = layer ? 4 : 0,
                             .n_ffn = layer ? 96 : 0,
                             .window = layer ? 20 : 0};
    return random_heads_of(model, s, &spec);
}

#endif
