// Loading and indexing the vocabulary: one arena for all bytes, one hash table over them.
#include "vocab.h"

#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/limits.h"
#include "utf8.h"

size_t gg_table_size(size_t n)
{
    size_t size = 16;
    while (size < 2 * n)
        size *= 2;
    return size;
}

uint64_t gg_hash_mix(uint64_t x)
{
    x = (x ^ (x >> 33)) * UINT64_C(0xff51afd7ed558ccd);
    x = (x ^ (x >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ (x >> 33);
}

static uint32_t hash_bytes(const char *bytes, size_t length)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ length;
    for (; length >= 8; length -= 8, bytes += 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        hash = gg_hash_mix(hash ^ word);
    }
    uint64_t tail = 0;
    memcpy(&tail, bytes, length);
    return (uint32_t)gg_hash_mix(hash ^ tail);
}

// The alphabet: printable bytes stand for themselves, the 68 others follow from U+0100 in order.
static int byte_of_code_point(uint32_t c)
{
    if ((c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255))
        return (int)c;
    if (c >= 256 && c < 256 + 33)
        return (int)c - 256;
    if (c >= 256 + 33 && c < 256 + 67)
        return (int)c - (256 + 33) + 127;
    return c == 256 + 67 ? 173 : -1;
}

static bool decode_letters(const char *text, size_t length, char *out, size_t *out_length,
                           size_t *bad)
{
    const uint8_t *s = (const uint8_t *)text;
    size_t n = 0;
    for (size_t i = 0; i < length;) {
        *bad = i;
        uint32_t c = s[i++];
        if (c >= 0x80) {
            if (c < 0xc2 || c > 0xc5 || i == length || (s[i] & 0xc0) != 0x80)
                return false;
            c = (c & 0x1f) << 6 | (s[i++] & 0x3f);
        }
        int byte = byte_of_code_point(c);
        if (byte < 0)
            return false;
        out[n++] = (char)byte;
    }
    *out_length = n;
    return true;
}

bool gg_vocab_decode(gg_vocab_model model, const char *text, size_t length, char *out,
                     size_t *out_length, size_t *bad)
{
    if (model == GG_VOCAB_BYTES)
        return decode_letters(text, length, out, out_length, bad);
    *out_length = gg_spaces_decode(text, length, out);
    return true;
}

const char *gg_vocab_bytes(const gg_vocab *vocab, size_t id, size_t *length)
{
    *length = vocab->starts[id + 1] - vocab->starts[id] - 1;
    return vocab->bytes + vocab->starts[id];
}

gorgon_token gg_vocab_find(const gg_vocab *vocab, const char *bytes, size_t length)
{
    if (length == 0)
        return GORGON_TOKEN_NONE;
    uint32_t hash = hash_bytes(bytes, length);
    for (size_t probe = 0; probe < GG_MAX_PROBES; probe++) {
        const gg_vocab_slot *slot = &vocab->slots[(hash + probe) & vocab->mask];
        if (slot->id_plus_one == 0)
            break;
        if (slot->hash != hash)
            continue;
        size_t n;
        const char *entry = gg_vocab_bytes(vocab, slot->id_plus_one - 1, &n);
        if (n == length && memcmp(entry, bytes, n) == 0)
            return (gorgon_token)(slot->id_plus_one - 1);
    }
    return GORGON_TOKEN_NONE;
}

gorgon_token gg_vocab_find_piece(const gg_vocab *vocab, const char *bytes, size_t length)
{
    gorgon_token id = gg_vocab_find(vocab, bytes, length);
    if (id == GORGON_TOKEN_NONE)
        return id;
    uint8_t kind = vocab->kinds[id];
    return kind == GG_TOKEN_NORMAL || kind == GG_TOKEN_USER ? id : GORGON_TOKEN_NONE;
}

// Allocates the arena for the sum of all entries; decoding only ever shortens them.
static gorgon_status reserve(const gg_tokenizer_spec *spec, gg_vocab *vocab, gorgon_error *err)
{
    size_t total = 0;
    if (spec->n == 0 || spec->n > GG_MAX_VOCAB)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s has %zu tokens, expected 1 to %u",
                       spec->label, spec->tokens_place, spec->n, GG_MAX_VOCAB);
    for (size_t id = 0; id < spec->n; id++) {
        size_t length = spec->tokens[id].length;
        if (length == 0 || length > GG_MAX_TOKEN_BYTES)
            return gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s[%zu] has %zu bytes, expected 1 to %d",
                           spec->label, spec->tokens_place, id, length, GG_MAX_TOKEN_BYTES);
        total += length + 1;
    }
    vocab->model = spec->model;
    vocab->n = spec->n;
    vocab->bytes = gg_alloc(total, 1);
    vocab->starts = gg_alloc(vocab->n + 1, sizeof *vocab->starts);
    vocab->kinds = gg_alloc(vocab->n, 1);
    if (!vocab->bytes || !vocab->starts || !vocab->kinds)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for a vocabulary of %zu bytes", total);
    return GORGON_OK;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int gg_byte_token(const char *text, size_t length)
{
    if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

static gorgon_status load_token(const gg_tokenizer_spec *spec, size_t id, char *out, size_t *length,
                                gorgon_error *err)
{
    const gg_spec_token *token = &spec->tokens[id];
    const bool letters = spec->model == GG_VOCAB_BYTES;
    size_t bad = 0;
    *length = token->length;
    if (token->kind == GG_TOKEN_BYTE) {
        int byte = gg_byte_token(token->text, token->length);
        if (letters || byte < 0)
            return gg_fail(err, letters ? GORGON_ERROR_UNSUPPORTED : GORGON_ERROR_FORMAT,
                           "%s: %s[%zu] is '%.*s' of type %d (byte), expected %s", spec->label,
                           spec->tokens_place, id, (int)(*length < 40 ? *length : 40), token->text,
                           (int)token->kind,
                           letters ? "types 1 to 5 in a byte-level vocabulary"
                                   : "<0x00> to <0xFF>");
        *out = (char)byte;
        *length = 1;
    } else if (token->kind != GG_TOKEN_NORMAL && (letters || token->kind != GG_TOKEN_USER)) {
        memcpy(out, token->text, token->length);
    } else if (!gg_vocab_decode(spec->model, token->text, token->length, out, length, &bad)) {
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: %s[%zu] leaves the byte-level alphabet at its byte %zu (0x%02x)",
                       spec->label, spec->tokens_place, id, bad, (uint8_t)token->text[bad]);
    }
    return GORGON_OK;
}

static gorgon_status load_tokens(const gg_tokenizer_spec *spec, gg_vocab *vocab, gorgon_error *err)
{
    size_t used = 0;
    gorgon_status status = reserve(spec, vocab, err);
    for (size_t id = 0; status == GORGON_OK && id < vocab->n; id++) {
        size_t length;
        vocab->kinds[id] = spec->tokens[id].kind;
        status = load_token(spec, id, vocab->bytes + used, &length, err);
        used += length + 1;
        vocab->starts[id + 1] = (uint32_t)used;
    }
    return status;
}

static bool same_spelling(const gg_spec_token *a, const gg_spec_token *b)
{
    return a->length == b->length && memcmp(a->text, b->text, a->length) == 0;
}

// Two spellings of the same bytes are two tokens: the one that is indexed first is found.
static gorgon_status index_token(const gg_tokenizer_spec *spec, gg_vocab *vocab, size_t id,
                                 gorgon_error *err)
{
    size_t length;
    const char *bytes = gg_vocab_bytes(vocab, id, &length);
    gorgon_token other = gg_vocab_find(vocab, bytes, length);
    if (other != GORGON_TOKEN_NONE && same_spelling(&spec->tokens[other], &spec->tokens[id]))
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s[%zu] and [%d] are the same token '%.*s'",
                       spec->label, spec->tokens_place, id, (int)other,
                       (int)(length < 40 ? length : 40), bytes);
    uint32_t hash = hash_bytes(bytes, length);
    for (size_t probe = 0; probe < GG_MAX_PROBES; probe++) {
        gg_vocab_slot *slot = &vocab->slots[(hash + probe) & vocab->mask];
        if (slot->id_plus_one == 0) {
            slot->hash = hash;
            slot->id_plus_one = (uint32_t)id + 1;
            return GORGON_OK;
        }
    }
    return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                   "%s: %s[%zu] finds no slot in the token table within %d probes", spec->label,
                   spec->tokens_place, id, GG_MAX_PROBES);
}

// Look-ups prefer normal tokens to others of the same bytes, then the user's own.
static int index_pass(uint8_t kind)
{
    return kind == GG_TOKEN_NORMAL ? 0 : kind == GG_TOKEN_USER ? 1 : 2;
}

static gorgon_status build_index(const gg_tokenizer_spec *spec, gg_vocab *vocab, gorgon_error *err)
{
    size_t size = gg_table_size(vocab->n);
    vocab->slots = gg_alloc(size, sizeof *vocab->slots);
    if (!vocab->slots)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for a table of %zu tokens", vocab->n);
    vocab->mask = size - 1;
    for (int pass = 0; pass < 3; pass++) {
        for (size_t id = 0; id < vocab->n; id++) {
            if (index_pass(vocab->kinds[id]) != pass)
                continue;
            gorgon_status status = index_token(spec, vocab, id, err);
            if (status != GORGON_OK)
                return status;
        }
    }
    return GORGON_OK;
}

// Ids of single bytes: a byte-level vocabulary has them as its letters, others as tokens <0x0A>.
static void find_bytes(gg_vocab *vocab)
{
    const gg_token_kind kind = vocab->model == GG_VOCAB_BYTES ? GG_TOKEN_NORMAL : GG_TOKEN_BYTE;
    for (size_t b = 0; b < 256; b++)
        vocab->byte_ids[b] = GORGON_TOKEN_NONE;
    for (size_t id = vocab->n; id-- > 0;) {
        size_t length;
        const char *bytes = gg_vocab_bytes(vocab, id, &length);
        if (length == 1 && vocab->kinds[id] == kind)
            vocab->byte_ids[(uint8_t)*bytes] = (gorgon_token)id;
    }
}

gorgon_status gg_vocab_load(const gg_tokenizer_spec *spec, gg_vocab *vocab, gorgon_error *err)
{
    gorgon_status status = load_tokens(spec, vocab, err);
    if (status == GORGON_OK)
        status = build_index(spec, vocab, err);
    if (status == GORGON_OK)
        find_bytes(vocab);
    return status;
}

void gg_vocab_clear(gg_vocab *vocab)
{
    gg_free(vocab->bytes);
    gg_free(vocab->starts);
    gg_free(vocab->kinds);
    gg_free(vocab->slots);
    *vocab = (gg_vocab){0};
}
