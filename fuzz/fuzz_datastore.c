// Fuzz target: whatever the bytes, opening a datastore and searching it must stay inside them. Most
// inputs fail at the header's checksum, so each is tried as it is, then once more with it mended.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/alloc.h"
#include "heads/datastore.h"

enum { HEADER = 128, CHECKSUM = 124, CONTEXTS = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_match(const gorgon_datastore *store, const gg_datastore_match *m,
                        const gorgon_datastore_info *info)
{
    require(m->length <= GG_DATASTORE_ORDER && m->first <= m->end && m->end <= info->places);
    require((m->length == 0) == (m->first == m->end));
    for (size_t i = m->first; i < m->end && i < m->first + CONTEXTS; i++) {
        const gorgon_token next = gg_datastore_next(store, i);
        require(next == GORGON_TOKEN_NONE || (next >= 0 && (uint32_t)next < info->n_vocab));
    }
}

static void search(const gorgon_datastore *store)
{
    gorgon_datastore_info info;
    gorgon_datastore_describe(store, &info);
    for (size_t i = 0; i < CONTEXTS; i++) {
        gorgon_token backwards[GG_DATASTORE_ORDER];
        for (size_t k = 0; k < GG_DATASTORE_ORDER; k++)
            backwards[k] = gg_datastore_next(store, (7 * i + 3 * k) % info.places);
        gg_datastore_match m = gg_datastore_longest(store, backwards, GG_DATASTORE_ORDER);
        check_match(store, &m, &info);
        for (size_t length = m.length; length-- > 1;) {
            m = gg_datastore_widen(store, backwards, m, length);
            check_match(store, &m, &info);
        }
    }
}

static void try_bytes(const uint8_t *data, size_t size)
{
    gorgon_datastore *store;
    gorgon_error err = {0};
    gorgon_status status = gg_datastore_open_memory(data, size, "input", &store, &err);
    require(status == err.status && (status == GORGON_OK) == (store != NULL));
    require(status == GORGON_OK || err.message[0] != '\0');
    if (status != GORGON_OK)
        return;
    search(store);
    status = gorgon_datastore_verify(store, &err);
    require(status == err.status);
    gorgon_datastore_free(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_bytes(data, size);
    if (size < HEADER)
        return 0;
    uint8_t *copy = gg_alloc(size, 1);
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    const uint32_t crc = (uint32_t)crc32_z(0, copy, CHECKSUM);
    for (size_t i = 0; i < 4; i++)
        copy[CHECKSUM + i] = (uint8_t)(crc >> (8 * i));
    try_bytes(copy, size);
    gg_free(copy);
    return 0;
}
