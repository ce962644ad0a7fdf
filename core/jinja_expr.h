// What the two halves of the template parser share.
#ifndef GG_JINJA_EXPR_H
#define GG_JINJA_EXPR_H

#include "jinja_impl.h"

typedef struct gg_jparser {
    gg_jlexer lexer;
    gg_jtoken token; // the one that is looked at
    gg_arena *arena;
    size_t depth;
} gg_jparser;

// After a failure lexer.status is set and the token is the end; what is returned then is no tree to
// be used. Functions return NULL only after a failure.
void gg_jparser_advance(gg_jparser *p);
gg_jnode *gg_jparser_fail(gg_jparser *p, const char *what);
gg_jnode *gg_jparser_node(gg_jparser *p, gg_jnode_kind kind);
bool gg_jparser_is(const gg_jparser *p, int op); // an operator
bool gg_jparser_is_name(const gg_jparser *p, const char *name);
bool gg_jparser_accept(gg_jparser *p, int op);
bool gg_jparser_accept_name(gg_jparser *p, const char *name);
void gg_jparser_expect(gg_jparser *p, int op);
bool gg_jparser_name(gg_jparser *p, gg_jstring *name); // reads one
void gg_jparser_add(gg_jparser *p, gg_jnode *node, gg_jnode *item);
void gg_jparser_add_name(gg_jparser *p, gg_jnode *node, gg_jstring name);

// An expression; without `choice` not "a if b else c", as where a loop's condition follows.
gg_jnode *gg_jparser_expression(gg_jparser *p, bool choice);
// Expressions with commas between, as one list if there is more than one.
gg_jnode *gg_jparser_tuple(gg_jparser *p);
// A chain of filters behind a value.
gg_jnode *gg_jparser_filters(gg_jparser *p, gg_jnode *value);

#endif
