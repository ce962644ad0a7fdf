// Building a tokenizer from a checkpoint's metadata.
#ifndef GG_CORE_TOKENIZER_H
#define GG_CORE_TOKENIZER_H

#include "core/gguf.h"
#include "gorgon/tokenizer.h"

// From GGUF keys tokenizer.ggml.* and tokenizer.chat_template: model "gpt2" with pre-tokenizer
// "smollm" here; anything else is GORGON_ERROR_UNSUPPORTED naming what was found.
gorgon_status gg_tokenizer_from_gguf(const gg_gguf *file, gorgon_tokenizer **out,
                                     gorgon_error *err);
void gg_tokenizer_free(gorgon_tokenizer *tokenizer); // NULL is legal
// Hash over all tokens' bytes and kinds: two tokenizers with equal hashes give the same ids.
uint64_t gg_tokenizer_hash(const gorgon_tokenizer *tokenizer);

#endif
