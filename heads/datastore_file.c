// Opening a datastore: the header is checked against itself and the file's size, the rest is left
// to its use, which bounds every value it reads (datastore_search.c), and to verify.
#include <string.h>
#include <zlib.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/limits.h"
#include "core/model.h"
#include "datastore_format.h"
#include "heads/datastore.h"

bool gorgon_datastore_probe(const char *path)
{
    gg_mapping mapping;
    if (gg_map_file(path, &mapping, NULL) != GORGON_OK)
        return false;
    bool is = mapping.size >= sizeof GG_STORE_MAGIC &&
              memcmp(mapping.data, GG_STORE_MAGIC, sizeof GG_STORE_MAGIC) == 0;
    gg_unmap(&mapping);
    return is;
}

// What the header says, before it is believed.
typedef struct header {
    uint32_t version, bytes, n_vocab, width, order, zero, checksum;
    uint64_t vocabulary, n_text, n_places, n_texts;
    uint32_t tokens_crc, places_crc;
} header;

static gorgon_status read_header(gg_cursor *c, header *h)
{
    const uint8_t *magic = gg_read_bytes(c, sizeof GG_STORE_MAGIC, "magic");
    if (magic && memcmp(magic, GG_STORE_MAGIC, sizeof GG_STORE_MAGIC) != 0)
        return gg_fail(c->err, GORGON_ERROR_FORMAT,
                       "%s: not a datastore: expected it to begin '%s'", c->label, GG_STORE_MAGIC);
    h->version = gg_read_u32(c, "version");
    h->bytes = gg_read_u32(c, "header size");
    h->vocabulary = gg_read_u64(c, "vocabulary");
    h->n_vocab = gg_read_u32(c, "vocabulary size");
    h->width = gg_read_u32(c, "token width");
    h->n_text = gg_read_u64(c, "token count");
    h->n_places = gg_read_u64(c, "place count");
    h->n_texts = gg_read_u64(c, "text count");
    h->order = gg_read_u32(c, "order");
    h->zero = gg_read_u32(c, "zero");
    h->tokens_crc = gg_read_u32(c, "checksum of tokens");
    h->places_crc = gg_read_u32(c, "checksum of places");
    gg_read_bytes(c, GG_STORE_AT_CRC - GG_STORE_AT_ZERO, "zeros");
    h->checksum = gg_read_u32(c, "checksum of the header");
    return c->status;
}

static gorgon_status expect(const gg_cursor *c, const char *what, uint64_t got, uint64_t low,
                            uint64_t high)
{
    if (got >= low && got <= high)
        return GORGON_OK;
    return gg_fail(c->err, GORGON_ERROR_FORMAT, "%s: %s is %ju, expected %ju to %ju", c->label,
                   what, (uintmax_t)got, (uintmax_t)low, (uintmax_t)high);
}

static bool has_bytes(const uint8_t *data, size_t from, size_t to)
{
    while (from < to && data[from] == 0)
        from++;
    return from < to;
}

static gorgon_status check_header(const gg_cursor *c, const header *h)
{
    const uint32_t crc = (uint32_t)crc32_z(0, c->base, GG_STORE_AT_CRC);
    gorgon_status status = expect(c, "version", h->version, GG_STORE_VERSION, GG_STORE_VERSION);
    if (status == GORGON_OK && crc != h->checksum)
        status = gg_fail(c->err, GORGON_ERROR_FORMAT,
                         "%s: checksum of the header is %08x, expected %08x", c->label,
                         (unsigned)h->checksum, (unsigned)crc);
    if (status == GORGON_OK)
        status = expect(c, "header size", h->bytes, GG_STORE_HEADER, GG_STORE_HEADER);
    if (status == GORGON_OK)
        status = expect(c, "vocabulary size", h->n_vocab, 1, GG_MAX_VOCAB);
    if (status == GORGON_OK)
        status = expect(c, "token width", h->width, gg_store_width(h->n_vocab),
                        gg_store_width(h->n_vocab));
    if (status == GORGON_OK)
        status = expect(c, "order", h->order, GG_DATASTORE_ORDER, GG_DATASTORE_ORDER);
    if (status == GORGON_OK)
        status = expect(c, "the word after the order", h->zero, 0, 0);
    if (status == GORGON_OK && has_bytes(c->base, GG_STORE_AT_ZERO, GG_STORE_AT_CRC))
        status = gg_fail(c->err, GORGON_ERROR_FORMAT, "%s: bytes %d to %d: expected zeros",
                         c->label, GG_STORE_AT_ZERO, GG_STORE_AT_CRC - 1);
    // A text has two tokens at least, one place, and a separator behind it.
    if (status == GORGON_OK)
        status = expect(c, "token count", h->n_text, 4, GG_MAX_STORE);
    if (status == GORGON_OK)
        status = expect(c, "text count", h->n_texts, 1, (h->n_text - 1) / 3);
    if (status == GORGON_OK)
        status = expect(c, "place count", h->n_places, h->n_text - 1 - 2 * h->n_texts,
                        h->n_text - 1 - 2 * h->n_texts);
    return status;
}

static gorgon_status place_parts(gorgon_datastore *s, const gg_cursor *c, const header *h)
{
    // Counts are below 2^32, a token has at most 4 bytes: no overflow in 64 bits.
    const uint64_t padded = (h->n_text * h->width + 3) / 4 * 4;
    const uint64_t bytes = GG_STORE_HEADER + padded + 4 * h->n_places;
    if (bytes != c->size)
        return gg_fail(c->err, GORGON_ERROR_FORMAT,
                       "%s: expected %ju bytes for %ju tokens and %ju places, got %zu", c->label,
                       (uintmax_t)bytes, (uintmax_t)h->n_text, (uintmax_t)h->n_places, c->size);
    s->text = (gg_store_text){c->base + GG_STORE_HEADER, h->width, (size_t)h->n_text};
    s->places = c->base + GG_STORE_HEADER + padded;
    s->n_places = (size_t)h->n_places;
    s->tokens_crc = h->tokens_crc;
    s->places_crc = h->places_crc;
    s->info = (gorgon_datastore_info){
        .path = s->label,
        .vocabulary = h->vocabulary,
        .n_vocab = h->n_vocab,
        .texts = h->n_texts,
        .tokens = h->n_text - 1 - h->n_texts,
        .places = h->n_places,
        .file_bytes = bytes,
    };
    return GORGON_OK;
}

gorgon_status gg_datastore_open_memory(const void *data, size_t size, const char *label,
                                       gorgon_datastore **out, gorgon_error *err)
{
    *out = NULL;
    gg_cursor c = {.base = data, .size = size, .label = label, .err = err};
    header h = {0};
    gorgon_status status = read_header(&c, &h);
    if (status == GORGON_OK)
        status = check_header(&c, &h);
    if (status != GORGON_OK)
        return status;
    gorgon_datastore *s = gg_alloc(1, sizeof *s);
    if (s)
        s->label = gg_strdup(label);
    if (!s || !s->label)
        status = gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", label);
    else
        status = place_parts(s, &c, &h);
    if (status == GORGON_OK)
        *out = s;
    else
        gorgon_datastore_free(s);
    return status;
}

gorgon_status gorgon_datastore_open(const char *path, gorgon_datastore **out, gorgon_error *err)
{
    gg_mapping mapping;
    *out = NULL;
    gorgon_status status = gg_map_file(path, &mapping, err);
    if (status != GORGON_OK)
        return status;
    status = gg_datastore_open_memory(mapping.data, mapping.size, path, out, err);
    if (status == GORGON_OK)
        (*out)->mapping = mapping;
    else
        gg_unmap(&mapping);
    return status;
}

void gorgon_datastore_free(gorgon_datastore *store)
{
    if (!store)
        return;
    gg_unmap(&store->mapping);
    gg_free(store->label);
    gg_free(store);
}

void gorgon_datastore_describe(const gorgon_datastore *store, gorgon_datastore_info *info)
{
    *info = store->info;
}

gorgon_status gorgon_datastore_check(const gorgon_datastore *store, const gorgon_model *model,
                                     gorgon_error *err)
{
    const gorgon_fingerprint m = gorgon_model_fingerprint(model);
    const gorgon_datastore_info *s = &store->info;
    if (s->vocabulary == m.vocabulary && s->n_vocab == m.n_vocab)
        return GORGON_OK;
    return gg_fail(err, GORGON_ERROR_MISMATCH,
                   "%s was made with another tokenizer: expected vocabulary %016jx of %u tokens, "
                   "got %016jx of %u",
                   s->path, (uintmax_t)m.vocabulary, (unsigned)m.n_vocab, (uintmax_t)s->vocabulary,
                   (unsigned)s->n_vocab);
}

static gorgon_status check_part(const gorgon_datastore *s, const char *part, const uint8_t *data,
                                size_t n, uint32_t expected, gorgon_error *err)
{
    const uint32_t got = (uint32_t)crc32_z(0, data, n);
    if (got == expected)
        return GORGON_OK;
    return gg_fail(err, GORGON_ERROR_FORMAT, "%s: checksum of its %s is %08x, expected %08x",
                   s->info.path, part, (unsigned)got, (unsigned)expected);
}

gorgon_status gorgon_datastore_verify(const gorgon_datastore *store, gorgon_error *err)
{
    const size_t tokens = (size_t)(store->places - store->text.bytes);
    gorgon_status status =
        check_part(store, "tokens", store->text.bytes, tokens, store->tokens_crc, err);
    if (status == GORGON_OK)
        status =
            check_part(store, "places", store->places, 4 * store->n_places, store->places_crc, err);
    return status;
}
