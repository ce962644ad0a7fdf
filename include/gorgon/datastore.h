// Datastores: any text as tokens, with an index that tells what followed a context. The proposer
// "datastore" drafts from one (retrieval-based speculative decoding, REST, arXiv 2311.08252).
// Normative description of the file: docs/formats.md.
#ifndef GORGON_DATASTORE_H
#define GORGON_DATASTORE_H

#include "gorgon/model.h"
#include "gorgon/progress.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gorgon_datastore gorgon_datastore;

typedef struct gorgon_datastore_info {
    const char *path;    // borrowed from the datastore
    uint64_t vocabulary; // gorgon_fingerprint.vocabulary of the model whose tokenizer made it
    uint32_t n_vocab;
    uint64_t texts, tokens;
    uint64_t places; // tokens that another follows in the same text: what can be matched
    uint64_t file_bytes;
} gorgon_datastore_info;

// True when the file begins as a datastore does; does not validate it.
bool gorgon_datastore_probe(const char *path);
// Maps a datastore; its header is checked, its text is read when it is used, every value within
// bounds. *out is owned by the caller, immutable and shareable. Errors: IO, FORMAT, MEMORY.
gorgon_status gorgon_datastore_open(const char *path, gorgon_datastore **out, gorgon_error *err);
void gorgon_datastore_free(gorgon_datastore *store); // NULL is legal
void gorgon_datastore_describe(const gorgon_datastore *store, gorgon_datastore_info *info);
// GORGON_ERROR_MISMATCH when it was made with another tokenizer.
gorgon_status gorgon_datastore_check(const gorgon_datastore *store, const gorgon_model *model,
                                     gorgon_error *err);
// Reads all of it and compares the checksums. Error: FORMAT.
gorgon_status gorgon_datastore_verify(const gorgon_datastore *store, gorgon_error *err);

// Building: texts are added one by one, then sorted and written.
typedef struct gorgon_datastore_options {
    uint64_t max_tokens;         // kept at most, default 2^28; the rest of the text is left out
    size_t threads;              // that sort, 0 = all processors; the file does not depend on it
    gorgon_progress_fn progress; // of the sorting, stage "sort"; may be NULL
    void *context;
} gorgon_datastore_options;
void gorgon_datastore_options_init(gorgon_datastore_options *options);

// Memory: at most 7 bytes per token kept for vocabularies below 65536 ids, 10 for larger ones, and
// what encoding the longest text takes. One builder is used by one thread at a time.
typedef struct gorgon_datastore_builder gorgon_datastore_builder;
// The model must outlive the builder. Errors: ARGUMENT (naming the option), MEMORY.
gorgon_status gorgon_datastore_builder_create(const gorgon_model *model,
                                              const gorgon_datastore_options *options,
                                              gorgon_datastore_builder **out, gorgon_error *err);
void gorgon_datastore_builder_free(gorgon_datastore_builder *builder); // NULL is legal
// Adds one text of `length` bytes of UTF-8; no match ever crosses from one text to another. With
// parse_special, control tokens are recognised in it. What finds no room is left out. Errors:
// ARGUMENT (not UTF-8, with the byte offset), MEMORY; the builder is then as it was before.
gorgon_status gorgon_datastore_builder_add(gorgon_datastore_builder *builder, const char *text,
                                           size_t length, bool parse_special, gorgon_error *err);
// Tokens that still find room; below 2 nothing more is kept.
uint64_t gorgon_datastore_builder_room(const gorgon_datastore_builder *builder);
// Sorts and writes, whole or not at all. Errors: ARGUMENT (no text of two tokens was added), IO,
// MEMORY, CANCELLED.
gorgon_status gorgon_datastore_builder_write(gorgon_datastore_builder *builder, const char *path,
                                             gorgon_error *err);

#ifdef __cplusplus
}
#endif

#endif
