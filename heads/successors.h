// The successors of a set in its file: reading and writing. Format: docs/formats.md.
#ifndef GG_HEADS_SUCCESSORS_H
#define GG_HEADS_SUCCESSORS_H

#include "core/gguf.h"
#include "heads/head_set.h"

enum { GG_SUCCESSORS_TENSORS = 3 };

// Empty if the file has none for this set; `label` names the file in errors.
gorgon_status gg_successors_read(const gg_gguf *file, const char *label, size_t set, size_t n_vocab,
                                 gg_successors *out, gorgon_error *err);
gorgon_status gg_successors_put(gg_gguf_writer *w, size_t set, size_t n_vocab,
                                const gg_successors *s, gorgon_error *err);

#endif
