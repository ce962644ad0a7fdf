// See text.h. Ill-formed UTF-8 is replaced as the Unicode standard recommends: one U+FFFD for each
// maximal prefix of a well-formed character, or for a byte that begins none.
#include "text.h"

#include <assert.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"

static const char replacement[] = "\xEF\xBF\xBD";
enum { REPLACEMENT = 3 };

gorgon_status gg_text_create(gg_text *t, size_t capacity, const char *const *stop, size_t n_stop,
                             gorgon_error *err)
{
    *t = (gg_text){.capacity = capacity};
    t->bytes = gg_alloc_uninit(capacity + 1, 1); // most of it is never touched
    if (t->bytes)
        t->bytes[0] = '\0';
    t->stop = gg_alloc(n_stop, sizeof *t->stop);
    t->stop_length = gg_alloc(n_stop, sizeof *t->stop_length);
    bool complete = t->bytes && t->stop && t->stop_length;
    for (size_t i = 0; complete && i < n_stop; i++) {
        if (!stop[i] || stop[i][0] == '\0')
            return gg_fail(err, GORGON_ERROR_ARGUMENT, "stop string %zu is empty", i);
        t->stop[i] = gg_strdup(stop[i]);
        t->stop_length[i] = strlen(stop[i]);
        t->n_stop = i + 1;
        complete = t->stop[i] != NULL;
    }
    if (!complete)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for %zu bytes of text", capacity);
    return GORGON_OK;
}

void gg_text_clear(gg_text *t)
{
    for (size_t i = 0; i < t->n_stop; i++)
        gg_free(t->stop[i]);
    gg_free((void *)t->stop);
    gg_free(t->stop_length);
    gg_free(t->bytes);
    *t = (gg_text){0};
}

// Bytes of the character that begins with `lead`, 0 if none does.
static size_t character_length(unsigned char lead)
{
    if (lead < 0x80)
        return 1;
    if (lead >= 0xC2 && lead <= 0xDF)
        return 2;
    if (lead >= 0xE0 && lead <= 0xEF)
        return 3;
    return lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
}

// Whether `byte` may stand at place `index` (from 1) of a character that begins with `lead`: no
// overlong forms, surrogates or values above U+10FFFF.
static bool continues(unsigned char lead, size_t index, unsigned char byte)
{
    unsigned char low = 0x80, high = 0xBF;
    if (index == 1) {
        low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : low;
        high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : high;
    }
    return byte >= low && byte <= high;
}

size_t gg_text_bound(const char *bytes, size_t n)
{
    size_t bound = 0, i = 0;
    while (i < n) {
        unsigned char lead = (unsigned char)bytes[i];
        size_t length = character_length(lead), have = 1;
        while (have < length && i + have < n &&
               continues(lead, have, (unsigned char)bytes[i + have]))
            have++;
        bool whole = length > 0 && have == length;
        bound += whole ? length : REPLACEMENT * have; // each byte of a fragment, at worst
        i += have;
    }
    return bound;
}

static void put(gg_text *t, const void *bytes, size_t n)
{
    assert(n <= t->capacity - t->length);
    if (n > t->capacity - t->length)
        return;
    memcpy(t->bytes + t->length, bytes, n);
    t->length += n;
    t->bytes[t->length] = '\0';
}

static void put_byte(gg_text *t, unsigned char byte)
{
    if (t->n_pending > 0 && !continues(t->pending[0], t->n_pending, byte)) {
        put(t, replacement, REPLACEMENT);
        t->n_pending = 0;
    }
    if (t->n_pending == 0 && character_length(byte) == 0) {
        put(t, replacement, REPLACEMENT);
        return;
    }
    t->pending[t->n_pending++] = byte;
    if (t->n_pending == character_length(t->pending[0])) {
        put(t, t->pending, t->n_pending);
        t->n_pending = 0;
    }
}

// First place at or after `from` where `stop` stands; t->length if nowhere.
static size_t find(const gg_text *t, size_t from, const char *stop, size_t n)
{
    for (size_t i = from; i + n <= t->length; i++) {
        if (memcmp(t->bytes + i, stop, n) == 0)
            return i;
    }
    return t->length;
}

bool gg_text_append(gg_text *t, const char *bytes, size_t n)
{
    size_t old = t->length, cut = SIZE_MAX;
    for (size_t i = 0; i < n; i++)
        put_byte(t, (unsigned char)bytes[i]);
    for (size_t i = 0; i < t->n_stop; i++) {
        size_t length = t->stop_length[i];
        size_t from = old + 1 > length ? old + 1 - length : 0; // must end in the new bytes
        size_t at = find(t, from, t->stop[i], length);
        if (at < t->length && at < cut)
            cut = at;
    }
    if (cut == SIZE_MAX)
        return false;
    t->length = cut;
    t->bytes[cut] = '\0';
    t->n_pending = 0;
    return true;
}

void gg_text_finish(gg_text *t)
{
    if (t->n_pending > 0)
        put(t, replacement, REPLACEMENT);
    t->n_pending = 0;
}

// How much of the end could still be the beginning of a stop string.
static size_t doubtful(const gg_text *t)
{
    size_t most = 0;
    for (size_t i = 0; i < t->n_stop; i++) {
        size_t n = t->stop_length[i] - 1;
        size_t unsent = t->length - t->streamed;
        n = n < unsent ? n : unsent;
        while (n > most && memcmp(t->bytes + t->length - n, t->stop[i], n) != 0)
            n--;
        most = n > most ? n : most;
    }
    return most;
}

const char *gg_text_take(gg_text *t, bool all, size_t *length)
{
    size_t end = all ? t->length : t->length - doubtful(t);
    const char *text = t->bytes + t->streamed;
    *length = end - t->streamed;
    t->streamed = end;
    return text;
}
