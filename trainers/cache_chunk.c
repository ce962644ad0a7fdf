// Chunk files: a fixed header, then six parts, each zlib-compressed or raw with its own checksum.
// Everything that comes from a file is checked against what is left of it before memory is taken.
#include "cache_chunk.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"
#include "core/limits.h"

enum {
    VERSION = 1,
    HEADER_BYTES = 256,
    SEQUENCE_BYTES = 40, // one entry of the sequence table
    HAS_HIDDEN = 1,      // flag of a sequence
    SAMPLE_BYTES = 1 << 18,
    MAX_SEQUENCES = 1 << 20,
    MAX_RECORDS = 1 << 24,
    MAX_TOKENS = 1 << 26,
    MAX_RATIO = 1032, // deflate cannot expand further
};

enum { PART_TABLE, PART_TOKENS, PART_POSITIONS, PART_IDS, PART_LOGPROBS, PART_HIDDEN, PARTS };
enum { ENCODING_RAW, ENCODING_ZLIB };

static const char MAGIC[8] = "GGCHUNK";
static const char *const PART_NAME[PARTS] = {"sequence table", "tokens",           "positions",
                                             "target ids",     "target log-probs", "hidden states"};

typedef struct part {
    uint32_t encoding, crc;
    uint64_t stored, raw; // bytes
    const uint8_t *data;  // stored bytes
    uint8_t *owned;       // buffer to free, or NULL
} part;

typedef struct chunk {
    gg_chunk_info info;
    part parts[PARTS];
} chunk;

static void put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
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

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get_u64(const uint8_t *p)
{
    return (uint64_t)get_u32(p) | (uint64_t)get_u32(p + 4) << 32;
}

static uint32_t checksum(const uint8_t *data, size_t n)
{
    return (uint32_t)crc32_z(0, data, n);
}

// Bytes of each part before compression, from the counts. The counts are capped, so the products
// cannot overflow.
static void raw_sizes(const gg_chunk_info *info, uint64_t raw[PARTS])
{
    raw[PART_TABLE] = (uint64_t)info->n_sequences * SEQUENCE_BYTES;
    raw[PART_TOKENS] = info->n_tokens * 4;
    raw[PART_POSITIONS] = info->n_records * 4;
    raw[PART_IDS] = info->n_records * GG_TARGETS * 4;
    raw[PART_LOGPROBS] = info->n_records * GG_TARGETS * 4;
    raw[PART_HIDDEN] = info->n_hidden * info->d_model * 2;
}

static gorgon_status check_counts(const gg_chunk_info *info, const char *label, gorgon_error *err)
{
    if (info->d_model < 1 || info->d_model > GG_MAX_WIDTH || info->n_vocab < 1 ||
        info->n_vocab > GG_MAX_VOCAB)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: width %u and vocabulary %u, expected 1 to %u and 1 to %u", label,
                       info->d_model, info->n_vocab, GG_MAX_WIDTH, GG_MAX_VOCAB);
    if (info->n_sequences > MAX_SEQUENCES || info->n_tokens > MAX_TOKENS ||
        info->n_records > MAX_RECORDS || info->n_hidden > info->n_records)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: %u sequences, %llu tokens, %llu records, %llu hidden states: expected "
                       "at most %d, %d, %d and the records",
                       label, info->n_sequences, (unsigned long long)info->n_tokens,
                       (unsigned long long)info->n_records, (unsigned long long)info->n_hidden,
                       MAX_SEQUENCES, MAX_TOKENS, MAX_RECORDS);
    if (info->first_index >= info->end_index ||
        info->n_sequences > info->end_index - info->first_index)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: %u sequences of jobs %llu to %llu, expected no more than jobs", label,
                       info->n_sequences, (unsigned long long)info->first_index,
                       (unsigned long long)info->end_index);
    return GORGON_OK;
}

bool gg_chunk_sequence_valid(const gg_cache_sequence *s, uint32_t n_vocab, const char **reason)
{
    *reason = "a token id beyond the vocabulary";
    for (uint32_t i = 0; i < s->n_tokens; i++) {
        if ((uint64_t)s->tokens[i] >= n_vocab)
            return false;
    }
    *reason = "positions that are not ascending below the last token";
    for (uint32_t i = 0; i < s->n_records; i++) {
        if (s->positions[i] >= s->n_tokens || s->positions[i] + 1 >= s->n_tokens ||
            (i > 0 && s->positions[i] <= s->positions[i - 1]))
            return false;
    }
    *reason = "a target id beyond the vocabulary or a log-probability above 0";
    for (size_t i = 0; i < (size_t)s->n_records * GG_TARGETS; i++) {
        // Rounding may lift a certain token's log-probability just above 0; NaN fails.
        if (s->target_ids[i] >= n_vocab || !(s->target_logprob[i] <= 1e-3f))
            return false;
    }
    return true;
}

static void free_parts(chunk *c)
{
    for (size_t i = 0; i < PARTS; i++)
        gg_free(c->parts[i].owned);
}

static void fill_sequence(chunk *c, const gg_cache_sequence *s, bool keep, uint8_t *at[PARTS])
{
    put_u64(at[PART_TABLE], s->index);
    put_u32(at[PART_TABLE] + 8, s->n_tokens);
    put_u32(at[PART_TABLE] + 12, s->n_records);
    put_u32(at[PART_TABLE] + 16, keep ? HAS_HIDDEN : 0);
    uint32_t temperature;
    memcpy(&temperature, &s->temperature, sizeof temperature);
    put_u32(at[PART_TABLE] + 20, temperature);
    put_u64(at[PART_TABLE] + 24, s->seed);
    put_u64(at[PART_TABLE] + 32, s->completion);
    at[PART_TABLE] += SEQUENCE_BYTES;
    for (uint32_t i = 0; i < s->n_tokens; i++, at[PART_TOKENS] += 4)
        put_u32(at[PART_TOKENS], (uint32_t)s->tokens[i]);
    for (uint32_t i = 0; i < s->n_records; i++, at[PART_POSITIONS] += 4)
        put_u32(at[PART_POSITIONS], s->positions[i]);
    for (size_t i = 0; i < (size_t)s->n_records * GG_TARGETS; i++) {
        uint32_t bits;
        memcpy(&bits, &s->target_logprob[i], sizeof bits);
        put_u32(at[PART_IDS], s->target_ids[i]);
        put_u32(at[PART_LOGPROBS], bits);
        at[PART_IDS] += 4;
        at[PART_LOGPROBS] += 4;
    }
    size_t n_hidden = keep ? (size_t)s->n_records * c->info.d_model : 0;
    for (size_t i = 0; i < n_hidden; i++, at[PART_HIDDEN] += 2)
        put_u16(at[PART_HIDDEN], s->hidden[i]);
}

static gorgon_status fill_parts(chunk *c, const char *path, const gg_cache_sequence *sequences,
                                const bool *keep_hidden, size_t n, gorgon_error *err)
{
    uint64_t raw[PARTS];
    uint8_t *at[PARTS];
    raw_sizes(&c->info, raw);
    for (size_t i = 0; i < PARTS; i++) {
        part *p = &c->parts[i];
        p->owned = at[i] = gg_alloc((size_t)raw[i], 1);
        if (!p->owned)
            return gg_fail(err, GORGON_ERROR_MEMORY, "%s: no memory for %llu bytes of %s", path,
                           (unsigned long long)raw[i], PART_NAME[i]);
        *p = (part){.stored = raw[i], .raw = raw[i], .data = p->owned, .owned = p->owned};
    }
    for (size_t i = 0; i < n; i++)
        fill_sequence(c, &sequences[i], keep_hidden[i], at);
    return GORGON_OK;
}

// Compresses data[n] into *packed (owned by the caller); *size 0 when it gains less than 5 %.
static gorgon_status try_compress(const uint8_t *data, size_t n, const char *path, uint8_t **packed,
                                  size_t *size, gorgon_error *err)
{
    uLongf bound = compressBound((uLong)n);
    *size = 0;
    *packed = gg_alloc(bound, 1);
    if (!*packed)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: no memory to compress %zu bytes", path, n);
    if (compress2(*packed, &bound, data, (uLong)n, 1) == Z_OK && bound < n - n / 20)
        *size = (size_t)bound;
    return GORGON_OK;
}

static gorgon_status compress_part(part *p, const char *path, gorgon_error *err)
{
    size_t n = (size_t)p->raw, size = 0;
    uint8_t *packed = NULL;
    gorgon_status status = GORGON_OK;
    if (n > 2 * SAMPLE_BYTES) { // a sample tells whether the whole is worth the time
        status = try_compress(p->data + n / 2, SAMPLE_BYTES, path, &packed, &size, err);
        gg_free(packed);
        packed = NULL;
        if (status != GORGON_OK)
            return status;
    }
    if (n > 0 && (size > 0 || n <= 2 * SAMPLE_BYTES))
        status = try_compress(p->data, n, path, &packed, &size, err);
    if (status == GORGON_OK && packed && size > 0) {
        gg_free(p->owned);
        p->data = p->owned = packed;
        p->stored = size;
        p->encoding = ENCODING_ZLIB;
        packed = NULL;
    }
    gg_free(packed);
    p->crc = checksum(p->data, (size_t)p->stored);
    return status;
}

static void encode_header(const chunk *c, uint8_t header[HEADER_BYTES])
{
    const gg_chunk_info *info = &c->info;
    memset(header, 0, HEADER_BYTES);
    memcpy(header, MAGIC, sizeof MAGIC);
    put_u32(header + 8, VERSION);
    put_u32(header + 12, HEADER_BYTES);
    put_u32(header + 16, info->d_model);
    put_u32(header + 20, info->n_vocab);
    put_u32(header + 24, GG_TARGETS);
    put_u32(header + 28, info->n_sequences);
    put_u64(header + 32, info->first_index);
    put_u64(header + 40, info->end_index);
    put_u64(header + 48, info->n_tokens);
    put_u64(header + 56, info->n_records);
    put_u64(header + 64, info->n_hidden);
    put_u64(header + 72, info->identity);
    for (size_t i = 0; i < PARTS; i++) {
        uint8_t *at = header + 80 + 24 * i;
        put_u32(at, c->parts[i].encoding);
        put_u32(at + 4, c->parts[i].crc);
        put_u64(at + 8, c->parts[i].stored);
        put_u64(at + 16, c->parts[i].raw);
    }
    put_u32(header + HEADER_BYTES - 4, checksum(header, HEADER_BYTES - 4));
}

static gorgon_status write_file(const chunk *c, const char *path, gorgon_error *err)
{
    uint8_t header[HEADER_BYTES];
    encode_header(c, header);
    gorgon_output *out;
    gorgon_status status = gorgon_output_create(path, &out, err);
    if (status != GORGON_OK)
        return status;
    status = gorgon_output_write(out, header, HEADER_BYTES, err);
    for (size_t i = 0; i < PARTS && status == GORGON_OK; i++)
        status = gorgon_output_write(out, c->parts[i].data, (size_t)c->parts[i].stored, err);
    if (status != GORGON_OK) {
        gorgon_output_discard(out);
        return status;
    }
    return gorgon_output_commit(out, err);
}

gorgon_status gg_chunk_write(const char *path, gg_chunk_info *info,
                             const gg_cache_sequence *sequences, const bool *keep_hidden, size_t n,
                             gorgon_error *err)
{
    info->n_tokens = info->n_records = info->n_hidden = 0;
    info->n_sequences = n <= MAX_SEQUENCES ? (uint32_t)n : UINT32_MAX;
    for (size_t i = 0; i < n && n <= MAX_SEQUENCES; i++) {
        info->n_tokens += sequences[i].n_tokens;
        info->n_records += sequences[i].n_records;
        info->n_hidden += keep_hidden[i] ? sequences[i].n_records : 0;
    }
    gorgon_status status = check_counts(info, path, err);
    if (status != GORGON_OK)
        return status;
    chunk c = {.info = *info};
    status = fill_parts(&c, path, sequences, keep_hidden, n, err);
    info->bytes = HEADER_BYTES;
    for (size_t i = 0; i < PARTS && status == GORGON_OK; i++) {
        status = compress_part(&c.parts[i], path, err);
        info->bytes += c.parts[i].stored;
    }
    if (status == GORGON_OK)
        status = write_file(&c, path, err);
    free_parts(&c);
    return status;
}

static gorgon_status check_header_start(const uint8_t *bytes, size_t size, const char *label,
                                        gorgon_error *err)
{
    if (size < HEADER_BYTES)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: the chunk's header needs %d bytes, the file has %zu", label,
                       HEADER_BYTES, size);
    if (memcmp(bytes, MAGIC, sizeof MAGIC) != 0)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: not a chunk of a feature cache", label);
    uint32_t crc = get_u32(bytes + HEADER_BYTES - 4);
    if (crc != checksum(bytes, HEADER_BYTES - 4))
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: header checksum is %08x, expected %08x: the file is damaged", label,
                       checksum(bytes, HEADER_BYTES - 4), crc);
    if (get_u32(bytes + 8) != VERSION || get_u32(bytes + 12) != HEADER_BYTES ||
        get_u32(bytes + 24) != GG_TARGETS)
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "%s: chunk version %u with a header of %u bytes and %u targets, expected "
                       "%d, %d and %d",
                       label, get_u32(bytes + 8), get_u32(bytes + 12), get_u32(bytes + 24), VERSION,
                       HEADER_BYTES, GG_TARGETS);
    return GORGON_OK;
}

static gorgon_status check_part(const part *p, const char *name, uint64_t raw, size_t left,
                                const char *label, gorgon_error *err)
{
    if (p->stored > left)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: %s: expected %llu bytes, got %zu before the end of file", label, name,
                       (unsigned long long)p->stored, left);
    bool plausible = p->encoding == ENCODING_RAW
                         ? p->stored == p->raw
                         : p->encoding == ENCODING_ZLIB && p->raw / MAX_RATIO <= p->stored;
    if (p->raw != raw || !plausible)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: %s: encoding %u, %llu bytes stored for %llu, expected %llu", label,
                       name, p->encoding, (unsigned long long)p->stored, (unsigned long long)p->raw,
                       (unsigned long long)raw);
    return GORGON_OK;
}

static gorgon_status parse_header(const void *data, size_t size, const char *label, chunk *c,
                                  gorgon_error *err)
{
    gorgon_status status = check_header_start(data, size, label, err);
    if (status != GORGON_OK)
        return status;
    gg_cursor at = {.base = data, .size = size, .position = 16, .label = label, .err = err};
    gg_chunk_info *info = &c->info;
    info->d_model = gg_read_u32(&at, "width");
    info->n_vocab = gg_read_u32(&at, "vocabulary");
    gg_read_u32(&at, "targets");
    info->n_sequences = gg_read_u32(&at, "sequences");
    info->first_index = gg_read_u64(&at, "first job");
    info->end_index = gg_read_u64(&at, "end job");
    info->n_tokens = gg_read_u64(&at, "tokens");
    info->n_records = gg_read_u64(&at, "records");
    info->n_hidden = gg_read_u64(&at, "hidden states");
    info->identity = gg_read_u64(&at, "identity");
    info->bytes = size;
    for (size_t i = 0; i < PARTS; i++) {
        c->parts[i].encoding = gg_read_u32(&at, PART_NAME[i]);
        c->parts[i].crc = gg_read_u32(&at, PART_NAME[i]);
        c->parts[i].stored = gg_read_u64(&at, PART_NAME[i]);
        c->parts[i].raw = gg_read_u64(&at, PART_NAME[i]);
    }
    status = at.status == GORGON_OK ? check_counts(info, label, err) : at.status;
    uint64_t raw[PARTS];
    raw_sizes(info, raw);
    size_t left = size - HEADER_BYTES;
    for (size_t i = 0; i < PARTS && status == GORGON_OK; i++) {
        status = check_part(&c->parts[i], PART_NAME[i], raw[i], left, label, err);
        c->parts[i].data = (const uint8_t *)data + (size - left);
        left -= status == GORGON_OK ? (size_t)c->parts[i].stored : 0;
    }
    if (status == GORGON_OK && left != 0)
        status =
            gg_fail(err, GORGON_ERROR_FORMAT, "%s: %zu bytes follow the last part", label, left);
    return status;
}

gorgon_status gg_chunk_header(const void *data, size_t size, const char *label, gg_chunk_info *info,
                              gorgon_error *err)
{
    chunk c = {0};
    gorgon_status status = parse_header(data, size, label, &c, err);
    *info = c.info;
    return status;
}

// Verifies the checksum; afterwards p->data holds p->raw bytes.
static gorgon_status decode_part(part *p, const char *name, const char *label, gorgon_error *err)
{
    uint32_t crc = checksum(p->data, (size_t)p->stored);
    if (crc != p->crc)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: checksum of %s is %08x, expected %08x: the file is damaged", label,
                       name, crc, p->crc);
    if (p->encoding == ENCODING_RAW)
        return GORGON_OK;
    p->owned = gg_alloc((size_t)p->raw, 1);
    if (!p->owned)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: no memory for %llu bytes of %s", label,
                       (unsigned long long)p->raw, name);
    uLongf got = (uLongf)p->raw;
    uLong used = (uLong)p->stored;
    int code = uncompress2(p->owned, &got, p->data, &used);
    if (code != Z_OK || got != p->raw || used != p->stored)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: %s do not unpack to %llu bytes (zlib code %d)", label, name,
                       (unsigned long long)p->raw, code);
    p->data = p->owned;
    return GORGON_OK;
}

// One sequence from the parts; at[] and left[] (elements not yet handed out) advance.
typedef struct cut {
    gg_cache_extent extent;
    const uint8_t *at[PARTS];
    uint64_t tokens, records, hidden;
} cut;

static bool read_sequence(const gg_chunk_info *info, cut *c, gg_cache_sequence *s, bool hidden)
{
    size_t targets = (size_t)s->n_records * GG_TARGETS;
    size_t width = hidden ? (size_t)s->n_records * info->d_model : 0;
    s->tokens = gg_alloc(s->n_tokens, sizeof *s->tokens);
    s->positions = gg_alloc(s->n_records, sizeof *s->positions);
    s->target_ids = gg_alloc(targets, sizeof *s->target_ids);
    s->target_logprob = gg_alloc(targets, sizeof *s->target_logprob);
    s->hidden = hidden ? gg_alloc(width, sizeof *s->hidden) : NULL;
    if (!s->tokens || !s->positions || !s->target_ids || !s->target_logprob ||
        (hidden && !s->hidden))
        return false;
    for (uint32_t i = 0; i < s->n_tokens; i++, c->at[PART_TOKENS] += 4) {
        uint32_t token = get_u32(c->at[PART_TOKENS]);
        memcpy(&s->tokens[i], &token, sizeof token);
    }
    for (uint32_t i = 0; i < s->n_records; i++, c->at[PART_POSITIONS] += 4)
        s->positions[i] = get_u32(c->at[PART_POSITIONS]);
    for (size_t i = 0; i < targets; i++, c->at[PART_IDS] += 4, c->at[PART_LOGPROBS] += 4) {
        uint32_t bits = get_u32(c->at[PART_LOGPROBS]);
        s->target_ids[i] = get_u32(c->at[PART_IDS]);
        memcpy(&s->target_logprob[i], &bits, sizeof bits);
    }
    for (size_t i = 0; i < width; i++, c->at[PART_HIDDEN] += 2)
        s->hidden[i] = (uint16_t)(c->at[PART_HIDDEN][0] | c->at[PART_HIDDEN][1] << 8);
    return true;
}

static gorgon_status cut_sequence(const gg_chunk_info *info, cut *c, uint64_t *least,
                                  gg_cache_sequence *s, const char *label, gorgon_error *err)
{
    const uint8_t *entry = c->at[PART_TABLE];
    s->index = get_u64(entry);
    uint32_t temperature = get_u32(entry + 20);
    memcpy(&s->temperature, &temperature, sizeof temperature);
    s->seed = get_u64(entry + 24);
    s->completion = get_u64(entry + 32);
    s->n_tokens = get_u32(entry + 8);
    s->n_records = get_u32(entry + 12);
    uint32_t flags = get_u32(entry + 16);
    uint64_t hidden = flags & HAS_HIDDEN ? s->n_records : 0;
    if (s->index < *least || s->index >= info->end_index || flags > HAS_HIDDEN ||
        !(s->temperature >= 0.0f && s->temperature <= 100.0f))
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: sequence %llu with flags %u, temperature %g, expected %llu to %llu, "
                       "flags 0 or 1, temperature 0 to 100",
                       label, (unsigned long long)s->index, flags, (double)s->temperature,
                       (unsigned long long)*least, (unsigned long long)info->end_index - 1);
    if (s->n_tokens > c->tokens || s->n_records > c->records || hidden > c->hidden)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: sequence %llu has %u tokens and %u records, the chunk only %llu and "
                       "%llu more",
                       label, (unsigned long long)s->index, s->n_tokens, s->n_records,
                       (unsigned long long)c->tokens, (unsigned long long)c->records);
    if (!read_sequence(info, c, s, hidden > 0 && c->extent == GG_CACHE_HIDDEN))
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: no memory for sequence %llu", label,
                       (unsigned long long)s->index);
    const char *reason;
    if (!gg_chunk_sequence_valid(s, info->n_vocab, &reason))
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: sequence %llu has %s", label,
                       (unsigned long long)s->index, reason);
    c->at[PART_TABLE] += SEQUENCE_BYTES;
    c->tokens -= s->n_tokens;
    c->records -= s->n_records;
    c->hidden -= hidden;
    *least = s->index + 1;
    return GORGON_OK;
}

static gorgon_status cut_all(const chunk *c, gg_cache_extent extent, const char *label,
                             gg_cache_sequence *sequences, gorgon_error *err)
{
    const gg_chunk_info *info = &c->info;
    cut rest = {.extent = extent,
                .tokens = info->n_tokens,
                .records = info->n_records,
                .hidden = info->n_hidden};
    for (size_t i = 0; i < PARTS; i++)
        rest.at[i] = c->parts[i].data;
    uint64_t least = info->first_index;
    gorgon_status status = GORGON_OK;
    for (uint32_t i = 0; i < info->n_sequences && status == GORGON_OK; i++)
        status = cut_sequence(info, &rest, &least, &sequences[i], label, err);
    if (status == GORGON_OK && (rest.tokens || rest.records || rest.hidden))
        status = gg_fail(err, GORGON_ERROR_FORMAT,
                         "%s: %llu tokens and %llu records belong to no sequence", label,
                         (unsigned long long)rest.tokens, (unsigned long long)rest.records);
    return status;
}

gorgon_status gg_cache_chunk_parse(const void *data, size_t size, const char *label,
                                   gg_cache_extent extent, gg_cache_sequence **sequences, size_t *n,
                                   gorgon_error *err)
{
    chunk c = {0};
    *sequences = NULL;
    *n = 0;
    gorgon_status status = parse_header(data, size, label, &c, err);
    for (size_t i = 0; i < PARTS && status == GORGON_OK; i++) {
        if (i != PART_HIDDEN || extent == GG_CACHE_HIDDEN)
            status = decode_part(&c.parts[i], PART_NAME[i], label, err);
    }
    gg_cache_sequence *all = NULL;
    if (status == GORGON_OK) {
        all = gg_alloc(c.info.n_sequences, sizeof *all);
        status = all ? cut_all(&c, extent, label, all, err)
                     : gg_fail(err, GORGON_ERROR_MEMORY, "%s: no memory for %u sequences", label,
                               c.info.n_sequences);
    }
    free_parts(&c);
    if (status != GORGON_OK) {
        gg_cache_chunk_free(all, all ? c.info.n_sequences : 0);
        return status;
    }
    *sequences = all;
    *n = c.info.n_sequences;
    return GORGON_OK;
}

void gg_cache_chunk_free(gg_cache_sequence *sequences, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        gg_free(sequences[i].tokens);
        gg_free(sequences[i].positions);
        gg_free(sequences[i].hidden);
        gg_free(sequences[i].target_ids);
        gg_free(sequences[i].target_logprob);
    }
    gg_free(sequences);
}
