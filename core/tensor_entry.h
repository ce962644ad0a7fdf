// Inside of a gg_tensor_file: what the readers of its formats add to it.
#ifndef GG_TENSOR_ENTRY_H
#define GG_TENSOR_ENTRY_H

#include "core/file.h"
#include "core/tensor_file.h"
#include "zip.h"

// A file that holds tensors.
typedef struct gg_container {
    char *path;
    const char *label;  // the end of path
    gg_mapping mapping; // empty for a caller's buffer
    const uint8_t *data;
    size_t size;
    gg_zip *zip; // of a torch archive
} gg_container;

typedef struct gg_tensor_entry {
    gg_named_tensor tensor; // first: callers hold a pointer to it
    char *name;
    size_t container;
    const uint8_t *storage;        // the storage's elements, NULL: not asked for yet
    size_t packed;                 // then the entry of the container's archive
    uint64_t n_storage;            // elements of the storage
    uint64_t first;                // element of the storage
    uint64_t strides[GG_MAX_RANK]; // in elements
    bool dense;                    // elements follow one another in order
    uint8_t *copy;                 // gathered on demand, owned
} gg_tensor_entry;

struct gg_tensor_file {
    char *path;
    const char *label;
    const char *format;
    gg_container *containers; // [n_containers]
    size_t n_containers;
    gg_tensor_entry *entries; // [capacity], `n` of them in use
    size_t n, capacity;
    uint32_t *order; // [n] entries by name
};

// Adds a tensor to the file whose last container is being read. The caller has set element, n_dims,
// dims, storage or packed, n_storage, first and strides; checks name, rank, size, span, and that no
// two elements share a place. `what` begins messages: "a.pt: data.pkl".
gorgon_status gg_tensor_file_add(gg_tensor_file *file, const gg_tensor_entry *entry,
                                 const char *name, size_t length, const char *what,
                                 gorgon_error *err);
// Strides of a dense tensor.
void gg_tensor_entry_dense(gg_tensor_entry *entry);
bool gg_element_find(const char *name, gg_element *out); // as safetensors has it

// Readers of the last container.
gorgon_status gg_safetensors_read(gg_tensor_file *file, gorgon_error *err);
gorgon_status gg_torch_read(gg_tensor_file *file, gorgon_error *err);

#endif
