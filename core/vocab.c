// Loading and indexing the vocabulary: one arena for all bytes, one hash table over them.
#include "vocab.h"

#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/limits.h"

static const char tokens_key[] = "tokenizer.ggml.tokens";
static const char types_key[] = "tokenizer.ggml.token_type";

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

bool gg_byte_level_decode(const char *text, size_t length, char *out, size_t *out_length,
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

static gorgon_status load_kinds(const gg_gguf *file, gg_vocab *vocab, gorgon_error *err)
{
    int64_t *types = gg_alloc(vocab->n, sizeof *types);
    vocab->kinds = gg_alloc(vocab->n, 1);
    gorgon_status status = GORGON_OK;
    if (!types || !vocab->kinds)
        status = gg_fail(err, GORGON_ERROR_MEMORY, "no memory for %zu token types", vocab->n);
    else
        status = gg_gguf_array_i64(file, types_key, types, vocab->n, err);
    for (size_t i = 0; status == GORGON_OK && i < vocab->n; i++) {
        if (types[i] < GG_TOKEN_NORMAL || types[i] > GG_TOKEN_UNUSED)
            status = gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                             "%s: %s[%zu] is %lld, a byte-level vocabulary has types 1 to 5",
                             gg_gguf_path(file), types_key, i, (long long)types[i]);
        else
            vocab->kinds[i] = (uint8_t)types[i];
    }
    gg_free(types);
    return status;
}

// Allocates the arena for the sum of all entries; decoding only ever shortens them.
static gorgon_status reserve_bytes(const gg_gguf *file, gg_vocab *vocab, gorgon_error *err)
{
    size_t cursor = 0, length, total = 0, id = 0;
    const char *text;
    for (; gg_gguf_array_next_string(file, tokens_key, &cursor, &text, &length); id++) {
        if (length == 0 || length > GG_MAX_TOKEN_BYTES)
            return gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s[%zu] has %zu bytes, expected 1 to %d",
                           gg_gguf_path(file), tokens_key, id, length, GG_MAX_TOKEN_BYTES);
        total += length + 1;
    }
    if (id != vocab->n)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s holds %zu strings, expected %zu",
                       gg_gguf_path(file), tokens_key, id, vocab->n);
    vocab->bytes = gg_alloc(total, 1);
    vocab->starts = gg_alloc(vocab->n + 1, sizeof *vocab->starts);
    if (!vocab->bytes || !vocab->starts)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for a vocabulary of %zu bytes", total);
    return GORGON_OK;
}

static gorgon_status load_bytes(const gg_gguf *file, gg_vocab *vocab, gorgon_error *err)
{
    gorgon_status status = reserve_bytes(file, vocab, err);
    if (status != GORGON_OK)
        return status;
    size_t cursor = 0, length, used = 0, bad = 0;
    const char *text;
    for (size_t id = 0; id < vocab->n; id++) {
        if (!gg_gguf_array_next_string(file, tokens_key, &cursor, &text, &length))
            return gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s ends at entry %zu of %zu",
                           gg_gguf_path(file), tokens_key, id, vocab->n);
        if (vocab->kinds[id] != GG_TOKEN_NORMAL)
            memcpy(vocab->bytes + used, text, length);
        else if (!gg_byte_level_decode(text, length, vocab->bytes + used, &length, &bad))
            return gg_fail(err, GORGON_ERROR_FORMAT,
                           "%s: %s[%zu] leaves the byte-level alphabet at its byte %zu (0x%02x)",
                           gg_gguf_path(file), tokens_key, id, bad, (uint8_t)text[bad]);
        used += length + 1;
        vocab->starts[id + 1] = (uint32_t)used;
    }
    return GORGON_OK;
}

// Whether ids a and b, whose decoded bytes are equal, are also spelled the same in the file: they
// are unless one is byte-level text and a byte is not its own letter in that alphabet.
static bool same_spelling(const gg_vocab *vocab, size_t a, size_t b)
{
    if ((vocab->kinds[a] == GG_TOKEN_NORMAL) == (vocab->kinds[b] == GG_TOKEN_NORMAL))
        return true;
    size_t length;
    const char *bytes = gg_vocab_bytes(vocab, a, &length);
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] < 33 || bytes[i] > 126)
            return false;
    }
    return true;
}

static gorgon_status index_token(const gg_gguf *file, gg_vocab *vocab, size_t id, gorgon_error *err)
{
    size_t length;
    const char *bytes = gg_vocab_bytes(vocab, id, &length);
    gorgon_token other = gg_vocab_find(vocab, bytes, length);
    if (other != GORGON_TOKEN_NONE && same_spelling(vocab, (size_t)other, id))
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s[%zu] and [%d] are the same token '%.*s'",
                       gg_gguf_path(file), tokens_key, id, (int)other,
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
                   "%s: %s[%zu] finds no slot in the token table within %d probes",
                   gg_gguf_path(file), tokens_key, id, GG_MAX_PROBES);
}

// Normal tokens go in first, so that look-ups prefer them to others of the same bytes.
static gorgon_status build_index(const gg_gguf *file, gg_vocab *vocab, gorgon_error *err)
{
    size_t size = gg_table_size(vocab->n);
    vocab->slots = gg_alloc(size, sizeof *vocab->slots);
    if (!vocab->slots)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for a table of %zu tokens", vocab->n);
    vocab->mask = size - 1;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t id = 0; id < vocab->n; id++) {
            if ((vocab->kinds[id] == GG_TOKEN_NORMAL) != (pass == 0))
                continue;
            gorgon_status status = index_token(file, vocab, id, err);
            if (status != GORGON_OK)
                return status;
        }
    }
    for (int b = 0; b < 256; b++) {
        char byte = (char)b;
        gorgon_token id = gg_vocab_find(vocab, &byte, 1);
        bool normal = id != GORGON_TOKEN_NONE && vocab->kinds[id] == GG_TOKEN_NORMAL;
        vocab->byte_ids[b] = normal ? id : GORGON_TOKEN_NONE;
    }
    return GORGON_OK;
}

static int compare_specials(const void *a, const void *b)
{
    const gg_special *x = a, *y = b;
    int order = memcmp(x->bytes, y->bytes, x->length < y->length ? x->length : y->length);
    return order != 0 ? order : (x->length > y->length) - (x->length < y->length);
}

static bool is_special(const gg_vocab *vocab, size_t id)
{
    return vocab->kinds[id] == GG_TOKEN_CONTROL || vocab->kinds[id] == GG_TOKEN_USER;
}

static gorgon_status collect_specials(gg_vocab *vocab, gorgon_error *err)
{
    size_t n = 0;
    for (size_t id = 0; id < vocab->n; id++)
        n += is_special(vocab, id);
    vocab->specials = gg_alloc(n, sizeof *vocab->specials);
    if (!vocab->specials)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for %zu special tokens", n);
    for (size_t id = 0; id < vocab->n; id++) {
        if (!is_special(vocab, id))
            continue;
        gg_special *special = &vocab->specials[vocab->n_specials++];
        special->id = (gorgon_token)id;
        special->bytes = gg_vocab_bytes(vocab, id, &special->length);
        vocab->special_starts[(uint8_t)special->bytes[0]] = true;
    }
    qsort(vocab->specials, n, sizeof *vocab->specials, compare_specials);
    return GORGON_OK;
}

// First special of [low, high) whose byte at `depth` is at least `byte` (int, so that 256 means
// the end). All share their first `depth` bytes; one that ends there sorts before all bytes.
static size_t special_bound(const gg_vocab *vocab, size_t low, size_t high, size_t depth, int byte)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const gg_special *special = &vocab->specials[middle];
        int at = special->length > depth ? (uint8_t)special->bytes[depth] : -1;
        if (at < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const gg_special *gg_vocab_special_at(const gg_vocab *vocab, const char *text, size_t length)
{
    const gg_special *best = NULL;
    if (length == 0 || !vocab->special_starts[(uint8_t)text[0]])
        return NULL;
    size_t low = 0, high = vocab->n_specials;
    for (size_t depth = 0; depth < length; depth++) {
        int byte = (uint8_t)text[depth];
        low = special_bound(vocab, low, high, depth, byte);
        high = special_bound(vocab, low, high, depth, byte + 1);
        if (low == high)
            break;
        if (vocab->specials[low].length == depth + 1)
            best = &vocab->specials[low];
    }
    return best;
}

gorgon_status gg_vocab_load(const gg_gguf *file, gg_vocab *vocab, gorgon_error *err)
{
    gg_gguf_kind kind;
    size_t n_types;
    gorgon_status status = gg_gguf_get_array(file, tokens_key, &kind, &vocab->n, err);
    if (status != GORGON_OK)
        return status;
    if (kind != GG_GGUF_STRING || vocab->n == 0 || vocab->n > GG_MAX_VOCAB)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: %s has %zu elements of kind %d, expected 1 to %u strings",
                       gg_gguf_path(file), tokens_key, vocab->n, (int)kind, GG_MAX_VOCAB);
    status = gg_gguf_get_array(file, types_key, &kind, &n_types, err);
    if (status != GORGON_OK)
        return status;
    if (n_types != vocab->n)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s has %zu elements, expected %zu as in %s",
                       gg_gguf_path(file), types_key, n_types, vocab->n, tokens_key);
    status = load_kinds(file, vocab, err);
    if (status == GORGON_OK)
        status = load_bytes(file, vocab, err);
    if (status == GORGON_OK)
        status = build_index(file, vocab, err);
    if (status == GORGON_OK)
        status = collect_specials(vocab, err);
    return status;
}

void gg_vocab_clear(gg_vocab *vocab)
{
    gg_free(vocab->bytes);
    gg_free(vocab->starts);
    gg_free(vocab->kinds);
    gg_free(vocab->slots);
    gg_free(vocab->specials);
    *vocab = (gg_vocab){0};
}
