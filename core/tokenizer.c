// The tokenizer object: built from a checkpoint's metadata, queried, encoding and decoding.
// Vocabulary, merges, splitting and chat templates are files of their own.
#include "core/tokenizer.h"

#include <string.h>

#include "bpe.h"
#include "chat.h"
#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"
#include "core/limits.h"
#include "pretokenize.h"
#include "utf8.h"
#include "vocab.h"

#define MAX_ENDS 24

struct gorgon_tokenizer {
    gg_vocab vocab;
    gg_merges merges;
    gg_pretokenizer *pretokenizer;
    gg_chat chat;
    gorgon_token bos, eos;
    gorgon_token ends[MAX_ENDS]; // ids that end a generation
    size_t n_ends;
    bool adds_bos;
};

// Control tokens that end a text or a turn in the checkpoints that have them.
static const char *const end_names[] = {
    "</s>",       "<eos>",           "<end_of_turn>", "<|end|>",         "<|endoftext|>",
    "<|im_end|>", "<|end_of_text|>", "<|eot_id|>",    "<|end_of_turn|>", "<|eom_id|>",
    "<|eos|>",    "<|eot|>",         "<EOT>",         "<|end_of_role|>",
};

static gorgon_status check_model(const gg_gguf *file, gorgon_error *err)
{
    const char *model;
    size_t length;
    gorgon_status status = gg_gguf_get_string(file, "tokenizer.ggml.model", &model, &length, err);
    if (status != GORGON_OK)
        return status;
    if (length != 4 || memcmp(model, "gpt2", 4) != 0)
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "%s: tokenizer.ggml.model is '%.*s', known: gpt2", gg_gguf_path(file),
                       (int)(length < 60 ? length : 60), model);
    return GORGON_OK;
}

static gorgon_status load_pretokenizer(const gg_gguf *file, gorgon_tokenizer *tokenizer,
                                       gorgon_error *err)
{
    const char *name;
    size_t length;
    gorgon_status status = gg_gguf_get_string(file, "tokenizer.ggml.pre", &name, &length, err);
    if (status != GORGON_OK)
        return status;
    return gg_pretokenizer_create(gg_gguf_path(file), name, length, &tokenizer->pretokenizer, err);
}

// An optional token id: GORGON_TOKEN_NONE when the key is absent.
static gorgon_status load_id(const gg_gguf *file, const char *key, size_t n_tokens,
                             gorgon_token *out, gorgon_error *err)
{
    *out = GORGON_TOKEN_NONE;
    if (!gg_gguf_has(file, key))
        return GORGON_OK;
    uint64_t id;
    gorgon_status status = gg_gguf_get_u64(file, key, &id, err);
    if (status != GORGON_OK)
        return status;
    if (id >= n_tokens)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s is %llu, the vocabulary has %zu tokens",
                       gg_gguf_path(file), key, (unsigned long long)id, n_tokens);
    *out = (gorgon_token)id;
    return GORGON_OK;
}

static void add_end(gorgon_tokenizer *tokenizer, gorgon_token id)
{
    if (id != GORGON_TOKEN_NONE && !gorgon_tokenizer_is_end(tokenizer, id))
        tokenizer->ends[tokenizer->n_ends++] = id;
}

static gorgon_status load_roles(const gg_gguf *file, gorgon_tokenizer *tokenizer, gorgon_error *err)
{
    static const char bos_flag[] = "tokenizer.ggml.add_bos_token";
    const size_t n = tokenizer->vocab.n;
    gorgon_token turn, message;
    gorgon_status status = load_id(file, "tokenizer.ggml.bos_token_id", n, &tokenizer->bos, err);
    if (status == GORGON_OK)
        status = load_id(file, "tokenizer.ggml.eos_token_id", n, &tokenizer->eos, err);
    if (status == GORGON_OK)
        status = load_id(file, "tokenizer.ggml.eot_token_id", n, &turn, err);
    if (status == GORGON_OK)
        status = load_id(file, "tokenizer.ggml.eom_token_id", n, &message, err);
    if (status == GORGON_OK && gg_gguf_has(file, bos_flag))
        status = gg_gguf_get_bool(file, bos_flag, &tokenizer->adds_bos, err);
    if (status != GORGON_OK)
        return status;
    if (tokenizer->adds_bos && tokenizer->bos == GORGON_TOKEN_NONE)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: %s is true, but there is no tokenizer.ggml.bos_token_id",
                       gg_gguf_path(file), bos_flag);
    add_end(tokenizer, tokenizer->eos);
    add_end(tokenizer, turn);
    add_end(tokenizer, message);
    for (size_t i = 0; i < sizeof end_names / sizeof end_names[0]; i++) {
        gorgon_token id = gorgon_tokenizer_find(tokenizer, end_names[i], strlen(end_names[i]));
        if (gorgon_tokenizer_is_control(tokenizer, id))
            add_end(tokenizer, id);
    }
    return GORGON_OK;
}

static gorgon_status load_chat(const gg_gguf *file, gorgon_tokenizer *tokenizer, gorgon_error *err)
{
    static const char key[] = "tokenizer.chat_template";
    if (!gg_gguf_has(file, key))
        return GORGON_OK;
    const char *source;
    size_t length;
    gorgon_status status = gg_gguf_get_string(file, key, &source, &length, err);
    if (status != GORGON_OK)
        return status;
    return gg_chat_parse(source, length, &tokenizer->chat, err);
}

gorgon_status gg_tokenizer_from_gguf(const gg_gguf *file, gorgon_tokenizer **out, gorgon_error *err)
{
    gorgon_status status = check_model(file, err);
    if (status != GORGON_OK)
        return status;
    gorgon_tokenizer *tokenizer = gg_alloc(1, sizeof *tokenizer);
    if (!tokenizer)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for a tokenizer");
    status = load_pretokenizer(file, tokenizer, err);
    if (status == GORGON_OK)
        status = gg_vocab_load(file, &tokenizer->vocab, err);
    if (status == GORGON_OK)
        status = gg_merges_load(file, &tokenizer->vocab, &tokenizer->merges, err);
    if (status == GORGON_OK)
        status = load_roles(file, tokenizer, err);
    if (status == GORGON_OK)
        status = load_chat(file, tokenizer, err);
    if (status != GORGON_OK) {
        gg_tokenizer_free(tokenizer);
        return status;
    }
    *out = tokenizer;
    return GORGON_OK;
}

void gg_tokenizer_free(gorgon_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    gg_vocab_clear(&tokenizer->vocab);
    gg_merges_clear(&tokenizer->merges);
    gg_pretokenizer_free(tokenizer->pretokenizer);
    gg_chat_clear(&tokenizer->chat);
    gg_free(tokenizer);
}

uint64_t gg_tokenizer_hash(const gorgon_tokenizer *tokenizer)
{
    const gg_vocab *vocab = &tokenizer->vocab;
    const gg_merges *merges = &tokenizer->merges;
    const char *name = gg_pretokenizer_name(tokenizer->pretokenizer);
    uint64_t hash = gg_hash(name, strlen(name), vocab->n);
    hash = gg_hash(vocab->bytes, vocab->starts[vocab->n], hash);
    hash = gg_hash(vocab->starts, (vocab->n + 1) * sizeof *vocab->starts, hash);
    hash = gg_hash(vocab->kinds, vocab->n, hash);
    return gg_hash(merges->slots, (merges->mask + 1) * sizeof *merges->slots, hash);
}

size_t gorgon_tokenizer_size(const gorgon_tokenizer *tokenizer)
{
    return tokenizer->vocab.n;
}

static bool in_range(const gorgon_tokenizer *tokenizer, gorgon_token id)
{
    return id >= 0 && (size_t)id < tokenizer->vocab.n;
}

const char *gorgon_tokenizer_bytes(const gorgon_tokenizer *tokenizer, gorgon_token id,
                                   size_t *length)
{
    *length = 0;
    return in_range(tokenizer, id) ? gg_vocab_bytes(&tokenizer->vocab, (size_t)id, length) : NULL;
}

bool gorgon_tokenizer_is_control(const gorgon_tokenizer *tokenizer, gorgon_token id)
{
    return in_range(tokenizer, id) && tokenizer->vocab.kinds[id] == GG_TOKEN_CONTROL;
}

bool gorgon_tokenizer_is_end(const gorgon_tokenizer *tokenizer, gorgon_token id)
{
    for (size_t i = 0; i < tokenizer->n_ends; i++) {
        if (tokenizer->ends[i] == id)
            return true;
    }
    return false;
}

gorgon_token gorgon_tokenizer_bos(const gorgon_tokenizer *tokenizer)
{
    return tokenizer->bos;
}

gorgon_token gorgon_tokenizer_eos(const gorgon_tokenizer *tokenizer)
{
    return tokenizer->eos;
}

gorgon_token gorgon_tokenizer_find(const gorgon_tokenizer *tokenizer, const char *bytes,
                                   size_t length)
{
    return gg_vocab_find(&tokenizer->vocab, bytes, length);
}

bool gorgon_tokenizer_adds_bos(const gorgon_tokenizer *tokenizer)
{
    return tokenizer->adds_bos;
}

// One encoding call: its workspaces and the ids so far.
typedef struct encoder {
    const gorgon_tokenizer *tokenizer;
    gg_splitter splitter;
    gg_bpe_work work;
    gorgon_token *ids; // [capacity]
    size_t n, capacity;
    gorgon_error *err;
} encoder;

// Makes room for `more` ids; a piece of n bytes never gives more than n.
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

static gorgon_status encode_piece(encoder *e, const char *piece, size_t length)
{
    gorgon_status status = reserve_ids(e, length);
    if (status != GORGON_OK)
        return status;
    gorgon_token *ids = e->ids + e->n;
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        gorgon_token id = e->tokenizer->vocab.byte_ids[(uint8_t)piece[i]];
        if (id != GORGON_TOKEN_NONE)
            ids[n++] = id;
    }
    status = gg_bpe_merge(&e->tokenizer->merges, &e->work, ids, &n, e->err);
    e->n += n;
    return status;
}

static gorgon_status encode_text(encoder *e, const char *text, size_t length)
{
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

static gorgon_status encode_with_specials(encoder *e, const char *text, size_t length)
{
    size_t start = 0, at = 0;
    gorgon_status status = GORGON_OK;
    while (status == GORGON_OK && at < length) {
        const gg_special *special =
            gg_vocab_special_at(&e->tokenizer->vocab, text + at, length - at);
        if (!special) {
            at++;
            continue;
        }
        status = encode_text(e, text + start, at - start);
        if (status == GORGON_OK)
            status = reserve_ids(e, 1);
        if (status == GORGON_OK)
            e->ids[e->n++] = special->id;
        at += special->length;
        start = at;
    }
    return status == GORGON_OK ? encode_text(e, text + start, length - start) : status;
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
    encoder e = {.tokenizer = tokenizer, .err = err};
    if (length == 0)
        text = ""; // it may be NULL
    status = gg_splitter_open(tokenizer->pretokenizer, &e.splitter, err);
    if (status == GORGON_OK)
        status = reserve_ids(&e, length / 3 + 1);
    if (status == GORGON_OK)
        status =
            parse_special ? encode_with_specials(&e, text, length) : encode_text(&e, text, length);
    gg_splitter_close(&e.splitter);
    gg_bpe_work_clear(&e.work);
    if (status != GORGON_OK) {
        gg_free(e.ids);
        return status;
    }
    *ids = e.ids;
    *n_ids = e.n;
    return GORGON_OK;
}

gorgon_status gorgon_tokenizer_decode(const gorgon_tokenizer *tokenizer, const gorgon_token *ids,
                                      size_t n_ids, char **text, size_t *length, gorgon_error *err)
{
    size_t total = 1, n;
    for (size_t i = 0; i < n_ids; i++) {
        if (!in_range(tokenizer, ids[i]))
            return gg_fail(err, GORGON_ERROR_ARGUMENT,
                           "id %d at index %zu is out of range, the vocabulary has %zu tokens",
                           (int)ids[i], i, tokenizer->vocab.n);
        gg_vocab_bytes(&tokenizer->vocab, (size_t)ids[i], &n);
        if (!gg_add(total, n, &total))
            return gg_fail(err, GORGON_ERROR_MEMORY, "the text of %zu ids is too long", n_ids);
    }
    char *out = gg_alloc(total, 1);
    if (!out)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for a text of %zu bytes", total);
    size_t at = 0;
    for (size_t i = 0; i < n_ids; i++) {
        const char *bytes = gg_vocab_bytes(&tokenizer->vocab, (size_t)ids[i], &n);
        memcpy(out + at, bytes, n);
        at += n;
    }
    *text = out;
    *length = at;
    return GORGON_OK;
}

bool gorgon_tokenizer_has_chat(const gorgon_tokenizer *tokenizer)
{
    return tokenizer->chat.known;
}

gorgon_status gorgon_tokenizer_chat(const gorgon_tokenizer *tokenizer,
                                    const gorgon_message *messages, size_t n_messages,
                                    bool add_generation_prompt, char **text, gorgon_error *err)
{
    return gg_chat_render(&tokenizer->chat, messages, n_messages, add_generation_prompt, text, err);
}

void gorgon_free(void *block)
{
    gg_free(block);
}
