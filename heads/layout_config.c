// config.json beside heads of other trainers. It is read for what tensors cannot tell, and for
// people: where it contradicts what was counted, the count stands and the contradiction is said.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "layout.h"

enum { SHOWN = 60 };
static const double least_scale = 1e-6, largest_scale = 1e6;

typedef struct reader {
    gorgon_heads *h;
    gg_layout_grid *g;
    gorgon_error *err;
} reader;

static void contradict(const reader *r, const char *key, const json_t *value, const char *counted)
{
    char claim[SHOWN];
    gg_json_show(value, claim, sizeof claim);
    gg_heads_warn(r->h, "%s: config.json says \"%s\": %s, the tensors say %s", r->h->label, key,
                  claim, counted);
}

static void compare_number(const reader *r, const char *key, const json_t *value, uint64_t counted)
{
    char count[32];
    if (json_is_null(value) || (json_is_integer(value) && json_integer_value(value) >= 0 &&
                                (uint64_t)json_integer_value(value) == counted))
        return;
    snprintf(count, sizeof count, "%" PRIu64, counted);
    contradict(r, key, value, count);
}

static void compare_flag(const reader *r, const char *key, const json_t *value, bool counted)
{
    if (!json_is_null(value) && !(json_is_boolean(value) && json_is_true(value) == counted))
        contradict(r, key, value, counted ? "true" : "false");
}

// The vocabulary's size, unless the tensors tell it; ids must fit in any case.
static void take_vocabulary(const reader *r, const char *key, const json_t *value)
{
    const gg_head_set *set = &r->h->sets[0];
    const json_int_t n = json_integer_value(value);
    json_int_t least = 1;
    char count[32];
    if (r->h->base.n_vocab || json_is_null(value)) {
        compare_number(r, key, value, r->h->base.n_vocab);
        return;
    }
    for (size_t i = 0; i < set->shape.n_draft; i++)
        least = set->draft_ids[i] < (uint64_t)least ? least : (json_int_t)set->draft_ids[i] + 1;
    if (n >= least && n <= (json_int_t)GG_MAX_VOCAB) {
        r->h->base.n_vocab = (uint32_t)n;
        return;
    }
    snprintf(count, sizeof count, "%lld to %u", (long long)least, GG_MAX_VOCAB);
    contradict(r, key, value, count);
}

// What only the config can tell is refused where it says what gorgon does not compute.
static gorgon_status refuse(const reader *r, const char *key, const json_t *value,
                            const char *expected)
{
    char claim[SHOWN];
    gg_json_show(value, claim, sizeof claim);
    return gg_fail(r->err, GORGON_ERROR_UNSUPPORTED, "%s: config.json says \"%s\": %s, expected %s",
                   r->h->label, key, claim, expected);
}

static gorgon_status check_state(const reader *r, const char *key, const json_t *value)
{
    if (json_is_null(value) || (json_is_integer(value) && json_integer_value(value) == 0))
        return GORGON_OK;
    return refuse(r, key, value, "0: heads here see the hidden state after the last layer");
}

static gorgon_status take_scale(const reader *r, const char *key, const json_t *value)
{
    const double scale = json_number_value(value);
    if (json_is_null(value) || (json_is_number(value) && scale == 1.0))
        return GORGON_OK;
    if (!r->h->sets[0].shape.own_output)
        return refuse(r, key, value, "1: these heads use the base's output");
    if (!(scale >= least_scale && scale <= largest_scale))
        return refuse(r, key, value, "a factor from 1e-6 to 1e6");
    r->g->output_scale = (float)scale;
    return GORGON_OK;
}

static gorgon_status take_name(const reader *r, const json_t *value)
{
    if (!json_is_string(value) || r->h->base_name)
        return GORGON_OK;
    r->h->base_name = gg_strdup(json_string_value(value));
    return r->h->base_name ? GORGON_OK
                           : gg_fail(r->err, GORGON_ERROR_MEMORY, "%s: out of memory", r->h->label);
}

static gorgon_status check_claim(const reader *r, const gg_layout_claim *c, const json_t *value)
{
    const gg_head_shape *s = &r->h->sets[0].shape;
    switch (c->fact) {
    case GG_FACT_HEADS:
        compare_number(r, c->key, value, s->n_heads);
        break;
    case GG_FACT_BLOCKS:
        compare_number(r, c->key, value, s->n_blocks);
        break;
    case GG_FACT_WIDTH:
        compare_number(r, c->key, value, s->d_model);
        break;
    case GG_FACT_VOCABULARY:
        take_vocabulary(r, c->key, value);
        break;
    case GG_FACT_DRAFT_VOCABULARY:
        if (s->n_draft || r->h->base.n_vocab)
            compare_number(r, c->key, value, s->n_draft ? s->n_draft : r->h->base.n_vocab);
        break;
    case GG_FACT_BIAS:
        compare_flag(r, c->key, value, !s->bias_free);
        break;
    case GG_FACT_ONE_OUTPUT:
        compare_flag(r, c->key, value,
                     s->n_heads > 1 ? !s->own_output || s->shared_output : json_is_true(value));
        break;
    case GG_FACT_SEES_TOKENS:
        compare_flag(r, c->key, value, s->root_embedding);
        break;
    case GG_FACT_SHARED_VERSION:
        if (json_is_string(value) && strcmp(json_string_value(value), "2") == 0 && s->own_output)
            contradict(r, c->key, value, "heads have outputs of their own");
        break;
    case GG_FACT_STATE:
        return check_state(r, c->key, value);
    case GG_FACT_SCALE:
        return take_scale(r, c->key, value);
    case GG_FACT_NAME:
        return take_name(r, value);
    case GG_FACT_NONE:
        break;
    }
    return GORGON_OK;
}

static gorgon_status check_claims(const reader *r, const json_t *config)
{
    json_t *shown = json_object();
    gorgon_status status = GORGON_OK;
    for (const gg_layout_claim *c = r->g->layout->claims; c->key && status == GORGON_OK; c++) {
        json_t *value = json_object_get(config, c->key);
        if (!value)
            continue;
        json_object_set(shown, c->key, value);
        status = check_claim(r, c, value);
    }
    char *text = json_dumps(shown, JSON_COMPACT);
    r->h->config = text ? gg_strdup(text) : NULL;
    free(text);
    json_decref(shown);
    return status;
}

gorgon_status gg_layout_config(gorgon_heads *h, gg_layout_grid *g, gorgon_error *err)
{
    char path[GG_MAX_PATH];
    const char *file = gg_tensor_file_path(h->tensors), *slash = strrchr(file, '/');
    const reader r = {h, g, err};
    gorgon_error problem = {0};
    json_t *config = NULL;
    const int n =
        snprintf(path, sizeof path, "%.*sconfig.json", slash ? (int)(slash - file) + 1 : 0, file);
    if (h->in_memory || n < 0 || (size_t)n >= sizeof path || access(path, F_OK) != 0)
        return GORGON_OK;
    if (gg_json_read(path, &config, &problem) != GORGON_OK) {
        gg_heads_warn(h, "%s is left out of account: %s", gg_path_end(path), problem.message);
        return GORGON_OK;
    }
    gorgon_status status = check_claims(&r, config);
    json_decref(config);
    return status;
}
