// Opens a llama-family GGUF: reads and range-checks the geometry, claims every tensor by name with
// its expected shape, packs the matrices on a thread team, takes the fingerprint.
#include "model_impl.h"

#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"
#include "core/gguf.h"
#include "core/limits.h"
#include "core/system.h"
#include "core/team.h"

enum { MATRICES_PER_LAYER = 7, NAME_BYTES = 96 };

// What gorgon_model_options.quantize may name.
static const struct {
    const char *word;
    gg_dtype type;
} quantizations[] = {{"q8_0", GG_Q8_0}, {"q4_0", GG_Q4_0}, {"q4_k", GG_Q4_K}};

// A tensor to pack into a matrix.
typedef struct pack_job {
    gg_matrix *w;
    const gg_tensor *tensor;
} pack_job;

typedef struct loader {
    const gg_gguf *file;
    gorgon_model *model;
    pack_job *jobs; // [n_layers * 7 + 2]
    size_t n_jobs, n_claimed;
    gg_dtype quantize; // float matrices become this; F32: they stay
    size_t n_quantized;
    float *values;  // [threads][widest]: a row to be quantised
    uint8_t *bytes; // [threads][4 * widest]: the same quantised
    size_t widest;  // n_in of all matrices
    gorgon_error *err;
} loader;

static gorgon_status read_size(const loader *ld, const char *suffix, uint64_t low, uint64_t high,
                               bool optional, size_t fallback, size_t *out)
{
    char key[NAME_BYTES + 32] = "llama.";
    strncat(key, suffix, sizeof key - 7);
    if (optional && !gg_gguf_has(ld->file, key)) {
        *out = fallback;
        return GORGON_OK;
    }
    uint64_t value = 0;
    gorgon_status status = gg_gguf_get_u64(ld->file, key, &value, ld->err);
    if (status != GORGON_OK)
        return status;
    if (value < low || value > high)
        return gg_fail(ld->err, GORGON_ERROR_FORMAT, "%s: %s is %llu, expected %llu to %llu",
                       ld->model->path, key, (unsigned long long)value, (unsigned long long)low,
                       (unsigned long long)high);
    *out = (size_t)value;
    return GORGON_OK;
}

static gorgon_status read_float(const loader *ld, const char *key, float low, float high,
                                bool optional, float fallback, float *out)
{
    *out = fallback;
    if (optional && !gg_gguf_has(ld->file, key))
        return GORGON_OK;
    gorgon_status status = gg_gguf_get_f32(ld->file, key, out, ld->err);
    if (status != GORGON_OK)
        return status;
    if (!(*out >= low && *out <= high))
        return gg_fail(ld->err, GORGON_ERROR_FORMAT, "%s: %s is %g, expected %g to %g",
                       ld->model->path, key, (double)*out, (double)low, (double)high);
    return GORGON_OK;
}

static gorgon_status read_sizes(loader *ld)
{
    gg_geometry *g = &ld->model->geometry;
    const struct {
        const char *suffix;
        uint64_t low, high;
        size_t *out;
    } fields[] = {
        {"block_count", 1, GG_MAX_LAYERS, &g->n_layers},
        {"embedding_length", 32, GG_MAX_WIDTH, &g->d_model},
        {"feed_forward_length", 32, GG_MAX_WIDTH, &g->d_ff},
        {"attention.head_count", 1, GG_MAX_HEADS, &g->n_heads},
        {"context_length", 1, GG_MAX_CONTEXT, &g->context_length},
    };
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0] && status == GORGON_OK; i++)
        status =
            read_size(ld, fields[i].suffix, fields[i].low, fields[i].high, false, 0, fields[i].out);
    if (status == GORGON_OK)
        status = read_size(ld, "attention.head_count_kv", 1, GG_MAX_HEADS, true, g->n_heads,
                           &g->n_kv_heads);
    if (status == GORGON_OK)
        status = read_size(ld, "attention.key_length", 2, 256, true, g->d_model / g->n_heads,
                           &g->head_dim);
    return status;
}

// What this build computes: whole-head rotation, no scaling of it, equal key and value width.
static gorgon_status check_supported(const loader *ld)
{
    const gg_geometry *g = &ld->model->geometry;
    const char *path = ld->model->path;
    size_t rope = 0, value = 0;
    gorgon_status status = read_size(ld, "rope.dimension_count", 1, 1024, true, g->head_dim, &rope);
    if (status == GORGON_OK)
        status = read_size(ld, "attention.value_length", 1, 1024, true, g->head_dim, &value);
    if (status != GORGON_OK)
        return status;
    if (g->head_dim < 2 || g->head_dim > 256 || g->head_dim % 2)
        return gg_fail(ld->err, GORGON_ERROR_UNSUPPORTED,
                       "%s: head width is %zu, expected an even number from 2 to 256", path,
                       g->head_dim);
    if (rope != g->head_dim || value != g->head_dim)
        return gg_fail(ld->err, GORGON_ERROR_UNSUPPORTED,
                       "%s: rotary width %zu and value width %zu, expected the head width %zu",
                       path, rope, value, g->head_dim);
    if (g->n_heads % g->n_kv_heads || g->n_heads / g->n_kv_heads > 16)
        return gg_fail(ld->err, GORGON_ERROR_FORMAT,
                       "%s: %zu attention heads over %zu KV heads, expected a multiple up to 16",
                       path, g->n_heads, g->n_kv_heads);
    if (gg_gguf_has(ld->file, "llama.rope.scaling.type")) {
        const char *kind = "";
        size_t length = 0;
        status = gg_gguf_get_string(ld->file, "llama.rope.scaling.type", &kind, &length, ld->err);
        if (status == GORGON_OK && strcmp(kind, "none") != 0)
            status = gg_fail(ld->err, GORGON_ERROR_UNSUPPORTED,
                             "%s: rope scaling '%s' is not supported, expected none", path, kind);
    }
    return status;
}

static gorgon_status read_geometry(loader *ld)
{
    gorgon_model *m = ld->model;
    const char *text = "";
    size_t length = 0;
    gorgon_status status =
        gg_gguf_get_string(ld->file, "general.architecture", &text, &length, ld->err);
    if (status != GORGON_OK)
        return status;
    if (strcmp(text, "llama") != 0)
        return gg_fail(ld->err, GORGON_ERROR_UNSUPPORTED,
                       "%s: architecture is '%s', expected 'llama'", m->path, text);
    m->architecture = gg_strdup(text);
    if (gg_gguf_has(ld->file, "general.name") &&
        gg_gguf_get_string(ld->file, "general.name", &text, &length, ld->err) == GORGON_OK)
        m->name = gg_strdup(text);
    else
        m->name = gg_strdup("");
    if (!m->architecture || !m->name)
        return gg_fail(ld->err, GORGON_ERROR_MEMORY, "%s: out of memory", m->path);
    status = read_sizes(ld);
    if (status == GORGON_OK)
        status = check_supported(ld);
    if (status == GORGON_OK)
        status = read_float(ld, "llama.attention.layer_norm_rms_epsilon", 1e-12f, 0.1f, false, 0,
                            &m->geometry.norm_eps);
    if (status == GORGON_OK)
        status = read_float(ld, "llama.rope.freq_base", 1.0f, 1e12f, true, 10000.0f,
                            &m->geometry.rope_base);
    return status;
}

// The tensor `name` with exactly these dimensions (n_out 0: a vector of n_in).
static gorgon_status claim(loader *ld, const char *name, size_t n_in, size_t n_out,
                           const gg_tensor **out)
{
    const char *path = ld->model->path;
    const gg_tensor *t = NULL;
    gorgon_status status = gg_gguf_require(ld->file, name, &t, ld->err);
    if (status != GORGON_OK)
        return status;
    size_t n_dims = n_out ? 2 : 1;
    if (t->n_dims != n_dims || t->dims[0] != n_in || (n_out && t->dims[1] != n_out))
        return gg_fail(ld->err, GORGON_ERROR_FORMAT,
                       "%s: tensor '%s' has shape [%llu, %llu], expected [%zu, %zu]", path, name,
                       (unsigned long long)t->dims[0], (unsigned long long)t->dims[1], n_in,
                       n_out ? n_out : 1);
    if (gg_dtype_row_bytes(t->type, n_in) == 0)
        return gg_fail(ld->err, GORGON_ERROR_UNSUPPORTED,
                       "%s: tensor '%s' has type %s (id %d) with rows of %zu, expected F32, F16, "
                       "BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL or Q2_K to Q6_K in whole blocks",
                       path, name, t->type_name, (int)t->type, n_in);
    ld->n_claimed++;
    ld->model->n_parameters += (uint64_t)n_in * (n_out ? n_out : 1);
    *out = t;
    return GORGON_OK;
}

// The type that a matrix of the file is packed as.
static gg_dtype packed_type(const loader *ld, gg_dtype type, size_t n_in)
{
    const gg_dtype wanted[] = {ld->quantize, GG_Q8_0};
    if (ld->quantize == GG_F32 || gg_dtype_is_quantized(type))
        return type;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        if (gg_dtype_row_bytes(wanted[i], n_in))
            return wanted[i];
    }
    return type;
}

static gorgon_status load_matrix(loader *ld, const char *name, size_t n_in, size_t n_out,
                                 gg_matrix *w)
{
    const gg_tensor *t = NULL;
    gorgon_status status = claim(ld, name, n_in, n_out, &t);
    if (status == GORGON_OK)
        status = gg_matrix_shape(packed_type(ld, t->type, n_in), n_out, n_in, w, ld->err);
    if (status != GORGON_OK)
        return status;
    ld->jobs[ld->n_jobs++] = (pack_job){w, t};
    ld->n_quantized += w->type != t->type;
    ld->widest = n_in > ld->widest ? n_in : ld->widest;
    return GORGON_OK;
}

static gorgon_status load_vector(loader *ld, const char *name, size_t n, float **out)
{
    const gg_tensor *t = NULL;
    gorgon_status status = claim(ld, name, n, 0, &t);
    if (status != GORGON_OK)
        return status;
    if (t->type != GG_F32)
        return gg_fail(ld->err, GORGON_ERROR_UNSUPPORTED,
                       "%s: tensor '%s' has type %s, expected F32", ld->model->path, name,
                       gg_dtype_name(t->type));
    *out = gg_alloc(n, sizeof **out);
    if (!*out)
        return gg_fail(ld->err, GORGON_ERROR_MEMORY, "%s: out of memory for '%s'", ld->model->path,
                       name);
    memcpy(*out, t->data, n * sizeof **out);
    return GORGON_OK;
}

static gorgon_status load_layer(loader *ld, size_t l)
{
    const gg_geometry *g = &ld->model->geometry;
    gg_layer *layer = &ld->model->layers[l];
    size_t q_width = g->n_heads * g->head_dim, kv_width = g->n_kv_heads * g->head_dim;
    const struct {
        const char *suffix;
        size_t n_in, n_out;
        gg_matrix *w;
    } matrices[MATRICES_PER_LAYER] = {
        {"attn_q", g->d_model, q_width, &layer->q},
        {"attn_k", g->d_model, kv_width, &layer->k},
        {"attn_v", g->d_model, kv_width, &layer->v},
        {"attn_output", q_width, g->d_model, &layer->o},
        {"ffn_gate", g->d_model, g->d_ff, &layer->gate},
        {"ffn_up", g->d_model, g->d_ff, &layer->up},
        {"ffn_down", g->d_ff, g->d_model, &layer->down},
    };
    char name[NAME_BYTES];
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < MATRICES_PER_LAYER && status == GORGON_OK; i++) {
        snprintf(name, sizeof name, "blk.%zu.%s.weight", l, matrices[i].suffix);
        status = load_matrix(ld, name, matrices[i].n_in, matrices[i].n_out, matrices[i].w);
    }
    if (status == GORGON_OK) {
        snprintf(name, sizeof name, "blk.%zu.attn_norm.weight", l);
        status = load_vector(ld, name, g->d_model, &layer->attn_norm);
    }
    if (status == GORGON_OK) {
        snprintf(name, sizeof name, "blk.%zu.ffn_norm.weight", l);
        status = load_vector(ld, name, g->d_model, &layer->ffn_norm);
    }
    return status;
}

// Every tensor of the file must have been claimed: an unknown one (a bias, rope factors) changes
// what the model computes.
static gorgon_status check_all_claimed(const loader *ld)
{
    static const char *const known[] = {
        "attn_q.weight",      "attn_k.weight",    "attn_v.weight",
        "attn_output.weight", "ffn_gate.weight",  "ffn_up.weight",
        "ffn_down.weight",    "attn_norm.weight", "ffn_norm.weight"};
    if (ld->n_claimed == gg_gguf_tensor_count(ld->file))
        return GORGON_OK;
    for (size_t i = 0; i < gg_gguf_tensor_count(ld->file); i++) {
        const char *name = gg_gguf_tensor_at(ld->file, i)->name;
        bool used = strcmp(name, "token_embd.weight") == 0 || strcmp(name, "output.weight") == 0 ||
                    strcmp(name, "output_norm.weight") == 0;
        const char *suffix = strncmp(name, "blk.", 4) == 0 ? strchr(name + 4, '.') : NULL;
        for (size_t k = 0; suffix && !used && k < sizeof known / sizeof known[0]; k++)
            used = strcmp(suffix + 1, known[k]) == 0;
        if (!used)
            return gg_fail(ld->err, GORGON_ERROR_UNSUPPORTED,
                           "%s: tensor '%s' is not part of a plain llama model", ld->model->path,
                           name);
    }
    return gg_fail(ld->err, GORGON_ERROR_FORMAT,
                   "%s: %zu tensors, expected %zu for %zu layers: block_count contradicts them",
                   ld->model->path, gg_gguf_tensor_count(ld->file), ld->n_claimed,
                   ld->model->geometry.n_layers);
}

static gorgon_status load_tensors(loader *ld)
{
    gorgon_model *m = ld->model;
    gg_geometry *g = &m->geometry;
    m->layers = gg_alloc(g->n_layers, sizeof *m->layers);
    ld->jobs = gg_alloc(g->n_layers * MATRICES_PER_LAYER + 2, sizeof *ld->jobs);
    if (!m->layers || !ld->jobs)
        return gg_fail(ld->err, GORGON_ERROR_MEMORY, "%s: out of memory", m->path);
    gorgon_status status =
        load_matrix(ld, "token_embd.weight", g->d_model, g->n_vocab, &m->embedding);
    if (status == GORGON_OK)
        status = load_vector(ld, "output_norm.weight", g->d_model, &m->output_norm);
    if (status == GORGON_OK && gg_gguf_find(ld->file, "output.weight"))
        status = load_matrix(ld, "output.weight", g->d_model, g->n_vocab, &m->output);
    for (size_t l = 0; l < g->n_layers && status == GORGON_OK; l++)
        status = load_layer(ld, l);
    return status == GORGON_OK ? check_all_claimed(ld) : status;
}

// One block for all matrices, so that it can lie in large pages.
static gorgon_status place_matrices(loader *ld)
{
    gorgon_model *m = ld->model;
    size_t bytes = 0;
    for (size_t j = 0; j < ld->n_jobs; j++) {
        if (!gg_add(bytes, gg_matrix_bytes(ld->jobs[j].w), &bytes))
            return gg_fail(ld->err, GORGON_ERROR_MEMORY, "%s: size of the weights overflows",
                           m->path);
    }
    m->weights = gg_alloc_uninit(bytes, 1);
    if (!m->weights)
        return gg_fail(ld->err, GORGON_ERROR_MEMORY, "%s: out of memory for %zu bytes of weights",
                       m->path, bytes);
    uint8_t *at = m->weights;
    for (size_t j = 0; j < ld->n_jobs; j++) {
        gg_matrix_place(ld->jobs[j].w, at);
        at += gg_matrix_bytes(ld->jobs[j].w);
    }
    return GORGON_OK;
}

// values, bytes: room for a row to be quantised.
static void pack_rows(const pack_job *job, size_t begin, size_t end, float *values, uint8_t *bytes)
{
    gg_matrix *w = job->w;
    const gg_dtype type = job->tensor->type;
    const size_t row_bytes = gg_dtype_row_bytes(type, w->n_in);
    for (size_t o = begin; o < end; o++) {
        const uint8_t *row = job->tensor->data + o * row_bytes;
        if (w->type != type) {
            gg_dequantize_row(type, row, w->n_in, values);
            gg_quantize_row(w->type, values, w->n_in, bytes);
            row = bytes;
        }
        gg_matrix_pack_row(w, o, row);
    }
}

static void pack_on_thread(void *context, size_t thread, size_t n_threads)
{
    const loader *ld = context;
    for (size_t j = 0; j < ld->n_jobs; j++) {
        size_t begin, end;
        gg_team_share(ld->jobs[j].w->n_out, GG_TILE, thread, n_threads, &begin, &end);
        const size_t row = ld->n_quantized ? thread * ld->widest : 0;
        pack_rows(&ld->jobs[j], begin, end, ld->values + row, ld->bytes + row * sizeof(float));
    }
}

static gorgon_status pack_matrices(loader *ld, size_t threads)
{
    gg_team *team = NULL;
    gorgon_status status = gg_team_create(threads, &team, ld->err);
    if (status != GORGON_OK)
        return status;
    const size_t rows = ld->n_quantized ? threads : 1;
    ld->values = gg_alloc(rows * ld->widest, sizeof *ld->values);
    ld->bytes = gg_alloc(rows * ld->widest, sizeof(float));
    if (ld->values && ld->bytes)
        gg_team_run(team, pack_on_thread, ld);
    else
        status = gg_fail(ld->err, GORGON_ERROR_MEMORY, "%s: out of memory for rows to quantise",
                         ld->model->path);
    gg_team_free(team);
    return status;
}

// Hash over every tensor's name, type, shape and three samples of its data, and over what becomes
// of them.
static uint64_t hash_tensors(const loader *ld)
{
    const gg_gguf *file = ld->file;
    const size_t sample = 512;
    uint64_t hash = 0;
    for (size_t i = 0; i < gg_gguf_tensor_count(file); i++) {
        const gg_tensor *t = gg_gguf_tensor_at(file, i);
        uint64_t head[6] = {(uint64_t)t->type, t->n_dims,  t->dims[0],
                            t->dims[1],        t->dims[2], t->dims[3]};
        hash = gg_hash(t->name, strlen(t->name), hash);
        hash = gg_hash(head, sizeof head, hash);
        size_t n = t->bytes < sample ? t->bytes : sample;
        hash = gg_hash(t->data, n, hash);
        hash = gg_hash(t->data + (t->bytes - n) / 2, n, hash);
        hash = gg_hash(t->data + (t->bytes - n), n, hash);
    }
    const uint32_t quantize = (uint32_t)ld->quantize;
    return ld->n_quantized ? gg_hash(&quantize, sizeof quantize, hash) : hash;
}

static gorgon_status load(loader *ld, size_t threads)
{
    gorgon_model *m = ld->model;
    gorgon_status status = read_geometry(ld);
    if (status == GORGON_OK)
        status = gg_tokenizer_from_gguf(ld->file, &m->tokenizer, ld->err);
    if (status != GORGON_OK)
        return status;
    m->geometry.n_vocab = gorgon_tokenizer_size(m->tokenizer);
    m->file_bytes = gg_gguf_size(ld->file);
    status = load_tensors(ld);
    if (status == GORGON_OK)
        status = place_matrices(ld);
    if (status == GORGON_OK)
        status = pack_matrices(ld, threads);
    if (status != GORGON_OK)
        return status;
    m->fingerprint = (gorgon_fingerprint){
        .vocabulary = gg_tokenizer_hash(m->tokenizer),
        .tensors = hash_tensors(ld),
        .n_layers = (uint32_t)m->geometry.n_layers,
        .d_model = (uint32_t)m->geometry.d_model,
        .n_vocab = (uint32_t)m->geometry.n_vocab,
    };
    return GORGON_OK;
}

void gorgon_model_options_init(gorgon_model_options *options)
{
    *options = (gorgon_model_options){0};
}

static gorgon_status find_quantization(const char *word, gg_dtype *type, gorgon_error *err)
{
    *type = GG_F32;
    if (!word)
        return GORGON_OK;
    for (size_t i = 0; i < sizeof quantizations / sizeof quantizations[0]; i++) {
        if (strcmp(word, quantizations[i].word) == 0) {
            *type = quantizations[i].type;
            return GORGON_OK;
        }
    }
    return gg_fail(err, GORGON_ERROR_ARGUMENT,
                   "quantise while loading: expected q8_0, q4_0 or q4_k, got '%.40s'", word);
}

gorgon_status gorgon_model_open_with(const char *path, const gorgon_model_options *options,
                                     gorgon_model **out, gorgon_error *err)
{
    *out = NULL;
    loader ld = {.err = err};
    gorgon_status status = find_quantization(options->quantize, &ld.quantize, err);
    gg_gguf *file = NULL;
    if (status == GORGON_OK)
        status = gg_gguf_open(path, &file, err);
    if (status != GORGON_OK)
        return status;
    ld.file = file;
    ld.model = gg_alloc(1, sizeof *ld.model);
    if (ld.model)
        ld.model->path = gg_strdup(path);
    if (!ld.model || !ld.model->path)
        status = gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", path);
    else
        status = load(&ld, options->threads ? options->threads : gg_processors());
    gg_free(ld.jobs);
    gg_free(ld.values);
    gg_free(ld.bytes);
    gg_gguf_close(file);
    if (status == GORGON_OK)
        *out = ld.model;
    else
        gorgon_model_free(ld.model);
    return status;
}

gorgon_status gorgon_model_open(const char *path, size_t threads, gorgon_model **out,
                                gorgon_error *err)
{
    const gorgon_model_options options = {.threads = threads};
    return gorgon_model_open_with(path, &options, out, err);
}
