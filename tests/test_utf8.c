// Where text may be cut so that no character is.
#include <criterion/criterion.h>
#include <string.h>

#include "gorgon/tokenizer.h"

Test(utf8, complete_prefix)
{
    static const struct {
        const char *text;
        size_t complete;
    } cases[] = {
        {"", 0},
        {"abc", 3},
        {"a\xc3", 1},
        {"a\xc3\xa9", 3},
        {"\xe2\x82", 0},
        {"\xe2\x82\xac", 3},
        {"ab\xf0\x9f\x98", 2},
        {"\xf0\x9f\x98\x80", 4},
        {"a\xff", 2},
        {"a\x80", 2},
        {"\xe0\x80", 2},
        {"a\xf0", 1},
        {"\x80\x80\x80\x80", 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_assert_eq(gorgon_utf8_complete(cases[i].text, strlen(cases[i].text)), cases[i].complete,
                     "case %zu", i);
}

// Every prefix of valid text: the cut is at the last character boundary.
Test(utf8, every_prefix)
{
    static const char text[] = "a\xc3\xa9z\xe2\x82\xac\xf0\x9f\x98\x80\xed\x9f\xbf\xf4\x8f\xbf\xbf";
    size_t boundary = 0;
    for (size_t n = 0; n < sizeof text; n++) {
        bool starts = ((unsigned char)text[n] & 0xc0) != 0x80; // the NUL at the end as well
        if (starts)
            boundary = n;
        cr_assert_eq(gorgon_utf8_complete(text, n), boundary, "prefix of %zu bytes", n);
    }
}
