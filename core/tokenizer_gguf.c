// A tokenizer's description from GGUF keys tokenizer.ggml.* and tokenizer.chat_template.
#include <math.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/limits.h"
#include "core/tokenizer.h"
#include "pretokenize.h"
#include "tokenizer_spec.h"

static const char tokens_key[] = "tokenizer.ggml.tokens";
static const char types_key[] = "tokenizer.ggml.token_type";
static const char scores_key[] = "tokenizer.ggml.scores";
static const char merges_key[] = "tokenizer.ggml.merges";
static const char map_key[] = "tokenizer.ggml.precompiled_charsmap";

typedef struct known_model {
    const char *name;
    gg_vocab_model model;
} known_model;

static const known_model known_models[] = {
    {"gpt2", GG_VOCAB_BYTES},
    {"llama", GG_VOCAB_SENTENCEPIECE},
    {"t5", GG_VOCAB_UNIGRAM},
};

static gorgon_status read_model(const gg_gguf *file, gg_tokenizer_spec *spec, gorgon_error *err)
{
    const char *name;
    size_t length;
    char list[80] = "";
    gorgon_status status = gg_gguf_get_string(file, "tokenizer.ggml.model", &name, &length, err);
    if (status != GORGON_OK)
        return status;
    for (size_t i = 0; i < sizeof known_models / sizeof known_models[0]; i++) {
        gg_list_append(list, sizeof list, known_models[i].name);
        if (strlen(known_models[i].name) == length &&
            memcmp(known_models[i].name, name, length) == 0) {
            spec->model = known_models[i].model;
            return GORGON_OK;
        }
    }
    return gg_fail(err, GORGON_ERROR_UNSUPPORTED, "%s: tokenizer.ggml.model is '%.*s', known: %s",
                   spec->label, (int)(length < 60 ? length : 60), name, list);
}

// Sentencepiece models have no pre-tokenizer, whatever the key says, unless it is one of theirs.
static gorgon_status read_splits(const gg_gguf *file, gg_tokenizer_spec *spec, gorgon_error *err)
{
    static const char key[] = "tokenizer.ggml.pre";
    const char *name = "none";
    size_t length = 4;
    if (spec->model == GG_VOCAB_BYTES || gg_gguf_has(file, key)) {
        gorgon_status status = gg_gguf_get_string(file, key, &name, &length, err);
        if (status != GORGON_OK)
            return status;
    }
    if (spec->model != GG_VOCAB_BYTES && (length != 9 || memcmp(name, "metaspace", 9) != 0)) {
        name = "none";
        length = 4;
    }
    spec->pre = name;
    spec->pre_length = length;
    const gg_known_split *known = gg_split_find(name, length);
    spec->ignore_merges = known && known->ignore_merges;
    spec->adds_bos = known && known->adds_bos;
    return GORGON_OK;
}

// Array of exactly n elements, of strings or of numbers.
static gorgon_status check_array(const gg_gguf *file, const char *key, bool strings, size_t n,
                                 gorgon_error *err)
{
    gg_gguf_kind kind;
    size_t got;
    gorgon_status status = gg_gguf_get_array(file, key, &kind, &got, err);
    if (status != GORGON_OK)
        return status;
    if ((kind == GG_GGUF_STRING) != strings)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s has elements of kind %s, expected %s",
                       gg_gguf_path(file), key, gg_gguf_kind_name(kind),
                       strings ? "string" : "a number");
    if (got != n)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s has %zu elements, expected %zu as in %s",
                       gg_gguf_path(file), key, got, n, tokens_key);
    return GORGON_OK;
}

static gorgon_status read_texts(const gg_gguf *file, gg_tokenizer_spec *spec, gorgon_error *err)
{
    gg_gguf_kind kind;
    gorgon_status status = gg_gguf_get_array(file, tokens_key, &kind, &spec->n, err);
    if (status != GORGON_OK)
        return status;
    if (kind != GG_GGUF_STRING || spec->n == 0 || spec->n > GG_MAX_VOCAB)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: %s has %zu elements of kind %s, expected 1 to %u strings", spec->label,
                       tokens_key, spec->n, gg_gguf_kind_name(kind), GG_MAX_VOCAB);
    spec->tokens = gg_alloc(spec->n, sizeof *spec->tokens);
    if (!spec->tokens)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for %zu tokens", spec->n);
    size_t cursor = 0, id = 0;
    for (; id < spec->n; id++) {
        gg_spec_token *token = &spec->tokens[id];
        if (!gg_gguf_array_next_string(file, tokens_key, &cursor, &token->text, &token->length))
            break;
    }
    if (id == spec->n)
        return GORGON_OK;
    return gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s ends at entry %zu of %zu", spec->label,
                   tokens_key, id, spec->n);
}

static gorgon_status read_kinds(const gg_gguf *file, gg_tokenizer_spec *spec, gorgon_error *err)
{
    gorgon_status status = check_array(file, types_key, false, spec->n, err);
    if (status != GORGON_OK)
        return status;
    int64_t *types = gg_alloc(spec->n, sizeof *types);
    if (!types)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for %zu token types", spec->n);
    status = gg_gguf_array_i64(file, types_key, types, spec->n, err);
    for (size_t i = 0; status == GORGON_OK && i < spec->n; i++) {
        if (types[i] < GG_TOKEN_NORMAL || types[i] > GG_TOKEN_BYTE)
            status = gg_fail(err, GORGON_ERROR_UNSUPPORTED, "%s: %s[%zu] is %lld, expected 1 to 6",
                             spec->label, types_key, i, (long long)types[i]);
        else
            spec->tokens[i].kind = (uint8_t)types[i];
    }
    gg_free(types);
    return status;
}

static gorgon_status read_scores(const gg_gguf *file, gg_tokenizer_spec *spec, gorgon_error *err)
{
    gorgon_status status = check_array(file, scores_key, false, spec->n, err);
    if (status != GORGON_OK)
        return status;
    float *scores = gg_alloc(spec->n, sizeof *scores);
    if (!scores)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for %zu scores", spec->n);
    status = gg_gguf_array_f32(file, scores_key, scores, spec->n, err);
    for (size_t i = 0; status == GORGON_OK && i < spec->n; i++) {
        if (!isfinite(scores[i]))
            status = gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s[%zu] is not finite", spec->label,
                             scores_key, i);
        spec->tokens[i].score = (double)scores[i];
    }
    gg_free(scores);
    return status;
}

static gorgon_status read_merges(const gg_gguf *file, gg_tokenizer_spec *spec, gorgon_error *err)
{
    gg_gguf_kind kind;
    gorgon_status status = gg_gguf_get_array(file, merges_key, &kind, &spec->n_merges, err);
    if (status != GORGON_OK)
        return status;
    if (kind != GG_GGUF_STRING || spec->n_merges > GG_MAX_MERGES)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: %s has %zu elements of kind %s, expected at most %u strings",
                       spec->label, merges_key, spec->n_merges, gg_gguf_kind_name(kind),
                       GG_MAX_MERGES);
    spec->merges = gg_alloc(spec->n_merges, sizeof *spec->merges);
    if (!spec->merges)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for %zu merges", spec->n_merges);
    size_t cursor = 0, length;
    const char *text;
    for (size_t i = 0; i < spec->n_merges; i++) {
        if (!gg_gguf_array_next_string(file, merges_key, &cursor, &text, &length))
            return gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s ends at entry %zu of %zu", spec->label,
                           merges_key, i, spec->n_merges);
        if (!gg_spec_merge_read(text, length, &spec->merges[i]))
            return gg_fail(err, GORGON_ERROR_FORMAT,
                           "%s: %s[%zu] is not two spelled tokens and one space: '%.*s'",
                           spec->label, merges_key, i, (int)(length < 80 ? length : 80), text);
    }
    return GORGON_OK;
}

// An optional token id: `otherwise` when the key is absent.
static gorgon_status read_id(const gg_gguf *file, const gg_tokenizer_spec *spec, const char *key,
                             gorgon_token otherwise, gorgon_token *out, gorgon_error *err)
{
    *out = otherwise >= 0 && (size_t)otherwise < spec->n ? otherwise : GORGON_TOKEN_NONE;
    if (!gg_gguf_has(file, key))
        return GORGON_OK;
    uint64_t id;
    gorgon_status status = gg_gguf_get_u64(file, key, &id, err);
    if (status != GORGON_OK)
        return status;
    if (id >= spec->n)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s is %llu, the vocabulary has %zu tokens",
                       spec->label, key, (unsigned long long)id, spec->n);
    *out = (gorgon_token)id;
    return GORGON_OK;
}

static gorgon_status read_flag(const gg_gguf *file, const char *key, bool *flag, gorgon_error *err)
{
    return gg_gguf_has(file, key) ? gg_gguf_get_bool(file, key, flag, err) : GORGON_OK;
}

// Ids where the keys are absent: what sentencepiece gives them.
static gorgon_status read_roles(const gg_gguf *file, gg_tokenizer_spec *spec, gorgon_error *err)
{
    static const char bos_flag[] = "tokenizer.ggml.add_bos_token";
    static const char *const end_keys[] = {"tokenizer.ggml.eot_token_id",
                                           "tokenizer.ggml.eom_token_id"};
    const bool llama = spec->model == GG_VOCAB_SENTENCEPIECE, t5 = spec->model == GG_VOCAB_UNIGRAM;
    const gorgon_token none = GORGON_TOKEN_NONE;
    gorgon_status status =
        read_id(file, spec, "tokenizer.ggml.bos_token_id", llama ? 1 : none, &spec->bos, err);
    if (status == GORGON_OK)
        status = read_id(file, spec, "tokenizer.ggml.eos_token_id",
                         llama ? 2
                         : t5  ? 1
                               : none,
                         &spec->eos, err);
    if (status == GORGON_OK)
        status = read_id(file, spec, "tokenizer.ggml.unknown_token_id",
                         llama ? 0
                         : t5  ? 2
                               : none,
                         &spec->unknown, err);
    for (size_t i = 0; status == GORGON_OK && i < 2; i++) {
        gorgon_token id;
        status = read_id(file, spec, end_keys[i], none, &id, err);
        if (status == GORGON_OK)
            gg_tokenizer_spec_end(spec, id);
    }
    spec->adds_bos = (spec->adds_bos || llama) && spec->bos != none;
    spec->adds_eos = t5;
    if (status == GORGON_OK)
        status = read_flag(file, bos_flag, &spec->adds_bos, err);
    if (status == GORGON_OK)
        status = read_flag(file, "tokenizer.ggml.add_eos_token", &spec->adds_eos, err);
    if (status == GORGON_OK && spec->adds_bos && spec->bos == none)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: %s is true, but there is no tokenizer.ggml.bos_token_id", spec->label,
                       bos_flag);
    if (spec->model == GG_VOCAB_BYTES)
        spec->unknown = none; // what has no token is dropped
    return status;
}

static gorgon_status read_map(const gg_gguf *file, gg_tokenizer_spec *spec, gorgon_error *err)
{
    gg_gguf_kind kind;
    size_t n;
    if (!gg_gguf_has(file, map_key))
        return GORGON_OK;
    gorgon_status status = gg_gguf_get_array(file, map_key, &kind, &n, err);
    if (status != GORGON_OK || n == 0)
        return status;
    if ((kind != GG_GGUF_U8 && kind != GG_GGUF_I8) || n > GG_MAX_STRING)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: %s has %zu elements of kind %s, expected bytes", spec->label, map_key,
                       n, gg_gguf_kind_name(kind));
    int64_t *wide = gg_alloc(n, sizeof *wide);
    uint8_t *bytes = spec->blocks[0] = gg_alloc(n, 1);
    if (wide && bytes)
        status = gg_gguf_array_i64(file, map_key, wide, n, err);
    else
        status = gg_fail(err, GORGON_ERROR_MEMORY, "no memory for %s", map_key);
    for (size_t i = 0; status == GORGON_OK && i < n; i++)
        bytes[i] = (uint8_t)wide[i];
    gg_free(wide);
    spec->rules.charsmap = bytes;
    spec->rules.charsmap_length = n;
    return status;
}

// What is done to text; gorgon's own keys say what GGUF has no words for.
static gorgon_status read_rules(const gg_gguf *file, gg_tokenizer_spec *spec, gorgon_error *err)
{
    gg_text_rules *rules = &spec->rules;
    gorgon_status status = read_flag(file, "gorgon.tokenizer.nfc", &rules->nfc, err);
    if (status == GORGON_OK)
        status = read_flag(file, "gorgon.tokenizer.ignore_merges", &spec->ignore_merges, err);
    if (status != GORGON_OK || spec->model == GG_VOCAB_BYTES)
        return status;
    spec->single_scores = true;
    bool prefix = true, first = false, extra = spec->model == GG_VOCAB_UNIGRAM;
    rules->spaces = true;
    status = read_flag(file, "tokenizer.ggml.add_space_prefix", &prefix, err);
    if (status == GORGON_OK)
        status = read_flag(file, "tokenizer.ggml.remove_extra_whitespaces", &extra, err);
    rules->collapse = rules->strip_left = rules->strip_right = extra;
    if (status == GORGON_OK)
        status = read_flag(file, "gorgon.tokenizer.collapse", &rules->collapse, err);
    if (status == GORGON_OK)
        status = read_flag(file, "gorgon.tokenizer.strip_left", &rules->strip_left, err);
    if (status == GORGON_OK)
        status = read_flag(file, "gorgon.tokenizer.strip_right", &rules->strip_right, err);
    if (status == GORGON_OK)
        status = read_flag(file, "gorgon.tokenizer.prefix_first", &first, err);
    if (status == GORGON_OK)
        status = read_flag(file, "gorgon.tokenizer.prefix_missing", &rules->prefix_missing, err);
    rules->prefix = !prefix ? GG_PREFIX_NONE : first ? GG_PREFIX_FIRST : GG_PREFIX_EACH;
    spec->strips_space = prefix;
    if (status == GORGON_OK)
        status = read_flag(file, "gorgon.tokenizer.strips_space", &spec->strips_space, err);
    return status == GORGON_OK ? read_map(file, spec, err) : status;
}

// Calls `take` with every id of an array that may be absent.
typedef void take_id(gg_tokenizer_spec *spec, gorgon_token id, uint8_t flag);

static void take_flag(gg_tokenizer_spec *spec, gorgon_token id, uint8_t flag)
{
    spec->tokens[id].flags |= flag;
}

static void take_end(gg_tokenizer_spec *spec, gorgon_token id, uint8_t flag)
{
    (void)flag;
    gg_tokenizer_spec_end(spec, id);
}

static gorgon_status read_ids(const gg_gguf *file, gg_tokenizer_spec *spec, const char *key,
                              take_id *take, uint8_t flag, gorgon_error *err)
{
    gg_gguf_kind kind;
    size_t n;
    if (!gg_gguf_has(file, key))
        return GORGON_OK;
    gorgon_status status = gg_gguf_get_array(file, key, &kind, &n, err);
    if (status != GORGON_OK)
        return status;
    if (n > spec->n)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s has %zu ids, the vocabulary %zu tokens",
                       spec->label, key, n, spec->n);
    int64_t *ids = gg_alloc(n, sizeof *ids);
    if (!ids)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for %zu ids", n);
    status = gg_gguf_array_i64(file, key, ids, n, err);
    for (size_t i = 0; status == GORGON_OK && i < n; i++) {
        if (ids[i] >= 0 && (uint64_t)ids[i] < spec->n)
            take(spec, (gorgon_token)ids[i], flag);
        else
            status = gg_fail(err, GORGON_ERROR_FORMAT,
                             "%s: %s[%zu] is %lld, the vocabulary has %zu tokens", spec->label, key,
                             i, (long long)ids[i], spec->n);
    }
    gg_free(ids);
    return status;
}

static bool named(const gg_gguf *file, const char *needle)
{
    const char *name;
    size_t length, n = strlen(needle);
    if (gg_gguf_get_string(file, "general.name", &name, &length, NULL) != GORGON_OK)
        return false;
    for (size_t at = 0; at + n <= length; at++) {
        size_t same = 0;
        while (same < n &&
               (name[at + same] | (name[at + same] >= 'A' && name[at + same] <= 'Z' ? 0x20 : 0)) ==
                   needle[same])
            same++;
        if (same == n)
            return true;
    }
    return false;
}

// GGUF does not tell which tokens strip white space. Phi-3's do, except those of text; runtimes go
// by the name as well.
static void strip_as_phi3(const gg_gguf *file, gg_tokenizer_spec *spec)
{
    static const char *const kept[] = {"<unk>", "<s>", "<|endoftext|>"};
    if (spec->model != GG_VOCAB_SENTENCEPIECE || (!named(file, "phi-3") && !named(file, "phi3")))
        return;
    for (size_t id = 0; id < spec->n; id++) {
        gg_spec_token *token = &spec->tokens[id];
        bool strips = token->kind == GG_TOKEN_CONTROL || token->kind == GG_TOKEN_USER;
        for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
            strips = strips && (token->length != strlen(kept[i]) ||
                                memcmp(token->text, kept[i], token->length) != 0);
        if (strips)
            token->flags |= GG_TOKEN_RSTRIP;
    }
}

static gorgon_status read_vocabulary(const gg_gguf *file, gg_tokenizer_spec *spec,
                                     gorgon_error *err)
{
    gorgon_status status = read_texts(file, spec, err);
    if (status == GORGON_OK)
        status = read_kinds(file, spec, err);
    const bool merges = spec->model == GG_VOCAB_BYTES ||
                        (spec->model == GG_VOCAB_SENTENCEPIECE && gg_gguf_has(file, merges_key));
    if (status == GORGON_OK && merges)
        status = read_merges(file, spec, err);
    if (status == GORGON_OK && !merges)
        status = read_scores(file, spec, err);
    return status;
}

static gorgon_status read_own_ids(const gg_gguf *file, gg_tokenizer_spec *spec, gorgon_error *err)
{
    static const struct {
        const char *key;
        take_id *take;
        uint8_t flag;
    } keys[] = {
        {"gorgon.tokenizer.lstrip", take_flag, GG_TOKEN_LSTRIP},
        {"gorgon.tokenizer.rstrip", take_flag, GG_TOKEN_RSTRIP},
        {"gorgon.tokenizer.normalized", take_flag, GG_TOKEN_NORMALIZED},
        {"gorgon.tokenizer.ends", take_end, 0},
    };
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; status == GORGON_OK && i < sizeof keys / sizeof keys[0]; i++)
        status = read_ids(file, spec, keys[i].key, keys[i].take, keys[i].flag, err);
    if (!gg_gguf_has(file, "gorgon.tokenizer.ignore_merges")) // not written by gorgon
        strip_as_phi3(file, spec);
    return status;
}

gorgon_status gg_tokenizer_spec_from_gguf(const gg_gguf *file, gg_tokenizer_spec *spec,
                                          gorgon_error *err)
{
    static const char chat_key[] = "tokenizer.chat_template";
    gg_tokenizer_spec_init(spec, gg_gguf_path(file));
    gorgon_status status = read_model(file, spec, err);
    if (status == GORGON_OK)
        status = read_splits(file, spec, err);
    if (status == GORGON_OK)
        status = read_vocabulary(file, spec, err);
    if (status == GORGON_OK)
        status = read_roles(file, spec, err);
    if (status == GORGON_OK)
        status = read_rules(file, spec, err);
    if (status == GORGON_OK)
        status = read_own_ids(file, spec, err);
    if (status == GORGON_OK && gg_gguf_has(file, chat_key))
        status = gg_gguf_get_string(file, chat_key, &spec->chat, &spec->chat_length, err);
    return status;
}

gorgon_status gg_tokenizer_from_gguf(const gg_gguf *file, gorgon_tokenizer **out, gorgon_error *err)
{
    gg_tokenizer_spec spec;
    gorgon_status status = gg_tokenizer_spec_from_gguf(file, &spec, err);
    if (status == GORGON_OK)
        status = gg_tokenizer_build(&spec, out, err);
    gg_tokenizer_spec_clear(&spec);
    return status;
}
