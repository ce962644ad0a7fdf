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

enum { MAX_PATH = 4096, SHOWN = 60 };

typedef struct reader {
    gorgon_heads *h;
    const gg_layout_grid *g;
} reader;

static void contradict(const reader *r, const char *key, const char *claim, const char *counted)
{
    gg_heads_warn(r->h, "%s: config.json says \"%s\": %.60s, the tensors say %s", r->h->label, key,
                  claim, counted);
}

static void compare_number(const reader *r, const char *key, const json_t *value, uint64_t counted)
{
    char claim[32], count[32];
    if (json_is_null(value) || (json_is_integer(value) && json_integer_value(value) >= 0 &&
                                (uint64_t)json_integer_value(value) == counted))
        return;
    if (json_is_integer(value))
        snprintf(claim, sizeof claim, "%lld", (long long)json_integer_value(value));
    snprintf(count, sizeof count, "%" PRIu64, counted);
    contradict(r, key, json_is_integer(value) ? claim : "no whole number", count);
}

static void compare_flag(const reader *r, const char *key, const json_t *value, bool counted)
{
    if (!json_is_null(value) && !(json_is_boolean(value) && json_is_true(value) == counted))
        contradict(r, key, json_is_true(value) ? "true" : "false", counted ? "true" : "false");
}

// What only the config can tell, and what would need another computation.
static void check_constant(const reader *r, const char *key, const json_t *value, double served)
{
    if (json_is_number(value) && json_number_value(value) != served)
        gg_heads_warn(r->h,
                      "%s: config.json says \"%s\": %g; these heads are computed as if it "
                      "were %g",
                      r->h->label, key, json_number_value(value), served);
}

// The vocabulary's size, unless the tensors tell it; ids must fit in any case.
static void take_vocabulary(const reader *r, const char *key, const json_t *value)
{
    const gg_head_set *set = &r->h->sets[0];
    const json_int_t n = json_integer_value(value);
    bool fits = json_is_integer(value) && n > 0 && n <= (json_int_t)GG_MAX_VOCAB;
    if (r->h->base.n_vocab) {
        compare_number(r, key, value, r->h->base.n_vocab);
        return;
    }
    for (size_t i = 0; fits && i < set->shape.n_draft; i++)
        fits = set->draft_ids[i] < (uint64_t)n;
    if (fits)
        r->h->base.n_vocab = (uint32_t)n;
    else if (!json_is_null(value))
        contradict(r, key, "too few tokens", "there are more");
}

static gorgon_status take_name(const reader *r, const json_t *value, gorgon_error *err)
{
    if (!json_is_string(value) || r->h->base_name)
        return GORGON_OK;
    r->h->base_name = gg_strdup(json_string_value(value));
    return r->h->base_name ? GORGON_OK
                           : gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", r->h->label);
}

static gorgon_status check_claim(const reader *r, const gg_layout_claim *c, const json_t *value,
                                 gorgon_error *err)
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
            contradict(r, c->key, "\"2\", the base's output", "heads have their own");
        break;
    case GG_FACT_ZERO:
        check_constant(r, c->key, value, 0);
        break;
    case GG_FACT_ONE:
        check_constant(r, c->key, value, 1);
        break;
    case GG_FACT_NAME:
        return take_name(r, value, err);
    case GG_FACT_NONE:
        break;
    }
    return GORGON_OK;
}

static gorgon_status check_claims(const reader *r, const json_t *config, gorgon_error *err)
{
    json_t *shown = json_object();
    gorgon_status status = GORGON_OK;
    for (const gg_layout_claim *c = r->g->layout->claims; c->key && status == GORGON_OK; c++) {
        json_t *value = json_object_get(config, c->key);
        if (!value)
            continue;
        json_object_set(shown, c->key, value);
        status = check_claim(r, c, value, err);
    }
    char *text = json_dumps(shown, JSON_COMPACT);
    r->h->config = text ? gg_strdup(text) : NULL;
    free(text);
    json_decref(shown);
    return status;
}

gorgon_status gg_layout_config(gorgon_heads *h, const gg_layout_grid *g, gorgon_error *err)
{
    char path[MAX_PATH];
    const char *file = gg_tensor_file_path(h->tensors), *slash = strrchr(file, '/');
    const reader r = {h, g};
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
    gorgon_status status = check_claims(&r, config, err);
    json_decref(config);
    return status;
}
