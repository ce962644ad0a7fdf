// Datastores for the embedded model: built from a few texts, read whole, damaged.
#ifndef DATASTORE_FIXTURE_H
#define DATASTORE_FIXTURE_H

#include <zlib.h>

#include "heads/datastore.h"
#include "heads_fixture.h"

// A file in memory.
typedef struct store_file {
    uint8_t *bytes;
    size_t n;
} store_file;

static inline gorgon_status store_write(const gorgon_model *model, const char *path,
                                        const char *const *texts, size_t n_texts, size_t threads,
                                        gorgon_error *err)
{
    gorgon_datastore_options options;
    gorgon_datastore_builder *builder = NULL;
    gorgon_datastore_options_init(&options);
    options.threads = threads;
    gorgon_status status = gorgon_datastore_builder_create(model, &options, &builder, err);
    for (size_t i = 0; i < n_texts && status == GORGON_OK; i++)
        status = gorgon_datastore_builder_add(builder, texts[i], strlen(texts[i]), true, err);
    if (status == GORGON_OK)
        status = gorgon_datastore_builder_write(builder, path, err);
    gorgon_datastore_builder_free(builder);
    return status;
}

static inline store_file store_read(const char *path)
{
    FILE *stream = fopen(path, "rb");
    cr_assert_not_null(stream);
    cr_assert_eq(fseek(stream, 0, SEEK_END), 0);
    store_file f = {.n = (size_t)ftell(stream)};
    rewind(stream);
    f.bytes = gg_alloc(f.n, 1);
    cr_assert_eq(fread(f.bytes, 1, f.n, stream), f.n);
    fclose(stream);
    return f;
}

// The file of these texts; its scratch directory is gone afterwards.
static inline store_file store_of(const gorgon_model *model, const char *const *texts, size_t n,
                                  size_t threads)
{
    gorgon_error err = {0};
    scratch s = scratch_create();
    cr_assert_eq(store_write(model, s.path, texts, n, threads, &err), GORGON_OK, "%s", err.message);
    store_file f = store_read(s.path);
    scratch_remove(&s);
    return f;
}

static inline gorgon_datastore *store_open(const store_file *f)
{
    gorgon_error err = {0};
    gorgon_datastore *store = NULL;
    cr_assert_eq(gg_datastore_open_memory(f->bytes, f->n, "store", &store, &err), GORGON_OK, "%s",
                 err.message);
    return store;
}

// Makes the header's checksum right again.
static inline void store_mend(store_file *f)
{
    const uint32_t crc = (uint32_t)crc32_z(0, f->bytes, 124);
    for (size_t i = 0; i < 4; i++)
        f->bytes[124 + i] = (uint8_t)(crc >> (8 * i));
}

static inline uint64_t store_number(const store_file *f, size_t at, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)f->bytes[at + i] << (8 * i);
    return v;
}

#endif
