// Inside of a GGUF view: shared by the reader that builds it and the look-ups that serve it.
#ifndef GG_CORE_GGUF_VIEW_H
#define GG_CORE_GGUF_VIEW_H

#include "core/file.h"
#include "core/gguf.h"

typedef struct gg_gguf_entry {
    const char *key; // NUL-terminated, in the arena
    gg_gguf_kind kind;
    gg_gguf_kind element; // of an array
    size_t at;            // byte offset of the entry, for messages
    size_t n;             // elements of an array, bytes of a string
    const uint8_t *value; // scalar, text or first element, in the file
    size_t value_bytes;   // of all elements of an array
    const char *text;     // copy of a scalar string, NUL-terminated, in the arena
} gg_gguf_entry;

// Sorted by length, then bytes: most comparisons end at the length.
typedef struct gg_gguf_ref {
    const char *name;
    size_t length;
    size_t item; // index of the entry or tensor
    size_t at;   // byte offset of the item, for messages
} gg_gguf_ref;

struct gg_gguf {
    gg_mapping mapping; // empty for a view of a caller's buffer
    const uint8_t *data;
    size_t size;
    char *path;
    const char *label; // the end of path, short enough for an error line
    gg_gguf_entry *entries;
    gg_gguf_ref *keys; // [n_entries]
    size_t n_entries;
    gg_tensor *tensors;
    gg_gguf_ref *names; // [n_tensors]
    size_t n_tensors;
    char *arena; // keys, tensor names and scalar strings
    // Of an assembled view: the keys' file, and what its tensors stand in.
    uint8_t *owned;
    void (*release)(void *kept);
    void *kept;
    // Of a split file, in part 0, which then lists the tensors of all: the other parts.
    gg_gguf **parts;
    size_t n_parts;
};

// One file, split or not.
gorgon_status gg_gguf_open_file(const char *path, gg_gguf **out, gorgon_error *err);

// Bytes of a value of this kind; 0 for strings and arrays, whose size varies.
size_t gg_gguf_kind_bytes(gg_gguf_kind kind);
int gg_gguf_ref_compare(const void *a, const void *b);
// A writer's file of the keys alone; the caller frees it. NULL: out of memory.
uint8_t *gg_gguf_keys_in_memory(const gg_gguf_writer *w, size_t *size);
uint64_t gg_gguf_load(const uint8_t *p, size_t n); // little-endian

#endif
