// Functions, filters and tests of templates, and methods of lists and mappings.
#include <string.h>
#include <time.h>

#include "core/error.h"
#include "jinja_impl.h"
#include "utf8.h"

enum { RAISE_EXCEPTION, NAMESPACE, DICT, RANGE, STRFTIME_NOW };

gg_jvalue gg_jargument(gg_jarguments *args, size_t place, const char *name)
{
    for (size_t i = 0; i < args->n_named; i++) {
        if (gg_jstring_is(args->names[i], name))
            return args->used[i] = true, args->items[args->n - args->n_named + i];
    }
    return place < args->n - args->n_named ? args->items[place] : (gg_jvalue){0};
}

gg_jvalue gg_jrun_global(gg_jstring name)
{
    static const char *const names[] = {
        [RAISE_EXCEPTION] = "raise_exception",
        [NAMESPACE] = "namespace",
        [DICT] = "dict",
        [RANGE] = "range",
        [STRFTIME_NOW] = "strftime_now",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (gg_jstring_is(name, names[i]))
            return (gg_jvalue){.kind = GG_JV_FUNCTION, .integer = (int64_t)i, .string = name};
    }
    return gg_jv_undefined(name);
}

static gg_jvalue raise_exception(gg_jrun *run, gg_jarguments *args)
{
    gg_jstring text = gg_jv_text(run, gg_jargument(args, 0, "message"));
    return gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "it refuses these messages: %.*s",
                        (int)(text.length < 150 ? text.length : 150), text.text);
}

static gg_jvalue make_dict(gg_jrun *run, gg_jarguments *args)
{
    gg_jvalue out = gg_jv_dict(run);
    const size_t n_placed = args->n - args->n_named;
    const gg_jvalue from = args->items[0];
    if (n_placed > 1 || (n_placed == 1 && from.kind != GG_JV_DICT))
        return gg_jrun_fail(run, GORGON_ERROR_UNSUPPORTED, "expected a mapping to copy, got %s",
                            gg_jv_kind(from));
    for (size_t i = 0; run->status == GORGON_OK && n_placed > 0 && i < from.of.dict->n; i++)
        gg_jdict_set(run, out.of.dict, from.of.dict->keys[i], from.of.dict->values[i]);
    for (size_t i = 0; run->status == GORGON_OK && i < args->n_named; i++) {
        args->used[i] = true;
        gg_jdict_set(run, out.of.dict, args->names[i], args->items[n_placed + i]);
    }
    return out;
}

static gg_jvalue make_range(gg_jrun *run, gg_jarguments *args)
{
    int64_t bounds[3] = {0, 0, 1};
    for (size_t i = 0; i < args->n && i < 3; i++) {
        if (args->items[i].kind != GG_JV_INTEGER)
            return gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "expected integers in range, got %s",
                                gg_jv_kind(args->items[i]));
        bounds[args->n == 1 ? 1 : i] = args->items[i].integer;
    }
    if (bounds[2] == 0)
        return gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "expected a step other than 0");
    gg_jvalue out = gg_jv_list(run);
    const bool up = bounds[2] > 0;
    for (int64_t i = bounds[0]; run->status == GORGON_OK && (up ? i < bounds[1] : i > bounds[1]);
         i += bounds[2]) {
        gg_jrun_work(run, 0);
        gg_jlist_add(run, out.of.list, gg_jv_integer(i));
    }
    return out;
}

static gg_jvalue format_time(gg_jrun *run, gg_jarguments *args)
{
    enum { MOST = 128 };
    char format[64] = "";
    const gg_jvalue wanted = gg_jargument(args, 0, "format");
    char *text = gg_jrun_bytes(run, MOST);
    time_t now = time(NULL);
    struct tm parts;
    if (!text || wanted.kind != GG_JV_STRING || wanted.string.length >= sizeof format ||
        !localtime_r(&now, &parts))
        return gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "expected a format of time");
    memcpy(format, wanted.string.text, wanted.string.length);
    // The format is the template's own, its result bounded.
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#endif
    size_t n = strftime(text, MOST, format, &parts);
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
    return gg_jv_string(text, n);
}

gg_jvalue gg_jrun_function(gg_jrun *run, gg_jvalue callee, gg_jarguments *args)
{
    switch (callee.integer) {
    case RAISE_EXCEPTION:
        return raise_exception(run, args);
    case RANGE:
        return make_range(run, args);
    case STRFTIME_NOW:
        return format_time(run, args);
    default:
        return make_dict(run, args);
    }
}

// --- Methods ---

static gg_jvalue pairs_of(gg_jrun *run, const gg_jdict *dict, bool keys, bool values)
{
    gg_jvalue out = gg_jv_list(run);
    for (size_t i = 0; run->status == GORGON_OK && i < dict->n; i++) {
        gg_jvalue key = gg_jv_string(dict->keys[i].text, dict->keys[i].length);
        if (!keys || !values) {
            gg_jlist_add(run, out.of.list, keys ? key : dict->values[i]);
            continue;
        }
        gg_jvalue pair = gg_jv_list(run);
        if (run->status == GORGON_OK) {
            gg_jlist_add(run, pair.of.list, key);
            gg_jlist_add(run, pair.of.list, dict->values[i]);
            gg_jlist_add(run, out.of.list, pair);
        }
    }
    return out;
}

static gg_jvalue dict_method(gg_jrun *run, const gg_jdict *dict, gg_jstring name,
                             gg_jarguments *args, bool *known)
{
    gg_jvalue key = gg_jargument(args, 0, "key"), value;
    *known = true;
    if (gg_jstring_is(name, "items"))
        return pairs_of(run, dict, true, true);
    if (gg_jstring_is(name, "keys"))
        return pairs_of(run, dict, true, false);
    if (gg_jstring_is(name, "values"))
        return pairs_of(run, dict, false, true);
    if (gg_jstring_is(name, "get")) {
        if (key.kind == GG_JV_STRING && gg_jdict_get(dict, key.string, &value))
            return value;
        return args->n > 1 ? args->items[1] : gg_jv_none();
    }
    *known = false;
    return (gg_jvalue){0};
}

static gg_jvalue loop_cycle(const gg_jloop *loop, gg_jarguments *args)
{
    return args->n > 0 ? args->items[loop->index % args->n] : (gg_jvalue){0};
}

gg_jvalue gg_jrun_method(gg_jrun *run, gg_jvalue self, gg_jstring name, gg_jarguments *args)
{
    bool known = false;
    gg_jvalue value = {0};
    if (self.kind == GG_JV_STRING) {
        value = gg_jrun_string_method(run, self.string, name, args, &known);
    } else if (self.kind == GG_JV_DICT) {
        value = dict_method(run, self.of.dict, name, args, &known);
    } else if (self.kind == GG_JV_LIST && gg_jstring_is(name, "append") && args->n == 1) {
        gg_jlist_add(run, self.of.list, args->items[0]);
        return gg_jv_none();
    } else if (self.kind == GG_JV_LOOP && gg_jstring_is(name, "cycle")) {
        return loop_cycle(self.of.loop, args);
    }
    if (known || run->status != GORGON_OK)
        return value;
    return gg_jrun_fail(run, GORGON_ERROR_UNSUPPORTED, "'%.*s' of %s is not known",
                        (int)(name.length < 40 ? name.length : 40), name.text, gg_jv_kind(self));
}

// --- Filters ---

static gg_jvalue length_of(gg_jrun *run, gg_jvalue v)
{
    switch (v.kind) {
    case GG_JV_STRING:
        return gg_jv_integer((int64_t)gg_jstring_count(v.string));
    case GG_JV_LIST:
        return gg_jv_integer((int64_t)v.of.list->n);
    case GG_JV_DICT:
        return gg_jv_integer((int64_t)v.of.dict->n);
    case GG_JV_UNDEFINED:
        return gg_jv_integer(0);
    default:
        return gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "%s has no length", gg_jv_kind(v));
    }
}

static gg_jvalue reversed(gg_jrun *run, gg_jvalue v)
{
    gg_jvalue out = gg_jv_list(run);
    if (v.kind != GG_JV_LIST)
        return gg_jrun_fail(run, GORGON_ERROR_UNSUPPORTED, "cannot reverse %s", gg_jv_kind(v));
    for (size_t i = v.of.list->n; run->status == GORGON_OK && i-- > 0;)
        gg_jlist_add(run, out.of.list, v.of.list->items[i]);
    return out;
}

static size_t count_digits(gg_jstring s, size_t from)
{
    size_t at = from;
    while (at < s.length && s.text[at] >= '0' && s.text[at] <= '9')
        at++;
    return at - from;
}

// "-12", also "-12.5"; false if it is none.
static bool read_integer(gg_jstring s, int64_t *number)
{
    const size_t before = gg_spaces_before(s.text, s.length);
    s = (gg_jstring){s.text + before, s.length - before};
    s.length -= gg_spaces_after(s.text, s.length);
    const size_t sign = s.length > 0 && (s.text[0] == '-' || s.text[0] == '+');
    const size_t n = count_digits(s, sign);
    size_t end = sign + n;
    if (end < s.length && s.text[end] == '.')
        end += 1 + count_digits(s, end + 1);
    if (n == 0 || n > 15 || end < s.length)
        return false;
    *number = 0;
    for (size_t i = sign; i < sign + n; i++)
        *number = *number * 10 + (s.text[i] - '0');
    if (s.text[0] == '-')
        *number = -*number;
    return true;
}

static gg_jvalue to_integer(gg_jvalue v, gg_jvalue otherwise)
{
    int64_t number;
    if (v.kind == GG_JV_REAL && v.real < 9e15 && v.real > -9e15)
        return gg_jv_integer((int64_t)v.real);
    if (v.kind == GG_JV_BOOL || v.kind == GG_JV_INTEGER)
        return gg_jv_integer(v.integer);
    if (v.kind == GG_JV_STRING && read_integer(v.string, &number))
        return gg_jv_integer(number);
    return otherwise.kind == GG_JV_UNDEFINED ? gg_jv_integer(0) : otherwise;
}

// select and reject (test of the item), selectattr and rejectattr (of its attribute), map.
static gg_jvalue selected(gg_jrun *run, gg_jvalue v, gg_jstring name, gg_jarguments *args)
{
    const bool by_attribute = name.length > 6, map = name.text[0] == 'm';
    const bool keep = name.text[0] == 's';
    const gg_jvalue field = map ? gg_jargument(args, SIZE_MAX, "attribute") : args->items[0];
    const size_t at = by_attribute;
    gg_jarguments rest = {.n = args->n > at + 1 ? 1 : 0, .items = {args->items[at + 1]}};
    gg_jvalue out = gg_jv_list(run);
    if (!gg_jv_true(v))
        return out;
    if (v.kind != GG_JV_LIST || ((by_attribute || map) && field.kind != GG_JV_STRING))
        return gg_jrun_fail(run, GORGON_ERROR_UNSUPPORTED, "'%.*s' of %s is not known here",
                            (int)name.length, name.text, gg_jv_kind(v));
    for (size_t i = 0; run->status == GORGON_OK && i < v.of.list->n; i++) {
        const gg_jvalue item = v.of.list->items[i];
        gg_jvalue value = by_attribute || map ? gg_jv_item(run, item, field) : item;
        bool passes = gg_jv_true(value);
        if (!map && args->n > at && args->items[at].kind == GG_JV_STRING)
            passes = gg_jrun_test(run, value, args->items[at].string, &rest);
        if (map)
            gg_jlist_add(run, out.of.list, value);
        else if (passes == keep)
            gg_jlist_add(run, out.of.list, item);
    }
    return out;
}

static gg_jvalue filter_list(gg_jrun *run, gg_jvalue v, gg_jstring name, gg_jarguments *args,
                             bool *known)
{
    *known = true;
    if (gg_jstring_is(name, "first"))
        return gg_jv_item(run, v, gg_jv_integer(0));
    if (gg_jstring_is(name, "last"))
        return gg_jv_item(run, v, gg_jv_integer(-1));
    if (gg_jstring_is(name, "length") || gg_jstring_is(name, "count"))
        return length_of(run, v);
    if (gg_jstring_is(name, "list") && v.kind == GG_JV_LIST)
        return v;
    if (gg_jstring_is(name, "reverse"))
        return reversed(run, v);
    if (gg_jstring_is(name, "items") && v.kind == GG_JV_DICT)
        return pairs_of(run, v.of.dict, true, true);
    if (gg_jstring_is(name, "selectattr") || gg_jstring_is(name, "rejectattr") ||
        gg_jstring_is(name, "select") || gg_jstring_is(name, "reject") ||
        gg_jstring_is(name, "map"))
        return selected(run, v, name, args);
    *known = false;
    return v;
}

static gg_jvalue filter_json(gg_jrun *run, gg_jvalue v, gg_jarguments *args)
{
    const gg_jvalue indent = gg_jargument(args, 0, "indent");
    if (gg_jv_true(gg_jargument(args, SIZE_MAX, "ensure_ascii")))
        return gg_jrun_fail(run, GORGON_ERROR_UNSUPPORTED, "expected ensure_ascii to be false");
    return gg_jv_json(run, v, indent.kind == GG_JV_INTEGER ? (size_t)indent.integer : 0);
}

static gg_jvalue filter_join(gg_jrun *run, gg_jvalue v, gg_jarguments *args)
{
    const gg_jvalue by = gg_jargument(args, 0, "d"), field = gg_jargument(args, 1, "attribute");
    bool known;
    if (field.kind == GG_JV_STRING) {
        gg_jarguments map = {.n = 1, .n_named = 1, .items = {field}, .names = {{"attribute", 9}}};
        v = selected(run, v, (gg_jstring){"map", 3}, &map);
    }
    gg_jarguments list = {.n = 1, .items = {v}};
    return gg_jrun_string_method(run, by.kind == GG_JV_STRING ? by.string : (gg_jstring){"", 0},
                                 (gg_jstring){"join", 4}, &list, &known);
}

gg_jvalue gg_jrun_filter(gg_jrun *run, gg_jvalue self, gg_jstring name, gg_jarguments *args)
{
    bool known = false;
    gg_jvalue value = filter_list(run, self, name, args, &known);
    if (known)
        return value;
    if (gg_jstring_is(name, "default") || gg_jstring_is(name, "d")) {
        const bool falsy = gg_jv_true(gg_jargument(args, 1, "boolean"));
        const bool missing = self.kind == GG_JV_UNDEFINED || (falsy && !gg_jv_true(self));
        return missing ? args->n > 0 ? gg_jargument(args, 0, "default_value") : gg_jv_string("", 0)
                       : self;
    }
    if (gg_jstring_is(name, "tojson"))
        return filter_json(run, self, args);
    if (gg_jstring_is(name, "int"))
        return to_integer(self, gg_jargument(args, 0, "default"));
    if (gg_jstring_is(name, "join"))
        return filter_join(run, self, args);
    const bool printed = self.kind < GG_JV_LIST; // the others have no text
    const gg_jstring text = printed ? gg_jv_text(run, self) : (gg_jstring){0};
    if (run->status != GORGON_OK)
        return self;
    if (!printed)
        return gg_jrun_fail(run, GORGON_ERROR_UNSUPPORTED, "the filter '%.*s' of %s is not known",
                            (int)(name.length < 40 ? name.length : 40), name.text,
                            gg_jv_kind(self));
    if (gg_jstring_is(name, "string") || gg_jstring_is(name, "safe"))
        return gg_jv_string(text.text, text.length);
    if (gg_jstring_is(name, "trim")) {
        gg_jarguments set = {.n = 1, .items = {gg_jargument(args, 0, "chars")}};
        return gg_jrun_string_method(run, text, (gg_jstring){"strip", 5}, &set, &known);
    }
    value = gg_jrun_string_method(
        run, text, gg_jstring_is(name, "title") ? (gg_jstring){"title|", 6} : name, args, &known);
    if (known || run->status != GORGON_OK)
        return value;
    return gg_jrun_fail(run, GORGON_ERROR_UNSUPPORTED, "the filter '%.*s' is not known",
                        (int)(name.length < 40 ? name.length : 40), name.text);
}

// --- Tests ---

static bool test_kind(gg_jvalue v, gg_jstring name, bool *known)
{
    const gg_jkind k = v.kind;
    *known = true;
    // So that templates that have a date of their own use it: the same text every day.
    const bool clock = k == GG_JV_FUNCTION && v.integer == STRFTIME_NOW;
    if (gg_jstring_is(name, "defined"))
        return k != GG_JV_UNDEFINED && !clock;
    if (gg_jstring_is(name, "undefined"))
        return k == GG_JV_UNDEFINED || clock;
    if (gg_jstring_is(name, "none"))
        return k == GG_JV_NONE;
    if (gg_jstring_is(name, "string"))
        return k == GG_JV_STRING;
    if (gg_jstring_is(name, "boolean"))
        return k == GG_JV_BOOL;
    if (gg_jstring_is(name, "integer"))
        return k == GG_JV_INTEGER;
    if (gg_jstring_is(name, "float"))
        return k == GG_JV_REAL;
    if (gg_jstring_is(name, "number"))
        return k == GG_JV_INTEGER || k == GG_JV_REAL || k == GG_JV_BOOL;
    if (gg_jstring_is(name, "mapping"))
        return k == GG_JV_DICT;
    if (gg_jstring_is(name, "sequence") || gg_jstring_is(name, "iterable"))
        return k == GG_JV_LIST || k == GG_JV_STRING || k == GG_JV_DICT || k == GG_JV_UNDEFINED;
    if (gg_jstring_is(name, "callable"))
        return k == GG_JV_MACRO || k == GG_JV_FUNCTION;
    if (gg_jstring_is(name, "true"))
        return k == GG_JV_BOOL && v.integer;
    if (gg_jstring_is(name, "false"))
        return k == GG_JV_BOOL && !v.integer;
    *known = false;
    return false;
}

bool gg_jrun_test(gg_jrun *run, gg_jvalue self, gg_jstring name, gg_jarguments *args)
{
    static const struct {
        const char *name;
        int op;
    } comparisons[] = {
        {"equalto", GG_JOP_EQ}, {"eq", GG_JOP_EQ}, {"==", GG_JOP_EQ},    {"in", GG_JOP_IN},
        {"ne", GG_JOP_NE},      {"!=", GG_JOP_NE}, {"lt", '<'},          {"lessthan", '<'},
        {"le", GG_JOP_LE},      {"gt", '>'},       {"greaterthan", '>'}, {"ge", GG_JOP_GE},
    };
    bool known;
    bool result = test_kind(self, name, &known);
    if (known)
        return result;
    if (gg_jstring_is(name, "sameas") && args->n > 0)
        return self.kind == args->items[0].kind && gg_jv_equal(run, self, args->items[0]);
    for (size_t i = 0; args->n > 0 && i < sizeof comparisons / sizeof comparisons[0]; i++) {
        if (gg_jstring_is(name, comparisons[i].name))
            return gg_jv_true(gg_jv_compare(run, comparisons[i].op, self, args->items[0]));
    }
    const bool odd = gg_jstring_is(name, "odd"), even = gg_jstring_is(name, "even");
    const bool divisible = gg_jstring_is(name, "divisibleby") && args->n > 0 &&
                           args->items[0].kind == GG_JV_INTEGER && args->items[0].integer != 0;
    if ((odd || even || divisible) && self.kind == GG_JV_INTEGER) {
        int64_t rest = self.integer % (divisible ? args->items[0].integer : 2);
        return (rest != 0) == odd;
    }
    gg_jrun_fail(run, GORGON_ERROR_UNSUPPORTED, "the test '%.*s' of %s is not known",
                 (int)(name.length < 40 ? name.length : 40), name.text, gg_jv_kind(self));
    return false;
}
