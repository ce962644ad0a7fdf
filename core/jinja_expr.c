// Expressions of templates, by recursive descent; the depth is counted, so that no template makes
// the parser or what runs its tree use more stack than GG_JINJA_DEPTH levels need.
#include "jinja_expr.h"

#include <string.h>

#include "core/error.h"

void gg_jparser_advance(gg_jparser *p)
{
    p->token = gg_jlexer_next(&p->lexer);
}

gg_jnode *gg_jparser_fail(gg_jparser *p, const char *what)
{
    if (p->lexer.status == GORGON_OK) {
        const gg_jstring s = p->token.string;
        const bool named = p->token.kind == GG_JT_NAME;
        p->lexer.status =
            gg_fail(p->lexer.err, GORGON_ERROR_UNSUPPORTED, "line %u: %s%s%.*s", p->token.line,
                    what, named ? ", got " : "", named ? (int)(s.length < 40 ? s.length : 40) : 0,
                    named ? s.text : "");
    }
    p->token = (gg_jtoken){.kind = GG_JT_END};
    return NULL;
}

static void *allocate(gg_jparser *p, size_t n)
{
    void *block = p->lexer.status == GORGON_OK ? gg_arena_alloc(p->arena, n) : NULL;
    if (!block && p->lexer.status == GORGON_OK)
        p->lexer.status = gg_fail(p->lexer.err, GORGON_ERROR_MEMORY, "no memory for a template");
    return block;
}

gg_jnode *gg_jparser_node(gg_jparser *p, gg_jnode_kind kind)
{
    gg_jnode *node = allocate(p, sizeof *node);
    if (!node)
        return gg_jparser_fail(p, "no memory");
    node->kind = kind;
    node->line = p->token.line;
    return node;
}

bool gg_jparser_is(const gg_jparser *p, int op)
{
    return p->token.kind == GG_JT_OPERATOR && p->token.op == op;
}

bool gg_jparser_is_name(const gg_jparser *p, const char *name)
{
    return p->token.kind == GG_JT_NAME && gg_jstring_is(p->token.string, name);
}

bool gg_jparser_accept(gg_jparser *p, int op)
{
    if (!gg_jparser_is(p, op))
        return false;
    gg_jparser_advance(p);
    return true;
}

bool gg_jparser_accept_name(gg_jparser *p, const char *name)
{
    if (!gg_jparser_is_name(p, name))
        return false;
    gg_jparser_advance(p);
    return true;
}

void gg_jparser_expect(gg_jparser *p, int op)
{
    char what[] = "expected ' '";
    if (gg_jparser_accept(p, op))
        return;
    what[10] = (char)op;
    gg_jparser_fail(p, what);
}

bool gg_jparser_name(gg_jparser *p, gg_jstring *name)
{
    if (p->token.kind != GG_JT_NAME) {
        gg_jparser_fail(p, "expected a name");
        return false;
    }
    *name = p->token.string;
    gg_jparser_advance(p);
    return true;
}

// Room for one more of n elements: powers of two, grown by copying.
static void *grow(gg_jparser *p, void *old, size_t n, size_t size)
{
    if (n > 0 && (n & (n - 1)) != 0)
        return old;
    void *block = allocate(p, (n > 0 ? 2 * n : 1) * size);
    if (block && n > 0)
        memcpy(block, old, n * size);
    return block;
}

void gg_jparser_add(gg_jparser *p, gg_jnode *node, gg_jnode *item)
{
    gg_jnode **items = node ? grow(p, node->items, node->n_items, sizeof *items) : NULL;
    if (!items)
        return;
    node->items = items;
    node->items[node->n_items++] = item;
}

void gg_jparser_add_name(gg_jparser *p, gg_jnode *node, gg_jstring name)
{
    gg_jstring *names = node ? grow(p, node->names, node->n_names, sizeof *names) : NULL;
    if (!names)
        return;
    node->names = names;
    node->names[node->n_names++] = name;
}

static gg_jnode *binary(gg_jparser *p, int op, gg_jnode *a, gg_jnode *b)
{
    gg_jnode *node = gg_jparser_node(p, GG_J_BINARY);
    if (!node)
        return NULL;
    node->op = op;
    node->a = a;
    node->b = b;
    return node;
}

static gg_jnode *read_list(gg_jparser *p)
{
    gg_jnode *list = gg_jparser_node(p, GG_J_LIST);
    gg_jparser_expect(p, '[');
    while (list && p->lexer.status == GORGON_OK && !gg_jparser_is(p, ']')) {
        gg_jparser_add(p, list, gg_jparser_expression(p, true));
        if (!gg_jparser_accept(p, ','))
            break;
    }
    gg_jparser_expect(p, ']');
    return list;
}

static gg_jnode *read_dict(gg_jparser *p)
{
    gg_jnode *dict = gg_jparser_node(p, GG_J_DICT);
    gg_jparser_expect(p, '{');
    while (dict && p->lexer.status == GORGON_OK && !gg_jparser_is(p, '}')) {
        gg_jparser_add(p, dict, gg_jparser_expression(p, true));
        gg_jparser_expect(p, ':');
        gg_jparser_add(p, dict, gg_jparser_expression(p, true));
        if (!gg_jparser_accept(p, ','))
            break;
    }
    gg_jparser_expect(p, '}');
    return dict;
}

// Strings side by side are one.
static gg_jnode *read_strings(gg_jparser *p)
{
    gg_jnode *node = gg_jparser_node(p, GG_J_STRING);
    if (!node)
        return NULL;
    node->string = p->token.string;
    for (gg_jparser_advance(p); p->token.kind == GG_JT_STRING; gg_jparser_advance(p)) {
        size_t n = node->string.length, more = p->token.string.length;
        char *joined = allocate(p, n + more);
        if (!joined)
            return gg_jparser_fail(p, "no memory");
        memcpy(joined, node->string.text, n);
        memcpy(joined + n, p->token.string.text, more);
        node->string = (gg_jstring){joined, n + more};
    }
    return node;
}

static gg_jnode *read_name(gg_jparser *p)
{
    static const struct {
        const char *name;
        int64_t value;
    } constants[] = {{"false", 0}, {"False", 0}, {"true", 1},
                     {"True", 1},  {"none", 2},  {"None", 2}};
    gg_jnode *node = gg_jparser_node(p, GG_J_NAME);
    if (!node)
        return NULL;
    node->string = p->token.string;
    gg_jparser_advance(p);
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++) {
        if (gg_jstring_is(node->string, constants[i].name)) {
            node->kind = GG_J_CONSTANT;
            node->number = constants[i].value;
        }
    }
    return node;
}

static gg_jnode *read_primary(gg_jparser *p)
{
    gg_jnode *node;
    switch (p->token.kind) {
    case GG_JT_NAME:
        return read_name(p);
    case GG_JT_STRING:
        return read_strings(p);
    case GG_JT_NUMBER:
    case GG_JT_REAL:
        node = gg_jparser_node(p, p->token.kind == GG_JT_REAL ? GG_J_REAL : GG_J_NUMBER);
        if (node) {
            node->number = p->token.number;
            node->real = p->token.real;
        }
        gg_jparser_advance(p);
        return node;
    default:
        break;
    }
    if (gg_jparser_is(p, '['))
        return read_list(p);
    if (gg_jparser_is(p, '{'))
        return read_dict(p);
    if (!gg_jparser_accept(p, '('))
        return gg_jparser_fail(p, "expected a value");
    if (gg_jparser_accept(p, ')'))
        return gg_jparser_node(p, GG_J_LIST);
    node = gg_jparser_tuple(p);
    gg_jparser_expect(p, ')');
    return node;
}

// "(a, b, name=c)" into a call, filter or test.
static void read_arguments(gg_jparser *p, gg_jnode *node)
{
    gg_jparser_expect(p, '(');
    while (node && p->lexer.status == GORGON_OK && !gg_jparser_is(p, ')')) {
        gg_jnode *item = gg_jparser_expression(p, true);
        if (item && item->kind == GG_J_NAME && gg_jparser_accept(p, '=')) {
            gg_jparser_add_name(p, node, item->string);
            item = gg_jparser_expression(p, true);
        } else if (node->n_names > 0) {
            gg_jparser_fail(p, "expected a named argument");
        }
        gg_jparser_add(p, node, item);
        if (node->n_items > GG_JINJA_ARGS)
            gg_jparser_fail(p, "expected at most 8 arguments");
        if (!gg_jparser_accept(p, ','))
            break;
    }
    gg_jparser_expect(p, ')');
}

static gg_jnode *read_subscript(gg_jparser *p, gg_jnode *base)
{
    gg_jnode *parts[3] = {NULL};
    size_t n = 0;
    gg_jnode *node = gg_jparser_node(p, GG_J_INDEX);
    gg_jparser_expect(p, '[');
    for (;; n++) {
        if (!gg_jparser_is(p, ':') && !gg_jparser_is(p, ']'))
            parts[n] = gg_jparser_expression(p, true);
        if (n == 2 || !gg_jparser_accept(p, ':'))
            break;
    }
    gg_jparser_expect(p, ']');
    if (!node)
        return NULL;
    node->a = base;
    node->b = parts[0];
    if (n == 0)
        return node->b ? node : gg_jparser_fail(p, "expected an index");
    node->kind = GG_J_SLICE;
    for (size_t i = 0; i < 3; i++)
        gg_jparser_add(p, node, parts[i]);
    return node;
}

static gg_jnode *read_postfix(gg_jparser *p, gg_jnode *value)
{
    for (size_t n = 0; p->lexer.status == GORGON_OK; n++) {
        if (n == GG_JINJA_DEPTH)
            return gg_jparser_fail(p, "expected fewer attributes behind each other");
        if (gg_jparser_is(p, '[')) {
            value = read_subscript(p, value);
        } else if (gg_jparser_is(p, '(')) {
            gg_jnode *call = gg_jparser_node(p, GG_J_CALL);
            if (call)
                call->a = value;
            read_arguments(p, call);
            value = call;
        } else if (gg_jparser_accept(p, '.')) {
            gg_jnode *node = gg_jparser_node(p, GG_J_ATTR);
            if (node)
                node->a = value;
            if (node && p->token.kind == GG_JT_NUMBER) {
                node->kind = GG_J_INDEX;
                node->b = read_primary(p);
            } else if (node) {
                gg_jparser_name(p, &node->string);
            }
            value = node;
        } else {
            break;
        }
    }
    return value;
}

static gg_jnode *read_filter(gg_jparser *p, gg_jnode *value)
{
    gg_jnode *node = gg_jparser_node(p, GG_J_FILTER);
    if (!node || !gg_jparser_name(p, &node->string))
        return NULL;
    node->a = value;
    if (gg_jparser_is(p, '('))
        read_arguments(p, node);
    return node;
}

static gg_jnode *read_test(gg_jparser *p, gg_jnode *value)
{
    static const char *const words[] = {"else", "or", "and", "is", "if", "in", "not"};
    gg_jnode *node = gg_jparser_node(p, GG_J_TEST);
    if (!node)
        return NULL;
    node->a = value;
    node->number = gg_jparser_accept_name(p, "not");
    if (!gg_jparser_name(p, &node->string))
        return NULL;
    bool argument = p->token.kind == GG_JT_NAME || p->token.kind == GG_JT_STRING ||
                    p->token.kind == GG_JT_NUMBER || p->token.kind == GG_JT_REAL ||
                    gg_jparser_is(p, '[') || gg_jparser_is(p, '{');
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        argument = argument && !gg_jparser_is_name(p, words[i]);
    if (gg_jparser_is(p, '('))
        read_arguments(p, node);
    else if (argument)
        gg_jparser_add(p, node, read_postfix(p, read_primary(p)));
    return node;
}

gg_jnode *gg_jparser_filters(gg_jparser *p, gg_jnode *value)
{
    for (size_t n = 0; p->lexer.status == GORGON_OK; n++) {
        if (n == GG_JINJA_DEPTH)
            return gg_jparser_fail(p, "expected fewer filters behind each other");
        if (gg_jparser_accept(p, '|')) {
            value = read_filter(p, value);
        } else if (gg_jparser_accept_name(p, "is")) {
            value = read_test(p, value);
        } else if (gg_jparser_is(p, '(')) {
            value = read_postfix(p, value); // a filter's result that is called
        } else {
            break;
        }
    }
    return value;
}

static gg_jnode *read_unary(gg_jparser *p, bool filters)
{
    gg_jnode *node;
    if (gg_jparser_is(p, '-') || gg_jparser_is(p, '+')) {
        node = gg_jparser_node(p, GG_J_UNARY);
        if (!node)
            return NULL;
        node->op = p->token.op;
        gg_jparser_advance(p);
        if (++p->depth > GG_JINJA_DEPTH)
            return gg_jparser_fail(p, "expected less nesting");
        node->a = read_unary(p, false);
        p->depth--;
    } else {
        node = read_primary(p);
    }
    node = read_postfix(p, node);
    return filters ? gg_jparser_filters(p, node) : node;
}

// Operators of two sides by how tightly they bind, the loosest first.
static const struct {
    int ops[8];
} levels[] = {
    {{GG_JOP_OR}},
    {{GG_JOP_AND}},
    {{0}}, // "not", which has one side
    {{GG_JOP_EQ, GG_JOP_NE, GG_JOP_LE, GG_JOP_GE, '<', '>', GG_JOP_IN, GG_JOP_NOT_IN}},
    {{'+', '-'}},
    {{'~'}},
    {{'*', '/', GG_JOP_FLOOR, '%'}},
    {{GG_JOP_POWER}},
};
enum { LEVELS = sizeof levels / sizeof levels[0], NOT_LEVEL = 2 };

// The operator at the token, 0 if it is none; words are operators too.
static int operator_at(gg_jparser *p)
{
    if (p->token.kind == GG_JT_OPERATOR)
        return p->token.op;
    if (gg_jparser_is_name(p, "or"))
        return GG_JOP_OR;
    if (gg_jparser_is_name(p, "and"))
        return GG_JOP_AND;
    if (gg_jparser_is_name(p, "in"))
        return GG_JOP_IN;
    return gg_jparser_is_name(p, "not") ? GG_JOP_NOT_IN : 0;
}

static bool is_of_level(size_t level, int op)
{
    for (size_t i = 0; op != 0 && i < 8; i++) {
        if (levels[level].ops[i] == op)
            return true;
    }
    return false;
}

static gg_jnode *read_level(gg_jparser *p, size_t level);

static gg_jnode *read_not(gg_jparser *p)
{
    if (!gg_jparser_is_name(p, "not"))
        return read_level(p, NOT_LEVEL + 1);
    gg_jnode *node = gg_jparser_node(p, GG_J_UNARY);
    gg_jparser_advance(p);
    if (!node)
        return NULL;
    if (++p->depth > GG_JINJA_DEPTH)
        return gg_jparser_fail(p, "expected less nesting");
    node->op = GG_JOP_NOT;
    node->a = read_not(p);
    p->depth--;
    return node;
}

// Comparisons in a row, "a < b < c", hold all: they become "a < b and b < c".
static gg_jnode *chain(gg_jparser *p, gg_jnode *left, int op, gg_jnode *right)
{
    gg_jnode *last = left;
    if (left && left->kind == GG_J_BINARY && left->op == GG_JOP_AND)
        last = left->b;
    if (!last || last->kind != GG_J_BINARY || !is_of_level(3, last->op))
        return binary(p, op, left, right);
    return binary(p, GG_JOP_AND, left, binary(p, op, last->b, right));
}

static gg_jnode *read_level(gg_jparser *p, size_t level)
{
    if (level == LEVELS)
        return read_unary(p, true);
    if (level == NOT_LEVEL)
        return read_not(p);
    gg_jnode *left = read_level(p, level + 1);
    for (size_t n = 0; p->lexer.status == GORGON_OK; n++) {
        int op = operator_at(p);
        if (!is_of_level(level, op))
            break;
        if (n == 8 * GG_JINJA_DEPTH)
            return gg_jparser_fail(p, "expected fewer operators behind each other");
        gg_jparser_advance(p);
        if (op == GG_JOP_NOT_IN && !gg_jparser_accept_name(p, "in"))
            return gg_jparser_fail(p, "expected 'in' behind 'not'");
        gg_jnode *right = read_level(p, level + 1);
        left = level == 3 && n > 0 ? chain(p, left, op, right) : binary(p, op, left, right);
    }
    return left;
}

gg_jnode *gg_jparser_expression(gg_jparser *p, bool choice)
{
    if (++p->depth > GG_JINJA_DEPTH)
        return gg_jparser_fail(p, "expected less nesting");
    gg_jnode *value = read_level(p, 0);
    while (choice && gg_jparser_accept_name(p, "if")) {
        gg_jnode *node = gg_jparser_node(p, GG_J_CHOICE);
        if (!node)
            break;
        node->a = read_level(p, 0);
        node->b = value;
        if (gg_jparser_accept_name(p, "else"))
            node->c = gg_jparser_expression(p, true);
        value = node;
    }
    p->depth--;
    return p->lexer.status == GORGON_OK ? value : NULL;
}

gg_jnode *gg_jparser_tuple(gg_jparser *p)
{
    gg_jnode *first = gg_jparser_expression(p, true);
    if (!gg_jparser_is(p, ','))
        return first;
    gg_jnode *list = gg_jparser_node(p, GG_J_LIST);
    gg_jparser_add(p, list, first);
    while (gg_jparser_accept(p, ',')) {
        if (gg_jparser_is(p, ')') || p->token.kind == GG_JT_CLOSE)
            break;
        gg_jparser_add(p, list, gg_jparser_expression(p, true));
    }
    return list;
}
