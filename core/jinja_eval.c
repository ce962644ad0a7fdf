// Expressions of templates: operators, attributes, calls.
#include <math.h>
#include <string.h>

#include "core/error.h"
#include "jinja_impl.h"
#include "utf8.h"

static gg_jvalue name_value(const gg_jrun *run, gg_jstring name)
{
    for (size_t i = run->n_names; i-- > 0;) {
        if (gg_jstring_same(run->names[i].name, name))
            return run->names[i].value;
    }
    return gg_jrun_global(name);
}

static gg_jvalue loop_attribute(const gg_jloop *loop, gg_jstring name)
{
    const size_t n = loop->list->n, i = loop->index;
    if (gg_jstring_is(name, "index0"))
        return gg_jv_integer((int64_t)i);
    if (gg_jstring_is(name, "index"))
        return gg_jv_integer((int64_t)i + 1);
    if (gg_jstring_is(name, "first"))
        return gg_jv_bool(i == 0);
    if (gg_jstring_is(name, "last"))
        return gg_jv_bool(i + 1 == n);
    if (gg_jstring_is(name, "length"))
        return gg_jv_integer((int64_t)n);
    if (gg_jstring_is(name, "revindex"))
        return gg_jv_integer((int64_t)(n - i));
    if (gg_jstring_is(name, "revindex0"))
        return gg_jv_integer((int64_t)(n - i) - 1);
    if (gg_jstring_is(name, "previtem") && i > 0)
        return loop->list->items[i - 1];
    if (gg_jstring_is(name, "nextitem") && i + 1 < n)
        return loop->list->items[i + 1];
    return gg_jv_undefined(name);
}

// base.name, which a mapping may have as its key.
static gg_jvalue attribute(gg_jrun *run, gg_jvalue base, gg_jstring name)
{
    gg_jvalue value;
    if (base.kind == GG_JV_UNDEFINED)
        return gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "'%.*s' is undefined, it has no '%.*s'",
                            (int)(base.string.length < 40 ? base.string.length : 40),
                            base.string.text ? base.string.text : "",
                            (int)(name.length < 40 ? name.length : 40), name.text);
    if (base.kind == GG_JV_DICT)
        gg_jrun_work(run, base.of.dict->n * sizeof name);
    if (base.kind == GG_JV_DICT && gg_jdict_get(base.of.dict, name, &value))
        return value;
    if (base.kind == GG_JV_LOOP)
        return loop_attribute(base.of.loop, name);
    return gg_jv_undefined(name);
}

gg_jvalue gg_jv_item(gg_jrun *run, gg_jvalue base, gg_jvalue key)
{
    if (key.kind == GG_JV_STRING)
        return attribute(run, base, key.string);
    const bool list = base.kind == GG_JV_LIST;
    if (base.kind == GG_JV_DICT)
        return attribute(run, base, gg_jv_text(run, key));
    if (base.kind == GG_JV_UNDEFINED)
        return attribute(run, base, (gg_jstring){"[]", 2});
    if ((!list && base.kind != GG_JV_STRING) ||
        (key.kind != GG_JV_INTEGER && key.kind != GG_JV_BOOL))
        return gg_jv_undefined((gg_jstring){"[]", 2});
    int64_t n = (int64_t)(list ? base.of.list->n : gg_jstring_count(base.string));
    int64_t at = key.integer < 0 ? key.integer + n : key.integer;
    if (at < 0 || at >= n)
        return gg_jv_undefined((gg_jstring){"[]", 2});
    if (list)
        return base.of.list->items[at];
    gg_jstring cut = gg_jstring_cut(base.string, (size_t)at, (size_t)at + 1);
    return gg_jv_string(cut.text, cut.length);
}

static int64_t bound(gg_jrun *run, const gg_jnode *node, int64_t otherwise, int64_t n, int64_t low,
                     int64_t high)
{
    if (!node)
        return otherwise;
    gg_jvalue v = gg_jrun_eval(run, node);
    if (v.kind == GG_JV_NONE)
        return otherwise;
    if (v.kind != GG_JV_INTEGER) {
        gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "expected an integer in a slice, got %s",
                     gg_jv_kind(v));
        return otherwise;
    }
    int64_t at = v.integer < 0 ? v.integer + n : v.integer;
    return at < low ? low : at > high ? high : at;
}

// base[from:to:step] of a list or, with step 1, of a string.
static gg_jvalue slice(gg_jrun *run, const gg_jnode *node)
{
    gg_jvalue base = gg_jrun_eval(run, node->a);
    gg_jvalue step = node->items[2] ? gg_jrun_eval(run, node->items[2]) : gg_jv_integer(1);
    const bool list = base.kind == GG_JV_LIST;
    if (run->status != GORGON_OK)
        return base;
    if (step.kind != GG_JV_INTEGER || step.integer == 0 || (!list && base.kind != GG_JV_STRING) ||
        (!list && step.integer != 1))
        return gg_jrun_fail(run, GORGON_ERROR_UNSUPPORTED, "expected to slice a list, got %s",
                            gg_jv_kind(base));
    const int64_t n = (int64_t)(list ? base.of.list->n : gg_jstring_count(base.string));
    const bool back = step.integer < 0;
    int64_t from = bound(run, node->items[0], back ? n - 1 : 0, n, back ? -1 : 0, back ? n - 1 : n);
    int64_t to = bound(run, node->items[1], back ? -1 : n, n, back ? -1 : 0, back ? n - 1 : n);
    if (!list) {
        gg_jstring cut = gg_jstring_cut(base.string, (size_t)from, (size_t)(to > from ? to : from));
        return gg_jv_string(cut.text, cut.length);
    }
    gg_jvalue out = gg_jv_list(run);
    for (int64_t i = from; run->status == GORGON_OK && (back ? i > to : i < to);
         i += step.integer) {
        gg_jlist_add(run, out.of.list, base.of.list->items[i]);
        if (step.integer > n || step.integer < -n)
            break;
    }
    return out;
}

static bool contains(gg_jrun *run, gg_jvalue base, gg_jvalue item)
{
    gg_jvalue unused;
    switch (base.kind) {
    case GG_JV_LIST:
        for (size_t i = 0; i < base.of.list->n; i++) {
            if (gg_jv_equal(run, base.of.list->items[i], item))
                return true;
        }
        return false;
    case GG_JV_DICT:
        return item.kind == GG_JV_STRING && gg_jdict_get(base.of.dict, item.string, &unused);
    case GG_JV_UNDEFINED:
        return false;
    case GG_JV_STRING:
        if (item.kind == GG_JV_STRING)
            return gg_find_text(base.string.text, base.string.length, item.string.text,
                                item.string.length) != SIZE_MAX;
        break;
    default:
        break;
    }
    gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "cannot look for %s in %s", gg_jv_kind(item),
                 gg_jv_kind(base));
    return false;
}

static bool is_number(gg_jvalue v)
{
    return v.kind == GG_JV_BOOL || v.kind == GG_JV_INTEGER || v.kind == GG_JV_REAL;
}

static double number_of(gg_jvalue v)
{
    return v.kind == GG_JV_REAL ? v.real : (double)v.integer;
}

static int order_of(gg_jstring a, gg_jstring b)
{
    int order = memcmp(a.text, b.text, a.length < b.length ? a.length : b.length);
    return order != 0 ? order : (a.length > b.length) - (a.length < b.length);
}

gg_jvalue gg_jv_compare(gg_jrun *run, int op, gg_jvalue a, gg_jvalue b)
{
    if (op == GG_JOP_EQ || op == GG_JOP_NE)
        return gg_jv_bool(gg_jv_equal(run, a, b) == (op == GG_JOP_EQ));
    if (op == GG_JOP_IN || op == GG_JOP_NOT_IN)
        return gg_jv_bool(contains(run, b, a) == (op == GG_JOP_IN));
    int order;
    if (is_number(a) && is_number(b))
        order = (number_of(a) > number_of(b)) - (number_of(a) < number_of(b));
    else if (a.kind == GG_JV_STRING && b.kind == GG_JV_STRING)
        order = order_of(a.string, b.string);
    else
        return gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "cannot compare %s with %s", gg_jv_kind(a),
                            gg_jv_kind(b));
    switch (op) {
    case '<':
        return gg_jv_bool(order < 0);
    case '>':
        return gg_jv_bool(order > 0);
    case GG_JOP_LE:
        return gg_jv_bool(order <= 0);
    default:
        return gg_jv_bool(order >= 0);
    }
}

static gg_jvalue join_lists(gg_jrun *run, const gg_jlist *a, const gg_jlist *b)
{
    gg_jvalue out = gg_jv_list(run);
    for (size_t i = 0; run->status == GORGON_OK && i < a->n; i++)
        gg_jlist_add(run, out.of.list, a->items[i]);
    for (size_t i = 0; run->status == GORGON_OK && i < b->n; i++)
        gg_jlist_add(run, out.of.list, b->items[i]);
    return out;
}

// Integers stay where doubles are exact, so that these tell whether a result fits.
#define MAX_INTEGER 9e15

static gg_jvalue small_integer(gg_jrun *run, double exact)
{
    if (fabs(exact) > MAX_INTEGER)
        return gg_jrun_fail(run, GORGON_ERROR_LIMIT, "a number is too large");
    return gg_jv_integer((int64_t)exact);
}

static gg_jvalue integer_arithmetic(gg_jrun *run, int op, int64_t a, int64_t b)
{
    const double x = (double)a, y = (double)b;
    int64_t quotient, rest;
    switch (op) {
    case '+':
        return small_integer(run, x + y);
    case '-':
        return small_integer(run, x - y);
    case '*':
        return small_integer(run, x * y);
    default:
        if (b == 0)
            return gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "division by zero");
        quotient = a / b;
        rest = a % b;
        if (rest != 0 && (rest < 0) != (b < 0)) { // Python rounds down
            quotient--;
            rest += b;
        }
        return gg_jv_integer(op == '%' ? rest : quotient);
    }
}

static gg_jvalue arithmetic(gg_jrun *run, int op, gg_jvalue a, gg_jvalue b)
{
    if (op == '+' && a.kind == GG_JV_STRING && b.kind == GG_JV_STRING)
        return gg_jv_concat(run, a.string, b.string);
    if (op == '+' && a.kind == GG_JV_LIST && b.kind == GG_JV_LIST)
        return join_lists(run, a.of.list, b.of.list);
    if (!is_number(a) || !is_number(b)) {
        const gg_jvalue odd = a.kind == GG_JV_UNDEFINED ? a : b;
        const bool undefined = odd.kind == GG_JV_UNDEFINED;
        return gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "cannot combine %s with %s%s%.*s",
                            gg_jv_kind(a), gg_jv_kind(b), undefined ? ": " : "",
                            undefined ? (int)(odd.string.length < 40 ? odd.string.length : 40) : 0,
                            undefined && odd.string.text ? odd.string.text : "");
    }
    const double x = number_of(a), y = number_of(b);
    const bool whole = a.kind != GG_JV_REAL && b.kind != GG_JV_REAL && op != '/';
    if (whole && op != GG_JOP_POWER)
        return integer_arithmetic(run, op, a.integer, b.integer);
    if ((op == '/' || op == '%' || op == GG_JOP_FLOOR) && y == 0)
        return gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "division by zero");
    double result = op == '+'            ? x + y
                    : op == '-'          ? x - y
                    : op == '*'          ? x * y
                    : op == '/'          ? x / y
                    : op == '%'          ? x - floor(x / y) * y
                    : op == GG_JOP_FLOOR ? floor(x / y)
                                         : pow(x, y);
    if (whole && y >= 0 && fabs(result) <= MAX_INTEGER)
        return gg_jv_integer((int64_t)result);
    return (gg_jvalue){.kind = GG_JV_REAL, .real = result};
}

static gg_jvalue binary(gg_jrun *run, const gg_jnode *node)
{
    gg_jvalue a = gg_jrun_eval(run, node->a);
    if (run->status != GORGON_OK)
        return a;
    if (node->op == GG_JOP_AND)
        return gg_jv_true(a) ? gg_jrun_eval(run, node->b) : a;
    if (node->op == GG_JOP_OR)
        return gg_jv_true(a) ? a : gg_jrun_eval(run, node->b);
    gg_jvalue b = gg_jrun_eval(run, node->b);
    if (run->status != GORGON_OK)
        return b;
    run->line = node->line;
    switch (node->op) {
    case '~': {
        gg_jstring x = gg_jv_text(run, a), y = gg_jv_text(run, b);
        return gg_jv_concat(run, x, y);
    }
    case GG_JOP_EQ:
    case GG_JOP_NE:
    case GG_JOP_LE:
    case GG_JOP_GE:
    case '<':
    case '>':
    case GG_JOP_IN:
    case GG_JOP_NOT_IN:
        return gg_jv_compare(run, node->op, a, b);
    default:
        return arithmetic(run, node->op, a, b);
    }
}

static gg_jvalue unary(gg_jrun *run, const gg_jnode *node)
{
    gg_jvalue a = gg_jrun_eval(run, node->a);
    if (node->op == GG_JOP_NOT)
        return gg_jv_bool(!gg_jv_true(a));
    if (!is_number(a))
        return gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "expected a number, got %s", gg_jv_kind(a));
    if (node->op == '-') {
        a.integer = -a.integer;
        a.real = -a.real;
    }
    if (a.kind == GG_JV_BOOL)
        a.kind = GG_JV_INTEGER;
    return a;
}

static void read_arguments(gg_jrun *run, const gg_jnode *node, gg_jarguments *args)
{
    *args = (gg_jarguments){0};
    const size_t n = node->n_items < GG_JINJA_ARGS ? node->n_items : GG_JINJA_ARGS;
    for (size_t i = 0; run->status == GORGON_OK && i < n; i++)
        args->items[i] = gg_jrun_eval(run, node->items[i]);
    args->n = n;
    args->n_named = node->n_names < n ? node->n_names : n;
    for (size_t i = 0; i < args->n_named; i++)
        args->names[i] = node->names[i];
}

static gg_jvalue call_value(gg_jrun *run, gg_jvalue callee, gg_jarguments *args)
{
    if (callee.kind == GG_JV_MACRO)
        return gg_jrun_macro(run, callee.of.macro, args);
    if (callee.kind == GG_JV_FUNCTION)
        return gg_jrun_function(run, callee, args);
    return gg_jrun_fail(run, GORGON_ERROR_UNSUPPORTED, "expected a function to call, got %s%s%.*s",
                        gg_jv_kind(callee), callee.string.length > 0 ? " " : "",
                        (int)(callee.string.length < 40 ? callee.string.length : 40),
                        callee.string.text ? callee.string.text : "");
}

static void check_used(gg_jrun *run, const gg_jarguments *args)
{
    for (size_t i = 0; i < args->n_named; i++) {
        const gg_jstring name = args->names[i];
        if (!args->used[i])
            gg_jrun_fail(run, GORGON_ERROR_UNSUPPORTED, "the argument '%.*s' is not known here",
                         (int)(name.length < 40 ? name.length : 40), name.text);
    }
}

// object.method(..), function(..) or macro(..).
static gg_jvalue call(gg_jrun *run, const gg_jnode *node)
{
    gg_jarguments args;
    gg_jvalue self = {0}, callee, result;
    const bool method = node->a->kind == GG_J_ATTR;
    if (method) {
        self = gg_jrun_eval(run, node->a->a);
        if (run->status != GORGON_OK)
            return self;
        callee = attribute(run, self, node->a->string);
    } else {
        callee = gg_jrun_eval(run, node->a);
    }
    read_arguments(run, node, &args);
    run->line = node->line;
    if (run->status != GORGON_OK)
        return (gg_jvalue){0};
    if (method && callee.kind != GG_JV_MACRO && callee.kind != GG_JV_FUNCTION)
        result = gg_jrun_method(run, self, node->a->string, &args);
    else
        result = call_value(run, callee, &args);
    check_used(run, &args);
    return result;
}

static gg_jvalue applied(gg_jrun *run, const gg_jnode *node)
{
    gg_jarguments args;
    gg_jvalue result, self = gg_jrun_eval(run, node->a);
    read_arguments(run, node, &args);
    run->line = node->line;
    if (run->status != GORGON_OK)
        return self;
    if (node->kind == GG_J_FILTER)
        result = gg_jrun_filter(run, self, node->string, &args);
    else
        result = gg_jv_bool(gg_jrun_test(run, self, node->string, &args) == (node->number == 0));
    check_used(run, &args);
    return result;
}

static gg_jvalue collection(gg_jrun *run, const gg_jnode *node)
{
    const bool list = node->kind == GG_J_LIST;
    gg_jvalue out = list ? gg_jv_list(run) : gg_jv_dict(run);
    for (size_t i = 0; run->status == GORGON_OK && i < node->n_items; i += list ? 1 : 2) {
        gg_jvalue first = gg_jrun_eval(run, node->items[i]);
        if (list) {
            gg_jlist_add(run, out.of.list, first);
            continue;
        }
        gg_jvalue value = gg_jrun_eval(run, node->items[i + 1]);
        gg_jstring key = gg_jv_text(run, first); // 1 and "1" are one key here
        gg_jdict_set(run, out.of.dict, key, value);
    }
    return out;
}

static gg_jvalue choice(gg_jrun *run, const gg_jnode *node)
{
    gg_jvalue condition = gg_jrun_eval(run, node->a);
    if (run->status != GORGON_OK)
        return condition;
    if (gg_jv_true(condition))
        return gg_jrun_eval(run, node->b);
    return node->c ? gg_jrun_eval(run, node->c) : gg_jv_undefined((gg_jstring){"", 0});
}

static gg_jvalue constant(const gg_jnode *node)
{
    switch (node->kind) {
    case GG_J_STRING:
        return gg_jv_string(node->string.text, node->string.length);
    case GG_J_NUMBER:
        return gg_jv_integer(node->number);
    case GG_J_REAL:
        return (gg_jvalue){.kind = GG_JV_REAL, .real = node->real};
    default:
        return node->number == 2 ? gg_jv_none() : gg_jv_bool(node->number == 1);
    }
}

static gg_jvalue evaluate(gg_jrun *run, const gg_jnode *node)
{
    gg_jvalue base, key;
    switch (node->kind) {
    case GG_J_NAME:
        return name_value(run, node->string);
    case GG_J_LIST:
    case GG_J_DICT:
        return collection(run, node);
    case GG_J_ATTR:
        base = gg_jrun_eval(run, node->a);
        return run->status == GORGON_OK ? attribute(run, base, node->string) : base;
    case GG_J_INDEX:
        base = gg_jrun_eval(run, node->a);
        key = gg_jrun_eval(run, node->b);
        return run->status == GORGON_OK ? gg_jv_item(run, base, key) : base;
    case GG_J_SLICE:
        return slice(run, node);
    case GG_J_CALL:
        return call(run, node);
    case GG_J_FILTER:
    case GG_J_TEST:
        return applied(run, node);
    case GG_J_UNARY:
        return unary(run, node);
    case GG_J_BINARY:
        return binary(run, node);
    case GG_J_CHOICE:
        return choice(run, node);
    default:
        return constant(node);
    }
}

gg_jvalue gg_jrun_eval(gg_jrun *run, const gg_jnode *node)
{
    run->line = node->line;
    if (run->status != GORGON_OK)
        return (gg_jvalue){0};
    if (run->depth >= GG_JINJA_FRAMES)
        return gg_jrun_fail(run, GORGON_ERROR_LIMIT, "expected less nesting");
    run->depth++;
    gg_jvalue value = evaluate(run, node);
    run->depth--;
    // What is done with the value costs as much as it is large.
    gg_jrun_work(run,
                 value.kind == GG_JV_LIST ? value.of.list->n * sizeof value : value.string.length);
    return value;
}
