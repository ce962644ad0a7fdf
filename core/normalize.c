// Text rules: sentencepiece's compiled map, canonical composition, spaces.
#include "normalize.h"

#include <string.h>
#include <utf8proc.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/limits.h"
#include "utf8.h"

bool gg_rules_are_empty(const gg_text_rules *r)
{
    return !r->charsmap && !r->nfc && !r->spaces && !r->collapse && !r->strip_left &&
           !r->strip_right && r->prefix == GG_PREFIX_NONE;
}

static bool reserve(gg_normal_text *text, size_t more)
{
    if (more <= text->capacity - text->n)
        return true;
    size_t wanted = text->n + more + text->capacity / 2 + 64;
    char *bytes = gg_realloc(text->bytes, text->n, wanted, 1);
    if (!bytes)
        return false;
    text->bytes = bytes;
    text->capacity = wanted;
    return true;
}

static bool put(gg_normal_text *out, const char *bytes, size_t n)
{
    if (!reserve(out, n))
        return false;
    memcpy(out->bytes + out->n, bytes, n);
    out->n += n;
    return true;
}

void gg_normal_text_clear(gg_normal_text *text)
{
    gg_free(text->bytes);
    *text = (gg_normal_text){0};
}

// --- The compiled map: a double-array trie of the texts to replace, then their replacements. ---

typedef struct charsmap {
    const uint8_t *units; // [n_units], 32 bits each, little-endian
    size_t n_units;
    const char *texts; // [n_texts], the last byte is NUL
    size_t n_texts;
} charsmap;

static uint32_t unit_at(const charsmap *map, size_t i)
{
    const uint8_t *b = map->units + 4 * i;
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static bool open_charsmap(const uint8_t *data, size_t length, charsmap *map)
{
    charsmap head = {.units = data, .n_units = 1};
    if (length < 4)
        return false;
    size_t trie = unit_at(&head, 0);
    if (trie == 0 || trie % 4 != 0 || trie >= length - 4 || data[length - 1] != 0)
        return false;
    *map = (charsmap){data + 4, trie / 4, (const char *)data + 4 + trie, length - 4 - trie};
    return true;
}

// Replacements are bounded, so that a map cannot make a text grow without end.
gorgon_status gg_charsmap_check(const char *label, const uint8_t *map, size_t length,
                                gorgon_error *err)
{
    charsmap opened;
    if (!open_charsmap(map, length, &opened))
        return gg_fail(
            err, GORGON_ERROR_FORMAT,
            "%s: the precompiled character map of %zu bytes is not a trie with its texts", label,
            length);
    for (size_t at = 0, n; at < opened.n_texts; at += n + 1) {
        n = strlen(opened.texts + at);
        if (n > GG_MAX_REPLACEMENT)
            return gg_fail(err, GORGON_ERROR_FORMAT,
                           "%s: the precompiled character map has a replacement of %zu bytes, "
                           "expected at most %d",
                           label, n, GG_MAX_REPLACEMENT);
    }
    return GORGON_OK;
}

// The longest text of the map that `text` begins with: its length and replacement, or 0. Texts to
// replace are as short as replacements: a trie that goes round in circles is left.
static size_t find_replacement(const charsmap *map, const char *text, size_t length,
                               const char **replacement)
{
    size_t node = 0, best = 0;
    uint32_t unit = unit_at(map, 0);
    node ^= (unit >> 10) << ((unit & (1u << 9)) >> 6);
    for (size_t i = 0; i < length && i < GG_MAX_REPLACEMENT; i++) {
        const uint8_t c = (uint8_t)text[i];
        node ^= c;
        if (c == 0 || node >= map->n_units)
            break;
        unit = unit_at(map, node);
        if ((unit & ((1u << 31) | 0xff)) != c)
            break;
        node ^= (unit >> 10) << ((unit & (1u << 9)) >> 6);
        if (!(unit >> 8 & 1))
            continue;
        if (node >= map->n_units)
            break;
        size_t at = unit_at(map, node) & ((1u << 31) - 1);
        if (at >= map->n_texts)
            break;
        best = i + 1;
        *replacement = map->texts + at;
    }
    return best;
}

static bool apply_charsmap(const gg_text_rules *rules, const char *text, size_t length,
                           gg_normal_text *out)
{
    charsmap map;
    if (!open_charsmap(rules->charsmap, rules->charsmap_length, &map))
        return put(out, text, length);
    for (size_t at = 0; at < length;) {
        const char *replacement = NULL;
        size_t n = find_replacement(&map, text + at, length - at, &replacement);
        bool good = n > 0 ? put(out, replacement, strlen(replacement))
                          : put(out, text + at, n = gg_utf8_step(text + at, length - at));
        if (!good)
            return false;
        at += n;
    }
    return true;
}

// --- Canonical composition (NFC). utf8proc's own driver sorts combining marks in quadratic time,
// so that only its tables and its composition are used. ---

static int mark_class(utf8proc_int32_t c)
{
    return utf8proc_get_property(c)->combining_class;
}

// Stable counting sort of a run of marks by class; scratch has room for the run.
static void sort_marks(utf8proc_int32_t *run, size_t n, utf8proc_int32_t *scratch)
{
    size_t starts[257] = {0};
    for (size_t i = 0; i < n; i++)
        starts[mark_class(run[i]) + 1]++;
    for (size_t c = 0; c < 256; c++)
        starts[c + 1] += starts[c];
    for (size_t i = 0; i < n; i++)
        scratch[starts[mark_class(run[i])]++] = run[i];
    memcpy(run, scratch, n * sizeof *run);
}

static void order_marks(utf8proc_int32_t *text, size_t n, utf8proc_int32_t *scratch)
{
    for (size_t i = 0; i < n;) {
        size_t end = i;
        bool sorted = true;
        for (; end < n && mark_class(text[end]) > 0; end++)
            sorted = sorted && (end == i || mark_class(text[end - 1]) <= mark_class(text[end]));
        if (!sorted)
            sort_marks(text + i, end - i, scratch);
        i = end + (end == i);
    }
}

static bool is_ascii(const char *text, size_t length)
{
    uint8_t any = 0;
    for (size_t i = 0; i < length; i++)
        any |= (uint8_t)text[i];
    return any < 0x80;
}

// Returns the number of characters; writes them if there is a place for them. `buffer` has room for
// `most`, what one character may become.
static size_t decompose(const char *text, size_t length, utf8proc_int32_t *out,
                        utf8proc_int32_t *buffer, utf8proc_ssize_t most)
{
    size_t n = 0, step;
    for (size_t at = 0; at < length; at += step) {
        utf8proc_int32_t c = (utf8proc_int32_t)gg_utf8_read(text + at, &step);
        int boundary = 0;
        utf8proc_ssize_t got = utf8proc_decompose_char(
            c, buffer, most, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
        for (utf8proc_ssize_t i = 0; out && i < got; i++)
            out[n + (size_t)i] = buffer[i];
        n += got > 0 ? (size_t)got : 0;
    }
    return n;
}

static bool apply_nfc(const char *text, size_t length, gg_normal_text *out)
{
    enum { MOST = 4 }; // characters that one decomposes into, canonically
    if (is_ascii(text, length))
        return put(out, text, length);
    utf8proc_int32_t buffer[MOST];
    size_t n = decompose(text, length, NULL, buffer, MOST);
    utf8proc_int32_t *points = gg_alloc_uninit(2 * n, sizeof *points);
    if (!points || !reserve(out, length)) {
        gg_free(points);
        return false;
    }
    decompose(text, length, points, buffer, MOST);
    order_marks(points, n, points + n);
    utf8proc_ssize_t composed =
        utf8proc_normalize_utf32(points, (utf8proc_ssize_t)n, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    for (utf8proc_ssize_t i = 0; i < composed; i++) {
        char bytes[4];
        size_t bytes_n = gg_utf8_write((uint32_t)points[i], bytes);
        if (!put(out, bytes, bytes_n)) {
            gg_free(points);
            return false;
        }
    }
    gg_free(points);
    return true;
}

// --- Spaces ---

// Works on the text in `out` from `start` on; it only gets shorter. U+2581 in the text is no space
// yet where spaces are counted, but is one at the end: as in sentencepiece.
static void mend_spaces(const gg_text_rules *rules, gg_normal_text *out, size_t start)
{
    char *s = out->bytes + start;
    size_t n = out->n - start, kept = 0, from = 0;
    while (rules->strip_left && from < n && s[from] == ' ')
        from++;
    for (size_t i = from; i < n; i++) {
        if (!rules->collapse || s[i] != ' ' || kept == 0 || s[kept - 1] != ' ')
            s[kept++] = s[i];
    }
    if (rules->spaces)
        kept = gg_spaces_decode(s, kept, s);
    while (rules->strip_right && kept > 0 && s[kept - 1] == ' ')
        kept--;
    out->n = start + kept;
}

gorgon_status gg_normalize(const gg_text_rules *rules, const char *text, size_t length, bool begins,
                           gg_normal_text *out, gorgon_error *err)
{
    bool good = true;
    gg_normal_text mapped = {0};
    out->n = 0;
    if (rules->charsmap) {
        good = apply_charsmap(rules, text, length, &mapped);
        text = mapped.bytes;
        length = mapped.n;
    }
    // The space before the text is there from the start, and taken off where it is not wanted.
    good = good && put(out, " ", 1) &&
           (rules->nfc ? apply_nfc(text, length, out) : put(out, text ? text : "", length));
    gg_normal_text_clear(&mapped);
    if (!good)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory to normalise %zu bytes", length);
    mend_spaces(rules, out, 1);
    bool prefix = rules->prefix == GG_PREFIX_EACH || (rules->prefix == GG_PREFIX_FIRST && begins);
    if (out->n == 1 || (rules->prefix_missing && out->bytes[1] == ' '))
        prefix = false;
    if (!prefix) {
        out->n--;
        memmove(out->bytes, out->bytes + 1, out->n);
    }
    if (out->n > INT32_MAX)
        return gg_fail(err, GORGON_ERROR_LIMIT, "the normalised text has %zu bytes, at most %d",
                       out->n, INT32_MAX);
    return GORGON_OK;
}
