// Values of templates and the memory they live in. Everything that a rendering makes is freed with
// it; nothing in between.
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "jinja_impl.h"
#include "utf8.h"

struct gg_arena_block {
    gg_arena_block *next;
    size_t used; // bytes behind this head
};

enum { BLOCK_BYTES = 16384, ALIGN = 16, HEAD_BYTES = 32 };

void *gg_arena_alloc(gg_arena *arena, size_t n)
{
    if (n > arena->most || arena->used > arena->most - n)
        return NULL;
    n = (n + ALIGN) / ALIGN * ALIGN;
    if (n > arena->left) {
        size_t size = n > BLOCK_BYTES ? n : BLOCK_BYTES;
        gg_arena_block *block = gg_alloc(size + HEAD_BYTES, 1);
        if (!block)
            return NULL;
        block->next = arena->blocks;
        arena->blocks = block;
        arena->left = size;
    }
    arena->used += n;
    arena->left -= n;
    gg_arena_block *block = arena->blocks;
    char *bytes = (char *)block + HEAD_BYTES + block->used;
    block->used += n;
    return bytes;
}

void gg_arena_clear(gg_arena *arena)
{
    while (arena->blocks) {
        gg_arena_block *next = arena->blocks->next;
        gg_free(arena->blocks);
        arena->blocks = next;
    }
    *arena = (gg_arena){0};
}

gg_jvalue gg_jrun_fail(gg_jrun *run, gorgon_status status, const char *format, ...)
{
    if (run->status == GORGON_OK) {
        char what[200];
        va_list args;
        va_start(args, format);
        vsnprintf(what, sizeof what, format, args);
        va_end(args);
        run->status = gg_fail(run->err, status, "chat template, line %u: %s", run->line, what);
    }
    return (gg_jvalue){0};
}

void gg_jrun_work(gg_jrun *run, size_t bytes)
{
    run->steps += 1 + bytes / 256;
    if (run->steps > run->most_steps)
        gg_jrun_fail(run, GORGON_ERROR_LIMIT, "expected a template of less work");
}

static void *allocate(gg_jrun *run, size_t n)
{
    void *block = run->status == GORGON_OK ? gg_arena_alloc(&run->arena, n) : NULL;
    if (!block)
        gg_jrun_fail(run, GORGON_ERROR_MEMORY, "no memory for %zu more bytes", n);
    return block;
}

char *gg_jrun_bytes(gg_jrun *run, size_t n)
{
    return allocate(run, n);
}

gg_jvalue gg_jv_bool(bool flag)
{
    return (gg_jvalue){.kind = GG_JV_BOOL, .integer = flag};
}

gg_jvalue gg_jv_integer(int64_t number)
{
    return (gg_jvalue){.kind = GG_JV_INTEGER, .integer = number};
}

gg_jvalue gg_jv_string(const char *text, size_t length)
{
    return (gg_jvalue){.kind = GG_JV_STRING, .string = {text, length}};
}

gg_jvalue gg_jv_none(void)
{
    return (gg_jvalue){.kind = GG_JV_NONE};
}

gg_jvalue gg_jv_undefined(gg_jstring name)
{
    return (gg_jvalue){.kind = GG_JV_UNDEFINED, .string = name};
}

gg_jvalue gg_jv_list(gg_jrun *run)
{
    gg_jvalue v = {.kind = GG_JV_LIST};
    v.of.list = allocate(run, sizeof *v.of.list);
    return v.of.list ? v : (gg_jvalue){0};
}

gg_jvalue gg_jv_dict(gg_jrun *run)
{
    gg_jvalue v = {.kind = GG_JV_DICT};
    v.of.dict = allocate(run, sizeof *v.of.dict);
    return v.of.dict ? v : (gg_jvalue){0};
}

void gg_jlist_add(gg_jrun *run, gg_jlist *list, gg_jvalue value)
{
    if (run->status != GORGON_OK)
        return;
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 4;
        gg_jvalue *items = allocate(run, capacity * sizeof *items);
        if (!items)
            return;
        if (list->n > 0)
            memcpy(items, list->items, list->n * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->n++] = value;
}

void gg_jdict_set(gg_jrun *run, gg_jdict *dict, gg_jstring key, gg_jvalue value)
{
    size_t at = 0;
    while (at < dict->n && !gg_jstring_same(dict->keys[at], key))
        at++;
    gg_jrun_work(run, at * sizeof key);
    if (run->status != GORGON_OK)
        return;
    if (at == dict->capacity) {
        size_t capacity = dict->capacity ? 2 * dict->capacity : 4;
        gg_jstring *keys = allocate(run, capacity * sizeof *keys);
        gg_jvalue *values = allocate(run, capacity * sizeof *values);
        if (!keys || !values)
            return;
        if (dict->n > 0) {
            memcpy(keys, dict->keys, dict->n * sizeof *keys);
            memcpy(values, dict->values, dict->n * sizeof *values);
        }
        dict->keys = keys;
        dict->values = values;
        dict->capacity = capacity;
    }
    dict->keys[at] = key;
    dict->values[at] = value;
    dict->n += at == dict->n;
}

bool gg_jdict_get(const gg_jdict *dict, gg_jstring key, gg_jvalue *value)
{
    for (size_t i = 0; i < dict->n; i++) {
        if (gg_jstring_same(dict->keys[i], key)) {
            *value = dict->values[i];
            return true;
        }
    }
    return false;
}

bool gg_jv_true(gg_jvalue v)
{
    switch (v.kind) {
    case GG_JV_UNDEFINED:
    case GG_JV_NONE:
        return false;
    case GG_JV_BOOL:
    case GG_JV_INTEGER:
        return v.integer != 0;
    case GG_JV_REAL:
        return v.real != 0;
    case GG_JV_STRING:
        return v.string.length > 0;
    case GG_JV_LIST:
        return v.of.list->n > 0;
    case GG_JV_DICT:
        return v.of.dict->n > 0;
    default:
        return true;
    }
}

static bool is_number(gg_jvalue v)
{
    return v.kind == GG_JV_BOOL || v.kind == GG_JV_INTEGER || v.kind == GG_JV_REAL;
}

static double number_of(gg_jvalue v)
{
    return v.kind == GG_JV_REAL ? v.real : (double)v.integer;
}

static bool equal(gg_jrun *run, gg_jvalue a, gg_jvalue b, size_t level);

static bool equal_lists(gg_jrun *run, const gg_jlist *a, const gg_jlist *b, size_t level)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && a != b && i < a->n; i++)
        same = equal(run, a->items[i], b->items[i], level + 1);
    return same;
}

static bool equal_dicts(gg_jrun *run, const gg_jdict *a, const gg_jdict *b, size_t level)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && a != b && i < a->n; i++) {
        gg_jvalue other;
        gg_jrun_work(run, b->n * sizeof *b->keys);
        same = gg_jdict_get(b, a->keys[i], &other) && equal(run, a->values[i], other, level + 1);
    }
    return same;
}

// False after a failure.
static bool equal(gg_jrun *run, gg_jvalue a, gg_jvalue b, size_t level)
{
    gg_jrun_work(run, a.string.length);
    if (level > GG_JINJA_DEPTH)
        gg_jrun_fail(run, GORGON_ERROR_LIMIT, "expected values nested at most %d deep",
                     GG_JINJA_DEPTH);
    if (run->status != GORGON_OK)
        return false;
    if (is_number(a) && is_number(b))
        return number_of(a) == number_of(b);
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case GG_JV_UNDEFINED:
    case GG_JV_NONE:
        return true;
    case GG_JV_STRING:
        return gg_jstring_same(a.string, b.string);
    case GG_JV_LIST:
        return equal_lists(run, a.of.list, b.of.list, level);
    case GG_JV_DICT:
        return equal_dicts(run, a.of.dict, b.of.dict, level);
    default:
        return false;
    }
}

bool gg_jv_equal(gg_jrun *run, gg_jvalue a, gg_jvalue b)
{
    return equal(run, a, b, 0);
}

const char *gg_jv_kind(gg_jvalue v)
{
    static const char *const names[] = {
        [GG_JV_UNDEFINED] = "undefined", [GG_JV_NONE] = "none",
        [GG_JV_BOOL] = "a boolean",      [GG_JV_INTEGER] = "an integer",
        [GG_JV_REAL] = "a number",       [GG_JV_STRING] = "a string",
        [GG_JV_LIST] = "a list",         [GG_JV_DICT] = "a mapping",
        [GG_JV_LOOP] = "a loop",         [GG_JV_MACRO] = "a macro",
        [GG_JV_FUNCTION] = "a function",
    };
    return names[v.kind];
}

gg_jstring gg_jv_text(gg_jrun *run, gg_jvalue v)
{
    char buffer[40] = "";
    switch (v.kind) {
    case GG_JV_UNDEFINED:
        return (gg_jstring){"", 0};
    case GG_JV_STRING:
        return v.string;
    case GG_JV_NONE:
        return (gg_jstring){"None", 4};
    case GG_JV_BOOL:
        return v.integer ? (gg_jstring){"True", 4} : (gg_jstring){"False", 5};
    case GG_JV_INTEGER:
        snprintf(buffer, sizeof buffer, "%" PRId64, v.integer);
        break;
    case GG_JV_REAL:
        snprintf(buffer, sizeof buffer, "%.12g%s", v.real,
                 v.real == floor(v.real) && fabs(v.real) < 1e12 ? ".0" : "");
        break;
    default:
        gg_jrun_fail(run, GORGON_ERROR_UNSUPPORTED, "expected a text to print, got %s",
                     gg_jv_kind(v));
        return (gg_jstring){"", 0};
    }
    size_t n = strlen(buffer);
    char *copy = allocate(run, n);
    if (!copy)
        return (gg_jstring){"", 0};
    memcpy(copy, buffer, n);
    return (gg_jstring){copy, n};
}

gg_jvalue gg_jv_concat(gg_jrun *run, gg_jstring a, gg_jstring b)
{
    char *bytes = allocate(run, a.length + b.length);
    if (!bytes)
        return (gg_jvalue){0};
    memcpy(bytes, a.text, a.length);
    memcpy(bytes + a.length, b.text, b.length);
    return gg_jv_string(bytes, a.length + b.length);
}

size_t gg_jstring_count(gg_jstring s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.length; i++)
        n += ((uint8_t)s.text[i] & 0xc0) != 0x80;
    return n;
}

static size_t offset_of(gg_jstring s, size_t characters)
{
    size_t at = 0;
    while (characters > 0 && at < s.length) {
        at += gg_utf8_step(s.text + at, s.length - at);
        characters--;
    }
    return at;
}

gg_jstring gg_jstring_cut(gg_jstring s, size_t from, size_t to)
{
    size_t start = offset_of(s, from);
    gg_jstring rest = {s.text + start, s.length - start};
    rest.length = to > from ? offset_of(rest, to - from) : 0;
    return rest;
}

// --- JSON, as transformers' tojson writes it: not escaped for HTML, characters as they are ---

typedef struct json_text {
    gg_jrun *run;
    char *bytes;
    size_t n, capacity, indent;
} json_text;

static void put(json_text *t, const char *bytes, size_t n)
{
    if (n > t->capacity - t->n) {
        size_t capacity = 2 * (t->n + n) + 64;
        char *grown = allocate(t->run, capacity);
        if (!grown)
            return;
        if (t->n > 0)
            memcpy(grown, t->bytes, t->n);
        t->bytes = grown;
        t->capacity = capacity;
    }
    memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
}

static void put_quoted(json_text *t, gg_jstring s)
{
    static const char escapes[] = "\"\"\\\\\nn\rr\tt\bb\ff";
    put(t, "\"", 1);
    for (size_t i = 0; i < s.length; i++) {
        const char c = s.text[i];
        const char *at = c ? strchr(escapes, c) : NULL;
        char escaped[8];
        if (at && (size_t)(at - escapes) % 2 == 0) {
            escaped[0] = '\\';
            escaped[1] = at[1];
            put(t, escaped, 2);
        } else if ((uint8_t)c < 0x20) {
            snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)(uint8_t)c);
            put(t, escaped, 6);
        } else {
            put(t, &c, 1);
        }
    }
    put(t, "\"", 1);
}

static void put_line(json_text *t, size_t level)
{
    if (t->indent == 0)
        return;
    put(t, "\n", 1);
    for (size_t i = 0; i < level * t->indent; i++)
        put(t, " ", 1);
}

// Values nest as deep as a template nests them, which GG_JINJA_DEPTH bounds.
static void put_json(json_text *t, gg_jvalue v, size_t level)
{
    const char *separator = t->indent ? "," : ", ";
    if (level > GG_JINJA_DEPTH) {
        gg_jrun_fail(t->run, GORGON_ERROR_LIMIT, "expected values nested at most %d deep",
                     GG_JINJA_DEPTH);
    } else if (v.kind == GG_JV_LIST) {
        put(t, "[", 1);
        for (size_t i = 0; i < v.of.list->n && t->run->status == GORGON_OK; i++) {
            put(t, separator, i > 0 ? strlen(separator) : 0);
            put_line(t, level + 1);
            put_json(t, v.of.list->items[i], level + 1);
        }
        put_line(t, v.of.list->n > 0 ? level : 0);
        put(t, "]", 1);
    } else if (v.kind == GG_JV_DICT) {
        put(t, "{", 1);
        for (size_t i = 0; i < v.of.dict->n && t->run->status == GORGON_OK; i++) {
            put(t, separator, i > 0 ? strlen(separator) : 0);
            put_line(t, level + 1);
            put_quoted(t, v.of.dict->keys[i]);
            put(t, ": ", 2);
            put_json(t, v.of.dict->values[i], level + 1);
        }
        put_line(t, v.of.dict->n > 0 ? level : 0);
        put(t, "}", 1);
    } else if (v.kind == GG_JV_STRING) {
        put_quoted(t, v.string);
    } else if (v.kind == GG_JV_NONE) {
        put(t, "null", 4);
    } else if (v.kind == GG_JV_BOOL) {
        put(t, v.integer ? "true" : "false", v.integer ? 4 : 5);
    } else if (v.kind == GG_JV_UNDEFINED) {
        gg_jrun_fail(t->run, GORGON_ERROR_ARGUMENT, "undefined has no JSON");
    } else {
        gg_jstring s = gg_jv_text(t->run, v);
        put(t, s.text, s.length);
    }
}

gg_jvalue gg_jv_json(gg_jrun *run, gg_jvalue v, size_t indent)
{
    json_text t = {.run = run, .indent = indent < 16 ? indent : 16};
    put_json(&t, v, 0);
    return run->status == GORGON_OK ? gg_jv_string(t.bytes ? t.bytes : "", t.n) : (gg_jvalue){0};
}
