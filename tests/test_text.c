// Text assembly: UTF-8 from bytes in any pieces, stop strings at every split, what is withheld.
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "text.h"

static void create(gg_text *t, const char *const *stop, size_t n)
{
    cr_assert_eq(gg_text_create(t, 4096, stop, n, NULL), GORGON_OK);
}

// Feeds bytes in pieces cut where the bits of `cuts` are set; stops at a stop string.
static bool feed(gg_text *t, const char *bytes, size_t n, unsigned long cuts)
{
    size_t from = 0;
    for (size_t i = 1; i <= n; i++) {
        if (i < n && !(cuts >> (i - 1) & 1))
            continue;
        if (gg_text_append(t, bytes + from, i - from))
            return true;
        from = i;
    }
    return false;
}

Test(text, characters_in_pieces)
{
    const char *text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z"; // 1, 2, 3, 4 bytes, 1
    size_t n = strlen(text);
    for (unsigned long cuts = 0; cuts < 1u << (n - 1); cuts++) {
        gg_text t;
        create(&t, NULL, 0);
        cr_assert_not(feed(&t, text, n, cuts));
        gg_text_finish(&t);
        cr_assert_str_eq(t.bytes, text);
        cr_assert_eq(t.length, n);
        gg_text_clear(&t);
    }
}

Test(text, ill_formed_bytes_become_replacements)
{
    const struct {
        const char *in, *out;
    } cases[] = {
        {"\x80", "\xEF\xBF\xBD"},                                 // lone continuation
        {"a\xFF\xFE", "a\xEF\xBF\xBD\xEF\xBF\xBD"},               // never in UTF-8
        {"\xC0\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD"},                 // overlong
        {"\xE0\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}, // overlong
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}, // surrogate
        {"\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xE2\x82z", "\xEF\xBF\xBDz"},           // cut short: one for the maximal prefix
        {"\xF0\x9F\x98", "\xEF\xBF\xBD"},         // cut short by the end
        {"\xE2\xC3\xA9", "\xEF\xBF\xBD\xC3\xA9"}, // another character instead
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n = strlen(cases[i].in);
        for (unsigned long cuts = 0; cuts < 1u << (n - 1); cuts++) {
            gg_text t;
            create(&t, NULL, 0);
            feed(&t, cases[i].in, n, cuts);
            gg_text_finish(&t);
            cr_assert_str_eq(t.bytes, cases[i].out, "case %zu cuts %lx", i, cuts);
            cr_assert_leq(t.length, gg_text_bound(cases[i].in, n));
            gg_text_clear(&t);
        }
    }
}

Test(text, stop_strings_at_every_split)
{
    const char *stop[] = {"END", "\n\n", "NDx"};
    const char *text = "one ENtwo ENDx th";
    size_t n = strlen(text);
    for (unsigned long cuts = 0; cuts < 1u << (n - 1); cuts++) {
        gg_text t;
        create(&t, stop, 3);
        cr_assert(feed(&t, text, n, cuts));
        cr_assert_str_eq(t.bytes, "one ENtwo ");
        gg_text_clear(&t);
    }
}

Test(text, streamed_pieces_never_show_a_stop_string)
{
    const char *stop[] = {"ababc", "zz"};
    const char *text = "abab abababababc tail";
    size_t n = strlen(text);
    for (unsigned long cuts = 0; cuts < 1u << 12; cuts++) {
        char out[64] = "";
        gg_text t;
        create(&t, stop, 2);
        bool stopped = false;
        size_t from = 0;
        for (size_t i = 1; i <= n && !stopped; i++) {
            if (i < n && i <= 12 && !(cuts >> (i - 1) & 1))
                continue;
            stopped = gg_text_append(&t, text + from, i - from);
            from = i;
            size_t length;
            const char *piece = gg_text_take(&t, stopped, &length);
            strncat(out, piece, length);
            cr_assert_null(strstr(out, "ababc"));
        }
        cr_assert(stopped);
        cr_assert_str_eq(out, "abab ababab");
        gg_text_clear(&t);
    }
}

Test(text, withheld_until_certain)
{
    const char *stop[] = {"stop"};
    gg_text t;
    size_t n;
    create(&t, stop, 1);
    gg_text_append(&t, "do st", 5);
    const char *piece = gg_text_take(&t, false, &n);
    cr_assert(n == 3 && memcmp(piece, "do ", 3) == 0);
    gg_text_append(&t, "o", 1);
    gg_text_take(&t, false, &n);
    cr_assert_eq(n, 0);
    gg_text_append(&t, "o s", 3);
    piece = gg_text_take(&t, false, &n);
    cr_assert(n == 5 && memcmp(piece, "stoo ", 5) == 0);
    piece = gg_text_take(&t, true, &n);
    cr_assert(n == 1 && piece[0] == 's');
    gg_text_clear(&t);
}

Test(text, empty_stop_string_is_refused)
{
    const char *stop[] = {"a", ""};
    gg_text t;
    gorgon_error err = {0};
    cr_assert_eq(gg_text_create(&t, 16, stop, 2, &err), GORGON_ERROR_ARGUMENT);
    cr_assert(strstr(err.message, "stop string 1"));
    gg_text_clear(&t);
}
