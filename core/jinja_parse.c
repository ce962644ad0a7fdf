// Statements of templates, and the parsed template as an object.
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "jinja_expr.h"
#include "utf8.h"

bool gg_jstring_is(gg_jstring s, const char *text)
{
    return s.length == strlen(text) && memcmp(s.text, text, s.length) == 0;
}

bool gg_jstring_same(gg_jstring a, gg_jstring b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.text, b.text, a.length) == 0);
}

static gg_jnode *read_body(gg_jparser *p, const char *const *ends);

static void close_tag(gg_jparser *p, char second)
{
    if (p->token.kind != GG_JT_CLOSE || p->token.op != second) {
        gg_jparser_fail(p, second == '}' ? "expected }}" : "expected %}");
        return;
    }
    gg_jparser_advance(p);
}

static void end_block(gg_jparser *p, const char *name)
{
    if (gg_jparser_accept_name(p, name))
        close_tag(p, '%');
    else
        gg_jparser_fail(p, "expected the end of a block");
}

static gg_jnode *read_if(gg_jparser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    gg_jnode *first = gg_jparser_node(p, GG_J_IF);
    gg_jnode *node = first;
    while (node) {
        node->a = gg_jparser_expression(p, true);
        close_tag(p, '%');
        node->body = read_body(p, ends);
        if (!gg_jparser_accept_name(p, "elif"))
            break;
        node->otherwise = gg_jparser_node(p, GG_J_IF);
        node = node->otherwise;
    }
    if (node && gg_jparser_accept_name(p, "else")) {
        close_tag(p, '%');
        node->otherwise = read_body(p, last);
    }
    end_block(p, "endif");
    return first;
}

static void read_names(gg_jparser *p, gg_jnode *node)
{
    gg_jstring name;
    const bool brackets = gg_jparser_accept(p, '(');
    do {
        if (node && gg_jparser_name(p, &name))
            gg_jparser_add_name(p, node, name);
    } while (p->lexer.status == GORGON_OK && gg_jparser_accept(p, ','));
    if (brackets)
        gg_jparser_expect(p, ')');
}

static gg_jnode *read_for(gg_jparser *p)
{
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    gg_jnode *node = gg_jparser_node(p, GG_J_FOR);
    read_names(p, node);
    if (!gg_jparser_accept_name(p, "in"))
        return gg_jparser_fail(p, "expected 'in'");
    if (!node)
        return NULL;
    node->a = gg_jparser_expression(p, false);
    if (gg_jparser_accept_name(p, "if"))
        node->b = gg_jparser_expression(p, true);
    close_tag(p, '%');
    node->body = read_body(p, ends);
    if (gg_jparser_accept_name(p, "else")) {
        close_tag(p, '%');
        node->otherwise = read_body(p, last);
    }
    end_block(p, "endfor");
    return node;
}

static gg_jnode *read_set(gg_jparser *p)
{
    static const char *const ends[] = {"endset", NULL};
    gg_jnode *node = gg_jparser_node(p, GG_J_SET);
    read_names(p, node);
    if (!node)
        return NULL;
    if (node->n_names == 1 && gg_jparser_accept(p, '.')) {
        node->a = gg_jparser_node(p, GG_J_ATTR);
        if (!node->a || !gg_jparser_name(p, &node->a->string))
            return NULL;
    }
    if (gg_jparser_accept(p, '=')) {
        node->b = gg_jparser_tuple(p);
        close_tag(p, '%');
        return node;
    }
    // {% set name | filter %}text{% endset %}: the filters see the text under an impossible name.
    gg_jnode *text = gg_jparser_node(p, GG_J_NAME);
    if (text)
        text->string = (gg_jstring){"", 0};
    node->b = gg_jparser_filters(p, text);
    close_tag(p, '%');
    node->body = read_body(p, ends);
    node->number = 1; // of a block, which may be empty
    end_block(p, "endset");
    return node;
}

static gg_jnode *read_macro(gg_jparser *p)
{
    static const char *const ends[] = {"endmacro", NULL};
    gg_jnode *node = gg_jparser_node(p, GG_J_MACRO);
    if (!node || !gg_jparser_name(p, &node->string))
        return NULL;
    gg_jparser_expect(p, '(');
    while (p->lexer.status == GORGON_OK && !gg_jparser_is(p, ')')) {
        gg_jstring name;
        if (!gg_jparser_name(p, &name))
            return NULL;
        gg_jparser_add_name(p, node, name);
        gg_jparser_add(p, node, gg_jparser_accept(p, '=') ? gg_jparser_expression(p, true) : NULL);
        if (!gg_jparser_accept(p, ','))
            break;
    }
    gg_jparser_expect(p, ')');
    if (node->n_names > GG_JINJA_ARGS)
        return gg_jparser_fail(p, "expected at most 8 parameters");
    close_tag(p, '%');
    node->body = read_body(p, ends);
    end_block(p, "endmacro");
    return node;
}

// {% generation %}: transformers' mark of what an assistant wrote; it changes no text.
static gg_jnode *read_generation(gg_jparser *p)
{
    static const char *const ends[] = {"endgeneration", NULL};
    gg_jnode *node = gg_jparser_node(p, GG_J_BLOCK);
    close_tag(p, '%');
    if (node)
        node->body = read_body(p, ends);
    end_block(p, "endgeneration");
    return node;
}

static gg_jnode *read_leave(gg_jparser *p, gg_jnode_kind kind)
{
    gg_jnode *node = gg_jparser_node(p, kind);
    close_tag(p, '%');
    return node;
}

static gg_jnode *read_statement(gg_jparser *p)
{
    if (gg_jparser_accept_name(p, "if"))
        return read_if(p);
    if (gg_jparser_accept_name(p, "for"))
        return read_for(p);
    if (gg_jparser_accept_name(p, "set"))
        return read_set(p);
    if (gg_jparser_accept_name(p, "macro"))
        return read_macro(p);
    if (gg_jparser_accept_name(p, "generation"))
        return read_generation(p);
    if (gg_jparser_accept_name(p, "break"))
        return read_leave(p, GG_J_BREAK);
    if (gg_jparser_accept_name(p, "continue"))
        return read_leave(p, GG_J_CONTINUE);
    return gg_jparser_fail(p, "expected if, for, set, macro, break or continue");
}

static gg_jnode *read_text(gg_jparser *p)
{
    gg_jnode *node = gg_jparser_node(p, GG_J_TEXT);
    if (node)
        node->string = p->token.string;
    gg_jparser_advance(p);
    return node;
}

static gg_jnode *read_print(gg_jparser *p)
{
    gg_jnode *node = gg_jparser_node(p, GG_J_PRINT);
    if (node)
        node->a = gg_jparser_tuple(p);
    close_tag(p, '}');
    return node;
}

static bool is_end(const gg_jparser *p, const char *const *ends)
{
    for (; ends && *ends; ends++) {
        if (gg_jparser_is_name(p, *ends))
            return true;
    }
    return false;
}

// Statements up to the tag of one of the names, whose "{%" has been read then; without names up to
// the end of the template.
static gg_jnode *read_body(gg_jparser *p, const char *const *ends)
{
    gg_jnode *first = NULL, **link = &first;
    if (++p->depth > GG_JINJA_DEPTH)
        return gg_jparser_fail(p, "expected less nesting");
    while (p->token.kind != GG_JT_END) {
        gg_jnode *node;
        if (p->token.kind == GG_JT_TEXT) {
            node = read_text(p);
        } else {
            const bool print = p->token.op == '{';
            gg_jparser_advance(p);
            if (!print && is_end(p, ends))
                break;
            node = print ? read_print(p) : read_statement(p);
        }
        if (!node)
            break;
        *link = node;
        link = &node->next;
    }
    if (ends && p->token.kind == GG_JT_END)
        gg_jparser_fail(p, "the template ends inside a block");
    p->depth--;
    return first;
}

// A copy with plain line ends; Jinja drops one at the end.
static char *copy_source(gg_arena *arena, const char *source, size_t *length)
{
    char *copy = gg_arena_alloc(arena, *length + 1);
    size_t n = 0;
    for (size_t i = 0; copy && i < *length; i++) {
        if (source[i] == '\r') {
            copy[n++] = '\n';
            i += i + 1 < *length && source[i + 1] == '\n';
        } else {
            copy[n++] = source[i];
        }
    }
    *length = n - (copy && n > 0 && copy[n - 1] == '\n');
    return copy;
}

gorgon_status gg_jinja_parse(const char *source, size_t length, gg_jinja **out, gorgon_error *err)
{
    size_t bad;
    if (length > GG_JINJA_SOURCE)
        return gg_fail(err, GORGON_ERROR_LIMIT, "%zu bytes, expected at most %d", length,
                       GG_JINJA_SOURCE);
    if (!gg_utf8_valid(source, length, &bad))
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED, "byte %zu: no valid UTF-8", bad);
    gg_jinja *jinja = gg_alloc(1, sizeof *jinja);
    if (!jinja)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for a template");
    jinja->arena.most = (size_t)256 << 20;
    gg_jparser p = {.arena = &jinja->arena};
    p.lexer = (gg_jlexer){.line = 1, .arena = &jinja->arena, .err = err};
    p.lexer.source = copy_source(&jinja->arena, source, &length);
    p.lexer.length = length;
    if (!p.lexer.source)
        p.lexer.status = gg_fail(err, GORGON_ERROR_MEMORY, "no memory for a template");
    gg_jparser_advance(&p);
    if (p.lexer.status == GORGON_OK)
        jinja->body = read_body(&p, NULL);
    if (p.lexer.status != GORGON_OK) {
        gg_jinja_free(jinja);
        return p.lexer.status;
    }
    *out = jinja;
    return GORGON_OK;
}

void gg_jinja_free(gg_jinja *jinja)
{
    if (!jinja)
        return;
    gg_arena_clear(&jinja->arena);
    gg_free(jinja);
}
