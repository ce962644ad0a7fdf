// See hf_config.h.
#include "hf_config.h"

#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "core/limits.h"
#include "core/math.h"

enum { WINDOW_PERIOD = 6 }; // gemma3: so many layers, of which the last sees all
static const double two_pi = 6.283185307179586;

static const gg_hf_family families[] = {
    {.model_type = "llama", .architecture = "llama", .activation = "silu", .interleaved = true},
    {.model_type = "mistral",
     .architecture = "llama",
     .activation = "silu",
     .interleaved = true,
     .windows = true},
    {.model_type = "qwen2", .architecture = "qwen2", .activation = "silu"},
    {.model_type = "qwen3", .architecture = "qwen3", .activation = "silu"},
    {.model_type = "phi3", .architecture = "phi3", .activation = "silu", .windows = true},
    {.model_type = "gemma3_text",
     .architecture = "gemma3",
     .activation = "gelu_pytorch_tanh",
     .norms_less_one = true,
     .four_norms = true,
     .windows = true},
};

// A config while it is read.
typedef struct reading {
    gg_json_place at;
    gg_hf_config *c;
    gorgon_error *err;
} reading;

static gorgon_status refuse(const reading *r, const char *key, const char *got,
                            const char *expected)
{
    return gg_fail(r->err, GORGON_ERROR_UNSUPPORTED, "%s: '%s' is %.60s, expected %s", r->at.label,
                   key, got, expected);
}

static gorgon_status find_family(reading *r)
{
    const char *type = NULL;
    char list[200] = "";
    gorgon_status status = gg_json_text(r->at, "model_type", &type, r->err);
    for (size_t i = 0; type && i < sizeof families / sizeof *families; i++) {
        if (strcmp(families[i].model_type, type) == 0)
            r->c->family = &families[i];
    }
    if (status != GORGON_OK || r->c->family)
        return status;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        gg_list_append(list, sizeof list, families[i].model_type);
    return refuse(r, "model_type", type ? type : "absent", list);
}

static gorgon_status read_geometry(const reading *r)
{
    gg_hf_config *c = r->c;
    const struct {
        const char *key;
        uint64_t low, high;
        size_t *out;
    } needed[] = {{"num_hidden_layers", 1, GG_MAX_LAYERS, &c->n_layers},
                  {"hidden_size", 1, GG_MAX_WIDTH, &c->d_model},
                  {"intermediate_size", 1, GG_MAX_WIDTH, &c->d_ff},
                  {"num_attention_heads", 1, GG_MAX_HEADS, &c->n_heads},
                  {"vocab_size", 1, GG_MAX_VOCAB, &c->n_vocab},
                  {"max_position_embeddings", 1, UINT32_MAX, &c->context_length}};
    const double eps = 1e-6, base = 10000.0;
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < sizeof needed / sizeof *needed && status == GORGON_OK; i++)
        status = gg_json_size(r->at, needed[i].key, needed[i].low, needed[i].high, NULL,
                              needed[i].out, r->err);
    if (status != GORGON_OK)
        return status;
    const size_t head_dim = c->d_model / c->n_heads, window = 0;
    status = gg_json_size(r->at, "num_key_value_heads", 1, c->n_heads, &c->n_heads, &c->n_kv_heads,
                          r->err);
    if (status == GORGON_OK)
        status = gg_json_size(r->at, "head_dim", 1, 1024, &head_dim, &c->head_dim, r->err);
    if (status == GORGON_OK)
        status = gg_json_size(r->at, "sliding_window", 1, UINT32_MAX, &window, &c->window, r->err);
    if (status == GORGON_OK)
        status = gg_json_real(r->at, "rms_norm_eps", 1e-12, 0.1, &eps, &c->norm_eps, r->err);
    if (status == GORGON_OK)
        status = gg_json_real(r->at, "rope_theta", 1.0, 1e12, &base, &c->rope_base, r->err);
    if (status == GORGON_OK)
        status = gg_json_real(r->at, "rope_local_base_freq", 1.0, 1e12, &base, &c->rope_base_window,
                              r->err);
    return status;
}

// Options of the architecture that its GGUF files have no place for.
static gorgon_status check_options(const reading *r)
{
    const gg_hf_config *c = r->c;
    static const char *const absent[] = {"attn_logit_softcapping", "final_logit_softcapping"};
    const char *activation = NULL;
    bool windows = false;
    const double whole = 1.0;
    gorgon_status status =
        gg_json_text(r->at, gg_json_find(r->at, "hidden_act") ? "hidden_act" : "hidden_activation",
                     &activation, r->err);
    if (status == GORGON_OK && activation && strcmp(activation, c->family->activation) != 0)
        return refuse(r, "hidden_act", activation, c->family->activation);
    for (size_t i = 0; i < sizeof absent / sizeof *absent && status == GORGON_OK; i++) {
        if (gg_json_find(r->at, absent[i]))
            return refuse(r, absent[i], "set", "null");
    }
    if (status == GORGON_OK)
        status = gg_json_bool(r->at, "use_sliding_window", false, &windows, r->err);
    if (status == GORGON_OK && windows && !c->family->windows)
        return refuse(r, "use_sliding_window", "true", "false");
    if (status == GORGON_OK)
        status = gg_json_size(r->at, "query_pre_attn_scalar", 1, GG_MAX_WIDTH, &c->head_dim,
                              &r->c->query_width, r->err);
    if (status == GORGON_OK)
        status =
            gg_json_real(r->at, "partial_rotary_factor", 0.01, 1.0, &whole, &r->c->rotated, r->err);
    if (!c->family->windows)
        r->c->window = 0;
    return status;
}

// Which layers have windows is a period in a GGUF file.
static gorgon_status check_layers(const reading *r)
{
    const json_t *types = gg_json_find(r->at, "layer_types");
    const size_t usual = WINDOW_PERIOD;
    size_t *period = &r->c->window_period;
    if (!r->c->family->four_norms)
        return GORGON_OK;
    const char *key = gg_json_find(r->at, "sliding_window_pattern") ? "sliding_window_pattern"
                                                                    : "_sliding_window_pattern";
    gorgon_status status = gg_json_size(r->at, key, 1, GG_MAX_LAYERS, &usual, period, r->err);
    for (size_t i = 0; status == GORGON_OK && types && i < r->c->n_layers; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        const bool whole = (i + 1) % *period == 0;
        if (!type || strcmp(type, whole ? "full_attention" : "sliding_attention") != 0)
            return refuse(r, "layer_types", type ? type : "incomplete",
                          "sliding_attention but for the last layer of every period");
    }
    return status;
}

static gorgon_status read_llama3(const reading *r, gg_json_place scaling)
{
    struct gg_hf_llama3 *l = &r->c->llama3;
    gorgon_status status = gg_json_real(scaling, "factor", 1.0, 1e6, NULL, &l->factor, r->err);
    if (status == GORGON_OK)
        status = gg_json_real(scaling, "low_freq_factor", 1e-6, 1e6, NULL, &l->low, r->err);
    if (status == GORGON_OK)
        status = gg_json_real(scaling, "high_freq_factor", 1e-6, 1e6, NULL, &l->high, r->err);
    if (status == GORGON_OK)
        status = gg_json_size(scaling, "original_max_position_embeddings", 1, GG_MAX_CONTEXT, NULL,
                              &l->original, r->err);
    if (status == GORGON_OK && l->high <= l->low)
        status = refuse(r, "high_freq_factor", "not above low_freq_factor", "more");
    return status;
}

// One of "rope_scaling" (older files) and "rope_parameters" (transformers 5), which also may hold
// rope_theta.
static gorgon_status read_rope(const reading *r, const json_t *object, double *base)
{
    const gg_json_place at = {object, r->at.label};
    const char *type = NULL;
    gorgon_status status =
        gg_json_text(at, gg_json_find(at, "rope_type") ? "rope_type" : "type", &type, r->err);
    const double same = *base;
    if (status == GORGON_OK)
        status = gg_json_real(at, "rope_theta", 1.0, 1e12, &same, base, r->err);
    if (status != GORGON_OK || !type || strcmp(type, "default") == 0)
        return status;
    if (strcmp(type, "llama3") == 0 && r->c->family->interleaved)
        return read_llama3(r, at);
    if (strcmp(type, "linear") == 0)
        return gg_json_real(at, "factor", 1.0, 1e6, NULL, &r->c->rope_factor, r->err);
    return refuse(r, "rope_type", type, "default, linear, or llama3 in a llama model");
}

static gorgon_status read_rotation(const reading *r)
{
    const json_t *scaling = NULL, *parameters = NULL, *full = NULL, *windowed = NULL;
    gg_hf_config *c = r->c;
    gorgon_status status = gg_json_object(r->at, "rope_scaling", &scaling, r->err);
    if (status == GORGON_OK)
        status = gg_json_object(r->at, "rope_parameters", &parameters, r->err);
    if (status == GORGON_OK && scaling)
        status = read_rope(r, scaling, &c->rope_base);
    if (status != GORGON_OK || !parameters)
        return status;
    const gg_json_place at = {parameters, r->at.label};
    status = gg_json_object(at, "full_attention", &full, r->err);
    if (status == GORGON_OK)
        status = gg_json_object(at, "sliding_attention", &windowed, r->err);
    if (status == GORGON_OK && windowed)
        status = read_rope(r, windowed, &c->rope_base_window);
    if (status == GORGON_OK && c->rope_factor > 1.0 && windowed)
        return refuse(r, "sliding_attention", "scaled", "rope_type default");
    return status == GORGON_OK ? read_rope(r, full ? full : parameters, &c->rope_base) : status;
}

gorgon_status gg_hf_config_open(const char *path, gg_hf_config *out, gorgon_error *err)
{
    json_t *root = NULL;
    *out = (gg_hf_config){.rope_factor = 1.0};
    reading r = {.at = {NULL, path}, .c = out, .err = err};
    gorgon_status status = gg_json_read(path, &root, err);
    if (status != GORGON_OK)
        return status;
    r.at.object = root;
    status = find_family(&r);
    if (status == GORGON_OK)
        status = read_geometry(&r);
    if (status == GORGON_OK)
        status = check_options(&r);
    if (status == GORGON_OK)
        status = check_layers(&r);
    if (status == GORGON_OK)
        status = read_rotation(&r);
    if (status == GORGON_OK)
        status =
            gg_json_bool(r.at, "tie_word_embeddings", out->family->four_norms, &out->tied, err);
    json_decref(root);
    return status;
}

// Keys of one file, "<architecture>.<name>".
typedef struct putting {
    const gg_hf_config *c;
    gg_gguf_writer *w;
    gorgon_status status;
    gorgon_error *err;
} putting;

static const char *key_of(const putting *p, const char *name, char key[GG_MAX_NAME])
{
    snprintf(key, GG_MAX_NAME, "%s.%s", p->c->family->architecture, name);
    return key;
}

static void put_size(putting *p, const char *name, size_t value)
{
    char key[GG_MAX_NAME];
    if (p->status == GORGON_OK)
        p->status = gg_gguf_put_u32(p->w, key_of(p, name, key), (uint32_t)value, p->err);
}

static void put_real(putting *p, const char *name, double value)
{
    char key[GG_MAX_NAME];
    if (p->status == GORGON_OK)
        p->status = gg_gguf_put_f32(p->w, key_of(p, name, key), (float)value, p->err);
}

gorgon_status gg_hf_config_put(const gg_hf_config *c, gg_gguf_writer *w, gorgon_error *err)
{
    putting p = {.c = c, .w = w, .err = err};
    char key[GG_MAX_NAME];
    p.status = gg_gguf_put_string(w, "general.architecture", c->family->architecture, err);
    put_size(&p, "context_length", c->context_length);
    put_size(&p, "embedding_length", c->d_model);
    put_size(&p, "block_count", c->n_layers);
    put_size(&p, "feed_forward_length", c->d_ff);
    put_size(&p, "attention.head_count", c->n_heads);
    put_size(&p, "attention.head_count_kv", c->n_kv_heads);
    put_size(&p, "attention.key_length", c->head_dim);
    put_size(&p, "attention.value_length", c->head_dim);
    put_real(&p, "attention.layer_norm_rms_epsilon", c->norm_eps);
    put_size(&p, "rope.dimension_count", (size_t)((double)c->head_dim * c->rotated));
    put_real(&p, "rope.freq_base", c->rope_base);
    put_size(&p, "vocab_size", c->n_vocab);
    if (c->window > 0)
        put_size(&p, "attention.sliding_window", c->window);
    if (c->family->four_norms) {
        put_size(&p, "attention.sliding_window_pattern", c->window_period);
        put_real(&p, "rope.freq_base_swa", c->rope_base_window);
    }
    if (c->family->four_norms || c->query_width != c->head_dim) // else readers ask the depth
        put_real(&p, "attention.scale", 1.0 / gg_sqrt((double)c->query_width));
    if (c->rope_factor > 1.0) {
        put_real(&p, "rope.scaling.factor", c->rope_factor);
        if (p.status == GORGON_OK)
            p.status = gg_gguf_put_string(w, key_of(&p, "rope.scaling.type", key), "linear", err);
    }
    return p.status;
}

// Wavelengths below original / high keep their frequency, those above original / low are stretched
// by the factor, between them it is a blend (transformers, modeling_rope_utils.py).
void gg_hf_rope_factors(const gg_hf_config *config, float *factors)
{
    const struct gg_hf_llama3 *l = &config->llama3;
    const double step = gg_log(config->rope_base) * 2.0 / (double)config->head_dim;
    for (size_t i = 0; i < config->head_dim / 2; i++) {
        const double turns = (double)l->original * gg_exp(-step * (double)i) / two_pi;
        double smooth = (turns - l->low) / (l->high - l->low);
        smooth = smooth < 0.0 ? 0.0 : smooth > 1.0 ? 1.0 : smooth;
        factors[i] = (float)(1.0 / ((1.0 - smooth) / l->factor + smooth));
    }
}
