// Private layout of gorgon_model, shared by the loader and the queries.
#ifndef GG_CORE_MODEL_IMPL_H
#define GG_CORE_MODEL_IMPL_H

#include "core/model.h"
#include "core/tokenizer.h"

typedef struct gg_family gg_family;

struct gorgon_model {
    char *path, *name;
    const gg_family *family;
    const char *architecture; // the family's name
    gg_geometry geometry;
    uint8_t *weights;    // tiles of all matrices
    gg_layer *layers;    // [n_layers]
    gg_matrix embedding; // [n_vocab, d_model]
    gg_matrix output;    // [n_vocab, d_model]; tiles NULL when tied to the embedding
    float *output_norm;  // [d_model]
    gorgon_tokenizer *tokenizer;
    gorgon_fingerprint fingerprint;
    uint64_t n_parameters, file_bytes;
};

#endif
