// Medusa heads as FasterDecoding's and vLLM's code loads them.
#include <string.h>

#include "convert.h"
#include "core/alloc.h"
#include "core/error.h"
#include "heads_format.h"

static gorgon_status out_of_memory(const gg_conversion *c)
{
    return gg_fail(c->err, GORGON_ERROR_MEMORY, "%s: out of memory", c->heads->label);
}

// Memory that lives until the file is written.
static void *new_buffer(gg_conversion *c, size_t n, size_t size)
{
    if (c->n_buffers == c->capacity) {
        const size_t capacity = c->capacity ? 2 * c->capacity : 32;
        void **grown = gg_realloc(c->buffers, c->capacity, capacity, sizeof *grown);
        if (!grown)
            return NULL;
        c->buffers = grown;
        c->capacity = capacity;
    }
    void *buffer = gg_alloc(n, size);
    if (buffer)
        c->buffers[c->n_buffers++] = buffer;
    return buffer;
}

// x[n] as elements; returns whether all values survived it.
static bool convert_floats(gg_element element, const float *x, size_t n, uint8_t *to)
{
    bool exact = true;
    for (size_t i = 0; i < n; i++) {
        float back;
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        if (element == GG_ELEMENT_F32) {
            memcpy(to + 4 * i, &bits, sizeof bits);
            continue;
        }
        // Nearest even; values are finite.
        const uint16_t half = element == GG_ELEMENT_F16
                                  ? gg_f32_to_f16(x[i])
                                  : (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
        memcpy(to + 2 * i, &half, sizeof half);
        gg_element_floats(element, to, i, 1, &back);
        exact = exact && memcmp(&back, &x[i], sizeof back) == 0;
    }
    return exact;
}

static gg_element element_of(gg_dtype type)
{
    return type == GG_F16 ? GG_ELEMENT_F16 : type == GG_BF16 ? GG_ELEMENT_BF16 : GG_ELEMENT_F32;
}

// A matrix of n_out stored rows; Q8_0 becomes floats.
static gorgon_status put_matrix(gg_conversion *c, const char *name, const gg_head_part *p,
                                const void *rows)
{
    const gg_dtype type = c->set->weight_type;
    const uint64_t dims[] = {p->n_out, p->n_in};
    if (!gg_dtype_is_quantized(type))
        return gg_safetensors_put(c->writer, name, c->element, dims, 2, rows, c->err);
    const size_t bytes = gg_dtype_row_bytes(type, p->n_in);
    float *values = new_buffer(c, p->n_out, p->n_in * sizeof *values);
    gg_matrix row;
    if (!values)
        return out_of_memory(c);
    gorgon_status status = gg_matrix_create(type, 1, p->n_in, &row, c->err);
    if (status != GORGON_OK)
        return status;
    for (size_t o = 0; o < p->n_out; o++) {
        gg_matrix_pack_row(&row, 0, (const uint8_t *)rows + o * bytes);
        gg_matrix_row(&row, 0, values + o * p->n_in);
    }
    gg_matrix_clear(&row);
    return gg_safetensors_put(c->writer, name, c->element, dims, 2, values, c->err);
}

// In the type of the matrices if it holds the values, else as floats.
static gorgon_status put_vector(gg_conversion *c, const char *name, const float *x, size_t n)
{
    const uint64_t dims[] = {n};
    uint8_t *to = new_buffer(c, n, sizeof *x);
    if (!to)
        return out_of_memory(c);
    gg_element element = c->element;
    if (!convert_floats(element, x, n, to)) {
        element = GG_ELEMENT_F32;
        convert_floats(element, x, n, to);
    }
    return gg_safetensors_put(c->writer, name, element, dims, 1, to, c->err);
}

// The base's output rows, those of the draft vocabulary or all.
static gorgon_status put_base_output(gg_conversion *c, const char *name)
{
    const gg_head_set *set = c->set;
    const gg_matrix *w = gg_model_output(c->model);
    const size_t n = set->shape.n_draft ? set->shape.n_draft : w->n_out;
    const size_t bytes = w->n_in * gg_element_bytes(c->element);
    const gg_dtype dtype = c->element == GG_ELEMENT_F32 ? GG_F32 : set->weight_type;
    const uint64_t dims[] = {n, w->n_in};
    float *row = new_buffer(c, w->n_in, sizeof *row);
    uint8_t *to = new_buffer(c, n, bytes);
    if (!row || !to)
        return out_of_memory(c);
    for (size_t i = 0; i < n; i++) {
        gg_matrix_row(w, set->draft_ids ? set->draft_ids[i] : i, row);
        convert_floats(c->element, row, w->n_in, to + i * bytes);
    }
    if (!gg_heads_finite(dtype, to, n * bytes))
        return gg_fail(c->err, GORGON_ERROR_UNSUPPORTED,
                       "%s: the base's output matrix holds a value that does not fit into %s",
                       c->heads->label, gg_element_name(c->element));
    return gg_safetensors_put(c->writer, name, c->element, dims, 2, to, c->err);
}

// Blocks of all heads; where the set has no biases, zeros if the format wants some.
static gorgon_status put_blocks(gg_conversion *c, const gg_head_layout *layout, bool biased)
{
    const gg_head_shape *s = &c->set->shape;
    const gg_head_part matrix = {.n_out = s->d_model, .n_in = s->d_model};
    const float *zeros = biased ? new_buffer(c, s->d_model, sizeof *zeros) : NULL;
    char name[GG_MAX_NAME];
    if (biased && !zeros)
        return out_of_memory(c);
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < s->n_heads * s->n_blocks && status == GORGON_OK; i++) {
        const size_t k = i / s->n_blocks, b = i % s->n_blocks;
        const float *bias = gg_head_data(c->set, GG_PART_BIAS, k, b);
        gg_layout_name(layout, GG_LAYOUT_WEIGHT, k, b, name);
        status = put_matrix(c, name, &matrix, gg_head_data(c->set, GG_PART_WEIGHT, k, b));
        gg_layout_name(layout, GG_LAYOUT_BIAS, k, b, name);
        if (status == GORGON_OK && biased)
            status = put_vector(c, name, bias ? bias : zeros, s->d_model);
    }
    return status;
}

// n output matrices: the set's, or copies of its single one, or of the base's.
static gorgon_status put_outputs(gg_conversion *c, const gg_head_layout *layout, size_t n)
{
    const gg_head_shape *s = &c->set->shape;
    char name[GG_MAX_NAME];
    gorgon_status status = GORGON_OK;
    for (size_t k = 0; k < n && status == GORGON_OK; k++) {
        gg_layout_name(layout, GG_LAYOUT_OUTPUT, k, s->n_blocks, name);
        const size_t i = gg_head_part_find(c->set->parts, c->set->n_parts, GG_PART_OUTPUT,
                                           s->shared_output ? 0 : k, 0);
        status = i < c->set->n_parts ? put_matrix(c, name, &c->set->parts[i], c->set->data[i])
                                     : put_base_output(c, name);
    }
    return status;
}

// What neither of the formats knows.
static gorgon_status check_medusa(const gg_conversion *c, const char *format)
{
    const gg_head_shape *s = &c->set->shape;
    if (s->kind != GG_HEADS_MEDUSA)
        return gg_fail(c->err, GORGON_ERROR_UNSUPPORTED, "%s: %s cannot express %s heads",
                       c->heads->label, format, gg_head_traits_of(s->kind)->name);
    if (s->root_embedding)
        return gg_conversion_refuse(c, format, "heads that see the root token's embedding");
    if (s->residual)
        return gg_conversion_refuse(c, format, "a mapped input of the first block");
    if (s->output_bias)
        return gg_conversion_refuse(c, format, "a bias of the output matrix");
    return GORGON_OK;
}

static gorgon_status need_model(const gg_conversion *c, const char *why)
{
    return gg_fail(c->err, GORGON_ERROR_ARGUMENT, "%s: %s: give the model", c->heads->label, why);
}

// Fills the config with json_pack'ed keys; takes them.
static gorgon_status put_config(gg_conversion *c, json_t *keys)
{
    const int failed = keys ? json_object_update(c->config, keys) : -1;
    json_decref(keys);
    return failed ? out_of_memory(c) : GORGON_OK;
}

static gorgon_status fill_fasterdecoding(gg_conversion *c, bool own)
{
    static const char format[] = "FasterDecoding's format";
    const gg_head_shape *s = &c->set->shape;
    c->element = element_of(c->set->weight_type);
    gorgon_status status = check_medusa(c, format);
    if (status != GORGON_OK)
        return status;
    if (s->n_draft)
        return gg_conversion_refuse(c, format, "a draft vocabulary");
    if (!own && s->own_output)
        return gg_conversion_refuse(c, "version 2 of FasterDecoding's format",
                                    "output matrices of heads");
    if (own && !s->own_output && !c->model)
        return need_model(c, "version 1 holds output matrices, and these heads use the base's");
    status = put_blocks(c, &gg_layout_fasterdecoding, true);
    if (status == GORGON_OK && own)
        status = put_outputs(c, &gg_layout_fasterdecoding, s->n_heads);
    if (status == GORGON_OK)
        status =
            put_config(c, json_pack("{s:i,s:i,s:s}", "medusa_num_heads", (int)s->n_heads,
                                    "medusa_num_layers", (int)s->n_blocks,
                                    "base_model_name_or_path", gorgon_heads_base_name(c->heads)));
    return status == GORGON_OK && !own ? put_config(c, json_pack("{s:s}", "version", "2")) : status;
}

static gorgon_status fill_version_1(gg_conversion *c)
{
    return fill_fasterdecoding(c, true);
}

static gorgon_status fill_version_2(gg_conversion *c)
{
    return fill_fasterdecoding(c, false);
}

static const char *torch_name(gg_element element)
{
    return element == GG_ELEMENT_F16    ? "float16"
           : element == GG_ELEMENT_BF16 ? "bfloat16"
                                        : "float32";
}

static gorgon_status put_token_map(gg_conversion *c)
{
    const size_t n = c->set->shape.n_draft;
    const uint64_t dims[] = {n};
    char name[GG_MAX_NAME];
    if (n == 0)
        return GORGON_OK;
    uint8_t *ids = new_buffer(c, n, 8);
    if (!ids)
        return out_of_memory(c);
    for (size_t i = 0; i < n; i++) {
        for (size_t b = 0; b < 4; b++)
            ids[8 * i + b] = (uint8_t)(c->set->draft_ids[i] >> (8 * b));
    }
    gg_layout_name(&gg_layout_vllm, GG_LAYOUT_TOKEN_MAP, 0, 0, name);
    return gg_safetensors_put(c->writer, name, GG_ELEMENT_I64, dims, 1, ids, c->err);
}

// Heads without output matrices of their own share the base's, which is written for them.
static gorgon_status fill_vllm(gg_conversion *c)
{
    const gg_head_shape *s = &c->set->shape;
    const bool one = !s->own_output || s->shared_output;
    c->element = element_of(c->set->weight_type);
    gorgon_status status = check_medusa(c, "vLLM's format");
    if (status == GORGON_OK && !s->own_output && !c->model)
        status = need_model(c, "vLLM's format holds output matrices, and these heads use the "
                               "base's");
    if (status == GORGON_OK && c->n_vocab == 0)
        status = need_model(c, "the size of the base's vocabulary is unknown");
    if (status == GORGON_OK)
        status = put_token_map(c);
    if (status == GORGON_OK)
        status = put_blocks(c, &gg_layout_vllm, !s->bias_free);
    if (status == GORGON_OK)
        status = put_outputs(c, &gg_layout_vllm, one ? 1 : s->n_heads);
    if (status != GORGON_OK)
        return status;
    const size_t truncated = s->n_draft ? s->n_draft : c->n_vocab;
    return put_config(
        c, json_pack("{s:[s],s:s,s:i,s:i,s:i,s:i,s:i,s:b,s:b,s:i,s:i,s:s}", "architectures",
                     "MedusaModel", "model_type", "medusa", "hidden_size", (int)s->d_model,
                     "vocab_size", (int)c->n_vocab, "num_heads", (int)s->n_heads,
                     "num_hidden_layers", (int)s->n_blocks, "truncated_vocab_size", (int)truncated,
                     "medusa_fc_bias", (int)!s->bias_free, "original_lm_head", (int)one,
                     "max_paths", 64, "topk", 10, "torch_dtype", torch_name(c->element)));
}

const gg_convert_format gg_convert_fasterdecoding = {
    .name = "fasterdecoding",
    .weights = "medusa_lm_head.safetensors",
    .fill = fill_version_1,
};

const gg_convert_format gg_convert_fasterdecoding_v2 = {
    .name = "fasterdecoding-v2",
    .weights = "medusa_lm_head.safetensors",
    .fill = fill_version_2,
};

const gg_convert_format gg_convert_vllm = {
    .name = "vllm",
    .weights = "model.safetensors",
    .fill = fill_vllm,
};
