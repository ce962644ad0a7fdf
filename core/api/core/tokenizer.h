// Building a tokenizer from a checkpoint's metadata.
#ifndef GG_CORE_TOKENIZER_H
#define GG_CORE_TOKENIZER_H

#include "core/gguf.h"
#include "gorgon/tokenizer.h"

// From GGUF keys tokenizer.ggml.* and tokenizer.chat_template: models "gpt2" (with the
// pre-tokenizers that docs/formats.md lists), "llama" and "t5"; anything else is
// GORGON_ERROR_UNSUPPORTED naming what was found.
gorgon_status gg_tokenizer_from_gguf(const gg_gguf *file, gorgon_tokenizer **out,
                                     gorgon_error *err);
// From a Hugging Face directory with tokenizer.json and, where they are there,
// tokenizer_config.json, generation_config.json and chat_template.jinja. Ids below n_vocab that no
// file names become unused tokens (0: as many ids as the files name); more ids than n_vocab > 0 are
// an error.
gorgon_status gg_tokenizer_from_json(const char *directory, size_t n_vocab, gorgon_tokenizer **out,
                                     gorgon_error *err);
// Writes the same tokenizer as GGUF keys, such that gg_tokenizer_from_gguf gives the same ids.
gorgon_status gg_tokenizer_json_put(const char *directory, size_t n_vocab, gg_gguf_writer *writer,
                                    gorgon_error *err);
void gg_tokenizer_free(gorgon_tokenizer *tokenizer); // NULL is legal
// Hash over the vocabulary: the same for a tokenizer as GGUF and as tokenizer.json, different for
// another vocabulary or pre-tokenizer and, if it is byte-level, for other kinds or merges.
uint64_t gg_tokenizer_hash(const gorgon_tokenizer *tokenizer);

#endif
