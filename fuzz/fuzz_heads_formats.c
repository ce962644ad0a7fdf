// Fuzz target: heads of other trainers. The input lists the tensors of a safetensors file, which is
// opened as heads.
#include "heads_walk.h"
#include "tensor_lines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n;
    uint8_t *file = file_of_lines(data, size, &n);
    if (n > 0)
        walk_heads(file, n);
    free(file);
    return 0;
}
