// A tokenizer's description as GGUF keys, such that reading them gives it back.
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/limits.h"
#include "tokenizer_spec.h"
#include "vocab.h"

// Copies of texts, NUL-terminated as the writer wants them.
typedef struct text_list {
    const char **items; // [n]
    char *bytes;
    size_t n, used;
} text_list;

static gorgon_status reserve_texts(text_list *list, size_t n, size_t bytes, gorgon_error *err)
{
    list->items = gg_alloc(n, sizeof *list->items);
    list->bytes = gg_alloc(bytes, 1);
    if (list->items && list->bytes)
        return GORGON_OK;
    return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for %zu texts of %zu bytes", n, bytes);
}

static void add_text(text_list *list, const char *text, size_t length)
{
    memcpy(list->bytes + list->used, text, length);
    list->used += length;
}

static void end_text(text_list *list, size_t start)
{
    list->items[list->n++] = list->bytes + start;
    list->used++; // the NUL is there
}

static void clear_texts(text_list *list)
{
    gg_free(list->items);
    gg_free(list->bytes);
}

static gorgon_status put_tokens(const gg_tokenizer_spec *spec, gg_gguf_writer *w, gorgon_error *err)
{
    text_list list = {0};
    size_t bytes = 0;
    for (size_t i = 0; i < spec->n; i++) {
        bytes += spec->tokens[i].length + 1;
        if (memchr(spec->tokens[i].text, '\0', spec->tokens[i].length))
            return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                           "%s: %s[%zu] holds a NUL byte, which cannot be written", spec->label,
                           spec->tokens_place, i);
    }
    gorgon_status status = reserve_texts(&list, spec->n, bytes, err);
    for (size_t i = 0; status == GORGON_OK && i < spec->n; i++) {
        size_t start = list.used;
        add_text(&list, spec->tokens[i].text, spec->tokens[i].length);
        end_text(&list, start);
    }
    if (status == GORGON_OK)
        status = gg_gguf_put_array_string(w, "tokenizer.ggml.tokens", list.items, list.n, err);
    clear_texts(&list);
    return status;
}

static gorgon_status put_merges(const gg_tokenizer_spec *spec, gg_gguf_writer *w, gorgon_error *err)
{
    text_list list = {0};
    size_t bytes = 0;
    for (size_t i = 0; i < spec->n_merges; i++)
        bytes += spec->merges[i].length[0] + spec->merges[i].length[1] + 2;
    gorgon_status status = reserve_texts(&list, spec->n_merges, bytes, err);
    for (size_t i = 0; status == GORGON_OK && i < spec->n_merges; i++) {
        const gg_spec_merge *merge = &spec->merges[i];
        size_t start = list.used;
        add_text(&list, merge->text[0], merge->length[0]);
        add_text(&list, " ", 1);
        add_text(&list, merge->text[1], merge->length[1]);
        end_text(&list, start);
    }
    if (status == GORGON_OK)
        status = gg_gguf_put_array_string(w, "tokenizer.ggml.merges", list.items, list.n, err);
    clear_texts(&list);
    return status;
}

// Scores: the model's, or such that a runtime that knows no merges makes them in their order.
static gorgon_status rank_scores(const gg_tokenizer_spec *spec, float *scores, gorgon_error *err)
{
    gg_vocab vocab = {0};
    char bytes[2 * GG_MAX_TOKEN_BYTES];
    for (size_t i = 0; i < spec->n; i++)
        scores[i] = (float)spec->tokens[i].score;
    if (!spec->merges)
        return GORGON_OK;
    gorgon_status status = gg_vocab_load(spec, &vocab, err);
    for (size_t i = spec->n_merges; status == GORGON_OK && i-- > 0;) {
        const gg_spec_merge *merge = &spec->merges[i];
        size_t n[2] = {0}, bad;
        if (merge->length[0] > GG_MAX_TOKEN_BYTES || merge->length[1] > GG_MAX_TOKEN_BYTES)
            continue;
        gg_vocab_decode(spec->model, merge->text[0], merge->length[0], bytes, &n[0], &bad);
        gg_vocab_decode(spec->model, merge->text[1], merge->length[1], bytes + n[0], &n[1], &bad);
        gorgon_token id = gg_vocab_find(&vocab, bytes, n[0] + n[1]);
        if (id != GORGON_TOKEN_NONE)
            scores[id] = -(float)(i + 1);
    }
    gg_vocab_clear(&vocab);
    return status;
}

static gorgon_status put_numbers(const gg_tokenizer_spec *spec, gg_gguf_writer *w,
                                 gorgon_error *err)
{
    uint32_t *kinds = gg_alloc(spec->n, sizeof *kinds);
    float *scores = gg_alloc(spec->n, sizeof *scores);
    gorgon_status status = GORGON_OK;
    if (!kinds || !scores)
        status = gg_fail(err, GORGON_ERROR_MEMORY, "no memory for %zu tokens", spec->n);
    for (size_t i = 0; status == GORGON_OK && i < spec->n; i++)
        kinds[i] = spec->tokens[i].kind;
    if (status == GORGON_OK)
        status = gg_gguf_put_array_u32(w, "tokenizer.ggml.token_type", kinds, spec->n, err);
    if (status == GORGON_OK && spec->model != GG_VOCAB_BYTES) {
        status = rank_scores(spec, scores, err);
        if (status == GORGON_OK)
            status = gg_gguf_put_array_f32(w, "tokenizer.ggml.scores", scores, spec->n, err);
    }
    gg_free(kinds);
    gg_free(scores);
    return status;
}

static gorgon_status put_flag(gg_gguf_writer *w, const char *key, bool flag, gorgon_error *err)
{
    return flag ? gg_gguf_put_bool(w, key, true, err) : GORGON_OK;
}

static gorgon_status put_flagged(const gg_tokenizer_spec *spec, gg_gguf_writer *w, const char *key,
                                 uint8_t flag, gorgon_error *err)
{
    size_t n = 0;
    uint32_t *ids = gg_alloc(spec->n, sizeof *ids);
    if (!ids)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for %zu ids", spec->n);
    for (size_t i = 0; i < spec->n; i++) {
        if (spec->tokens[i].flags & flag)
            ids[n++] = (uint32_t)i;
    }
    gorgon_status status = n > 0 ? gg_gguf_put_array_u32(w, key, ids, n, err) : GORGON_OK;
    gg_free(ids);
    return status;
}

static gorgon_status put_map(const gg_tokenizer_spec *spec, gg_gguf_writer *w, gorgon_error *err)
{
    const size_t n = spec->rules.charsmap_length;
    if (!spec->rules.charsmap)
        return GORGON_OK;
    return gg_gguf_put_array_u8(w, "tokenizer.ggml.precompiled_charsmap", spec->rules.charsmap, n,
                                err);
}

static gorgon_status put_rules(const gg_tokenizer_spec *spec, gg_gguf_writer *w, gorgon_error *err)
{
    const gg_text_rules *rules = &spec->rules;
    gorgon_status status = put_flag(w, "gorgon.tokenizer.nfc", rules->nfc, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_bool(w, "gorgon.tokenizer.ignore_merges", spec->ignore_merges, err);
    if (status == GORGON_OK)
        status = put_flagged(spec, w, "gorgon.tokenizer.lstrip", GG_TOKEN_LSTRIP, err);
    if (status == GORGON_OK)
        status = put_flagged(spec, w, "gorgon.tokenizer.rstrip", GG_TOKEN_RSTRIP, err);
    if (status == GORGON_OK)
        status = put_flagged(spec, w, "gorgon.tokenizer.normalized", GG_TOKEN_NORMALIZED, err);
    if (status != GORGON_OK || spec->model == GG_VOCAB_BYTES)
        return status;
    const bool extra = rules->collapse && rules->strip_left && rules->strip_right;
    status = gg_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", rules->prefix != GG_PREFIX_NONE,
                              err);
    if (status == GORGON_OK)
        status = gg_gguf_put_bool(w, "tokenizer.ggml.remove_extra_whitespaces", extra, err);
    if (status == GORGON_OK)
        status = put_flag(w, "gorgon.tokenizer.collapse", rules->collapse, err);
    if (status == GORGON_OK)
        status = put_flag(w, "gorgon.tokenizer.strip_left", rules->strip_left, err);
    if (status == GORGON_OK)
        status = put_flag(w, "gorgon.tokenizer.strip_right", rules->strip_right, err);
    if (status == GORGON_OK)
        status =
            put_flag(w, "gorgon.tokenizer.prefix_first", rules->prefix == GG_PREFIX_FIRST, err);
    if (status == GORGON_OK)
        status = put_flag(w, "gorgon.tokenizer.prefix_missing", rules->prefix_missing, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_bool(w, "gorgon.tokenizer.strips_space", spec->strips_space, err);
    return status == GORGON_OK ? put_map(spec, w, err) : status;
}

static gorgon_status put_id(gg_gguf_writer *w, const char *key, gorgon_token id, gorgon_error *err)
{
    return id == GORGON_TOKEN_NONE ? GORGON_OK : gg_gguf_put_u32(w, key, (uint32_t)id, err);
}

static gorgon_status put_ends(const gg_tokenizer_spec *spec, gg_gguf_writer *w, gorgon_error *err)
{
    uint32_t ids[GG_SPEC_ENDS];
    for (size_t i = 0; i < spec->n_ends; i++)
        ids[i] = (uint32_t)spec->ends[i];
    return spec->n_ends == 0
               ? GORGON_OK
               : gg_gguf_put_array_u32(w, "gorgon.tokenizer.ends", ids, spec->n_ends, err);
}

static gorgon_status put_chat(const gg_tokenizer_spec *spec, gg_gguf_writer *w, gorgon_error *err)
{
    if (!spec->chat)
        return GORGON_OK;
    if (memchr(spec->chat, '\0', spec->chat_length))
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "%s: the chat template holds a NUL byte, which cannot be written",
                       spec->label);
    char *text = gg_alloc(spec->chat_length + 1, 1);
    if (!text)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: no memory for a chat template of %zu bytes",
                       spec->label, spec->chat_length);
    memcpy(text, spec->chat, spec->chat_length);
    gorgon_status status = gg_gguf_put_string(w, "tokenizer.chat_template", text, err);
    gg_free(text);
    return status;
}

static gorgon_status put_names(const gg_tokenizer_spec *spec, gg_gguf_writer *w, gorgon_error *err)
{
    static const char *const models[] = {
        [GG_VOCAB_BYTES] = "gpt2", [GG_VOCAB_SENTENCEPIECE] = "llama", [GG_VOCAB_UNIGRAM] = "t5"};
    char pre[40] = "";
    if (spec->pre_length >= sizeof pre)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "%s: the pre-tokenizer's name is too long",
                       spec->label);
    memcpy(pre, spec->pre, spec->pre_length);
    gorgon_status status = gg_gguf_put_string(w, "tokenizer.ggml.model", models[spec->model], err);
    if (status == GORGON_OK)
        status = gg_gguf_put_string(w, "tokenizer.ggml.pre", pre, err);
    return status;
}

static gorgon_status put_roles(const gg_tokenizer_spec *spec, gg_gguf_writer *w, gorgon_error *err)
{
    gorgon_status status = put_id(w, "tokenizer.ggml.bos_token_id", spec->bos, err);
    if (status == GORGON_OK)
        status = put_id(w, "tokenizer.ggml.eos_token_id", spec->eos, err);
    if (status == GORGON_OK)
        status = put_id(w, "tokenizer.ggml.unknown_token_id", spec->unknown, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", spec->adds_bos, err);
    if (status == GORGON_OK)
        status = gg_gguf_put_bool(w, "tokenizer.ggml.add_eos_token", spec->adds_eos, err);
    if (status == GORGON_OK)
        status = put_ends(spec, w, err);
    return status == GORGON_OK ? put_chat(spec, w, err) : status;
}

gorgon_status gg_tokenizer_spec_put(const gg_tokenizer_spec *spec, gg_gguf_writer *w,
                                    gorgon_error *err)
{
    gorgon_status status = put_names(spec, w, err);
    if (status == GORGON_OK)
        status = put_tokens(spec, w, err);
    if (status == GORGON_OK)
        status = put_numbers(spec, w, err);
    if (status == GORGON_OK && spec->merges)
        status = put_merges(spec, w, err);
    if (status == GORGON_OK)
        status = put_roles(spec, w, err);
    return status == GORGON_OK ? put_rules(spec, w, err) : status;
}
