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
