// Inside of a gorgon_heads: what the readers of its formats fill in.
#ifndef GG_HEADS_IMPL_H
#define GG_HEADS_IMPL_H

#include "core/error.h"
#include "core/gguf.h"
#include "core/tensor_file.h"
#include "heads/head_set.h"

enum { GG_HEADS_WARNINGS = 16 };

struct gorgon_heads {
    char *path;
    const char *label;       // the end of path
    const char *format;      // for people
    gg_gguf *file;           // of a side-car
    gg_tensor_file *tensors; // of other formats
    bool in_memory;          // no files beside it
    gorgon_fingerprint base; // 0: unknown
    char *base_name;
    char *config;                      // JSON, NULL: none
    char *warnings[GG_HEADS_WARNINGS]; // NULL after the last
    size_t n_sets;
    gg_head_set *sets; // [n_sets]
};

// Take the file, also on failure; heads are freed by the caller.
gorgon_status gg_heads_read_gguf(gorgon_heads *heads, gg_gguf *file, gorgon_error *err);
gorgon_status gg_heads_read_tensors(gorgon_heads *heads, gg_tensor_file *file, gorgon_error *err);
// True if gg_heads_read_tensors would find heads in it.
bool gg_heads_in_tensors(const gg_tensor_file *file);

// Room for n sets; also for the parts of a set whose shape is known.
gorgon_status gg_heads_alloc_sets(gorgon_heads *heads, size_t n, gorgon_error *err);
gorgon_status gg_heads_alloc_parts(const gorgon_heads *heads, size_t set, gorgon_error *err);
// A line for people about what is odd in a file that is used all the same; those beyond
// GG_HEADS_WARNINGS are dropped, as are those for which there is no memory.
void gg_heads_warn(gorgon_heads *heads, const char *format, ...) GG_PRINTF(2, 3);

#endif
