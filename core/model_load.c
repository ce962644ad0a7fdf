// Opens a GGUF checkpoint: claims every tensor by name with its expected shape, packs the matrices
// on a thread team, takes the fingerprint. Which tensors there are is in family.c.
#include "family.h"

#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/file.h"
#include "core/gguf.h"
#include "core/limits.h"
#include "core/system.h"
#include "core/team.h"

enum { MATRICES_PER_LAYER = 7, NAME_BYTES = 96, SAMPLE_BYTES = 512 };

// What gorgon_model_options.quantize may name.
static const struct {
    const char *word;
    gg_dtype type;
} quantizations[] = {{"q8_0", GG_Q8_0}, {"q4_0", GG_Q4_0}, {"q4_k", GG_Q4_K}};

// Rows of a tensor to pack into a matrix.
typedef struct pack_job {
    gg_matrix *w;
    const gg_tensor *tensor;
    size_t first;
    bool turned; // heads of q or k
} pack_job;

typedef struct loader {
    const gg_gguf *file;
    gorgon_model *model;
    pack_job *jobs; // [n_layers * 7 + 2]
    size_t n_jobs;
    bool *claimed;     // [tensors of the file]
    gg_dtype quantize; // float matrices become this; F32: they stay
    size_t n_quantized;
    float *values;  // [threads][widest]: a row to be quantised
    uint8_t *bytes; // [threads][4 * widest]: the same quantised
    size_t widest;  // n_in of all matrices
    gorgon_error *err;
} loader;

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
    ld->claimed[t - gg_gguf_tensor_at(ld->file, 0)] = true;
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

// Matrices that share a tensor: consecutive outputs of it.
typedef struct piece {
    gg_matrix *w;
    size_t n_out;
    bool turned; // heads of q or k
} piece;

static gorgon_status load_matrices(loader *ld, const char *name, size_t n_in, const piece *pieces,
                                   size_t n)
{
    const gg_tensor *t = NULL;
    size_t n_out = 0;
    for (size_t i = 0; i < n; i++)
        n_out += pieces[i].n_out;
    gorgon_status status = claim(ld, name, n_in, n_out, &t);
    for (size_t i = 0, first = 0; i < n && status == GORGON_OK; first += pieces[i++].n_out) {
        gg_matrix *w = pieces[i].w;
        status = gg_matrix_shape(packed_type(ld, t->type, n_in), pieces[i].n_out, n_in, w, ld->err);
        ld->jobs[ld->n_jobs++] = (pack_job){w, t, first, pieces[i].turned};
        ld->n_quantized += w->type != t->type;
    }
    ld->widest = n_in > ld->widest ? n_in : ld->widest;
    return status;
}

static gorgon_status load_matrix(loader *ld, const char *name, size_t n_in, size_t n_out,
                                 gg_matrix *w)
{
    const piece whole = {w, n_out, false};
    return load_matrices(ld, name, n_in, &whole, 1);
}

// Where element i of heads side by side stands in the file, the pairs that turn together being
// neighbours here and, in families with split pairs, half the rotary width apart there.
static size_t file_index(const gorgon_model *m, size_t i)
{
    size_t within = i % m->geometry.head_dim, n = m->geometry.n_rotary;
    if (!m->family->split_pairs || within >= n)
        return i;
    return i - within + within / 2 + within % 2 * (n / 2);
}

static float element(const gg_tensor *t, size_t i)
{
    uint32_t bits = 0;
    float value;
    if (t->type == GG_F32) {
        memcpy(&value, t->data + 4 * i, sizeof value);
        return value;
    }
    memcpy(&bits, t->data + 2 * i, 2); // little-endian, as everything here
    if (t->type == GG_F16)
        return gg_f16_to_f32((uint16_t)bits);
    bits <<= 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static gorgon_status load_vector(loader *ld, const char *name, size_t n, bool turned, float **out)
{
    const gg_tensor *t = NULL;
    gorgon_status status = claim(ld, name, n, 0, &t);
    if (status != GORGON_OK)
        return status;
    if (t->type != GG_F32 && t->type != GG_F16 && t->type != GG_BF16)
        return gg_fail(ld->err, GORGON_ERROR_UNSUPPORTED,
                       "%s: tensor '%s' has type %s, expected F32, F16 or BF16", ld->model->path,
                       name, gg_dtype_name(t->type));
    *out = gg_alloc(n, sizeof **out);
    if (!*out)
        return gg_fail(ld->err, GORGON_ERROR_MEMORY, "%s: out of memory for '%s'", ld->model->path,
                       name);
    for (size_t i = 0; i < n; i++)
        (*out)[i] = element(t, turned ? file_index(ld->model, i) : i);
    return GORGON_OK;
}

// Whether a tensor that some families have is to be loaded from this file.
static bool wanted(const loader *ld, gg_presence presence, const char *name)
{
    return presence == GG_REQUIRED || (presence == GG_OPTIONAL && gg_gguf_find(ld->file, name));
}

static gorgon_status load_layer_matrices(loader *ld, size_t l)
{
    const gg_geometry *g = &ld->model->geometry;
    gg_layer *layer = &ld->model->layers[l];
    size_t d = g->d_model, q_width = g->n_heads * g->head_dim,
           kv_width = g->n_kv_heads * g->head_dim;
    const bool fused = ld->model->family->fused;
    const piece qkv[] = {
        {&layer->q, q_width, true}, {&layer->k, kv_width, true}, {&layer->v, kv_width, false}};
    const piece gate_up[] = {{&layer->gate, g->d_ff, false}, {&layer->up, g->d_ff, false}};
    const piece o = {&layer->o, d, false}, down = {&layer->down, d, false};
    const struct {
        const char *suffix;
        size_t n_in;
        const piece *pieces;
        size_t n;
    } tensors[] = {
        {"attn_qkv", d, qkv, fused ? 3 : 0},
        {"attn_q", d, qkv, fused ? 0 : 1},
        {"attn_k", d, qkv + 1, fused ? 0 : 1},
        {"attn_v", d, qkv + 2, fused ? 0 : 1},
        {"attn_output", q_width, &o, 1},
        {"ffn_gate", d, gate_up, fused ? 0 : 1},
        {"ffn_up", d, fused ? gate_up : gate_up + 1, fused ? 2 : 1},
        {"ffn_down", g->d_ff, &down, 1},
    };
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0] && status == GORGON_OK; i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "blk.%zu.%s.weight", l, tensors[i].suffix);
        if (tensors[i].n > 0)
            status = load_matrices(ld, name, tensors[i].n_in, tensors[i].pieces, tensors[i].n);
    }
    return status;
}

static gorgon_status load_layer_vectors(loader *ld, size_t l)
{
    const gg_geometry *g = &ld->model->geometry;
    const gg_family *f = ld->model->family;
    gg_layer *layer = &ld->model->layers[l];
    size_t d = g->d_model, q_width = g->n_heads * g->head_dim,
           kv_width = g->n_kv_heads * g->head_dim;
    const struct {
        const char *name;
        size_t n;
        float **out;
        gg_presence presence;
        bool turned; // heads of q or k
    } tensors[] = {
        {"attn_norm.weight", d, &layer->attn_norm, GG_REQUIRED, false},
        {"ffn_norm.weight", d, &layer->ffn_norm, GG_REQUIRED, false},
        {"post_attention_norm.weight", d, &layer->attn_post_norm, f->post_norms, false},
        {"post_ffw_norm.weight", d, &layer->ffn_post_norm, f->post_norms, false},
        {"attn_q.bias", q_width, &layer->q_bias, f->biases, true},
        {"attn_k.bias", kv_width, &layer->k_bias, f->biases, true},
        {"attn_v.bias", kv_width, &layer->v_bias, f->biases, false},
        {"attn_q_norm.weight", g->head_dim, &layer->q_norm, f->head_norms, true},
        {"attn_k_norm.weight", g->head_dim, &layer->k_norm, f->head_norms, true},
    };
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0] && status == GORGON_OK; i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "blk.%zu.%s", l, tensors[i].name);
        if (wanted(ld, tensors[i].presence, name))
            status = load_vector(ld, name, tensors[i].n, tensors[i].turned, tensors[i].out);
    }
    return status;
}

// Divisors of the rotary frequencies.
static gorgon_status load_divisors(loader *ld, gg_presence presence, const char *name, float **out)
{
    size_t n = ld->model->geometry.n_rotary / 2;
    if (!wanted(ld, presence, name))
        return GORGON_OK;
    gorgon_status status = load_vector(ld, name, n, false, out);
    for (size_t i = 0; i < n && status == GORGON_OK; i++) {
        if (!((*out)[i] >= GG_MIN_DIVISOR && (*out)[i] <= GG_MAX_DIVISOR))
            status =
                gg_fail(ld->err, GORGON_ERROR_FORMAT,
                        "%s: element %zu of '%s' is %g, expected %g to %g", ld->model->path, i,
                        name, (double)(*out)[i], (double)GG_MIN_DIVISOR, (double)GG_MAX_DIVISOR);
    }
    return status;
}

static gorgon_status load_rope(loader *ld)
{
    const gg_family *f = ld->model->family;
    gg_rope *rope = &ld->model->geometry.rope[0];
    gorgon_status status = load_divisors(ld, f->rope_factors, "rope_freqs.weight", &rope->divisors);
    if (status == GORGON_OK)
        status = load_divisors(ld, f->long_rope, "rope_factors_short.weight", &rope->divisors);
    if (status == GORGON_OK)
        status = load_divisors(ld, f->long_rope, "rope_factors_long.weight", &rope->long_divisors);
    if (status == GORGON_OK && f->long_rope && !rope->divisors != !rope->long_divisors)
        status = gg_fail(ld->err, GORGON_ERROR_FORMAT,
                         "%s: one of 'rope_factors_short.weight' and 'rope_factors_long.weight', "
                         "expected both or none",
                         ld->model->path);
    return status;
}

// The layer that a tensor's name gives it, SIZE_MAX if none.
static size_t layer_of(const char *name)
{
    size_t layer = 0, i = 4;
    if (strncmp(name, "blk.", 4) != 0)
        return SIZE_MAX;
    for (; name[i] >= '0' && name[i] <= '9' && layer < GG_MAX_TENSORS; i++)
        layer = layer * 10 + (size_t)(name[i] - '0');
    return i > 4 && name[i] == '.' ? layer : SIZE_MAX;
}

// Every tensor of the file must have been claimed: an unknown one changes what the model computes.
static gorgon_status check_all_claimed(const loader *ld)
{
    const gorgon_model *m = ld->model;
    size_t n_layers = m->geometry.n_layers;
    for (size_t i = 0; i < gg_gguf_tensor_count(ld->file); i++) {
        const char *name = gg_gguf_tensor_at(ld->file, i)->name;
        size_t layer = layer_of(name);
        if (ld->claimed[i])
            continue;
        if (layer != SIZE_MAX && layer >= n_layers)
            return gg_fail(ld->err, GORGON_ERROR_FORMAT,
                           "%s: tensor '%s', expected %zu layers: block_count contradicts it",
                           m->path, name, n_layers);
        return gg_fail(ld->err, GORGON_ERROR_UNSUPPORTED,
                       "%s: tensor '%s' is not part of a %s model", m->path, name, m->architecture);
    }
    return GORGON_OK;
}

static gorgon_status load_tensors(loader *ld)
{
    gorgon_model *m = ld->model;
    gg_geometry *g = &m->geometry;
    ld->claimed = gg_alloc(gg_gguf_tensor_count(ld->file), sizeof *ld->claimed);
    ld->jobs = gg_alloc(g->n_layers * MATRICES_PER_LAYER + 2, sizeof *ld->jobs);
    if (!ld->claimed || !ld->jobs)
        return gg_fail(ld->err, GORGON_ERROR_MEMORY, "%s: out of memory", m->path);
    gorgon_status status =
        load_matrix(ld, "token_embd.weight", g->d_model, g->n_vocab, &m->embedding);
    if (status == GORGON_OK)
        status = load_vector(ld, "output_norm.weight", g->d_model, false, &m->output_norm);
    if (status == GORGON_OK && gg_gguf_find(ld->file, "output.weight"))
        status = load_matrix(ld, "output.weight", g->d_model, g->n_vocab, &m->output);
    if (status == GORGON_OK)
        status = load_rope(ld);
    for (size_t l = 0; l < g->n_layers && status == GORGON_OK; l++) {
        status = load_layer_matrices(ld, l);
        if (status == GORGON_OK)
            status = load_layer_vectors(ld, l);
    }
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
static void pack_rows(const gorgon_model *m, const pack_job *job, size_t begin, size_t end,
                      float *values, uint8_t *bytes)
{
    gg_matrix *w = job->w;
    const gg_dtype type = job->tensor->type;
    for (size_t o = begin; o < end; o++) {
        const size_t at = job->first + (job->turned ? file_index(m, o) : o);
        const uint8_t *row = gg_tensor_row(job->tensor, at);
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
        pack_rows(ld->model, &ld->jobs[j], begin, end, ld->values + row,
                  ld->bytes + row * sizeof(float));
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

// Hash over `sample` bytes at the byte `begin` of a tensor's rows, one after the other.
static uint64_t hash_sample(const gg_tensor *t, size_t begin, size_t sample, uint64_t hash)
{
    uint8_t bytes[SAMPLE_BYTES];
    const size_t width = t->bytes / gg_tensor_rows(t);
    for (size_t i = 0; i < sample; i++)
        bytes[i] = gg_tensor_row(t, (begin + i) / width)[(begin + i) % width];
    return gg_hash(bytes, sample, hash);
}

// Hash over every tensor's name, type, shape and three samples of its data, and over what becomes
// of them.
static uint64_t hash_tensors(const loader *ld)
{
    const gg_gguf *file = ld->file;
    uint64_t hash = 0;
    for (size_t i = 0; i < gg_gguf_tensor_count(file); i++) {
        const gg_tensor *t = gg_gguf_tensor_at(file, i);
        uint64_t head[6] = {(uint64_t)t->type, t->n_dims,  t->dims[0],
                            t->dims[1],        t->dims[2], t->dims[3]};
        hash = gg_hash(t->name, strlen(t->name), hash);
        hash = gg_hash(head, sizeof head, hash);
        const size_t n = t->bytes < SAMPLE_BYTES ? t->bytes : SAMPLE_BYTES;
        hash = hash_sample(t, 0, n, hash);
        hash = hash_sample(t, (t->bytes - n) / 2, n, hash);
        hash = hash_sample(t, t->bytes - n, n, hash);
    }
    const uint32_t quantize = (uint32_t)ld->quantize;
    return ld->n_quantized ? gg_hash(&quantize, sizeof quantize, hash) : hash;
}

static gorgon_status load(loader *ld, size_t threads)
{
    gorgon_model *m = ld->model;
    gorgon_status status = gg_family_read(ld->file, m, ld->err);
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
        status = gg_checkpoint_open(path, &file, err);
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
    gg_free(ld.claimed);
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
