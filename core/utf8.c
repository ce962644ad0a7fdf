// UTF-8 validation (Unicode table 3-7) and the boundary search that text streaming needs.
#include "utf8.h"

#include <stdint.h>
#include <string.h>

#include "gorgon/tokenizer.h"

// Bytes of the character that `lead` begins and the range of its second byte; 0 if it begins none.
static size_t lead_length(uint8_t lead, uint8_t *low, uint8_t *high)
{
    *low = 0x80;
    *high = 0xbf;
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2 || lead > 0xf4)
        return 0;
    if (lead < 0xe0)
        return 2;
    if (lead < 0xf0) {
        *low = lead == 0xe0 ? 0xa0 : 0x80;
        *high = lead == 0xed ? 0x9f : 0xbf;
        return 3;
    }
    *low = lead == 0xf0 ? 0x90 : 0x80;
    *high = lead == 0xf4 ? 0x8f : 0xbf;
    return 4;
}

// How many of the `left` bytes at s fit the character that s[0] begins; *need is its full length
// (0 if s[0] begins none).
static size_t matched_bytes(const uint8_t *s, size_t left, size_t *need)
{
    uint8_t low, high;
    *need = lead_length(s[0], &low, &high);
    if (*need == 0)
        return 0;
    size_t i = 1;
    for (; i < *need && i < left; i++) {
        if (s[i] < low || s[i] > high)
            break;
        low = 0x80;
        high = 0xbf;
    }
    return i;
}

bool gg_utf8_printable(const char *text, size_t length)
{
    size_t bad;
    for (size_t i = 0; i < length; i++) {
        if ((uint8_t)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    }
    return gg_utf8_valid(text, length, &bad);
}

bool gg_utf8_valid(const char *text, size_t length, size_t *bad)
{
    const uint8_t *s = (const uint8_t *)text;
    size_t i = 0;
    while (i < length) {
        uint64_t word;
        while (length - i >= sizeof word) {
            memcpy(&word, s + i, sizeof word);
            if (word & UINT64_C(0x8080808080808080))
                break;
            i += sizeof word;
        }
        if (i == length)
            break;
        size_t need;
        if (matched_bytes(s + i, length - i, &need) != need || need == 0) {
            *bad = i;
            return false;
        }
        i += need;
    }
    return true;
}

size_t gorgon_utf8_complete(const char *text, size_t length)
{
    const uint8_t *s = (const uint8_t *)text;
    for (size_t back = 1; back <= 3 && back <= length; back++) {
        const uint8_t *tail = s + length - back;
        if ((*tail & 0xc0) == 0x80)
            continue;
        size_t need;
        bool cut = matched_bytes(tail, back, &need) == back && need > back;
        return cut ? length - back : length;
    }
    return length;
}

bool gorgon_utf8_valid(const char *text, size_t length, size_t *bad)
{
    return gg_utf8_valid(text, length, bad);
}

size_t gg_utf8_step(const char *text, size_t left)
{
    uint8_t low, high;
    size_t n = lead_length((uint8_t)text[0], &low, &high);
    return n == 0 ? 1 : n < left ? n : left;
}

uint32_t gg_utf8_read(const char *text, size_t *n)
{
    const uint8_t *s = (const uint8_t *)text;
    *n = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (*n == 1)
        return s[0];
    uint32_t c = s[0] & (0xffu >> (*n + 1));
    for (size_t i = 1; i < *n; i++)
        c = c << 6 | (s[i] & 0x3fu);
    return c;
}

size_t gg_utf8_write(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(c | (0xf00u >> n & 0xf0u));
    return n;
}

bool gg_is_space(uint32_t c)
{
    return c == ' ' || (c >= 9 && c <= 13) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

size_t gg_spaces_before(const char *text, size_t length)
{
    size_t at = 0, n;
    while (at < length && gg_is_space(gg_utf8_read(text + at, &n)))
        at += n;
    return at;
}

size_t gg_spaces_after(const char *text, size_t length)
{
    size_t end = length, n;
    while (end > 0) {
        size_t start = end - 1;
        while (start > 0 && ((uint8_t)text[start] & 0xc0) == 0x80)
            start--;
        if (!gg_is_space(gg_utf8_read(text + start, &n)))
            break;
        end = start;
    }
    return length - end;
}

size_t gg_spaces_decode(const char *text, size_t length, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < length;) {
        bool space = length - i >= 3 && memcmp(text + i, "\xe2\x96\x81", 3) == 0;
        out[n++] = space ? ' ' : text[i];
        i += space ? 3 : 1;
    }
    return n;
}

size_t gg_find_text(const char *text, size_t length, const char *wanted, size_t n)
{
    // Rabin-Karp: linear time whatever the text repeats.
    const uint64_t base = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t sought = 0, window = 0, power = 1;
    if (n == 0 || n > length)
        return n == 0 ? 0 : SIZE_MAX;
    for (size_t i = 0; i < n; i++) {
        sought = sought * base + (uint8_t)wanted[i];
        window = window * base + (uint8_t)text[i];
        power *= base;
    }
    for (size_t at = 0;; at++) {
        if (window == sought && memcmp(text + at, wanted, n) == 0)
            return at;
        if (at == length - n)
            return SIZE_MAX;
        window = window * base + (uint8_t)text[at + n] - power * (uint8_t)text[at];
    }
}
