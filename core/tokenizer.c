// The tokenizer object: built from a description, queried, decoding. Vocabulary, merges, splitting,
// encoding and chat templates are files of their own.
#include "tokenizer_impl.h"

#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"
#include "normalize.h"

// Control tokens that end a text or a turn in the checkpoints that have them.
static const char *const end_names[] = {
    "</s>",
    "<eos>",
    "<end_of_turn>",
    "<|end|>",
    "<|endoftext|>",
    "<|im_end|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|end_of_turn|>",
    "<|eom_id|>",
    "<|eos|>",
    "<|eot|>",
    "<EOT>",
    "<|end_of_role|>",
    "<end_of_utterance>",
    "<|return|>",
    "<|call|>",
    "[EOT]",
    "[EOS]",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
};

void gg_tokenizer_spec_init(gg_tokenizer_spec *spec, const char *label)
{
    *spec = (gg_tokenizer_spec){
        .label = label,
        .tokens_place = "tokenizer.ggml.tokens",
        .merges_place = "tokenizer.ggml.merges",
        .bos = GORGON_TOKEN_NONE,
        .eos = GORGON_TOKEN_NONE,
        .unknown = GORGON_TOKEN_NONE,
    };
}

void gg_tokenizer_spec_clear(gg_tokenizer_spec *spec)
{
    gg_free(spec->tokens);
    gg_free(spec->merges);
    for (size_t i = 0; i < sizeof spec->blocks / sizeof spec->blocks[0]; i++)
        gg_free(spec->blocks[i]);
    *spec = (gg_tokenizer_spec){0};
}

gorgon_token gg_tokenizer_spec_find(const gg_tokenizer_spec *spec, const char *text, size_t length)
{
    for (size_t id = 0; id < spec->n; id++) {
        const gg_spec_token *token = &spec->tokens[id];
        if (token->length == length && memcmp(token->text, text, length) == 0)
            return (gorgon_token)id;
    }
    return GORGON_TOKEN_NONE;
}

bool gg_spec_merge_read(const char *text, size_t length, gg_spec_merge *merge)
{
    const char *space = length > 1 ? memchr(text + 1, ' ', length - 1) : NULL;
    if (!space)
        return false;
    size_t left = (size_t)(space - text);
    *merge = (gg_spec_merge){{text, space + 1}, {left, length - left - 1}};
    return true;
}

void gg_tokenizer_spec_end(gg_tokenizer_spec *spec, gorgon_token id)
{
    if (id != GORGON_TOKEN_NONE && spec->n_ends < GG_SPEC_ENDS)
        spec->ends[spec->n_ends++] = id;
}

static void add_end(gorgon_tokenizer *tokenizer, gorgon_token id)
{
    if (id != GORGON_TOKEN_NONE && !gorgon_tokenizer_is_end(tokenizer, id) &&
        tokenizer->n_ends < GG_TOKENIZER_ENDS)
        tokenizer->ends[tokenizer->n_ends++] = id;
}

static void find_ends(const gg_tokenizer_spec *spec, gorgon_tokenizer *tokenizer)
{
    add_end(tokenizer, tokenizer->eos);
    for (size_t i = 0; i < spec->n_ends; i++)
        add_end(tokenizer, spec->ends[i]);
    for (size_t i = 0; i < sizeof end_names / sizeof end_names[0]; i++) {
        gorgon_token id = gorgon_tokenizer_find(tokenizer, end_names[i], strlen(end_names[i]));
        if (gorgon_tokenizer_is_control(tokenizer, id))
            add_end(tokenizer, id);
    }
}

static bool is_special(const gg_spec_token *token)
{
    return token->kind == GG_TOKEN_CONTROL || token->kind == GG_TOKEN_USER ||
           token->kind == GG_TOKEN_UNKNOWN;
}

// What the tokens that are looked for in normalised text look like there. The text is kept in
// `out`, which grows by it; entries are set when it is complete.
static gorgon_status normal_spelling(const gg_tokenizer_spec *spec, const gg_spec_token *token,
                                     gg_normal_text *work, gorgon_error *err)
{
    size_t bad;
    if (!gorgon_utf8_valid(token->text, token->length, &bad))
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: the special token '%.*s' is no valid UTF-8",
                       spec->label, (int)(token->length < 40 ? token->length : 40), token->text);
    return gg_normalize(&spec->rules, token->text, token->length, true, work, err);
}

// Bytes of all specials' spellings; counts those of each set.
static gorgon_status measure_specials(const gg_tokenizer_spec *spec, size_t n[2], size_t *bytes,
                                      gg_normal_text *work, gorgon_error *err)
{
    for (size_t id = 0; id < spec->n; id++) {
        const gg_spec_token *token = &spec->tokens[id];
        if (!is_special(token))
            continue;
        bool normal = (token->flags & GG_TOKEN_NORMALIZED) != 0;
        if (normal) {
            gorgon_status status = normal_spelling(spec, token, work, err);
            if (status != GORGON_OK)
                return status;
        }
        *bytes += normal ? work->n : token->length;
        n[normal]++;
    }
    return GORGON_OK;
}

static gorgon_status fill_specials(const gg_tokenizer_spec *spec, gorgon_tokenizer *t,
                                   gg_normal_text *work, gorgon_error *err)
{
    size_t n[2] = {0}, filled[2] = {0}, bytes = 0, used = 0;
    gorgon_status status = measure_specials(spec, n, &bytes, work, err);
    if (status != GORGON_OK)
        return status;
    gg_prefix_entry *entries[2] = {gg_alloc(n[0], sizeof **entries),
                                   gg_alloc(n[1], sizeof **entries)};
    t->special_text = gg_alloc(bytes, 1);
    if (!entries[0] || !entries[1] || !t->special_text)
        status = gg_fail(err, GORGON_ERROR_MEMORY, "no memory for %zu special tokens", n[0] + n[1]);
    for (size_t id = 0; status == GORGON_OK && id < spec->n; id++) {
        const gg_spec_token *token = &spec->tokens[id];
        const char *text = token->text;
        size_t length = token->length;
        if (!is_special(token))
            continue;
        bool normal = (token->flags & GG_TOKEN_NORMALIZED) != 0;
        if (normal) {
            status = normal_spelling(spec, token, work, err);
            text = work->bytes;
            length = work->n;
        }
        if (status != GORGON_OK || length == 0)
            continue;
        memcpy(t->special_text + used, text, length);
        entries[normal][filled[normal]++] =
            (gg_prefix_entry){t->special_text + used, length, (gorgon_token)id};
        used += length;
    }
    gg_prefix_set_fill(&t->specials, entries[0], status == GORGON_OK ? filled[0] : 0);
    gg_prefix_set_fill(&t->normal_users, entries[1], status == GORGON_OK ? filled[1] : 0);
    return status;
}

static gorgon_status load_specials(const gg_tokenizer_spec *spec, gorgon_tokenizer *t,
                                   gorgon_error *err)
{
    gg_normal_text work = {0};
    t->flags = gg_alloc(spec->n, 1);
    if (!t->flags)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for %zu tokens", spec->n);
    for (size_t id = 0; id < spec->n; id++)
        t->flags[id] = spec->tokens[id].flags;
    gorgon_status status = fill_specials(spec, t, &work, err);
    gg_normal_text_clear(&work);
    return status;
}

static gorgon_status load_rules(const gg_tokenizer_spec *spec, gorgon_tokenizer *t,
                                gorgon_error *err)
{
    t->rules = spec->rules;
    t->rules.charsmap = NULL;
    if (!spec->rules.charsmap)
        return GORGON_OK;
    gorgon_status status =
        gg_charsmap_check(spec->label, spec->rules.charsmap, spec->rules.charsmap_length, err);
    if (status != GORGON_OK)
        return status;
    t->charsmap = gg_alloc(spec->rules.charsmap_length, 1);
    if (!t->charsmap)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for a map of %zu bytes",
                       spec->rules.charsmap_length);
    memcpy(t->charsmap, spec->rules.charsmap, spec->rules.charsmap_length);
    t->rules.charsmap = t->charsmap;
    return GORGON_OK;
}

static gorgon_status load_parts(const gg_tokenizer_spec *spec, gorgon_tokenizer *t,
                                gorgon_error *err)
{
    gorgon_status status =
        gg_pretokenizer_create(spec->label, spec->pre, spec->pre_length, &t->pretokenizer, err);
    if (status == GORGON_OK)
        status = load_rules(spec, t, err);
    if (status == GORGON_OK)
        status = gg_vocab_load(spec, &t->vocab, err);
    if (status == GORGON_OK)
        status = spec->model == GG_VOCAB_UNIGRAM
                     ? gg_unigram_load(spec, &t->vocab, &t->unigram, err)
                     : gg_merges_load(spec, &t->vocab, &t->merges, err);
    if (status == GORGON_OK)
        status = load_specials(spec, t, err);
    if (status == GORGON_OK && spec->chat_length > 0)
        status = gg_chat_parse(spec->chat, spec->chat_length, &t->chat, err);
    return status;
}

gorgon_status gg_tokenizer_build(const gg_tokenizer_spec *spec, gorgon_tokenizer **out,
                                 gorgon_error *err)
{
    gorgon_tokenizer *t = gg_alloc(1, sizeof *t);
    if (!t)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for a tokenizer");
    t->bos = spec->bos;
    t->eos = spec->eos;
    t->unknown = spec->unknown;
    t->adds_bos = spec->adds_bos;
    t->adds_eos = spec->adds_eos;
    t->ignore_merges = spec->ignore_merges;
    t->strips_space = spec->strips_space;
    gorgon_status status = load_parts(spec, t, err);
    if (status != GORGON_OK) {
        gg_tokenizer_free(t);
        return status;
    }
    find_ends(spec, t);
    *out = t;
    return GORGON_OK;
}

void gg_tokenizer_free(gorgon_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    gg_vocab_clear(&tokenizer->vocab);
    gg_merges_clear(&tokenizer->merges);
    gg_unigram_clear(&tokenizer->unigram);
    gg_prefix_set_clear(&tokenizer->specials);
    gg_prefix_set_clear(&tokenizer->normal_users);
    gg_free(tokenizer->flags);
    gg_free(tokenizer->special_text);
    gg_free(tokenizer->charsmap);
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
    if (vocab->model != GG_VOCAB_BYTES)
        return hash; // kinds and merges are told differently by files of the same tokenizer
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

bool gorgon_tokenizer_adds_eos(const gorgon_tokenizer *tokenizer)
{
    return tokenizer->adds_eos;
}

// The space that encoding puts before a text, which is no part of it.
static bool begins_with_added_space(const gorgon_tokenizer *tokenizer, gorgon_token id,
                                    const char *bytes)
{
    return tokenizer->strips_space && bytes[0] == ' ' &&
           !gorgon_tokenizer_is_control(tokenizer, id);
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
        if (i == 0 && begins_with_added_space(tokenizer, ids[0], bytes)) {
            bytes++;
            n--;
        }
        memcpy(out + at, bytes, n);
        at += n;
    }
    *text = out;
    *length = at;
    return GORGON_OK;
}

bool gorgon_tokenizer_has_chat(const gorgon_tokenizer *tokenizer)
{
    return tokenizer->chat.jinja != NULL;
}

gorgon_status gorgon_tokenizer_set_chat(gorgon_tokenizer *tokenizer, const char *source,
                                        gorgon_error *err)
{
    gg_chat chat;
    gorgon_status status = gg_chat_parse(source, strlen(source), &chat, err);
    if (status != GORGON_OK)
        return status;
    if (!chat.jinja)
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED, "the chat template: %s", chat.problem);
    gg_chat_clear(&tokenizer->chat);
    tokenizer->chat = chat;
    return GORGON_OK;
}

gorgon_status gorgon_tokenizer_chat(const gorgon_tokenizer *tokenizer,
                                    const gorgon_message *messages, size_t n_messages,
                                    bool add_generation_prompt, char **text, gorgon_error *err)
{
    gg_jinja_input input = {.messages = messages,
                            .n_messages = n_messages,
                            .add_generation_prompt = add_generation_prompt};
    input.bos = gorgon_tokenizer_bytes(tokenizer, tokenizer->bos, &input.bos_length);
    input.eos = gorgon_tokenizer_bytes(tokenizer, tokenizer->eos, &input.eos_length);
    return gg_chat_render(&tokenizer->chat, &input, text, err);
}

void gorgon_free(void *block)
{
    gg_free(block);
}
