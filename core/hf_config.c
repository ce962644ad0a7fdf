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
    {.model_type = "llama",
     .architecture = "llama",
     .activation = "silu",
     .interleaved = true,
     .norm_eps = 1e-6,
     .rope_base = 1e4},
    {.model_type = "mistral",
     .architecture = "llama",
     .activation = "silu",
     .interleaved = true,
     .windows = true,
     .norm_eps = 1e-6,
     .rope_base = 1e4,
     .window = 4096},
    {.model_type = "qwen2",
     .architecture = "qwen2",
     .activation = "silu",
     .norm_eps = 1e-6,
     .rope_base = 1e4},
    {.model_type = "qwen3",
     .architecture = "qwen3",
     .activation = "silu",
     .norm_eps = 1e-6,
     .rope_base = 1e4},
    {.model_type = "phi3",
     .architecture = "phi3",
     .activation = "silu",
     .windows = true,
     .long_rope = true,
     .norm_eps = 1e-5,
     .rope_base = 1e4},
    {.model_type = "gemma3_text",
     .architecture = "gemma3",
     .activation = "gelu_pytorch_tanh",
     .norms_less_one = true,
     .four_norms = true,
     .windows = true,
     .norm_eps = 1e-6,
     .rope_base = 1e6,
     .window = 4096,
     .query_width = 256},
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
    const gg_hf_family *f = c->family;
    const double base_window = 1e4;
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < sizeof needed / sizeof *needed && status == GORGON_OK; i++)
        status = gg_json_size(r->at, needed[i].key, needed[i].low, needed[i].high, NULL,
                              needed[i].out, r->err);
    if (status != GORGON_OK)
        return status;
    const size_t head_dim = c->d_model / c->n_heads;
    // null: none, whatever the family has
    const size_t window = json_object_get(r->at.object, "sliding_window") ? 0 : f->window;
    status = gg_json_size(r->at, "num_key_value_heads", 1, c->n_heads, &c->n_heads, &c->n_kv_heads,
                          r->err);
    if (status == GORGON_OK)
        status =
            gg_json_size(r->at, "head_dim", 1, GG_HF_MAX_HEAD, &head_dim, &c->head_dim, r->err);
    if (status == GORGON_OK)
        status = gg_json_size(r->at, "sliding_window", 1, UINT32_MAX, &window, &c->window, r->err);
    if (status == GORGON_OK)
        status =
            gg_json_real(r->at, "rms_norm_eps", 1e-12, 0.1, &f->norm_eps, &c->norm_eps, r->err);
    if (status == GORGON_OK)
        status = gg_json_real(r->at, "rope_theta", 1.0, 1e12, &f->rope_base, &c->rope_base, r->err);
    if (status == GORGON_OK)
        status = gg_json_real(r->at, "rope_local_base_freq", 1.0, 1e12, &base_window,
                              &c->rope_base_window, r->err);
    return status;
}

// What has to be false or absent: the family's forward pass has no place for it.
static gorgon_status check_absent(const reading *r)
{
    static const char *const keys[] = {"attn_logit_softcapping", "final_logit_softcapping"};
    bool bidirectional = false, windows = false;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (gg_json_find(r->at, keys[i]))
            return refuse(r, keys[i], "set", "null");
    }
    gorgon_status status =
        gg_json_bool(r->at, "use_bidirectional_attention", false, &bidirectional, r->err);
    if (status == GORGON_OK && bidirectional)
        return refuse(r, "use_bidirectional_attention", "true", "false");
    if (status == GORGON_OK)
        status = gg_json_bool(r->at, "use_sliding_window", false, &windows, r->err);
    if (status == GORGON_OK && windows && !r->c->family->windows)
        return refuse(r, "use_sliding_window", "true", "false");
    return status;
}

static gorgon_status check_options(const reading *r)
{
    gg_hf_config *c = r->c;
    const gg_hf_family *f = c->family;
    const char *key = gg_json_find(r->at, "hidden_act") ? "hidden_act" : "hidden_activation";
    const char *activation = NULL;
    const double whole = 1.0;
    gorgon_status status = gg_json_text(r->at, key, &activation, r->err);
    if (status == GORGON_OK && activation && strcmp(activation, f->activation) != 0)
        return refuse(r, key, activation, f->activation);
    if (status == GORGON_OK)
        status = check_absent(r);
    c->query_width = c->head_dim;
    if (status == GORGON_OK && f->query_width)
        status = gg_json_size(r->at, "query_pre_attn_scalar", 1, GG_MAX_WIDTH, &f->query_width,
                              &c->query_width, r->err);
    if (status == GORGON_OK)
        status =
            gg_json_real(r->at, "partial_rotary_factor", 0.01, 1.0, &whole, &c->rotated, r->err);
    if (!f->windows)
        c->window = 0;
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

size_t gg_hf_rotary_width(const gg_hf_config *c)
{
    return (size_t)((double)c->head_dim * c->rotated);
}

// Wavelengths below original / high keep their frequency, those above original / low are stretched
// by the factor, between them it is a blend (transformers, modeling_rope_utils.py).
static gorgon_status read_llama3(const reading *r, gg_json_place scaling)
{
    gg_hf_divisors *divisors = &r->c->divisors[0];
    const size_t width = gg_hf_rotary_width(r->c);
    double factor = 1.0, low = 1.0, high = 2.0;
    size_t original = 1;
    gorgon_status status = gg_json_real(scaling, "factor", 1.0, 1e6, NULL, &factor, r->err);
    if (status == GORGON_OK)
        status = gg_json_real(scaling, "low_freq_factor", 1e-6, 1e6, NULL, &low, r->err);
    if (status == GORGON_OK)
        status = gg_json_real(scaling, "high_freq_factor", 1e-6, 1e6, NULL, &high, r->err);
    if (status == GORGON_OK)
        status = gg_json_size(scaling, "original_max_position_embeddings", 1, GG_MAX_CONTEXT, NULL,
                              &original, r->err);
    if (status == GORGON_OK && high <= low)
        status = refuse(r, "high_freq_factor", "not above low_freq_factor", "more");
    if (status != GORGON_OK)
        return status;
    const double step = gg_log(r->c->rope_base) * 2.0 / (double)width;
    for (size_t i = 0; i < width / 2; i++) {
        const double turns = (double)original * gg_exp(-step * (double)i) / two_pi;
        double smooth = (turns - low) / (high - low);
        smooth = smooth < 0.0 ? 0.0 : smooth > 1.0 ? 1.0 : smooth;
        divisors->values[i] = (float)(1.0 / ((1.0 - smooth) / factor + smooth));
    }
    divisors->name = "rope_freqs.weight";
    r->c->n_divisors = 1;
    return GORGON_OK;
}

static gorgon_status read_divisors(const reading *r, gg_json_place scaling, const char *key,
                                   const char *name)
{
    gg_hf_divisors *divisors = &r->c->divisors[r->c->n_divisors++];
    divisors->name = name;
    return gg_json_reals(scaling, key, gg_hf_rotary_width(r->c) / 2, GG_MIN_DIVISOR, GG_MAX_DIVISOR,
                         divisors->values, r->err);
}

// As transformers has it (modeling_rope_utils.py): the context trained first stands beside
// rope_scaling, and what rope_scaling says of it is not heard.
static gorgon_status read_longrope(const reading *r, gg_json_place scaling)
{
    gg_hf_config *c = r->c;
    const size_t usual_context = 4096;
    double factor = 1.0;
    gorgon_status status =
        gg_json_size(r->at, "original_max_position_embeddings", 2, GG_MAX_CONTEXT, &usual_context,
                     &c->original_context, r->err);
    if (status != GORGON_OK)
        return status;
    const double original = (double)c->original_context;
    const double ratio = (double)c->context_length / original;
    status = gg_json_real(scaling, "factor", 1e-6, 1e6, &ratio, &factor, r->err);
    if (status != GORGON_OK)
        return status;
    const double magnitude = factor > 1.0 ? gg_sqrt(1.0 + gg_log(factor) / gg_log(original)) : 1.0;
    status = gg_json_real(scaling, "attention_factor", 1e-3, 1e3, &magnitude, &c->rope_magnitude,
                          r->err);
    if (status == GORGON_OK)
        status = read_divisors(r, scaling, "short_factor", "rope_factors_short.weight");
    return status == GORGON_OK
               ? read_divisors(r, scaling, "long_factor", "rope_factors_long.weight")
               : status;
}

static gorgon_status read_scaling(const reading *r, gg_json_place at, const char *type)
{
    const gg_hf_family *f = r->c->family;
    if (!type || strcmp(type, "default") == 0)
        return GORGON_OK;
    if (f->long_rope) // "su" and "yarn" are its earlier names
        return strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0 || strcmp(type, "yarn") == 0
                   ? read_longrope(r, at)
                   : refuse(r, "rope_type", type, "default or longrope");
    if (strcmp(type, "llama3") == 0 && f->interleaved)
        return read_llama3(r, at);
    if (strcmp(type, "linear") == 0)
        return gg_json_real(at, "factor", 1.0, 1e6, NULL, &r->c->rope_factor, r->err);
    return refuse(r, "rope_type", type,
                  f->interleaved ? "default, linear or llama3" : "default or linear");
}

// An object of "rope_scaling" (older files) or "rope_parameters" (transformers 5): it may also hold
// what else stands beside it.
static gorgon_status read_rope(const reading *r, const json_t *object, double *base)
{
    const gg_json_place at = {object, r->at.label};
    const double beside = *base, share = r->c->rotated;
    const char *type = NULL;
    gorgon_status status =
        gg_json_text(at, gg_json_find(at, "rope_type") ? "rope_type" : "type", &type, r->err);
    if (status == GORGON_OK)
        status = gg_json_real(at, "rope_theta", 1.0, 1e12, &beside, base, r->err);
    if (status == GORGON_OK)
        status =
            gg_json_real(at, "partial_rotary_factor", 0.01, 1.0, &share, &r->c->rotated, r->err);
    return status == GORGON_OK ? read_scaling(r, at, type) : status;
}

// Of the layers with windows and of the others.
static gorgon_status read_nested(const reading *r, const json_t *parameters)
{
    const json_t *full = NULL, *windowed = NULL;
    gg_hf_config *c = r->c;
    const gg_json_place at = {parameters, r->at.label};
    gorgon_status status = gg_json_object(at, "full_attention", &full, r->err);
    if (status == GORGON_OK)
        status = gg_json_object(at, "sliding_attention", &windowed, r->err);
    if (status == GORGON_OK && windowed)
        status = read_rope(r, windowed, &c->rope_base_window);
    if (status == GORGON_OK && c->rope_factor > 1.0)
        return refuse(r, "sliding_attention", "scaled", "rope_type default");
    return status == GORGON_OK ? read_rope(r, full ? full : parameters, &c->rope_base) : status;
}

static gorgon_status read_rotation(const reading *r)
{
    const json_t *scaling = NULL, *parameters = NULL;
    gorgon_status status = gg_json_object(r->at, "rope_scaling", &scaling, r->err);
    if (status == GORGON_OK)
        status = gg_json_object(r->at, "rope_parameters", &parameters, r->err);
    if (status == GORGON_OK && json_object_size(scaling) > 0)
        status = read_rope(r, scaling, &r->c->rope_base);
    else if (status == GORGON_OK && parameters)
        status = read_nested(r, parameters);
    if (status == GORGON_OK && r->c->rotated < 1.0 && !r->c->family->long_rope)
        return refuse(r, "partial_rotary_factor", "less than 1", "1");
    return status;
}

gorgon_status gg_hf_config_open(const char *path, gg_hf_config *out, gorgon_error *err)
{
    json_t *root = NULL;
    *out = (gg_hf_config){.rope_factor = 1.0, .rope_magnitude = 1.0};
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
    put_size(&p, "rope.dimension_count", gg_hf_rotary_width(c));
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
    if (c->original_context > 0) {
        put_size(&p, "rope.scaling.original_context_length", c->original_context);
        put_real(&p, "rope.scaling.attn_factor", c->rope_magnitude);
    }
    if (c->rope_factor > 1.0) {
        put_real(&p, "rope.scaling.factor", c->rope_factor);
        if (p.status == GORGON_OK)
            p.status = gg_gguf_put_string(w, key_of(&p, "rope.scaling.type", key), "linear", err);
    }
    return p.status;
}
