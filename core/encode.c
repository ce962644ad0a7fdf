// Text to ids: special tokens, normalisation, splitting, segmentation of the pieces.
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "normalize.h"
#include "tokenizer_impl.h"
#include "utf8.h"

// One encoding call: its workspaces and the ids so far.
typedef struct encoder {
    const gorgon_tokenizer *tokenizer;
    bool parse_special;
    gg_splitter splitter;
    gg_normal_text normal;
    gg_bpe_work bpe;
    gg_unigram_work unigram;
    gorgon_token *ids; // [capacity]
    size_t n, capacity;
    gorgon_error *err;
} encoder;

static gorgon_status reserve_ids(encoder *e, size_t more)
{
    if (more <= e->capacity - e->n)
        return GORGON_OK;
    size_t capacity = e->n + more + e->capacity / 2 + 16;
    gorgon_token *ids = gg_realloc(e->ids, e->n, capacity, sizeof *ids);
    if (!ids)
        return gg_fail(e->err, GORGON_ERROR_MEMORY, "no memory for %zu token ids", capacity);
    e->ids = ids;
    e->capacity = capacity;
    return GORGON_OK;
}

// Ids of the bytes of a character that is no token, or the unknown id; none if there is neither.
static size_t put_unknown(const gorgon_tokenizer *t, const char *bytes, size_t n, gorgon_token *ids)
{
    size_t known = 0;
    while (known < n && t->vocab.byte_ids[(uint8_t)bytes[known]] != GORGON_TOKEN_NONE) {
        ids[known] = t->vocab.byte_ids[(uint8_t)bytes[known]];
        known++;
    }
    if (known == n)
        return n;
    ids[0] = t->unknown;
    return t->unknown != GORGON_TOKEN_NONE;
}

// Unknown tokens side by side become one. Returns the number left.
static size_t fuse_unknown(const gorgon_tokenizer *t, gorgon_token *ids, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] != t->unknown || kept == 0 || ids[kept - 1] != t->unknown)
            ids[kept++] = ids[i];
    }
    return kept;
}

// The ids that merging starts from; at most one per byte.
static size_t start_ids(const gorgon_tokenizer *t, const char *piece, size_t length,
                        gorgon_token *ids)
{
    size_t n = 0;
    if (t->vocab.model == GG_VOCAB_BYTES) {
        for (size_t i = 0; i < length; i++) {
            gorgon_token id = t->vocab.byte_ids[(uint8_t)piece[i]];
            if (id != GORGON_TOKEN_NONE)
                ids[n++] = id;
        }
        return n;
    }
    for (size_t at = 0, step; at < length; at += step) {
        step = gg_utf8_step(piece + at, length - at);
        gorgon_token id = gg_vocab_find_piece(&t->vocab, piece + at, step);
        if (id != GORGON_TOKEN_NONE)
            ids[n++] = id;
        else
            n += put_unknown(t, piece + at, step, ids + n);
    }
    return n;
}

static gorgon_status encode_bpe(encoder *e, const char *piece, size_t length, size_t *n)
{
    const gorgon_tokenizer *t = e->tokenizer;
    gorgon_token *ids = e->ids + e->n;
    if (t->ignore_merges) {
        gorgon_token id = gg_vocab_find_piece(&t->vocab, piece, length);
        if (id != GORGON_TOKEN_NONE && t->vocab.kinds[id] == GG_TOKEN_NORMAL) {
            ids[0] = id;
            *n = 1;
            return GORGON_OK;
        }
    }
    *n = start_ids(t, piece, length, ids);
    return gg_bpe_merge(&t->merges, &e->bpe, ids, n, e->err);
}

static gorgon_status encode_unigram(encoder *e, const char *piece, size_t length, size_t *n)
{
    gorgon_status status =
        gg_unigram_segment(&e->tokenizer->unigram, &e->unigram, piece, length, e->err);
    *n = 0;
    for (size_t at = 0; status == GORGON_OK && at < length;) {
        const gg_unigram_node *node = &e->unigram.nodes[at];
        gorgon_token *ids = e->ids + e->n + *n;
        if (node->id != GORGON_TOKEN_NONE) {
            *ids = node->id;
            ++*n;
        } else {
            *n += put_unknown(e->tokenizer, piece + at, node->previous - at, ids);
        }
        at = node->previous;
    }
    return status;
}

// A piece of n bytes never gives more than n ids.
static gorgon_status encode_piece(encoder *e, const char *piece, size_t length)
{
    size_t n = 0;
    gorgon_status status = reserve_ids(e, length);
    if (status == GORGON_OK)
        status = e->tokenizer->vocab.model == GG_VOCAB_UNIGRAM
                     ? encode_unigram(e, piece, length, &n)
                     : encode_bpe(e, piece, length, &n);
    if (e->tokenizer->unknown != GORGON_TOKEN_NONE)
        n = fuse_unknown(e->tokenizer, e->ids + e->n, n);
    e->n += n;
    return status;
}

static gorgon_status encode_pieces(encoder *e, const char *text, size_t length, bool begins)
{
    (void)begins;
    gg_splitter_start(&e->splitter, text, length);
    for (;;) {
        const char *piece;
        size_t n;
        bool got;
        gorgon_status status = gg_splitter_next(&e->splitter, &piece, &n, &got, e->err);
        if (status == GORGON_OK && got)
            status = encode_piece(e, piece, n);
        if (status != GORGON_OK || !got)
            return status;
    }
}

// The longest token of the set that text begins with and that may be matched in this call.
static const gg_prefix_entry *special_at(const encoder *e, const gg_prefix_set *set,
                                         const char *text, size_t length)
{
    const gg_prefix_entry *best = NULL;
    gg_prefix_walk walk = {0};
    while (walk.depth < length && gg_prefix_step(set, &walk, text[walk.depth])) {
        const gg_prefix_entry *entry = gg_prefix_here(set, &walk);
        if (entry && (e->parse_special || e->tokenizer->vocab.kinds[entry->id] == GG_TOKEN_USER))
            best = entry;
    }
    return best;
}

typedef gorgon_status encode_step(encoder *e, const char *text, size_t length, bool begins);

// Cuts text at the tokens of the set; what lies between goes to the next step.
static gorgon_status encode_around(encoder *e, const gg_prefix_set *set, encode_step *next,
                                   const char *text, size_t length, bool begins)
{
    size_t start = 0, at = 0;
    gorgon_status status = GORGON_OK;
    while (set->n > 0 && status == GORGON_OK && at < length) {
        const gg_prefix_entry *special = special_at(e, set, text + at, length - at);
        if (!special) {
            at++;
            continue;
        }
        const uint8_t flags = e->tokenizer->flags[special->id];
        size_t end = at;
        if (flags & GG_TOKEN_LSTRIP)
            end -= gg_spaces_after(text + start, at - start);
        if (end > start)
            status = next(e, text + start, end - start, begins && start == 0);
        if (status == GORGON_OK)
            status = reserve_ids(e, 1);
        if (status == GORGON_OK)
            e->ids[e->n++] = special->id;
        at += special->length;
        if (flags & GG_TOKEN_RSTRIP)
            at += gg_spaces_before(text + at, length - at);
        start = at;
    }
    if (status != GORGON_OK || start == length)
        return status;
    return next(e, text + start, length - start, begins && start == 0);
}

static gorgon_status encode_normal(encoder *e, const char *text, size_t length, bool begins)
{
    const gorgon_tokenizer *t = e->tokenizer;
    if (!gg_rules_are_empty(&t->rules)) {
        gorgon_status status = gg_normalize(&t->rules, text, length, begins, &e->normal, e->err);
        if (status != GORGON_OK)
            return status;
        text = e->normal.bytes;
        length = e->normal.n;
    }
    return encode_around(e, &t->normal_users, encode_pieces, text, length, begins);
}

static gorgon_status check_text(const char *text, size_t length, gorgon_error *err)
{
    size_t bad;
    if (!text && length > 0)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "text is NULL but its length is %zu", length);
    if (length > INT32_MAX)
        return gg_fail(err, GORGON_ERROR_LIMIT, "text has %zu bytes, at most %d can be encoded",
                       length, INT32_MAX);
    if (!gg_utf8_valid(text, length, &bad))
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "text is not valid UTF-8: byte 0x%02x at offset %zu of %zu",
                       (uint8_t)text[bad], bad, length);
    return GORGON_OK;
}

gorgon_status gorgon_tokenizer_encode(const gorgon_tokenizer *tokenizer, const char *text,
                                      size_t length, bool parse_special, gorgon_token **ids,
                                      size_t *n_ids, gorgon_error *err)
{
    gorgon_status status = check_text(text, length, err);
    if (status != GORGON_OK)
        return status;
    encoder e = {.tokenizer = tokenizer, .parse_special = parse_special, .err = err};
    status = gg_splitter_open(tokenizer->pretokenizer, &e.splitter, err);
    if (status == GORGON_OK)
        status = reserve_ids(&e, length / 3 + 1);
    if (status == GORGON_OK)
        status = encode_around(&e, &tokenizer->specials, encode_normal, text, length, true);
    gg_splitter_close(&e.splitter);
    gg_normal_text_clear(&e.normal);
    gg_bpe_work_clear(&e.bpe);
    gg_unigram_work_clear(&e.unigram);
    if (status != GORGON_OK) {
        gg_free(e.ids);
        return status;
    }
    *ids = e.ids;
    *n_ids = e.n;
    return GORGON_OK;
}

gorgon_status gorgon_tokenizer_prompt(const gorgon_tokenizer *tokenizer, const char *text,
                                      size_t length, bool parse_special, gorgon_token **ids,
                                      size_t *n_ids, gorgon_error *err)
{
    gorgon_token *encoded = NULL;
    size_t n = 0;
    gorgon_status status =
        gorgon_tokenizer_encode(tokenizer, text, length, parse_special, &encoded, &n, err);
    if (status != GORGON_OK)
        return status;
    if (tokenizer->adds_bos && (n == 0 || encoded[0] != tokenizer->bos)) {
        gorgon_token *longer = gg_realloc(encoded, n, n + 1, sizeof *longer);
        if (!longer) {
            gg_free(encoded);
            return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for %zu token ids", n + 1);
        }
        encoded = longer;
        memmove(encoded + 1, encoded, n * sizeof *encoded);
        encoded[0] = tokenizer->bos;
        n++;
    }
    *ids = encoded;
    *n_ids = n;
    return GORGON_OK;
}
