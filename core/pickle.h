// State dictionaries in pickles, read as data: a machine with the opcodes, and the few global
// names, that torch.save needs for tensors. Whatever else a pickle holds is refused by name;
// nothing is ever imported or called.
#ifndef GG_PICKLE_H
#define GG_PICKLE_H

#include "core/tensor_file.h"

typedef struct gg_pickled_tensor {
    const char *name; // [length], valid during the call
    size_t length;
    gg_element element;
    const char *key; // [key_length] of the storage
    size_t key_length;
    uint64_t n_storage, first; // elements of the storage; of it, where the tensor begins
    size_t n_dims;
    uint64_t dims[GG_MAX_RANK], strides[GG_MAX_RANK];
} gg_pickled_tensor;

// Calls `take` for every tensor of the dictionary that the pickle yields, in its order; those of
// dictionaries in it are named "outer.inner". Anything else in them is passed over. label begins
// messages.
typedef gorgon_status (*gg_pickle_take)(void *context, const gg_pickled_tensor *tensor,
                                        gorgon_error *err);
gorgon_status gg_pickle_read(const uint8_t *data, size_t size, const char *label,
                             gg_pickle_take take, void *context, gorgon_error *err);

#endif
