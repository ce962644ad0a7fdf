// Writing heads for other engines: tensors in safetensors with a config.json beside them.
#ifndef GG_CONVERT_H
#define GG_CONVERT_H

#include <jansson.h>

#include "core/safetensors.h"
#include "layout.h"

// A set on its way into a file.
typedef struct gg_conversion {
    const gorgon_heads *heads;
    const gg_head_set *set;
    const gorgon_model *model; // or NULL
    size_t n_vocab;            // of the base, 0: unknown
    gg_element element;        // of matrices in the file
    gg_safetensors_writer *writer;
    json_t *config;
    void **buffers; // that the writer borrows
    size_t n_buffers, capacity;
    gorgon_error *err;
} gg_conversion;

// A format of one set: its files in the directory, and what fills them.
typedef struct gg_convert_format {
    const char *name, *weights;
    gorgon_status (*fill)(gg_conversion *c); // writer and config
} gg_convert_format;

extern const gg_convert_format gg_convert_fasterdecoding, gg_convert_fasterdecoding_v2,
    gg_convert_vllm;

// Says what the format cannot express.
gorgon_status gg_conversion_refuse(const gg_conversion *c, const char *format, const char *what);

#endif
