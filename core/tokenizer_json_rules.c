// What a tokenizer.json does to text: its normalizer, pre_tokenizer and decoder, as far as they are
// of the kinds that language models use.
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "normalize.h"
#include "pretokenize.h"
#include "tokenizer_json.h"

static const char space_mark[] = "\xe2\x96\x81"; // U+2581

// --- normalizer ---

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static gorgon_status read_charsmap(gg_json_reader *r, const json_t *map, const char *place)
{
    const char *text = json_string_value(map);
    size_t length = json_string_length(map), n = 0;
    if (!text || r->spec->rules.charsmap)
        return gg_json_expected(r, place, "one precompiled_charsmap in base64", map);
    if (length == 0)
        return GORGON_OK;
    uint8_t *bytes = r->spec->blocks[0] = gg_alloc(length / 4 + 1, 3);
    if (!bytes)
        return gg_fail(r->err, GORGON_ERROR_MEMORY, "%s: no memory for a map of %zu bytes",
                       r->files->label, length);
    uint32_t word = 0, bits = 0;
    while (length > 0 && text[length - 1] == '=')
        length--;
    for (size_t i = 0; i < length; i++) {
        int digit = base64_digit(text[i]);
        if (digit < 0)
            return gg_fail(r->err, GORGON_ERROR_FORMAT,
                           "%s: %s: precompiled_charsmap: byte %zu (0x%02x) is not base64",
                           r->files->label, place, i, (uint8_t)text[i]);
        word = word << 6 | (uint32_t)digit;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            bytes[n++] = (uint8_t)(word >> bits);
        }
    }
    r->spec->rules.charsmap = bytes;
    r->spec->rules.charsmap_length = n;
    return GORGON_OK;
}

static gorgon_status read_replace(gg_json_reader *r, const json_t *item, const char *place)
{
    const json_t *pattern = json_object_get(item, "pattern");
    const json_t *text = json_object_get(pattern, "String"),
                 *regex = json_object_get(pattern, "Regex");
    const json_t *content = json_object_get(item, "content");
    const bool mark = gg_json_is(content, space_mark);
    if (gg_json_is(text, " ") && mark)
        r->spec->rules.spaces = true;
    else if (gg_json_is(regex, " {2,}") && (mark || gg_json_is(content, " ")))
        r->spec->rules.collapse = true;
    else
        return gg_json_expected(r, place, "Replace of ' ' by U+2581 or of ' {2,}' by one space",
                                text ? text : regex);
    return GORGON_OK;
}

static gorgon_status read_normalizer(gg_json_reader *r, const json_t *item, const char *place)
{
    gg_text_rules *rules = &r->spec->rules;
    const json_t *type = json_object_get(item, "type");
    if (gg_json_is(type, "NFC")) {
        rules->nfc = true;
    } else if (gg_json_is(type, "Prepend")) {
        if (!gg_json_is(json_object_get(item, "prepend"), space_mark))
            return gg_json_expected(r, place, "Prepend of U+2581",
                                    json_object_get(item, "prepend"));
        rules->prefix = GG_PREFIX_EACH;
    } else if (gg_json_is(type, "Replace")) {
        return read_replace(r, item, place);
    } else if (gg_json_is(type, "Strip")) {
        rules->strip_left = json_is_true(json_object_get(item, "strip_left"));
        rules->strip_right = json_is_true(json_object_get(item, "strip_right"));
    } else if (gg_json_is(type, "Precompiled")) {
        return read_charsmap(r, json_object_get(item, "precompiled_charsmap"), place);
    } else {
        return gg_json_expected(r, place, "NFC, Prepend, Replace, Strip, Precompiled or a Sequence",
                                type);
    }
    return GORGON_OK;
}

// --- pre_tokenizer ---

static gorgon_status put_pattern(gg_json_reader *r, const char *place, const char *text,
                                 size_t length)
{
    if (r->n_patterns == sizeof r->patterns / sizeof r->patterns[0])
        return gg_fail(r->err, GORGON_ERROR_UNSUPPORTED, "%s: %s: expected at most %zu patterns",
                       r->files->label, place, r->n_patterns);
    r->patterns[r->n_patterns] = text;
    r->pattern_lengths[r->n_patterns++] = length;
    return GORGON_OK;
}

static gorgon_status put_regex(gg_json_reader *r, const char *place, const char *regex)
{
    return put_pattern(r, place, regex, strlen(regex));
}

static gorgon_status read_byte_level(gg_json_reader *r, const json_t *item, const char *place)
{
    const json_t *prefix = json_object_get(item, "add_prefix_space");
    const json_t *regex = json_object_get(item, "use_regex");
    if (json_is_true(prefix))
        return gg_json_expected(r, "pre_tokenizer: ByteLevel.add_prefix_space", "false", prefix);
    r->byte_level = true;
    r->spec->model = GG_VOCAB_BYTES;
    return json_is_false(regex) ? GORGON_OK : put_regex(r, place, gg_listed_gpt2);
}

static gorgon_status read_split(gg_json_reader *r, const json_t *item, const char *place)
{
    const json_t *pattern = json_object_get(item, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex");
    const json_t *behavior = json_object_get(item, "behavior");
    const bool invert = json_is_true(json_object_get(item, "invert"));
    // Gemma's: after its normalizer there is no space to split at.
    if (gg_json_is(json_object_get(pattern, "String"), " ") && r->spec->rules.spaces)
        return GORGON_OK;
    if (!json_is_string(regex))
        return gg_json_expected(r, "pre_tokenizer: Split.pattern", "a Regex", pattern);
    // What is not matched would be removed: all known patterns match everything.
    if (!gg_json_is(behavior, invert ? "Removed" : "Isolated"))
        return gg_json_expected(r, "pre_tokenizer: Split.behavior", invert ? "Removed" : "Isolated",
                                behavior);
    return put_pattern(r, place, json_string_value(regex), json_string_length(regex));
}

static gorgon_status read_metaspace(gg_json_reader *r, const json_t *item)
{
    gg_text_rules *rules = &r->spec->rules;
    const json_t *scheme = json_object_get(item, "prepend_scheme");
    const json_t *mark = json_object_get(item, "replacement");
    if (!gg_json_is(mark, space_mark))
        return gg_json_expected(r, "pre_tokenizer: Metaspace.replacement", "U+2581", mark);
    rules->spaces = true;
    rules->prefix_missing = true;
    if (gg_json_is(scheme, "never") ||
        (!scheme && json_is_false(json_object_get(item, "add_prefix_space"))))
        rules->prefix = GG_PREFIX_NONE;
    else if (gg_json_is(scheme, "first"))
        rules->prefix = GG_PREFIX_FIRST;
    else if (gg_json_is(scheme, "always") || !scheme)
        rules->prefix = GG_PREFIX_EACH;
    else
        return gg_json_expected(r, "pre_tokenizer: Metaspace.prepend_scheme",
                                "always, first or never", scheme);
    r->word_split = !json_is_false(json_object_get(item, "split"));
    return GORGON_OK;
}

static gorgon_status read_pretokenizer(gg_json_reader *r, const json_t *item, const char *place)
{
    const json_t *type = json_object_get(item, "type");
    if (gg_json_is(type, "ByteLevel"))
        return read_byte_level(r, item, place);
    if (gg_json_is(type, "Split"))
        return read_split(r, item, place);
    if (gg_json_is(type, "Metaspace"))
        return read_metaspace(r, item);
    if (gg_json_is(type, "Digits"))
        return put_regex(r, place,
                         json_is_true(json_object_get(item, "individual_digits")) ? "\\p{N}"
                                                                                  : "\\p{N}+");
    if (gg_json_is(type, "WhitespaceSplit") && r->spec->rules.charsmap) {
        // T5's: its map has made all white space plain.
        gg_text_rules *rules = &r->spec->rules;
        rules->collapse = rules->strip_left = rules->strip_right = true;
        return GORGON_OK;
    }
    return gg_json_expected(r, place, "ByteLevel, Split, Digits, Metaspace or a Sequence", type);
}

// The known pre-tokenizer of the patterns, compared in canonical composition (see the table).
static gorgon_status name_pretokenizer(gg_json_reader *r)
{
    static const gg_text_rules compose = {.nfc = true};
    enum { MOST = sizeof r->patterns / sizeof r->patterns[0] };
    gg_normal_text texts[MOST] = {0};
    const char *composed[MOST];
    size_t lengths[MOST];
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; status == GORGON_OK && i < r->n_patterns; i++) {
        status =
            gg_normalize(&compose, r->patterns[i], r->pattern_lengths[i], false, &texts[i], r->err);
        composed[i] = texts[i].bytes;
        lengths[i] = texts[i].n;
    }
    const char *name =
        status == GORGON_OK ? gg_split_find_listed(composed, lengths, r->n_patterns) : NULL;
    for (size_t i = 0; i < MOST; i++)
        gg_normal_text_clear(&texts[i]);
    if (status != GORGON_OK)
        return status;
    if (!name)
        return gg_fail(
            r->err, GORGON_ERROR_UNSUPPORTED,
            "%s: pre_tokenizer: expected patterns of a known pre-tokenizer, got %zu, the "
            "last is '%.120s'",
            r->files->label, r->n_patterns, r->patterns[r->n_patterns - 1]);
    // One pattern under two names: of those that merge and of those that take whole tokens first.
    if (strcmp(name, "dbrx") == 0 && r->spec->ignore_merges)
        name = "llama-bpe";
    r->spec->pre = name;
    r->spec->pre_length = strlen(name);
    return GORGON_OK;
}

// --- decoder ---

static gorgon_status read_decoder(gg_json_reader *r, const json_t *item, const char *place)
{
    (void)place;
    const json_t *type = json_object_get(item, "type");
    if (gg_json_is(type, "Strip") && gg_json_is(json_object_get(item, "content"), " ") &&
        json_integer_value(json_object_get(item, "start")) > 0)
        r->spec->strips_space = true;
    if (gg_json_is(type, "Metaspace") && r->spec->rules.prefix != GG_PREFIX_NONE)
        r->spec->strips_space = true;
    return GORGON_OK;
}

gorgon_status gg_json_read_rules(gg_json_reader *r)
{
    const json_t *root = r->files->tokenizer;
    gorgon_status status = gg_json_read_sequence(r, json_object_get(root, "normalizer"),
                                                 "normalizers", "normalizer", read_normalizer);
    if (status == GORGON_OK)
        status = gg_json_read_sequence(r, json_object_get(root, "pre_tokenizer"), "pretokenizers",
                                       "pre_tokenizer", read_pretokenizer);
    if (status == GORGON_OK)
        status = gg_json_read_sequence(r, json_object_get(root, "decoder"), "decoders", "decoder",
                                       read_decoder);
    if (status != GORGON_OK)
        return status;
    if (r->byte_level == r->spec->rules.spaces)
        return gg_fail(r->err, GORGON_ERROR_UNSUPPORTED,
                       "%s: expected a ByteLevel pre_tokenizer or U+2581 for spaces, got %s",
                       r->files->label, r->byte_level ? "both" : "neither");
    // Metaspace comes after the search for tokens in normalised text: without a normalizer that is
    // the text itself.
    r->plain_search =
        r->spec->rules.prefix_missing && !r->spec->rules.nfc && !r->spec->rules.charsmap;
    if (!r->word_split)
        return name_pretokenizer(r);
    r->spec->pre = "metaspace";
    r->spec->pre_length = strlen("metaspace");
    return GORGON_OK;
}
