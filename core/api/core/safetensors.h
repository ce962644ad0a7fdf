// Writing safetensors files. Reading: core/tensor_file.h.
#ifndef GG_CORE_SAFETENSORS_H
#define GG_CORE_SAFETENSORS_H

#include "core/tensor_file.h"
#include "gorgon/output.h"

typedef struct gg_safetensors_writer gg_safetensors_writer;

gorgon_status gg_safetensors_create(gg_safetensors_writer **out, gorgon_error *err);
void gg_safetensors_free(gg_safetensors_writer *writer); // NULL is legal
// Adds a tensor; data are borrowed until the file is written. dims: the last runs fastest. A name
// put twice is GORGON_ERROR_ARGUMENT.
gorgon_status gg_safetensors_put(gg_safetensors_writer *w, const char *name, gg_element element,
                                 const uint64_t *dims, size_t n_dims, const void *data,
                                 gorgon_error *err);
// Header and data, in the order in which they were put, to an output that the caller commits. The
// same calls give the same bytes.
gorgon_status gg_safetensors_write(const gg_safetensors_writer *w, gorgon_output *out,
                                   gorgon_error *err);

#endif
