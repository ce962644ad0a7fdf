// See hf_tensors.h. Names: ggml-org/llama.cpp, gguf-py/gguf/tensor_mapping.py; which rows and norms
// change: convert_hf_to_gguf.py there.
#include "hf_tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/limits.h"

enum { NAME_BYTES = 64 }; // of a GGUF name

typedef enum form {
    PLAIN,
    HEADS, // q and k: rows of each head in the order of the rotation
    NORM,
    LEFT_OUT,
} form;

typedef struct name_pair {
    const char *theirs, *ours;
    form form;
} name_pair;

static const name_pair outer_names[] = {{"model.embed_tokens.weight", "token_embd.weight", PLAIN},
                                        {"model.norm.weight", "output_norm.weight", NORM},
                                        {"lm_head.weight", "output.weight", PLAIN}};

// After "model.layers.<l>." and "blk.<l>.".
static const name_pair layer_names[] = {{"input_layernorm.weight", "attn_norm.weight", NORM},
                                        {"self_attn.q_proj.weight", "attn_q.weight", HEADS},
                                        {"self_attn.k_proj.weight", "attn_k.weight", HEADS},
                                        {"self_attn.v_proj.weight", "attn_v.weight", PLAIN},
                                        {"self_attn.o_proj.weight", "attn_output.weight", PLAIN},
                                        {"self_attn.qkv_proj.weight", "attn_qkv.weight", PLAIN},
                                        {"self_attn.q_proj.bias", "attn_q.bias", HEADS},
                                        {"self_attn.k_proj.bias", "attn_k.bias", HEADS},
                                        {"self_attn.v_proj.bias", "attn_v.bias", PLAIN},
                                        {"self_attn.q_norm.weight", "attn_q_norm.weight", NORM},
                                        {"self_attn.k_norm.weight", "attn_k_norm.weight", NORM},
                                        {"self_attn.rotary_emb.inv_freq", NULL, LEFT_OUT},
                                        {"mlp.gate_proj.weight", "ffn_gate.weight", PLAIN},
                                        {"mlp.up_proj.weight", "ffn_up.weight", PLAIN},
                                        {"mlp.down_proj.weight", "ffn_down.weight", PLAIN},
                                        {"mlp.gate_up_proj.weight", "ffn_up.weight", PLAIN}};
static const name_pair norms_of_two[] = {
    {"post_attention_layernorm.weight", "ffn_norm.weight", NORM}};
static const name_pair norms_of_four[] = {
    {"post_attention_layernorm.weight", "post_attention_norm.weight", NORM},
    {"pre_feedforward_layernorm.weight", "ffn_norm.weight", NORM},
    {"post_feedforward_layernorm.weight", "post_ffw_norm.weight", NORM}};

#define COUNT(list) (sizeof(list) / sizeof *(list))

static const name_pair *find_pair(const name_pair *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i].theirs, name) == 0)
            return &list[i];
    }
    return NULL;
}

static const name_pair *find_in_layer(const gg_hf_config *c, const char *name)
{
    const name_pair *found = find_pair(layer_names, COUNT(layer_names), name);
    if (found)
        return found;
    return c->family->four_norms ? find_pair(norms_of_four, COUNT(norms_of_four), name)
                                 : find_pair(norms_of_two, COUNT(norms_of_two), name);
}

// Medusa heads in the checkpoint of their base (FasterDecoding v1.0): not the model's.
static const char merged_heads[] = "medusa_head.";

// The tensor's name in a GGUF file and its form; false: the family has no such tensor.
static bool translate(const gg_hf_config *c, const char *theirs, char ours[NAME_BYTES], form *how)
{
    static const char layers[] = "model.layers.";
    const name_pair *pair = find_pair(outer_names, COUNT(outer_names), theirs);
    char *rest = NULL;
    unsigned long layer = 0;
    if (strncmp(theirs, merged_heads, sizeof merged_heads - 1) == 0) {
        *how = LEFT_OUT;
        return true;
    }
    if (!pair && strncmp(theirs, layers, sizeof layers - 1) == 0) {
        const char *digits = theirs + sizeof layers - 1;
        layer = digits[0] >= '0' && digits[0] <= '9' ? strtoul(digits, &rest, 10) : 0;
        pair = rest && *rest == '.' && layer < c->n_layers ? find_in_layer(c, rest + 1) : NULL;
    }
    if (!pair)
        return false;
    *how = pair->form;
    if (pair->ours && rest)
        snprintf(ours, NAME_BYTES, "blk.%lu.%s", layer, pair->ours);
    else if (pair->ours)
        snprintf(ours, NAME_BYTES, "%s", pair->ours);
    return true;
}

// A tensor while it is taken over.
typedef struct taking {
    const gg_hf_config *c;
    gg_tensor_file *from;
    gg_hf_tensors *out;
    size_t n_floats; // of vectors, used
    gorgon_error *err;
} taking;

static bool find_type(gg_element element, gg_dtype *type)
{
    *type = element == GG_ELEMENT_F32 ? GG_F32 : element == GG_ELEMENT_F16 ? GG_F16 : GG_BF16;
    return element == GG_ELEMENT_F32 || element == GG_ELEMENT_F16 || element == GG_ELEMENT_BF16;
}

// Where element i of a vector in GGUF's order stands.
static size_t place_of(const gg_hf_config *c, form how, size_t i)
{
    const size_t within = i % c->head_dim;
    if (how != HEADS || !c->family->interleaved)
        return i;
    return i - within + within % 2 * (c->head_dim / 2) + within / 2;
}

// A vector as F32: as GGUF files have them.
static void take_vector(taking *k, form how, const gg_named_tensor *in, const uint8_t *data,
                        gg_tensor *t)
{
    float *to = k->out->vectors + k->n_floats;
    const float more = how == NORM && k->c->family->norms_less_one ? 1.0f : 0.0f;
    for (size_t i = 0; i < in->n; i++) {
        gg_element_floats(in->element, data, place_of(k->c, how, i), 1, &to[i]);
        to[i] += more;
    }
    t->type = GG_F32;
    t->data = (const uint8_t *)to;
    t->bytes = in->n * sizeof *to;
    k->n_floats += in->n;
}

static void take_shape(const gg_named_tensor *in, gg_tensor *t)
{
    t->n_dims = in->n_dims;
    for (size_t i = 0; i < GG_MAX_DIMS; i++)
        t->dims[i] = i < in->n_dims ? in->dims[in->n_dims - 1 - i] : 1;
}

static gorgon_status take(taking *k, const gg_named_tensor *in)
{
    form how = PLAIN;
    gg_dtype type;
    const uint8_t *data;
    char *name = k->out->names + k->out->n * NAME_BYTES;
    if (!translate(k->c, in->name, name, &how))
        return gg_fail(k->err, GORGON_ERROR_UNSUPPORTED,
                       "%s: tensor '%.100s' is not part of a plain %s model of %zu layers",
                       in->file, in->name, k->c->family->model_type, k->c->n_layers);
    if (how == LEFT_OUT || (k->c->tied && strcmp(name, "output.weight") == 0))
        return GORGON_OK;
    if (!find_type(in->element, &type))
        return gg_fail(k->err, GORGON_ERROR_UNSUPPORTED,
                       "%s: tensor '%.100s' has type %s, expected F32, F16 or BF16", in->file,
                       in->name, gg_element_name(in->element));
    if (in->n_dims != 1 && in->n_dims != 2)
        return gg_fail(k->err, GORGON_ERROR_FORMAT,
                       "%s: tensor '%.100s' has %zu dimensions, expected 1 or 2", in->file,
                       in->name, in->n_dims);
    gorgon_status status = gg_tensor_file_data(k->from, in, &data, k->err);
    if (status != GORGON_OK)
        return status;
    gg_tensor *t = &k->out->tensors[k->out->n++];
    *t = (gg_tensor){.name = name, .type = type, .data = data, .bytes = in->bytes};
    take_shape(in, t);
    if (in->n_dims == 1)
        take_vector(k, how, in, data, t);
    else if (how == HEADS && k->c->family->interleaved && in->dims[0] % k->c->head_dim == 0)
        t->head_rows = k->c->head_dim;
    return GORGON_OK;
}

static void add_divisors(taking *k)
{
    const size_t n = gg_hf_rotary_width(k->c) / 2;
    for (size_t i = 0; i < k->c->n_divisors; i++) {
        const gg_hf_divisors *divisors = &k->c->divisors[i];
        char *name = k->out->names + k->out->n * NAME_BYTES;
        snprintf(name, NAME_BYTES, "%s", divisors->name);
        k->out->tensors[k->out->n++] = (gg_tensor){.name = name,
                                                   .type = GG_F32,
                                                   .n_dims = 1,
                                                   .dims = {n, 1, 1, 1},
                                                   .data = (const uint8_t *)divisors->values,
                                                   .bytes = n * sizeof *divisors->values};
    }
}

// Whatever the config says: without its matrix an untied model has no output.
static gorgon_status check_output(const taking *k)
{
    for (size_t i = 0; i < k->out->n; i++) {
        if (strcmp(k->out->tensors[i].name, "output.weight") == 0)
            return GORGON_OK;
    }
    return k->c->tied ? GORGON_OK
                      : gg_fail(k->err, GORGON_ERROR_FORMAT,
                                "%s: tie_word_embeddings is false, but there is no tensor "
                                "'lm_head.weight'",
                                gg_tensor_file_path(k->from));
}

gorgon_status gg_hf_tensors_create(const gg_hf_config *config, gg_tensor_file *from,
                                   gg_hf_tensors *out, gorgon_error *err)
{
    taking k = {.c = config, .from = from, .out = out, .err = err};
    const size_t n = gg_tensor_file_count(from);
    size_t floats = 0;
    for (size_t i = 0; i < n; i++) {
        const gg_named_tensor *t = gg_tensor_file_at(from, i);
        floats += t->n_dims == 1 ? t->n : 0;
    }
    *out = (gg_hf_tensors){.tensors = gg_alloc(n + config->n_divisors, sizeof *out->tensors),
                           .names = gg_alloc(n + config->n_divisors, NAME_BYTES),
                           .vectors = gg_alloc(floats, sizeof *out->vectors)};
    if (!out->tensors || !out->names || !out->vectors)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", gg_tensor_file_path(from));
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < n && status == GORGON_OK; i++)
        status = take(&k, gg_tensor_file_at(from, i));
    if (status != GORGON_OK)
        return status;
    add_divisors(&k);
    return check_output(&k);
}

void gg_hf_tensors_clear(gg_hf_tensors *t)
{
    gg_free(t->tensors);
    gg_free(t->names);
    gg_free(t->vectors);
    *t = (gg_hf_tensors){0};
}
