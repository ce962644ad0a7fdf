// GGUF v3 container: a read-only view of a mapped file, and a writer.
// Format: ggml-org/ggml docs/gguf.md. Knows nothing about models.
#ifndef GG_CORE_GGUF_H
#define GG_CORE_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/kernels.h"
#include "gorgon/status.h"

typedef enum gg_gguf_kind {
    GG_GGUF_U8 = 0,
    GG_GGUF_I8 = 1,
    GG_GGUF_U16 = 2,
    GG_GGUF_I16 = 3,
    GG_GGUF_U32 = 4,
    GG_GGUF_I32 = 5,
    GG_GGUF_F32 = 6,
    GG_GGUF_BOOL = 7,
    GG_GGUF_STRING = 8,
    GG_GGUF_ARRAY = 9,
    GG_GGUF_U64 = 10,
    GG_GGUF_I64 = 11,
    GG_GGUF_F64 = 12,
} gg_gguf_kind;

typedef struct gg_tensor {
    const char *name;      // NUL-terminated, owned by the gg_gguf
    gg_dtype type;         // as the file gives it: it may be one that gg_dtype does not list
    const char *type_name; // "Q5_K": a static string, also for types this build does not read
    size_t n_dims;
    uint64_t dims[4];    // GGUF order: dims[0] runs fastest (n_in), dims[1] = n_out; unused are 1
    const uint8_t *data; // inside the mapping
    size_t bytes;
    uint64_t offset; // of data from the start of the file (of its part)
    // Rows of an attention head, of which `data` has first those of even, then those of odd number,
    // as Hugging Face checkpoints do for q and k. 0: all rows stand in order. Then only
    // gg_tensor_row knows where they are.
    size_t head_rows;
} gg_tensor;

// A row, dims[0] elements. Rows are counted over all further dimensions.
const uint8_t *gg_tensor_row(const gg_tensor *t, size_t row);
size_t gg_tensor_rows(const gg_tensor *t);

typedef struct gg_gguf gg_gguf;

// Maps the file and validates all of its directory: magic, version, counts, every key, every
// tensor's name, rank, type, size and span (inside the file, no overlap, aligned). Tensor data are
// not touched. Types that GGML knows and this build does not are accepted here; gg_gguf_require
// refuses them. Errors name path, item, byte offset. Version 2 has the same layout and is read too.
// A file that says it is part of several (key split.count above 1) is opened with all of them,
// which lie beside it as NAME-00001-of-00003.gguf and so on: see gg_gguf_join.
gorgon_status gg_gguf_open(const char *path, gg_gguf **out, gorgon_error *err);
// The same over a caller's buffer, which must outlive the view (fuzzing, embedded data). Tensor
// data are aligned as the buffer is, up to the file's own alignment.
gorgon_status gg_gguf_open_memory(const void *data, size_t size, const char *label, gg_gguf **out,
                                  gorgon_error *err);
// Makes one view of the n parts of a split file, in their order: keys of the first, tensors of all.
// Each must say split.no (its place from 0), split.count (n) and the same split.tensors.count, the
// number of tensors of all, none of them twice. Takes the parts, which are closed with *out, also
// on failure. n is 1 to GG_MAX_PARTS.
gorgon_status gg_gguf_join(gg_gguf *const *parts, size_t n, gg_gguf **out, gorgon_error *err);
void gg_gguf_close(gg_gguf *file); // NULL is legal

const char *gg_gguf_path(const gg_gguf *file);
uint64_t gg_gguf_size(const gg_gguf *file); // bytes of the file, of all its parts
size_t gg_gguf_tensor_count(const gg_gguf *file);
const gg_tensor *gg_gguf_tensor_at(const gg_gguf *file, size_t index);
const gg_tensor *gg_gguf_find(const gg_gguf *file, const char *name); // NULL if absent
// Finds a tensor that must be there (GORGON_ERROR_FORMAT) in a type that this build reads
// (GORGON_ERROR_UNSUPPORTED).
gorgon_status gg_gguf_require(const gg_gguf *file, const char *name, const gg_tensor **out,
                              gorgon_error *err);
size_t gg_gguf_key_count(const gg_gguf *file);
const char *gg_gguf_key_at(const gg_gguf *file, size_t index, gg_gguf_kind *kind);
bool gg_gguf_has(const gg_gguf *file, const char *key);

// Typed look-ups. An absent key or one of another kind is GORGON_ERROR_FORMAT, naming the key.
// u64 accepts every unsigned kind and non-negative signed ones; f32 accepts F32 and F64.
gorgon_status gg_gguf_get_u64(const gg_gguf *file, const char *key, uint64_t *out,
                              gorgon_error *err);
gorgon_status gg_gguf_get_f32(const gg_gguf *file, const char *key, float *out, gorgon_error *err);
gorgon_status gg_gguf_get_bool(const gg_gguf *file, const char *key, bool *out, gorgon_error *err);
// *out is NUL-terminated, owned by the view; *length excludes the NUL (strings may hold NULs).
gorgon_status gg_gguf_get_string(const gg_gguf *file, const char *key, const char **out,
                                 size_t *length, gorgon_error *err);
// Arrays: kind of the elements and their number.
gorgon_status gg_gguf_get_array(const gg_gguf *file, const char *key, gg_gguf_kind *kind, size_t *n,
                                gorgon_error *err);
// Elements of a numeric array copied out as floats / signed 64-bit (n must equal its length). To
// i64 a bool is 0 or 1.
gorgon_status gg_gguf_array_f32(const gg_gguf *file, const char *key, float *out, size_t n,
                                gorgon_error *err);
gorgon_status gg_gguf_array_i64(const gg_gguf *file, const char *key, int64_t *out, size_t n,
                                gorgon_error *err);
// Walks a string array: *cursor starts at 0; each call gives the next element (not terminated).
// Returns false at the end, or when the key is no string array. The array was validated on open.
bool gg_gguf_array_next_string(const gg_gguf *file, const char *key, size_t *cursor,
                               const char **text, size_t *length);

// Name of a kind for messages: "u32", "string", ... or NULL when it is none.
const char *gg_gguf_kind_name(gg_gguf_kind kind);

// Writer: collects keys and tensors, then writes temporary file + fsync + rename. Keys and tensors
// keep the order in which they were put, the alignment is 32: the same calls give the same bytes.
// A name put twice, an empty one, "general.alignment" (the writer's own) and a shape that does not
// fit the bytes are GORGON_ERROR_ARGUMENT; nothing was added then.
typedef struct gg_gguf_writer gg_gguf_writer;

gorgon_status gg_gguf_writer_create(gg_gguf_writer **out, gorgon_error *err);
void gg_gguf_writer_free(gg_gguf_writer *writer); // NULL is legal
gorgon_status gg_gguf_put_u32(gg_gguf_writer *w, const char *key, uint32_t v, gorgon_error *err);
gorgon_status gg_gguf_put_u64(gg_gguf_writer *w, const char *key, uint64_t v, gorgon_error *err);
gorgon_status gg_gguf_put_f32(gg_gguf_writer *w, const char *key, float v, gorgon_error *err);
gorgon_status gg_gguf_put_bool(gg_gguf_writer *w, const char *key, bool v, gorgon_error *err);
gorgon_status gg_gguf_put_string(gg_gguf_writer *w, const char *key, const char *v,
                                 gorgon_error *err);
gorgon_status gg_gguf_put_array_f32(gg_gguf_writer *w, const char *key, const float *v, size_t n,
                                    gorgon_error *err);
gorgon_status gg_gguf_put_array_u32(gg_gguf_writer *w, const char *key, const uint32_t *v, size_t n,
                                    gorgon_error *err);
gorgon_status gg_gguf_put_array_u8(gg_gguf_writer *w, const char *key, const uint8_t *v, size_t n,
                                   gorgon_error *err);
gorgon_status gg_gguf_put_array_string(gg_gguf_writer *w, const char *key, const char *const *v,
                                       size_t n, gorgon_error *err);
// Copies `bytes` of data (already in GGUF's row layout for `type`).
gorgon_status gg_gguf_put_tensor(gg_gguf_writer *w, const char *name, gg_dtype type,
                                 const uint64_t *dims, size_t n_dims, const void *data,
                                 size_t bytes, gorgon_error *err);
// The same without a copy: the tensor and its data must live until the writer is freed.
gorgon_status gg_gguf_put_view(gg_gguf_writer *w, const gg_tensor *tensor, gorgon_error *err);
// May be called more than once.
gorgon_status gg_gguf_write(const gg_gguf_writer *w, const char *path, gorgon_error *err);

// A view of the keys put so far, with these tensors in place of the writer's; it keeps copies of
// both, but not of names and data, for which `release` (NULL: nothing to do) is called with `kept`
// when the view is closed. On error it is not called. Names have to differ (ARGUMENT).
gorgon_status gg_gguf_assemble(const gg_gguf_writer *w, const char *label, const gg_tensor *tensors,
                               size_t n, void (*release)(void *kept), void *kept, gg_gguf **out,
                               gorgon_error *err);

#endif
