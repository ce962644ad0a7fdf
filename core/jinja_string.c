// Methods of strings, as Python has them.
#include <string.h>
#include <utf8proc.h>

#include "core/error.h"
#include "jinja_impl.h"
#include "utf8.h"

static gg_jvalue wrap(gg_jstring s)
{
    return gg_jv_string(s.text, s.length);
}

static gg_jstring part(gg_jstring s, size_t from, size_t to)
{
    return (gg_jstring){s.text + from, to - from};
}

static bool has_character(gg_jrun *run, gg_jstring set, gg_jstring c)
{
    gg_jrun_work(run, set.length);
    return gg_find_text(set.text, set.length, c.text, c.length) != SIZE_MAX;
}

// Without a set, white space.
static gg_jstring strip(gg_jrun *run, gg_jstring s, bool left, bool right, const gg_jstring *set)
{
    if (!set) {
        size_t from = left ? gg_spaces_before(s.text, s.length) : 0;
        size_t less = right && from < s.length ? gg_spaces_after(s.text, s.length) : 0;
        return part(s, from, s.length - less);
    }
    while (left && s.length > 0 && run->status == GORGON_OK) {
        size_t n = gg_utf8_step(s.text, s.length);
        if (!has_character(run, *set, part(s, 0, n)))
            break;
        s = part(s, n, s.length);
    }
    while (right && s.length > 0 && run->status == GORGON_OK) {
        size_t at = s.length - 1;
        while (at > 0 && ((uint8_t)s.text[at] & 0xc0) == 0x80)
            at--;
        if (!has_character(run, *set, part(s, at, s.length)))
            break;
        s.length = at;
    }
    return s;
}

static gg_jvalue split_spaces(gg_jrun *run, gg_jstring s)
{
    gg_jvalue out = gg_jv_list(run);
    while (run->status == GORGON_OK) {
        s = strip(run, s, true, false, NULL);
        if (s.length == 0)
            break;
        size_t end = 0, n;
        while (end < s.length && !gg_is_space(gg_utf8_read(s.text + end, &n)))
            end += n;
        gg_jlist_add(run, out.of.list, wrap(part(s, 0, end)));
        s = part(s, end, s.length);
    }
    return out;
}

// At most `most` cuts, < 0: all.
static gg_jvalue split(gg_jrun *run, gg_jstring s, gg_jstring by, int64_t most)
{
    gg_jvalue out = gg_jv_list(run);
    if (by.length == 0)
        return gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "expected a text to split by");
    for (; run->status == GORGON_OK; most--) {
        size_t at = most == 0 ? SIZE_MAX : gg_find_text(s.text, s.length, by.text, by.length);
        gg_jlist_add(run, out.of.list, wrap(part(s, 0, at == SIZE_MAX ? s.length : at)));
        if (at == SIZE_MAX)
            break;
        s = part(s, at + by.length, s.length);
    }
    return out;
}

static gg_jvalue split_lines(gg_jrun *run, gg_jstring s)
{
    gg_jvalue out = gg_jv_list(run);
    while (run->status == GORGON_OK && s.length > 0) {
        size_t end = 0;
        while (end < s.length && s.text[end] != '\n' && s.text[end] != '\r')
            end++;
        gg_jlist_add(run, out.of.list, wrap(part(s, 0, end)));
        end += s.length - end > 1 && memcmp(s.text + end, "\r\n", 2) == 0;
        s = part(s, end + (end < s.length), s.length);
    }
    return out;
}

static gg_jvalue replace(gg_jrun *run, gg_jstring s, gg_jstring old, gg_jstring with, int64_t most)
{
    if (old.length == 0)
        return gg_jrun_fail(run, GORGON_ERROR_UNSUPPORTED, "expected a text to replace");
    gg_jvalue parts = split(run, s, old, most);
    if (run->status != GORGON_OK)
        return parts;
    const gg_jlist *list = parts.of.list;
    size_t n = (list->n - 1) * with.length;
    for (size_t i = 0; i < list->n; i++)
        n += list->items[i].string.length;
    char *bytes = gg_jrun_bytes(run, n), *to = bytes;
    for (size_t i = 0; bytes && i < list->n; i++) {
        const gg_jstring item = list->items[i].string;
        memcpy(to, item.text, item.length);
        to += item.length;
        if (i + 1 < list->n) {
            memcpy(to, with.text, with.length);
            to += with.length;
        }
    }
    return bytes ? gg_jv_string(bytes, n) : (gg_jvalue){0};
}

typedef enum letter_case { UPPER, LOWER, CAPITALIZED, TITLE, TITLE_FILTER } letter_case;

static bool is_letter(utf8proc_int32_t c)
{
    utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

// Where words begin for the filter, other than after white space.
static bool is_border(utf8proc_int32_t c)
{
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

static gg_jvalue change_case(gg_jrun *run, gg_jstring s, letter_case to)
{
    // A character of one byte may become one of two, and so on, but never more than three of them.
    char *bytes = gg_jrun_bytes(run, 3 * s.length);
    size_t n = 0, step;
    bool begins = true;
    for (size_t at = 0; bytes && at < s.length; at += step) {
        utf8proc_int32_t c = (utf8proc_int32_t)gg_utf8_read(s.text + at, &step);
        bool upper = to == UPPER || (begins && to != LOWER);
        begins = (to == TITLE && !is_letter(c)) ||
                 (to == TITLE_FILTER && (gg_is_space((uint32_t)c) || is_border(c)));
        c = upper ? utf8proc_toupper(c) : utf8proc_tolower(c);
        char out[4];
        size_t more = gg_utf8_write((uint32_t)c, out);
        memcpy(bytes + n, out, more);
        n += more;
    }
    return bytes ? gg_jv_string(bytes, n) : (gg_jvalue){0};
}

static gg_jvalue join(gg_jrun *run, gg_jstring by, gg_jvalue list)
{
    size_t n = 0;
    if (list.kind != GG_JV_LIST)
        return gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "expected a list to join, got %s",
                            gg_jv_kind(list));
    const gg_jlist *items = list.of.list;
    for (size_t i = 0; i < items->n; i++)
        n += gg_jv_text(run, items->items[i]).length + (i > 0 ? by.length : 0);
    char *bytes = gg_jrun_bytes(run, n), *to = bytes;
    for (size_t i = 0; bytes && i < items->n; i++) {
        if (i > 0) {
            memcpy(to, by.text, by.length);
            to += by.length;
        }
        gg_jstring item = gg_jv_text(run, items->items[i]);
        if (run->status != GORGON_OK)
            break;
        memcpy(to, item.text, item.length);
        to += item.length;
    }
    return bytes && run->status == GORGON_OK ? gg_jv_string(bytes, n) : (gg_jvalue){0};
}

static bool begins_with(gg_jstring s, gg_jstring with)
{
    return s.length >= with.length && memcmp(s.text, with.text, with.length) == 0;
}

static bool ends_with(gg_jstring s, gg_jstring with)
{
    return s.length >= with.length && begins_with(part(s, s.length - with.length, s.length), with);
}

// startswith and endswith take one text or a list of them.
static gg_jvalue matches(gg_jrun *run, gg_jstring s, gg_jvalue with,
                         bool (*match)(gg_jstring, gg_jstring))
{
    if (with.kind == GG_JV_STRING)
        return gg_jv_bool(match(s, with.string));
    for (size_t i = 0; with.kind == GG_JV_LIST && i < with.of.list->n; i++) {
        const gg_jvalue item = with.of.list->items[i];
        if (item.kind == GG_JV_STRING && match(s, item.string))
            return gg_jv_bool(true);
    }
    if (with.kind != GG_JV_LIST)
        return gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "expected a text to compare with, got %s",
                            gg_jv_kind(with));
    return gg_jv_bool(false);
}

static gg_jvalue count(gg_jstring s, gg_jstring of)
{
    int64_t n = 0;
    for (size_t at;
         of.length > 0 && (at = gg_find_text(s.text, s.length, of.text, of.length)) != SIZE_MAX;
         n++)
        s = part(s, at + of.length, s.length);
    return gg_jv_integer(n);
}

static gg_jvalue find(gg_jstring s, gg_jstring what)
{
    size_t at = gg_find_text(s.text, s.length, what.text, what.length);
    return gg_jv_integer(at == SIZE_MAX ? -1 : (int64_t)gg_jstring_count(part(s, 0, at)));
}

// Methods whose first argument is a text that must be there.
static gg_jvalue with_text(gg_jrun *run, gg_jstring self, gg_jstring name, gg_jarguments *args,
                           bool *known)
{
    const gg_jvalue first = gg_jargument(args, 0, "old"), second = gg_jargument(args, 1, "new");
    const gg_jvalue most = gg_jargument(args, 2, "count");
    const bool text = first.kind == GG_JV_STRING;
    const gg_jstring by = first.string;
    *known = true;
    if (gg_jstring_is(name, "replace") && text && second.kind == GG_JV_STRING)
        return replace(run, self, by, second.string,
                       most.kind == GG_JV_INTEGER ? most.integer : -1);
    if (gg_jstring_is(name, "count") && text)
        return count(self, by);
    if (gg_jstring_is(name, "find") && text)
        return find(self, by);
    if (gg_jstring_is(name, "removeprefix") && text)
        return wrap(begins_with(self, by) ? part(self, by.length, self.length) : self);
    if (gg_jstring_is(name, "removesuffix") && text)
        return wrap(ends_with(self, by) ? part(self, 0, self.length - by.length) : self);
    *known = false;
    return (gg_jvalue){0};
}

gg_jvalue gg_jrun_string_method(gg_jrun *run, gg_jstring self, gg_jstring name, gg_jarguments *args,
                                bool *known)
{
    const gg_jvalue first = gg_jargument(args, 0, "sep");
    const gg_jstring *set = first.kind == GG_JV_STRING ? &first.string : NULL;
    *known = true;
    if (gg_jstring_is(name, "strip"))
        return wrap(strip(run, self, true, true, set));
    if (gg_jstring_is(name, "lstrip"))
        return wrap(strip(run, self, true, false, set));
    if (gg_jstring_is(name, "rstrip"))
        return wrap(strip(run, self, false, true, set));
    if (gg_jstring_is(name, "startswith"))
        return matches(run, self, first, begins_with);
    if (gg_jstring_is(name, "endswith"))
        return matches(run, self, first, ends_with);
    if (gg_jstring_is(name, "split")) {
        const gg_jvalue most = gg_jargument(args, 1, "maxsplit");
        return set ? split(run, self, *set, most.kind == GG_JV_INTEGER ? most.integer : -1)
                   : split_spaces(run, self);
    }
    if (gg_jstring_is(name, "splitlines"))
        return split_lines(run, self);
    if (gg_jstring_is(name, "upper"))
        return change_case(run, self, UPPER);
    if (gg_jstring_is(name, "lower"))
        return change_case(run, self, LOWER);
    if (gg_jstring_is(name, "capitalize"))
        return change_case(run, self, CAPITALIZED);
    if (gg_jstring_is(name, "title"))
        return change_case(run, self, TITLE);
    if (gg_jstring_is(name, "title|"))
        return change_case(run, self, TITLE_FILTER);
    if (gg_jstring_is(name, "join"))
        return join(run, self, first);
    return with_text(run, self, name, args, known);
}
