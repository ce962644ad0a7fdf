// A base model's files, whatever software they are made for, as one view with the keys and tensors
// of a GGUF file.
#ifndef GG_CORE_CHECKPOINT_H
#define GG_CORE_CHECKPOINT_H

#include "core/gguf.h"

// A GGUF file, or a Hugging Face directory: config.json, tokenizer.json, model.safetensors or its
// shards with their index. Weights stay where they are. Close it with gg_gguf_close. Errors name
// file, place, expected and got.
gorgon_status gg_checkpoint_open(const char *path, gg_gguf **out, gorgon_error *err);

#endif
