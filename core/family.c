// The table of model families and the reader of their metadata. A new family that combines what is
// known here is one entry; keys are read below, tensors in model_load.c.
#include "family.h"

#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/limits.h"
#include "core/math.h"

static const gg_family families[] = {
    // Llama 1 to 3, SmolLM2, TinyLlama, Vicuna, Mistral
    {.name = "llama", .rope_factors = GG_OPTIONAL, .window = GG_OPTIONAL},
    {.name = "qwen2", .split_pairs = true, .biases = GG_REQUIRED},
    {.name = "qwen3", .split_pairs = true, .head_norms = GG_REQUIRED},
    {.name = "gemma3",
     .split_pairs = true,
     .head_norms = GG_REQUIRED,
     .post_norms = GG_REQUIRED,
     .window = GG_REQUIRED,
     .window_period = 6,
     .window_rope_base = 10000.0f,
     .activation = GG_GELU,
     .scaled_embedding = true,
     .wide_query_n_layers = 62}, // 27B
    {.name = "phi3",
     .fused = true,
     .split_pairs = true,
     .long_rope = GG_OPTIONAL,
     .window = GG_OPTIONAL},
};

enum { N_FAMILIES = sizeof families / sizeof families[0], KEY_BYTES = GG_MAX_NAME + 1 };

// Keys that change nothing: whatever their value (valued false), or with this one.
static const struct {
    const char *suffix;
    bool valued;
    float value;
} indifferent[] = {
    {"vocab_size", false, 0}, // the vocabulary itself counts
    {"tensor_data_layout", false, 0},
    {"rope.scaling.finetuned", false, 0},
    {"attention.causal", true, 1},
    {"expert_count", true, 0},
    {"expert_used_count", true, 0},
    {"attn_logit_softcapping", true, 0},
    {"final_logit_softcapping", true, 0},
};

// Reads keys one by one; the first error sticks, and what is read after it is not used.
typedef struct reader {
    const gg_gguf *file;
    const char *path;
    const gg_family *family;
    gorgon_error *err;
    gorgon_status status;
    char key[KEY_BYTES]; // the one asked for last
    gg_gguf_kind kind;   // of its value
    bool *known;         // [keys of the file]
} reader;

// Whether the file has the key; it counts as known from now on.
static bool find(reader *r, const char *suffix)
{
    snprintf(r->key, sizeof r->key, "%s.%s", r->family->name, suffix);
    for (size_t i = 0; i < gg_gguf_key_count(r->file); i++) {
        if (strcmp(gg_gguf_key_at(r->file, i, &r->kind), r->key) == 0) {
            r->known[i] = true;
            return r->status == GORGON_OK;
        }
    }
    return false;
}

static size_t need_size(reader *r, const char *suffix, uint64_t low, uint64_t high)
{
    uint64_t value = low;
    find(r, suffix);
    if (r->status == GORGON_OK)
        r->status = gg_gguf_get_u64(r->file, r->key, &value, r->err);
    if (r->status == GORGON_OK && (value < low || value > high))
        r->status = gg_fail(r->err, GORGON_ERROR_FORMAT, "%s: %s is %llu, expected %llu to %llu",
                            r->path, r->key, (unsigned long long)value, (unsigned long long)low,
                            (unsigned long long)high);
    return r->status == GORGON_OK ? (size_t)value : (size_t)low;
}

static size_t size_or(reader *r, const char *suffix, uint64_t low, uint64_t high, size_t fallback)
{
    return find(r, suffix) ? need_size(r, suffix, low, high) : fallback;
}

static float need_float(reader *r, const char *suffix, float low, float high)
{
    float value = low;
    find(r, suffix);
    if (r->status == GORGON_OK)
        r->status = gg_gguf_get_f32(r->file, r->key, &value, r->err);
    if (r->status == GORGON_OK && !(value >= low && value <= high))
        r->status = gg_fail(r->err, GORGON_ERROR_FORMAT, "%s: %s is %g, expected %g to %g", r->path,
                            r->key, (double)value, (double)low, (double)high);
    return r->status == GORGON_OK ? value : low;
}

static float float_or(reader *r, const char *suffix, float low, float high, float fallback)
{
    return find(r, suffix) ? need_float(r, suffix, low, high) : fallback;
}

static void read_sizes(reader *r, gg_geometry *g)
{
    g->n_layers = need_size(r, "block_count", 1, GG_MAX_LAYERS);
    g->d_model = need_size(r, "embedding_length", 32, GG_MAX_WIDTH);
    g->d_ff = need_size(r, "feed_forward_length", 32, GG_MAX_WIDTH);
    g->n_heads = need_size(r, "attention.head_count", 1, GG_MAX_HEADS);
    g->context_length = need_size(r, "context_length", 1, GG_MAX_CONTEXT);
    g->n_kv_heads = size_or(r, "attention.head_count_kv", 1, GG_MAX_HEADS, g->n_heads);
    g->head_dim = size_or(r, "attention.key_length", 2, 256, g->d_model / g->n_heads);
    g->n_rotary = size_or(r, "rope.dimension_count", 1, 1024, g->head_dim);
    g->norm_eps = need_float(r, "attention.layer_norm_rms_epsilon", 1e-12f, 0.1f);
}

static void check_heads(reader *r, const gg_geometry *g)
{
    size_t value = size_or(r, "attention.value_length", 1, 1024, g->head_dim);
    if (r->status != GORGON_OK)
        return;
    if (g->head_dim < 2 || g->head_dim > 256 || g->head_dim % 2)
        r->status = gg_fail(r->err, GORGON_ERROR_UNSUPPORTED,
                            "%s: head width is %zu, expected an even number from 2 to 256", r->path,
                            g->head_dim);
    else if (g->n_rotary > g->head_dim || g->n_rotary % 2 || value != g->head_dim)
        r->status = gg_fail(r->err, GORGON_ERROR_UNSUPPORTED,
                            "%s: rotary width %zu and value width %zu, expected an even number up "
                            "to the head width %zu and that width",
                            r->path, g->n_rotary, value, g->head_dim);
    else if (g->n_heads % g->n_kv_heads || g->n_heads / g->n_kv_heads > 16)
        r->status = gg_fail(r->err, GORGON_ERROR_FORMAT,
                            "%s: %zu attention heads over %zu KV heads, expected a multiple up "
                            "to 16",
                            r->path, g->n_heads, g->n_kv_heads);
}

// 1 / sqrt of the width that the family takes for it, or what the file says.
static float read_query_scale(reader *r, const gg_geometry *g)
{
    bool wide = g->n_layers == r->family->wide_query_n_layers;
    double width = (double)(wide ? g->d_model / g->n_heads : g->head_dim);
    return float_or(r, "attention.scale", 1e-6f, 1e3f, (float)(1.0 / gg_sqrt(width)));
}

static void read_rope(reader *r, gg_geometry *g)
{
    const gg_family *f = r->family;
    gg_rope *rope = &g->rope[0];
    const char *type = "linear"; // what a factor alone stands for
    rope->base = float_or(r, "rope.freq_base", 1.0f, 1e12f, 10000.0f);
    rope->divisor = float_or(r, "rope.scaling.factor", 0.25f, 1e6f,
                             float_or(r, "rope.scale_linear", 0.25f, 1e6f, 1.0f));
    rope->magnitude = float_or(r, "rope.scaling.attn_factor", 1e-3f, 1e3f, 1.0f);
    rope->original_context =
        size_or(r, "rope.scaling.original_context_length", 1, GG_MAX_CONTEXT, g->context_length);
    if (find(r, "rope.scaling.type"))
        r->status = gg_gguf_get_string(r->file, r->key, &type, NULL, r->err);
    bool longrope = strcmp(type, "longrope") == 0 && f->long_rope && rope->divisor == 1.0f;
    if (strcmp(type, "none") == 0)
        rope->divisor = 1.0f;
    else if (r->status == GORGON_OK && !longrope && strcmp(type, "linear") != 0)
        r->status = gg_fail(r->err, GORGON_ERROR_UNSUPPORTED,
                            "%s: rope scaling '%s' by %g is not supported for %s, expected none%s",
                            r->path, type, (double)rope->divisor, f->name,
                            f->long_rope ? ", linear or longrope by 1" : " or linear");
    g->n_ropes = 1;
    if (f->window_rope_base > 0) {
        float base = float_or(r, "rope.freq_base_swa", 1.0f, 1e12f, f->window_rope_base);
        g->rope[g->n_ropes++] = (gg_rope){.base = base, .divisor = 1.0f, .magnitude = 1.0f};
    }
}

// has[l] of the layers that have a window, by the file's own pattern or the family's.
static void read_pattern(reader *r, size_t n_layers, int64_t *has)
{
    const char *suffix = "attention.sliding_window_pattern";
    if (find(r, suffix) && r->kind == GG_GGUF_ARRAY) {
        r->status = gg_gguf_array_i64(r->file, r->key, has, n_layers, r->err);
        return;
    }
    size_t period = size_or(r, suffix, 0, GG_MAX_LAYERS, r->family->window_period);
    for (size_t l = 0; l < n_layers; l++)
        has[l] = period == 0 || l % period + 1 < period;
}

static void read_windows(reader *r, gorgon_model *m)
{
    const gg_family *f = r->family;
    const gg_geometry *g = &m->geometry;
    const char *suffix = "attention.sliding_window";
    int64_t has[GG_MAX_LAYERS] = {0};
    size_t window = 0;
    if (find(r, suffix) || f->window == GG_REQUIRED)
        window = need_size(r, suffix, 0, UINT32_MAX);
    if (window > 0)
        read_pattern(r, g->n_layers, has);
    if (r->status == GORGON_OK && window < g->context_length && window > 0 && !f->window)
        r->status = gg_fail(r->err, GORGON_ERROR_UNSUPPORTED,
                            "%s: %s.%s is %zu, expected none below the context of %zu: %s models "
                            "run without windows",
                            r->path, f->name, suffix, window, g->context_length, f->name);
    for (size_t l = 0; l < g->n_layers && r->status == GORGON_OK; l++) {
        m->layers[l].window = has[l] && window < g->context_length ? window : 0;
        m->layers[l].rope = has[l] ? g->n_ropes - 1 : 0;
    }
}

// The value of the key found last as a number; -1 if it is none.
static float number(reader *r)
{
    float value = 0;
    uint64_t integer = 0;
    bool truth = false;
    if (r->kind == GG_GGUF_BOOL && gg_gguf_get_bool(r->file, r->key, &truth, NULL) == GORGON_OK)
        return truth;
    if (gg_gguf_get_f32(r->file, r->key, &value, NULL) == GORGON_OK)
        return value;
    if (gg_gguf_get_u64(r->file, r->key, &integer, NULL) == GORGON_OK)
        return (float)integer;
    return -1.0f;
}

static void check_all_known(reader *r)
{
    size_t prefix = strlen(r->family->name);
    for (size_t i = 0; i < sizeof indifferent / sizeof indifferent[0]; i++) {
        if (!find(r, indifferent[i].suffix) || !indifferent[i].valued)
            continue;
        float value = number(r);
        if (value != indifferent[i].value) {
            r->status =
                gg_fail(r->err, GORGON_ERROR_UNSUPPORTED,
                        "%s: %s is %g, this build runs %s models with %g only", r->path, r->key,
                        (double)value, r->family->name, (double)indifferent[i].value);
            return;
        }
    }
    for (size_t i = 0; i < gg_gguf_key_count(r->file) && r->status == GORGON_OK; i++) {
        const char *key = gg_gguf_key_at(r->file, i, NULL);
        if (!r->known[i] && strncmp(key, r->family->name, prefix) == 0 && key[prefix] == '.')
            r->status = gg_fail(r->err, GORGON_ERROR_UNSUPPORTED,
                                "%s: key '%s' is not one that this build knows for %s models",
                                r->path, key, r->family->name);
    }
}

static gorgon_status read_family(reader *r, gorgon_model *m)
{
    gg_geometry *g = &m->geometry;
    read_sizes(r, g);
    check_heads(r, g);
    if (r->status != GORGON_OK)
        return r->status;
    m->layers = gg_alloc(g->n_layers, sizeof *m->layers);
    if (!m->layers)
        return gg_fail(r->err, GORGON_ERROR_MEMORY, "%s: out of memory", r->path);
    g->activation = r->family->activation;
    g->query_scale = read_query_scale(r, g);
    g->embedding_scale = r->family->scaled_embedding ? (float)gg_sqrt((double)g->d_model) : 1.0f;
    read_rope(r, g);
    read_windows(r, m);
    if (r->status == GORGON_OK)
        check_all_known(r);
    return r->status;
}

// The names of all families, for the message that refuses another.
static void list_families(char *text, size_t size)
{
    text[0] = '\0';
    for (size_t i = 0; i < N_FAMILIES; i++) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%s%s", i ? ", " : "", families[i].name);
    }
}

static gorgon_status read_names(const gg_gguf *file, gorgon_model *m, gorgon_error *err)
{
    const char *text = "";
    gorgon_status status = gg_gguf_get_string(file, "general.architecture", &text, NULL, err);
    if (status != GORGON_OK)
        return status;
    for (size_t i = 0; i < N_FAMILIES; i++) {
        if (strcmp(text, families[i].name) == 0)
            m->family = &families[i];
    }
    if (!m->family) {
        char known[128];
        list_families(known, sizeof known);
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "%s: architecture is '%.40s', expected one of %s", m->path, text, known);
    }
    m->architecture = m->family->name;
    text = "";
    if (gg_gguf_has(file, "general.name") &&
        gg_gguf_get_string(file, "general.name", &text, NULL, NULL) != GORGON_OK)
        text = "";
    m->name = gg_strdup(text);
    return m->name ? GORGON_OK : gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", m->path);
}

gorgon_status gg_family_read(const gg_gguf *file, gorgon_model *model, gorgon_error *err)
{
    gorgon_status status = read_names(file, model, err);
    if (status != GORGON_OK)
        return status;
    reader r = {.file = file, .path = model->path, .family = model->family, .err = err};
    r.known = gg_alloc(gg_gguf_key_count(file), sizeof *r.known);
    status = r.known ? read_family(&r, model)
                     : gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", model->path);
    gg_free(r.known);
    return status;
}
