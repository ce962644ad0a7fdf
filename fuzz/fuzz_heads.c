// Fuzz target: whatever the bytes, opening a heads file and reading all that it offers must stay
// inside them, and what opens must be as valid as the header promises.
#include "heads_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    walk_heads(data, size);
    return 0;
}
