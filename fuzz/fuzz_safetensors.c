// Fuzz target: whatever the bytes, opening safetensors and reading every tensor must stay inside
// them.
#include "tensor_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    walk_tensors(data, size);
    return 0;
}
