// Queries of an opened model. Loading is in model_load.c.
#include "model_impl.h"

#include "core/alloc.h"
#include "core/checkpoint.h"
#include "core/gguf.h"

static void free_layer(gg_layer *layer)
{
    float *const vectors[] = {layer->attn_norm,     layer->ffn_norm, layer->attn_post_norm,
                              layer->ffn_post_norm, layer->q_bias,   layer->k_bias,
                              layer->v_bias,        layer->q_norm,   layer->k_norm};
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
        gg_free(vectors[i]);
}

void gorgon_model_free(gorgon_model *model)
{
    if (!model)
        return;
    for (size_t l = 0; model->layers && l < model->geometry.n_layers; l++)
        free_layer(&model->layers[l]);
    for (size_t i = 0; i < GG_MAX_ROPES; i++) {
        gg_free(model->geometry.rope[i].divisors);
        gg_free(model->geometry.rope[i].long_divisors);
    }
    gg_free(model->layers);
    gg_free(model->weights);
    gg_free(model->output_norm);
    gg_tokenizer_free(model->tokenizer);
    gg_free(model->path);
    gg_free(model->name);
    gg_free(model);
}

static uint64_t layer_bytes(const gg_layer *layer)
{
    return gg_matrix_bytes(&layer->q) + gg_matrix_bytes(&layer->k) + gg_matrix_bytes(&layer->v) +
           gg_matrix_bytes(&layer->o) + gg_matrix_bytes(&layer->gate) +
           gg_matrix_bytes(&layer->up) + gg_matrix_bytes(&layer->down);
}

void gorgon_model_describe(const gorgon_model *model, gorgon_model_info *info)
{
    const gg_geometry *g = &model->geometry;
    uint64_t memory = gg_matrix_bytes(&model->embedding) + gg_matrix_bytes(&model->output);
    size_t n_windows = 0, window = 0;
    for (size_t l = 0; l < g->n_layers; l++) {
        memory += layer_bytes(&model->layers[l]);
        n_windows += model->layers[l].window > 0;
        window = model->layers[l].window > 0 ? model->layers[l].window : window;
    }
    *info = (gorgon_model_info){
        .path = model->path,
        .architecture = model->architecture,
        .name = model->name,
        .n_layers = g->n_layers,
        .d_model = g->d_model,
        .n_heads = g->n_heads,
        .n_kv_heads = g->n_kv_heads,
        .head_dim = g->head_dim,
        .d_ff = g->d_ff,
        .n_vocab = g->n_vocab,
        .context_length = g->context_length,
        .window = window,
        .n_window_layers = n_windows,
        .short_context = g->rope[0].long_divisors ? g->rope[0].original_context : 0,
        .rope_base = g->rope[0].base,
        .norm_eps = g->norm_eps,
        .tied_output = !model->output.tiles,
        .n_parameters = model->n_parameters,
        .file_bytes = model->file_bytes,
        .memory_bytes = memory,
        .kv_position_bytes = (uint64_t)g->n_layers * g->n_kv_heads * g->head_dim * 4,
        .matrix_type = gg_dtype_name(model->layers[0].gate.type),
        .output_type = gg_dtype_name(gg_model_output(model)->type),
    };
}

const gorgon_tokenizer *gorgon_model_tokenizer(const gorgon_model *model)
{
    return model->tokenizer;
}

gorgon_status gorgon_model_set_chat(gorgon_model *model, const char *source, gorgon_error *err)
{
    return gorgon_tokenizer_set_chat(model->tokenizer, source, err);
}

gorgon_fingerprint gorgon_model_fingerprint(const gorgon_model *model)
{
    return model->fingerprint;
}

const gg_geometry *gg_model_geometry(const gorgon_model *model)
{
    return &model->geometry;
}

const gg_layer *gg_model_layer(const gorgon_model *model, size_t layer)
{
    return &model->layers[layer];
}

const gg_matrix *gg_model_embedding(const gorgon_model *model)
{
    return &model->embedding;
}

const gg_matrix *gg_model_output(const gorgon_model *model)
{
    return model->output.tiles ? &model->output : &model->embedding;
}

const float *gg_model_output_norm(const gorgon_model *model)
{
    return model->output_norm;
}

void gg_model_embed(const gorgon_model *model, gorgon_token token, float *y)
{
    gg_matrix_row(&model->embedding, (size_t)token, y);
    for (size_t i = 0; i < model->geometry.d_model; i++)
        y[i] *= model->geometry.embedding_scale;
}

double gg_model_attended(const gorgon_model *model, double positions)
{
    double sum = 0;
    for (size_t l = 0; l < model->geometry.n_layers; l++) {
        double window = (double)model->layers[l].window;
        sum += window > 0 && window < positions ? window : positions;
    }
    return sum / (double)model->geometry.n_layers;
}

gorgon_status gorgon_tensors_visit(const char *path, gorgon_tensor_fn fn, void *context,
                                   gorgon_error *err)
{
    gg_gguf *file = NULL;
    gorgon_status status = gg_checkpoint_open(path, &file, err);
    for (size_t i = 0; status == GORGON_OK && i < gg_gguf_tensor_count(file); i++) {
        const gg_tensor *t = gg_gguf_tensor_at(file, i);
        fn(context, t->name, t->type_name, t->dims, t->n_dims, t->bytes);
    }
    gg_gguf_close(file);
    return status;
}
