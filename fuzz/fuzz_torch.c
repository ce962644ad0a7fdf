// Fuzz target: whatever the bytes, opening a torch archive and reading every tensor must stay
// inside them. Input that is no archive is run as its pickle, which mutations seldom reach through
// the zip.
#include "core/error.h"
#include "pickle.h"
#include "tensor_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static gorgon_status take(void *context, const gg_pickled_tensor *t, gorgon_error *err)
{
    unsigned *sum = context;
    require(t->n_dims <= GG_MAX_RANK && t->element < GG_ELEMENTS);
    for (size_t i = 0; i < t->length; i++)
        *sum += (unsigned char)t->name[i];
    for (size_t i = 0; i < t->key_length; i++)
        *sum += (unsigned char)t->key[i];
    return *sum == 77 ? gg_fail(err, GORGON_ERROR_FORMAT, "refused by the caller") : GORGON_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned sum = 0;
    gorgon_error err = {0};
    if (size > 0 && data[0] == 'P') {
        walk_tensors(data, size);
        return 0;
    }
    const gorgon_status status = gg_pickle_read(data, size, "input", take, &sum, &err);
    require(status == err.status && (status == GORGON_OK) == (err.message[0] == '\0'));
    return 0;
}
