// Building a datastore: tokens are kept as the file will have them, then sorted and written.
#include <string.h>
#include <zlib.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/limits.h"
#include "core/system.h"
#include "datastore_sort.h"
#include "heads/datastore.h"

// Texts of two tokens, the shortest kept, take three; the file begins with another separator.
static const uint64_t most_tokens = GG_MAX_STORE / 3 * 2 - 2;

struct gorgon_datastore_builder {
    gorgon_datastore_options options;
    const gorgon_tokenizer *tokenizer;
    gorgon_fingerprint base;
    size_t width;
    uint8_t *bytes; // [capacity * width]: separator, then texts, each with its separator
    size_t n, capacity;
    size_t n_texts, n_places;
};

void gorgon_datastore_options_init(gorgon_datastore_options *options)
{
    *options = (gorgon_datastore_options){.max_tokens = UINT64_C(1) << 28};
}

static void put_u32(uint8_t *p, uint32_t v)
{
    for (size_t i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static void put_u64(uint8_t *p, uint64_t v)
{
    put_u32(p, (uint32_t)v);
    put_u32(p + 4, (uint32_t)(v >> 32));
}

static void append(gorgon_datastore_builder *b, uint32_t token)
{
    uint8_t *p = b->bytes + b->n++ * b->width;
    for (size_t i = 0; i < b->width; i++)
        p[i] = (uint8_t)(token >> (8 * i));
}

// Room for n more tokens, by half as much again.
static gorgon_status reserve(gorgon_datastore_builder *b, size_t n, gorgon_error *err)
{
    if (n <= b->capacity - b->n)
        return GORGON_OK;
    size_t wanted = b->capacity + b->capacity / 2;
    wanted = wanted < b->n + n ? b->n + n : wanted;
    uint8_t *grown = gg_realloc(b->bytes, b->n * b->width, wanted * b->width, 1);
    if (!grown)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for a datastore of %zu tokens",
                       wanted);
    b->bytes = grown;
    b->capacity = wanted;
    return GORGON_OK;
}

gorgon_status gorgon_datastore_builder_create(const gorgon_model *model,
                                              const gorgon_datastore_options *options,
                                              gorgon_datastore_builder **out, gorgon_error *err)
{
    *out = NULL;
    if (options->max_tokens < 2 || options->max_tokens > most_tokens)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "datastore option max_tokens is %ju, expected 2 to %ju",
                       (uintmax_t)options->max_tokens, (uintmax_t)most_tokens);
    gorgon_datastore_builder *b = gg_alloc(1, sizeof *b);
    if (!b)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for a datastore");
    b->options = *options;
    b->tokenizer = gorgon_model_tokenizer(model);
    b->base = gorgon_model_fingerprint(model);
    b->width = gg_store_width(b->base.n_vocab);
    gorgon_status status = reserve(b, 1 << 16, err);
    if (status != GORGON_OK) {
        gorgon_datastore_builder_free(b);
        return status;
    }
    append(b, gg_store_separator(b->width));
    *out = b;
    return GORGON_OK;
}

void gorgon_datastore_builder_free(gorgon_datastore_builder *builder)
{
    if (!builder)
        return;
    gg_free(builder->bytes);
    gg_free(builder);
}

uint64_t gorgon_datastore_builder_room(const gorgon_datastore_builder *builder)
{
    return builder->options.max_tokens - (builder->n_places + builder->n_texts);
}

static gorgon_status keep(gorgon_datastore_builder *b, const gorgon_token *ids, size_t n,
                          gorgon_error *err)
{
    const uint64_t room = gorgon_datastore_builder_room(b);
    n = n < room ? n : (size_t)room;
    if (n < 2)
        return GORGON_OK; // nothing follows anything
    gorgon_status status = reserve(b, n + 1, err);
    if (status != GORGON_OK)
        return status;
    for (size_t i = 0; i < n; i++)
        append(b, (uint32_t)ids[i]);
    append(b, gg_store_separator(b->width));
    b->n_texts++;
    b->n_places += n - 1;
    return GORGON_OK;
}

gorgon_status gorgon_datastore_builder_add(gorgon_datastore_builder *builder, const char *text,
                                           size_t length, bool parse_special, gorgon_error *err)
{
    gorgon_token *ids = NULL;
    size_t n = 0;
    gorgon_status status =
        gorgon_tokenizer_encode(builder->tokenizer, text, length, parse_special, &ids, &n, err);
    if (status == GORGON_OK)
        status = keep(builder, ids, n, err);
    gorgon_free(ids);
    return status;
}

// The parts as they will lie in the file.
typedef struct parts {
    const uint8_t *tokens, *places;
    size_t token_bytes, place_bytes;
} parts;

static void fill_header(const gorgon_datastore_builder *b, const parts *p,
                        uint8_t header[GG_STORE_HEADER])
{
    memset(header, 0, GG_STORE_HEADER);
    memcpy(header, GG_STORE_MAGIC, sizeof GG_STORE_MAGIC);
    put_u32(header + 8, GG_STORE_VERSION);
    put_u32(header + 12, GG_STORE_HEADER);
    put_u64(header + 16, b->base.vocabulary);
    put_u32(header + 24, b->base.n_vocab);
    put_u32(header + 28, (uint32_t)b->width);
    put_u64(header + 32, b->n);
    put_u64(header + 40, b->n_places);
    put_u64(header + 48, b->n_texts);
    put_u32(header + 56, GG_DATASTORE_ORDER);
    put_u32(header + GG_STORE_AT_TOKENS_CRC, (uint32_t)crc32_z(0, p->tokens, p->token_bytes));
    put_u32(header + GG_STORE_AT_PLACES_CRC, (uint32_t)crc32_z(0, p->places, p->place_bytes));
    put_u32(header + GG_STORE_AT_CRC, (uint32_t)crc32_z(0, header, GG_STORE_AT_CRC));
}

static gorgon_status write_file(const gorgon_datastore_builder *b, const parts *p, const char *path,
                                gorgon_error *err)
{
    uint8_t header[GG_STORE_HEADER];
    gorgon_output *out = NULL;
    gorgon_status status = gorgon_output_create(path, &out, err);
    if (status != GORGON_OK)
        return status;
    fill_header(b, p, header);
    status = gorgon_output_write(out, header, sizeof header, err);
    if (status == GORGON_OK)
        status = gorgon_output_write(out, p->tokens, p->token_bytes, err);
    if (status == GORGON_OK)
        status = gorgon_output_write(out, p->places, p->place_bytes, err);
    if (status == GORGON_OK)
        return gorgon_output_commit(out, err);
    gorgon_output_discard(out);
    return status;
}

static gorgon_status sort_places(const gorgon_datastore_builder *b, uint32_t *place,
                                 gorgon_error *err)
{
    const gg_store_text text = {b->bytes, b->width, b->n};
    const size_t threads = b->options.threads ? b->options.threads : gg_processors();
    gg_team *team = NULL;
    gorgon_status status = gg_team_create(threads, &team, err);
    if (status != GORGON_OK)
        return status;
    status = gg_datastore_sort(&text, b->base.n_vocab, place, b->n_places, team, &b->options, err);
    gg_team_free(team);
    return status;
}

gorgon_status gorgon_datastore_builder_write(gorgon_datastore_builder *builder, const char *path,
                                             gorgon_error *err)
{
    gorgon_datastore_builder *b = builder;
    if (b->n_texts == 0)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "no text for the datastore '%s', expected two tokens at least", path);
    gorgon_status status = reserve(b, 1, err); // for the padding
    if (status != GORGON_OK)
        return status;
    const size_t token_bytes = (b->n * b->width + 3) / 4 * 4;
    memset(b->bytes + b->n * b->width, 0, token_bytes - b->n * b->width);
    uint32_t *place = gg_alloc_uninit(b->n_places, sizeof *place);
    if (!place)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for sorting %zu tokens",
                       b->n_places);
    status = sort_places(b, place, err);
    uint8_t *bytes = (uint8_t *)place;
    for (size_t i = 0; i < b->n_places && status == GORGON_OK; i++)
        put_u32(bytes + 4 * i, place[i]);
    const parts p = {b->bytes, bytes, token_bytes, 4 * b->n_places};
    if (status == GORGON_OK)
        status = write_file(b, &p, path, err);
    gg_free(place);
    return status;
}
