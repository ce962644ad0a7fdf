// Life of a decoder: options, proposers, slots, requests, telemetry. The step is in decode.c.
#include "decoder.h"

#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/sampling.h"
#include "heads/head_set.h"

void gorgon_decoder_options_init(gorgon_decoder_options *options)
{
    *options = (gorgon_decoder_options){.tree = "auto", .rule = "exact", .max_streams = 1};
}

static void calibrate(gorgon_decoder *d, const gorgon_decoder_options *o)
{
    const gg_head_set *set = o->heads ? gg_heads_set(o->heads, o->head_set) : NULL;
    const char *names[GG_MAX_PROPOSERS];
    for (size_t i = 0; i < d->n_proposers; i++)
        names[i] = d->proposer[i]->name;
    gg_calibration_resolve(set ? set->calibration : NULL, set ? set->n_calibration : 0, names,
                           d->n_proposers, &d->grower.calibration);
}

static gg_proposer_config proposer_config(const gorgon_decoder *d, const gorgon_decoder_options *o)
{
    return (gg_proposer_config){.engine = d->engine,
                                .heads = o->heads,
                                .set = o->head_set,
                                .max_sequences = d->max_streams,
                                .datastore = o->datastore};
}

static gorgon_status add_proposer(gorgon_decoder *d, const gorgon_decoder_options *o,
                                  const char *name, gorgon_error *err)
{
    for (size_t i = 0; i < d->n_proposers; i++) {
        if (strcmp(d->proposer[i]->name, name) == 0)
            return gg_fail(err, GORGON_ERROR_ARGUMENT, "proposer '%s' is named twice", name);
    }
    if (d->n_proposers == GG_MAX_PROPOSERS)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "more than %d proposers", GG_MAX_PROPOSERS);
    const gg_proposer_config config = proposer_config(d, o);
    size_t i = d->n_proposers;
    gorgon_status status = gg_proposer_create(name, &config, &d->proposer[i], err);
    if (status != GORGON_OK)
        return status;
    d->n_proposers++;
    d->grower.proposer[i] = d->proposer[i];
    d->telemetry[i].proposer = d->proposer[i]->name;
    return GORGON_OK;
}

// "all" means all that can run here.
static gorgon_status add_all(gorgon_decoder *d, const gorgon_decoder_options *o, gorgon_error *err)
{
    const gg_proposer_config config = proposer_config(d, o);
    gorgon_status status = GORGON_OK;
    for (const char *const *name = gg_proposer_names(); *name && status == GORGON_OK; name++) {
        if (gg_proposer_has_file(*name, &config))
            status = add_proposer(d, o, *name, err);
    }
    return status;
}

static gorgon_status add_listed(gorgon_decoder *d, const gorgon_decoder_options *o,
                                gorgon_error *err)
{
    const char *list = o->propose;
    while (*list) {
        char name[64];
        size_t n = strcspn(list, ",");
        if (n == 0 || n >= sizeof name)
            return gg_fail(err, GORGON_ERROR_ARGUMENT,
                           "propose '%.80s': expected names separated by commas", o->propose);
        memcpy(name, list, n);
        name[n] = '\0';
        gorgon_status status = add_proposer(d, o, name, err);
        if (status != GORGON_OK)
            return status;
        list += n;
        if (*list == ',' && *++list == '\0')
            return gg_fail(err, GORGON_ERROR_ARGUMENT, "propose '%.80s' ends with a comma",
                           o->propose);
    }
    return GORGON_OK;
}

static gorgon_status add_proposers(gorgon_decoder *d, const gorgon_decoder_options *o,
                                   gorgon_error *err)
{
    if (!o->propose || !o->propose[0])
        return GORGON_OK;
    if (o->heads) {
        gorgon_status status = gorgon_heads_check(o->heads, gg_engine_model(d->engine), NULL, err);
        if (status != GORGON_OK)
            return status;
    }
    gorgon_status status =
        strcmp(o->propose, "all") == 0 ? add_all(d, o, err) : add_listed(d, o, err);
    if (status == GORGON_OK)
        calibrate(d, o);
    return status;
}

static size_t most_token_bytes(const gorgon_tokenizer *tokenizer)
{
    size_t most = 0;
    for (size_t i = 0; i < gorgon_tokenizer_size(tokenizer); i++) {
        if (gorgon_tokenizer_is_control(tokenizer, (gorgon_token)i))
            continue;
        size_t n = 0;
        const char *bytes = gorgon_tokenizer_bytes(tokenizer, (gorgon_token)i, &n);
        size_t bound = gg_text_bound(bytes, n);
        most = bound > most ? bound : most;
    }
    return most;
}

static gorgon_status reserve(gorgon_decoder *d, gorgon_error *err)
{
    size_t n = d->max_streams, rows = d->max_rows;
    d->slots = gg_alloc(n, sizeof *d->slots);
    d->running = gg_alloc(n, sizeof *d->running);
    d->rows = gg_alloc(rows, sizeof *d->rows);
    d->chain = gg_alloc(rows, sizeof *d->chain);
    d->verified = gg_alloc(rows, sizeof *d->verified);
    d->hidden = gg_alloc(rows, sizeof *d->hidden);
    d->drafts = gg_alloc(n * (d->n_proposers + 1), sizeof *d->drafts);
    d->sprouts = gg_alloc(n, sizeof *d->sprouts);
    d->sprout_slot = gg_alloc(n, sizeof *d->sprout_slot);
    d->sample_scratch_bytes = (gg_sample_scratch(d->n_vocab) + 63) / 64 * 64;
    d->sample_scratch = gg_alloc(gg_team_size(gg_engine_team(d->engine)), d->sample_scratch_bytes);
    if (!d->slots || !d->running || !d->rows || !d->chain || !d->verified || !d->hidden ||
        !d->drafts || !d->sprouts || !d->sprout_slot || !d->sample_scratch)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for a decoder of %zu streams", n);
    if (d->n_proposers == 0)
        return GORGON_OK;
    d->grower.n_proposers = d->n_proposers;
    d->grower.plan = &d->plan;
    d->plan.n_proposers = d->n_proposers;
    return gg_grower_create(&d->grower, d->max_logit_rows, n, err);
}

void gg_decoder_need_cost(gorgon_decoder *d)
{
    if (d->plan.mode != GG_TREE_AUTO || d->n_proposers == 0 || d->plan.has_cost)
        return;
    d->plan.has_cost = true;
    if (d->cost_cache && gg_cost_load(&d->plan.cost, d->cost_cache, d->engine))
        return;
    gg_cost_measure(&d->plan.cost, d->engine);
    if (d->cost_cache && d->plan.cost.measured)
        gg_cost_store(&d->plan.cost, d->cost_cache, d->engine);
}

static gorgon_status build(gorgon_decoder *d, const gorgon_decoder_options *o, gorgon_error *err)
{
    size_t most = d->max_logit_rows < d->max_rows ? d->max_logit_rows : d->max_rows;
    if (d->max_streams < 1 || d->max_streams > most)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "decoder option max_streams is %zu, expected 1 to %zu (logit rows a pass)",
                       d->max_streams, most);
    gorgon_status status = gg_rule_find(o->rule, &d->rule, err);
    if (status == GORGON_OK)
        status = gg_plan_set_tree(&d->plan, o->tree, err);
    if (status == GORGON_OK)
        status = add_proposers(d, o, err);
    if (status == GORGON_OK)
        status = reserve(d, err);
    if (status == GORGON_OK && o->cost_cache) {
        d->cost_cache = gg_strdup(o->cost_cache);
        if (!d->cost_cache)
            status = gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for a decoder");
    }
    if (status == GORGON_OK)
        gg_decoder_need_cost(d);
    return status;
}

gorgon_status gorgon_decoder_create(gorgon_engine *engine, const gorgon_decoder_options *options,
                                    gorgon_decoder **out, gorgon_error *err)
{
    *out = NULL;
    gorgon_decoder *d = gg_alloc(1, sizeof *d);
    if (!d)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for a decoder");
    const gg_geometry *g = gg_model_geometry(gg_engine_model(engine));
    d->engine = engine;
    d->tokenizer = gorgon_model_tokenizer(gg_engine_model(engine));
    d->n_vocab = g->n_vocab;
    d->d_model = g->d_model;
    d->max_rows = gorgon_engine_max_rows(engine);
    d->max_logit_rows = gorgon_engine_max_logit_rows(engine);
    d->max_streams = options->max_streams;
    d->record_logits = options->record_logits;
    d->token_bytes = most_token_bytes(d->tokenizer);
    gorgon_status status = build(d, options, err);
    if (status == GORGON_OK)
        *out = d;
    else
        gorgon_decoder_free(d);
    return status;
}

void gorgon_decoder_free(gorgon_decoder *decoder)
{
    if (!decoder)
        return;
    while (decoder->streams)
        gorgon_stream_free(decoder->streams);
    for (size_t s = 0; decoder->slots && s < decoder->max_streams; s++) {
        for (size_t i = 0; i < decoder->n_proposers; i++)
            decoder->proposer[i]->ops->state_free(decoder->proposer[i], decoder->slots[s].state[i]);
    }
    for (size_t i = 0; i < decoder->n_proposers; i++)
        gg_proposer_free(decoder->proposer[i]);
    gg_grower_clear(&decoder->grower);
    gg_free(decoder->slots);
    gg_free((void *)decoder->running);
    gg_free(decoder->rows);
    gg_free(decoder->chain);
    gg_free(decoder->verified);
    gg_free((void *)decoder->hidden);
    gg_free(decoder->drafts);
    gg_free(decoder->sprouts);
    gg_free((void *)decoder->sprout_slot);
    gg_free(decoder->sample_scratch);
    gg_free(decoder->cost_cache);
    gg_free(decoder);
}

gorgon_status gorgon_decoder_set_tree(gorgon_decoder *decoder, const char *tree, gorgon_error *err)
{
    gorgon_status status = gg_plan_set_tree(&decoder->plan, tree, err);
    if (status == GORGON_OK)
        gg_decoder_need_cost(decoder);
    return status;
}

// Proposer states of a slot: made at its first use, emptied at the next ones.
static gorgon_status prepare_slot(gorgon_decoder *d, gg_slot *slot, gorgon_error *err)
{
    for (size_t i = 0; i < d->n_proposers; i++) {
        const gg_proposer *p = d->proposer[i];
        if (slot->state[i]) {
            p->ops->state_reset(p, slot->state[i]);
            continue;
        }
        gorgon_status status =
            p->ops->state_create(p, gorgon_engine_context(d->engine), &slot->state[i], err);
        if (status != GORGON_OK)
            return status;
    }
    return GORGON_OK;
}

static gg_slot *free_slot(gorgon_decoder *d)
{
    for (size_t i = 0; i < d->max_streams; i++) {
        if (!d->slots[i].stream)
            return &d->slots[i];
    }
    return NULL;
}

gorgon_status gorgon_decoder_submit(gorgon_decoder *decoder, const gorgon_request *request,
                                    gorgon_stream **out, gorgon_error *err)
{
    *out = NULL;
    gg_slot *slot = free_slot(decoder);
    if (!slot)
        return gg_fail(err, GORGON_ERROR_LIMIT, "all %zu streams of the decoder are running",
                       decoder->max_streams);
    gorgon_stream *s = NULL;
    gorgon_status status = gg_stream_create(request, gorgon_engine_context(decoder->engine),
                                            decoder->n_vocab, decoder->token_bytes, &s, err);
    if (status == GORGON_OK)
        status = prepare_slot(decoder, slot, err);
    if (status == GORGON_OK)
        status = gorgon_sequence_create(decoder->engine, &s->sequence, err);
    if (status != GORGON_OK) {
        gg_stream_destroy(s);
        return status;
    }
    slot->stream = s;
    s->slot = (size_t)(slot - decoder->slots);
    s->decoder = decoder;
    s->next = decoder->streams;
    if (s->next)
        s->next->previous = s;
    decoder->streams = s;
    *out = s;
    return GORGON_OK;
}

void gorgon_stream_free(gorgon_stream *stream)
{
    if (!stream)
        return;
    gorgon_decoder *d = stream->decoder;
    if (d->slots[stream->slot].stream == stream)
        d->slots[stream->slot].stream = NULL;
    if (stream->previous)
        stream->previous->next = stream->next;
    else
        d->streams = stream->next;
    if (stream->next)
        stream->next->previous = stream->previous;
    gorgon_sequence_free(stream->sequence);
    gg_stream_destroy(stream);
}

size_t gorgon_decoder_telemetry(const gorgon_decoder *decoder, gorgon_telemetry *out,
                                size_t capacity)
{
    for (size_t i = 0; i < decoder->n_proposers && i < capacity; i++)
        out[i] = decoder->telemetry[i];
    return decoder->n_proposers;
}

void gorgon_decoder_reset_telemetry(gorgon_decoder *decoder)
{
    for (size_t i = 0; i < decoder->n_proposers; i++)
        decoder->telemetry[i] = (gorgon_telemetry){.proposer = decoder->proposer[i]->name};
}

double gorgon_decoder_pass_ms(const gorgon_decoder *decoder, size_t rows)
{
    if (!decoder->plan.has_cost || rows == 0)
        return 0.0;
    return 1e3 * gg_cost_seconds(&decoder->plan.cost, rows, 0.0);
}

void gg_decoder_set_edge_tap(gorgon_decoder *decoder, gg_edge_tap_fn tap, void *context)
{
    decoder->tap = tap;
    decoder->tap_context = context;
}
