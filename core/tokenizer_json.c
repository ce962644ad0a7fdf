// Vocabulary, added tokens and merges of a tokenizer.json.
#include "tokenizer_json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/json.h"
#include "core/limits.h"
#include "vocab.h"

gorgon_status gg_json_expected(const gg_json_reader *r, const char *place, const char *expected,
                               const json_t *value)
{
    if (json_is_string(value))
        return gg_fail(r->err, GORGON_ERROR_UNSUPPORTED, "%s: %s: expected %s, got '%.80s'",
                       r->files->label, place, expected, json_string_value(value));
    return gg_fail(r->err, GORGON_ERROR_FORMAT, "%s: %s: expected %s, got %s", r->files->label,
                   place, expected, gg_json_kind(value));
}

bool gg_json_is(const json_t *value, const char *text)
{
    return json_is_string(value) && json_string_length(value) == strlen(text) &&
           strcmp(json_string_value(value), text) == 0;
}

gorgon_status gg_json_read_sequence(gg_json_reader *r, const json_t *top, const char *list,
                                    const char *place, gg_json_read_item *read)
{
    enum { MAX_ITEMS = 16 };
    const json_t *stack[MAX_ITEMS];
    size_t n = 0;
    if (top && !json_is_null(top))
        stack[n++] = top;
    while (n > 0) {
        const json_t *item = stack[--n];
        if (!json_is_object(item))
            return gg_json_expected(r, place, "an object", item);
        if (!gg_json_is(json_object_get(item, "type"), "Sequence")) {
            gorgon_status status = read(r, item, place);
            if (status != GORGON_OK)
                return status;
            continue;
        }
        const json_t *items = json_object_get(item, list);
        size_t more = json_array_size(items);
        if (!json_is_array(items) || more > MAX_ITEMS - n)
            return gg_json_expected(r, place, "a Sequence of at most 16 items", items);
        while (more > 0)
            stack[n++] = json_array_get(items, --more);
    }
    return GORGON_OK;
}

// An id as JSON has it; false if it is none.
static bool read_id(const json_t *value, size_t *id)
{
    json_int_t number = json_integer_value(value);
    *id = (size_t)number;
    return json_is_integer(value) && number >= 0 && (uint64_t)number < GG_MAX_VOCAB;
}

// --- How many ids there are ---

static gorgon_status count_object(const gg_json_reader *r, json_t *vocab, size_t *n)
{
    const char *key;
    json_t *value;
    json_object_foreach(vocab, key, value)
    {
        size_t id;
        if (!read_id(value, &id))
            return gg_fail(r->err, GORGON_ERROR_FORMAT,
                           "%s: model.vocab: expected an id below %u for '%.40s', got %s",
                           r->files->label, GG_MAX_VOCAB, key, gg_json_kind(value));
        if (id >= *n)
            *n = id + 1;
    }
    return GORGON_OK;
}

static gorgon_status count_added(const gg_json_reader *r, json_t *added, size_t *n)
{
    size_t i;
    json_t *token;
    json_array_foreach(added, i, token)
    {
        size_t id;
        if (!read_id(json_object_get(token, "id"), &id))
            return gg_json_expected(r, "added_tokens[].id", "an id", json_object_get(token, "id"));
        if (id >= *n)
            *n = id + 1;
    }
    return GORGON_OK;
}

static gorgon_status count_ids(gg_json_reader *r, json_t *vocab, json_t *added)
{
    size_t n = json_is_array(vocab) ? json_array_size(vocab) : 0;
    gorgon_status status = json_is_array(vocab) ? GORGON_OK : count_object(r, vocab, &n);
    if (status == GORGON_OK)
        status = count_added(r, added, &n);
    if (status != GORGON_OK)
        return status;
    if (n == 0 || n > GG_MAX_VOCAB || (r->n_vocab > 0 && n > r->n_vocab))
        return gg_fail(r->err, GORGON_ERROR_FORMAT,
                       "%s: the tokens' ids go up to %zu, expected 1 to %zu tokens",
                       r->files->label, n == 0 ? 0 : n - 1,
                       r->n_vocab > 0 ? r->n_vocab : (size_t)GG_MAX_VOCAB);
    r->spec->n = r->n_vocab > 0 ? r->n_vocab : n;
    if (r->spec->n > GG_MAX_VOCAB)
        return gg_fail(r->err, GORGON_ERROR_LIMIT, "%s: %zu tokens wanted, at most %u",
                       r->files->label, r->spec->n, GG_MAX_VOCAB);
    r->spec->tokens = gg_alloc(r->spec->n, sizeof *r->spec->tokens);
    return r->spec->tokens ? GORGON_OK
                           : gg_fail(r->err, GORGON_ERROR_MEMORY, "%s: no memory for %zu tokens",
                                     r->files->label, r->spec->n);
}

// --- The tokens ---

// A byte-level vocabulary may list texts outside its alphabet: no text leads to them.
static uint8_t kind_of(const gg_json_reader *r, const char *text, size_t length, bool fallback)
{
    char decoded[GG_MAX_TOKEN_BYTES];
    size_t decoded_length, bad;
    if (fallback && gg_byte_token(text, length) >= 0)
        return GG_TOKEN_BYTE;
    if (r->spec->model == GG_VOCAB_BYTES &&
        (length > GG_MAX_TOKEN_BYTES ||
         !gg_vocab_decode(GG_VOCAB_BYTES, text, length, decoded, &decoded_length, &bad)))
        return GG_TOKEN_UNUSED;
    return GG_TOKEN_NORMAL;
}

static gorgon_status put_token(gg_json_reader *r, size_t id, const char *text, size_t length,
                               double score, bool fallback)
{
    gg_spec_token *token = &r->spec->tokens[id];
    if (token->kind != 0)
        return gg_fail(r->err, GORGON_ERROR_FORMAT,
                       "%s: model.vocab: id %zu is both '%.40s' and '%.40s'", r->files->label, id,
                       token->text, text);
    *token = (gg_spec_token){.text = text, .length = length, .score = score};
    token->kind = kind_of(r, text, length, fallback);
    return GORGON_OK;
}

static gorgon_status read_pairs(gg_json_reader *r, json_t *vocab, bool fallback)
{
    size_t id;
    json_t *pair;
    gorgon_status status = GORGON_OK;
    json_array_foreach(vocab, id, pair)
    {
        const json_t *text = json_array_get(pair, 0), *score = json_array_get(pair, 1);
        if (json_array_size(pair) != 2 || !json_is_string(text) || !json_is_number(score) ||
            !isfinite(json_number_value(score)))
            return gg_fail(r->err, GORGON_ERROR_FORMAT,
                           "%s: model.vocab[%zu]: expected a token and its score, got %s",
                           r->files->label, id, gg_json_kind(pair));
        status = put_token(r, id, json_string_value(text), json_string_length(text),
                           json_number_value(score), fallback);
        if (status != GORGON_OK)
            break;
    }
    return status;
}

static gorgon_status read_vocab(gg_json_reader *r, json_t *vocab, bool fallback)
{
    const char *key;
    json_t *value;
    if (json_is_array(vocab))
        return read_pairs(r, vocab, fallback);
    json_object_foreach(vocab, key, value)
    {
        gorgon_status status =
            put_token(r, (size_t)json_integer_value(value), key, strlen(key), 0, fallback);
        if (status != GORGON_OK)
            return status;
    }
    return GORGON_OK;
}

static gorgon_status read_added_token(gg_json_reader *r, const json_t *added)
{
    const json_t *content = json_object_get(added, "content");
    if (!json_is_string(content))
        return gg_json_expected(r, "added_tokens[].content", "a string", content);
    if (json_is_true(json_object_get(added, "single_word")))
        return gg_json_expected(r, "added_tokens[].single_word", "false",
                                json_object_get(added, "single_word"));
    const char *text = json_string_value(content);
    const size_t length = json_string_length(content);
    size_t id = (size_t)json_integer_value(json_object_get(added, "id"));
    gg_spec_token *token = &r->spec->tokens[id];
    if (token->kind != 0 && (token->length != length || memcmp(token->text, text, length) != 0))
        return gg_fail(r->err, GORGON_ERROR_FORMAT,
                       "%s: added_tokens: id %zu is '%.40s', in model.vocab it is '%.40s'",
                       r->files->label, id, text, token->text);
    token->text = text;
    token->length = length;
    token->kind =
        json_is_true(json_object_get(added, "special")) ? GG_TOKEN_CONTROL : GG_TOKEN_USER;
    if (json_is_true(json_object_get(added, "lstrip")))
        token->flags |= GG_TOKEN_LSTRIP;
    if (json_is_true(json_object_get(added, "rstrip")))
        token->flags |= GG_TOKEN_RSTRIP;
    if (json_is_true(json_object_get(added, "normalized")) && !r->plain_search)
        token->flags |= GG_TOKEN_NORMALIZED;
    return GORGON_OK;
}

// Ids that no file names, as converters to GGUF name them.
static gorgon_status fill_holes(gg_json_reader *r)
{
    enum { MOST = 16 }; // bytes of "[PAD1048575]" and its NUL
    size_t holes = 0;
    for (size_t id = 0; id < r->spec->n; id++)
        holes += r->spec->tokens[id].kind == 0;
    char *text = r->spec->blocks[1] = gg_alloc(holes, MOST);
    if (!text)
        return gg_fail(r->err, GORGON_ERROR_MEMORY, "%s: no memory for %zu unused tokens",
                       r->files->label, holes);
    for (size_t id = 0; id < r->spec->n; id++) {
        gg_spec_token *token = &r->spec->tokens[id];
        if (token->kind != 0)
            continue;
        token->text = text;
        token->length = (size_t)snprintf(text, MOST, "[PAD%zu]", id);
        token->kind = GG_TOKEN_UNUSED;
        text += MOST;
    }
    return GORGON_OK;
}

// --- Merges: ["a b", ..] or [["a", "b"], ..] ---

static bool read_merge(const json_t *line, gg_spec_merge *merge)
{
    if (json_is_array(line)) {
        for (size_t i = 0; i < 2; i++) {
            const json_t *part = json_array_get(line, i);
            if (json_array_size(line) != 2 || !json_is_string(part))
                return false;
            merge->text[i] = json_string_value(part);
            merge->length[i] = json_string_length(part);
        }
        return true;
    }
    return gg_spec_merge_read(json_string_value(line), json_string_length(line), merge);
}

static gorgon_status read_merges(gg_json_reader *r, const json_t *merges)
{
    size_t i;
    json_t *line;
    if (!json_is_array(merges))
        return gg_json_expected(r, "model.merges", "an array", merges);
    gg_tokenizer_spec *spec = r->spec;
    spec->n_merges = json_array_size(merges);
    spec->merges = gg_alloc(spec->n_merges, sizeof *spec->merges);
    if (!spec->merges)
        return gg_fail(r->err, GORGON_ERROR_MEMORY, "%s: no memory for %zu merges", r->files->label,
                       spec->n_merges);
    json_array_foreach(merges, i, line)
    {
        if (!read_merge(line, &spec->merges[i]))
            return gg_fail(r->err, GORGON_ERROR_FORMAT,
                           "%s: model.merges[%zu]: expected two tokens, got %s", r->files->label, i,
                           gg_json_kind(line));
    }
    return GORGON_OK;
}

// --- The model ---

static gorgon_status find_unknown(gg_json_reader *r, const json_t *model)
{
    const json_t *token = json_object_get(model, "unk_token"),
                 *id = json_object_get(model, "unk_id");
    if (json_is_integer(id)) {
        size_t at;
        if (!read_id(id, &at) || at >= r->spec->n)
            return gg_json_expected(r, "model.unk_id", "an id of the vocabulary", id);
        r->spec->unknown = (gorgon_token)at;
        return GORGON_OK;
    }
    if (!json_is_string(token))
        return GORGON_OK;
    r->spec->unknown =
        gg_tokenizer_spec_find(r->spec, json_string_value(token), json_string_length(token));
    if (r->spec->unknown == GORGON_TOKEN_NONE)
        return gg_json_expected(r, "model.unk_token", "a token of the vocabulary", token);
    if (!json_is_true(json_object_get(model, "fuse_unk")))
        return gg_json_expected(r, "model.fuse_unk", "true beside an unk_token",
                                json_object_get(model, "fuse_unk"));
    return GORGON_OK;
}

static gorgon_status check_model(const gg_json_reader *r, const json_t *model)
{
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const json_t *dropout = json_object_get(model, "dropout");
    for (size_t i = 0; i < 2; i++) {
        const json_t *value = json_object_get(model, empty[i]);
        if (json_string_length(value) > 0)
            return gg_json_expected(r, empty[i], "none", value);
    }
    if (dropout && !json_is_null(dropout) && json_number_value(dropout) != 0)
        return gg_json_expected(r, "model.dropout", "null", dropout);
    return GORGON_OK;
}

// The model's type; files of old lack it.
static gorgon_status read_type(gg_json_reader *r, const json_t *model)
{
    const json_t *type = json_object_get(model, "type");
    const json_t *vocab = json_object_get(model, "vocab");
    if (!json_is_object(model))
        return gg_json_expected(r, "model", "an object", model);
    if (gg_json_is(type, "Unigram") || (!type && json_is_array(vocab)))
        r->spec->model = GG_VOCAB_UNIGRAM;
    else if (gg_json_is(type, "BPE") || (!type && json_object_get(model, "merges")))
        r->spec->model = GG_VOCAB_SENTENCEPIECE; // until a ByteLevel is seen
    else
        return gg_json_expected(r, "model.type", "BPE or Unigram", type);
    bool array = r->spec->model == GG_VOCAB_UNIGRAM;
    if (array ? !json_is_array(vocab) : !json_is_object(vocab))
        return gg_json_expected(r, "model.vocab", array ? "an array" : "an object", vocab);
    return check_model(r, model);
}

static gorgon_status read_tokens(gg_json_reader *r, json_t *model)
{
    json_t *vocab = json_object_get(model, "vocab");
    json_t *added = json_object_get(r->files->tokenizer, "added_tokens");
    const bool fallback = json_is_true(json_object_get(model, "byte_fallback"));
    if (added && !json_is_array(added))
        return gg_json_expected(r, "added_tokens", "an array", added);
    gorgon_status status = count_ids(r, vocab, added);
    if (status == GORGON_OK)
        status = read_vocab(r, vocab, fallback);
    for (size_t i = 0; status == GORGON_OK && i < json_array_size(added); i++)
        status = read_added_token(r, json_array_get(added, i));
    if (status == GORGON_OK)
        status = fill_holes(r);
    if (status == GORGON_OK && r->spec->model != GG_VOCAB_BYTES)
        status = find_unknown(r, model);
    if (status == GORGON_OK && r->spec->model != GG_VOCAB_UNIGRAM)
        status = read_merges(r, json_object_get(model, "merges"));
    return status;
}

gorgon_status gg_tokenizer_spec_from_json(const gg_tokenizer_files *files, size_t n_vocab,
                                          gg_tokenizer_spec *spec, gorgon_error *err)
{
    gg_tokenizer_spec_init(spec, files->label);
    spec->tokens_place = "model.vocab";
    spec->merges_place = "model.merges";
    gg_json_reader r = {.files = files, .spec = spec, .n_vocab = n_vocab, .err = err};
    json_t *model = json_object_get(files->tokenizer, "model");
    gorgon_status status = read_type(&r, model);
    spec->ignore_merges = json_is_true(json_object_get(model, "ignore_merges"));
    if (status == GORGON_OK)
        status = gg_json_read_rules(&r);
    if (status == GORGON_OK)
        status = read_tokens(&r, model);
    if (status == GORGON_OK)
        status = gg_json_read_roles(&r);
    return status;
}
