// Named tensors in files of other software: safetensors, torch archives (.pt, .bin), and
// checkpoints of several such files with their index. One view over all of them; nothing in a file
// is ever executed.
#ifndef GG_CORE_TENSOR_FILE_H
#define GG_CORE_TENSOR_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/file.h"
#include "core/limits.h"

typedef enum gg_element {
    GG_ELEMENT_F32,
    GG_ELEMENT_F16,
    GG_ELEMENT_BF16,
    GG_ELEMENT_F64,
    GG_ELEMENT_I64,
    GG_ELEMENT_I32,
    GG_ELEMENT_I16,
    GG_ELEMENT_I8,
    GG_ELEMENT_U8,
    GG_ELEMENT_BOOL,
    GG_ELEMENT_U16,
    GG_ELEMENT_U32,
    GG_ELEMENT_U64,
    GG_ELEMENT_F8_E4M3,
    GG_ELEMENT_F8_E5M2,
    GG_ELEMENTS
} gg_element;
const char *gg_element_name(gg_element element); // as safetensors has it: "BF16"
size_t gg_element_bytes(gg_element element);

typedef struct gg_named_tensor {
    const char *name; // NUL-terminated, owned by the file
    gg_element element;
    size_t n_dims;              // 0: a single value
    uint64_t dims[GG_MAX_RANK]; // the last runs fastest, as PyTorch has it
    size_t n, bytes;            // elements, and bytes of them all
    const char *file;           // path of the file that holds it
} gg_named_tensor;

typedef struct gg_tensor_file gg_tensor_file;

// True for what gg_tensor_file_open takes up by its first bytes, be it to say what it is instead.
bool gg_tensor_file_claims(const void *data, size_t size);
// What gg_tensor_file_open would open in a directory; false: nothing.
bool gg_tensor_file_find_in(const char *directory, char path[GG_MAX_PATH]);
// Opens a file, an index of several (JSON with a weight_map), or a directory with
// model.safetensors, pytorch_model.bin or an index of either. All names, shapes, types and spans
// are validated; tensor data are not touched. Errors name file, place, expected and got: IO,
// FORMAT, UNSUPPORTED (what such files may hold and this reader does not take), MEMORY. Refusing
// takes less than 64 MB.
gorgon_status gg_tensor_file_open(const char *path, gg_tensor_file **out, gorgon_error *err);
// One file in a caller's buffer, which must outlive it (fuzzing, embedded data).
gorgon_status gg_tensor_file_open_memory(const void *data, size_t size, const char *label,
                                         gg_tensor_file **out, gorgon_error *err);
void gg_tensor_file_close(gg_tensor_file *file); // NULL is legal

const char *gg_tensor_file_path(const gg_tensor_file *file);
const char *gg_tensor_file_format(const gg_tensor_file *file); // "safetensors", "torch archive"
size_t gg_tensor_file_parts(const gg_tensor_file *file);       // files that hold the tensors
uint64_t gg_tensor_file_bytes(const gg_tensor_file *file);     // of these together
size_t gg_tensor_file_count(const gg_tensor_file *file);
const gg_named_tensor *gg_tensor_file_at(const gg_tensor_file *file, size_t index);
const gg_named_tensor *gg_tensor_file_find(const gg_tensor_file *file, const char *name);

// The elements of one of the file's tensors, little-endian, row by row, aligned to nothing;
// borrowed until the file is closed. They lie in the mapping, except where they are stored
// compressed or in another order: then the first call makes a copy. It also compares what has a
// checksum with it; two threads must not ask at once.
gorgon_status gg_tensor_file_data(gg_tensor_file *file, const gg_named_tensor *tensor,
                                  const uint8_t **out, gorgon_error *err);
// Elements as floats, which must be F32, F16 or BF16: y[n] of data at element `first`.
void gg_element_floats(gg_element element, const uint8_t *data, size_t first, size_t n, float *y);

#endif
