// Tensors of a Hugging Face checkpoint under the names and in the form that GGUF files give them.
#ifndef GG_CORE_HF_TENSORS_H
#define GG_CORE_HF_TENSORS_H

#include "core/tensor_file.h"
#include "hf_config.h"

typedef struct gg_hf_tensors {
    size_t n;
    gg_tensor *tensors; // [n] matrices are borrowed, norms and biases are copies, as F32
    char *names;        // that the tensors point to
    float *vectors;
} gg_hf_tensors;

// `config` and `from` must outlive the result. A name that the family does not have is refused, and
// so is a missing output head; everything else is left to who reads the result. Clear it also after
// an error.
gorgon_status gg_hf_tensors_create(const gg_hf_config *config, gg_tensor_file *from,
                                   gg_hf_tensors *out, gorgon_error *err);
void gg_hf_tensors_clear(gg_hf_tensors *t);

#endif
