// What the files of the template language share: memory, syntax tree, values, one rendering.
#ifndef GG_JINJA_IMPL_H
#define GG_JINJA_IMPL_H

#include <stdint.h>

#include "core/error.h"
#include "jinja.h"

enum {
    GG_JINJA_DEPTH = 48,       // nesting of blocks and expressions; bounds all recursion
    GG_JINJA_CALLS = 16,       // nesting of macro calls
    GG_JINJA_FRAMES = 800,     // nodes under evaluation at a time
    GG_JINJA_SOURCE = 1 << 20, // bytes of a template
    GG_JINJA_STEPS = 4 << 20,  // of work in one rendering, and one more per byte of the messages
    GG_JINJA_ARGS = 8,         // of a call
    GG_JINJA_NAMES = 256,      // variables at a time
};

// --- Memory that lives as long as a template or a rendering ---

typedef struct gg_arena_block gg_arena_block;
typedef struct gg_arena {
    gg_arena_block *blocks;
    size_t left; // bytes free in the newest block
    size_t used, most;
} gg_arena;

void *gg_arena_alloc(gg_arena *arena, size_t n); // zeroed; NULL when out of memory or above `most`
void gg_arena_clear(gg_arena *arena);

typedef struct gg_jstring {
    const char *text; // not terminated
    size_t length;
} gg_jstring;

// --- Syntax tree ---

typedef enum gg_jnode_kind {
    // statements
    GG_J_TEXT,  // string
    GG_J_PRINT, // a
    GG_J_IF,    // a: condition, body, otherwise
    GG_J_FOR,   // names, a: what, b: condition, body, otherwise
    GG_J_SET,   // names or a: namespace attribute; b: value, or body
    GG_J_MACRO, // string: name, names: parameters, items: defaults (NULL: none), body
    GG_J_BLOCK, // body
    GG_J_BREAK,
    GG_J_CONTINUE,
    // expressions
    GG_J_STRING,
    GG_J_NUMBER,
    GG_J_REAL,
    GG_J_CONSTANT, // number: 0 false, 1 true, 2 none
    GG_J_NAME,
    GG_J_LIST,   // items
    GG_J_DICT,   // items: keys and values by turns
    GG_J_ATTR,   // a, string
    GG_J_INDEX,  // a, b
    GG_J_SLICE,  // a, items: from, to, step (NULL: left out)
    GG_J_CALL,   // a, items, names of the last items
    GG_J_FILTER, // a, string, items, names
    GG_J_TEST,   // a, string, items; number: 1 negated
    GG_J_UNARY,  // op, a
    GG_J_BINARY, // op, a, b
    GG_J_CHOICE, // a: condition, b: then, c: else or NULL
} gg_jnode_kind;

// Operators that are no single character.
enum {
    GG_JOP_OR = 256,
    GG_JOP_AND,
    GG_JOP_NOT,
    GG_JOP_EQ,
    GG_JOP_NE,
    GG_JOP_LE,
    GG_JOP_GE,
    GG_JOP_IN,
    GG_JOP_NOT_IN,
    GG_JOP_FLOOR,
    GG_JOP_POWER,
};

typedef struct gg_jnode gg_jnode;
struct gg_jnode {
    gg_jnode_kind kind;
    int op;
    uint32_t line;
    int64_t number;
    double real;
    gg_jstring string;
    gg_jnode *a, *b, *c;
    gg_jnode **items; // [n_items]
    size_t n_items;
    gg_jstring *names; // [n_names]
    size_t n_names;
    gg_jnode *body, *otherwise; // first of a chain
    gg_jnode *next;             // in a chain of statements
};

struct gg_jinja {
    gg_arena arena;
    gg_jnode *body;
};

// --- Lexer ---

typedef enum gg_jtoken_kind {
    GG_JT_END,   // of the template
    GG_JT_TEXT,  // between tags
    GG_JT_OPEN,  // {{ or {%: op is the second character
    GG_JT_CLOSE, // }} or %}
    GG_JT_NAME,
    GG_JT_STRING, // unescaped
    GG_JT_NUMBER,
    GG_JT_REAL,
    GG_JT_OPERATOR, // op
} gg_jtoken_kind;

typedef struct gg_jtoken {
    gg_jtoken_kind kind;
    int op;
    uint32_t line;
    int64_t number;
    double real;
    gg_jstring string;
} gg_jtoken;

typedef struct gg_jlexer {
    const char *source;
    size_t length, at;
    uint32_t line;
    bool inside;     // a tag
    size_t brackets; // open ones in it
    bool trim;       // white space goes before the next text
    bool newline;    // a line end goes
    gg_arena *arena;
    gorgon_status status;
    gorgon_error *err;
} gg_jlexer;

// The next token; after a failure (lexer->status) it is the end.
gg_jtoken gg_jlexer_next(gg_jlexer *lexer);

// --- Values ---

typedef enum gg_jkind {
    GG_JV_UNDEFINED,
    GG_JV_NONE,
    GG_JV_BOOL,
    GG_JV_INTEGER,
    GG_JV_REAL,
    GG_JV_STRING,
    GG_JV_LIST,
    GG_JV_DICT, // namespaces too
    GG_JV_LOOP,
    GG_JV_MACRO,
    GG_JV_FUNCTION,
} gg_jkind;

typedef struct gg_jlist gg_jlist;
typedef struct gg_jdict gg_jdict;
typedef struct gg_jloop gg_jloop;

typedef struct gg_jvalue {
    gg_jkind kind;
    int64_t integer; // also of a bool, and which function
    double real;
    gg_jstring string; // of undefined: its name
    union {
        gg_jlist *list;
        gg_jdict *dict;
        const gg_jloop *loop;
        const gg_jnode *macro;
    } of;
} gg_jvalue;

struct gg_jlist {
    gg_jvalue *items;
    size_t n, capacity;
};

struct gg_jdict {
    gg_jstring *keys;
    gg_jvalue *values;
    size_t n, capacity;
};

struct gg_jloop {
    const gg_jlist *list;
    size_t index;
};

typedef struct gg_jarguments {
    gg_jvalue items[GG_JINJA_ARGS];
    gg_jstring names[GG_JINJA_ARGS]; // of the last n_named
    bool used[GG_JINJA_ARGS];        // of these, those that were looked for
    size_t n, n_named;
} gg_jarguments;

typedef struct gg_jvariable {
    gg_jstring name;
    gg_jvalue value;
} gg_jvariable;

// One rendering. Once status is not OK nothing more is evaluated.
typedef struct gg_jrun {
    gg_arena arena;
    gg_jvariable names[GG_JINJA_NAMES];
    size_t n_names, scope; // names from `scope` on belong to the innermost block
    char *out;
    size_t out_n, out_capacity, out_most;
    size_t steps, most_steps, calls, depth;
    int leave; // 0, or the kind of the break or continue under way
    uint32_t line;
    gorgon_status status;
    gorgon_error *err;
} gg_jrun;

bool gg_jstring_is(gg_jstring s, const char *text);
bool gg_jstring_same(gg_jstring a, gg_jstring b);

// jinja_value.c. Failures are noted in the run; the value is undefined then.
gg_jvalue gg_jrun_fail(gg_jrun *run, gorgon_status status, const char *format, ...) GG_PRINTF(3, 4);
// Counts a step, and one more per 256 bytes that it looks at; fails when they are too many.
void gg_jrun_work(gg_jrun *run, size_t bytes);
gg_jvalue gg_jv_bool(bool flag);
gg_jvalue gg_jv_integer(int64_t number);
gg_jvalue gg_jv_string(const char *text, size_t length); // borrowed
gg_jvalue gg_jv_none(void);
gg_jvalue gg_jv_undefined(gg_jstring name);
gg_jvalue gg_jv_list(gg_jrun *run);
gg_jvalue gg_jv_dict(gg_jrun *run);
void gg_jlist_add(gg_jrun *run, gg_jlist *list, gg_jvalue value);
void gg_jdict_set(gg_jrun *run, gg_jdict *dict, gg_jstring key, gg_jvalue value);
bool gg_jdict_get(const gg_jdict *dict, gg_jstring key, gg_jvalue *value);
bool gg_jv_true(gg_jvalue v);
bool gg_jv_equal(gg_jrun *run, gg_jvalue a, gg_jvalue b);
const char *gg_jv_kind(gg_jvalue v);              // for messages
char *gg_jrun_bytes(gg_jrun *run, size_t n);      // NULL after a failure
gg_jstring gg_jv_text(gg_jrun *run, gg_jvalue v); // as it is printed
gg_jvalue gg_jv_concat(gg_jrun *run, gg_jstring a, gg_jstring b);
gg_jvalue gg_jv_json(gg_jrun *run, gg_jvalue v, size_t indent); // as a string
// Characters, not bytes.
size_t gg_jstring_count(gg_jstring s);
gg_jstring gg_jstring_cut(gg_jstring s, size_t from, size_t to);

// jinja_eval.c
gg_jvalue gg_jrun_eval(gg_jrun *run, const gg_jnode *node);
gg_jvalue gg_jv_item(gg_jrun *run, gg_jvalue base, gg_jvalue key);
gg_jvalue gg_jv_compare(gg_jrun *run, int op, gg_jvalue a, gg_jvalue b);
// jinja_run.c
gg_jvalue gg_jrun_macro(gg_jrun *run, const gg_jnode *macro, gg_jarguments *args);
void gg_jrun_set(gg_jrun *run, gg_jstring name, gg_jvalue value);
// jinja_builtin.c, jinja_string.c
gg_jvalue gg_jrun_function(gg_jrun *run, gg_jvalue callee, gg_jarguments *args);
gg_jvalue gg_jrun_method(gg_jrun *run, gg_jvalue self, gg_jstring name, gg_jarguments *args);
gg_jvalue gg_jrun_filter(gg_jrun *run, gg_jvalue self, gg_jstring name, gg_jarguments *args);
bool gg_jrun_test(gg_jrun *run, gg_jvalue self, gg_jstring name, gg_jarguments *args);
// A string's method, or *known is false.
gg_jvalue gg_jrun_string_method(gg_jrun *run, gg_jstring self, gg_jstring name, gg_jarguments *args,
                                bool *known);
// An argument by place or name; undefined if there is none. A named one that nothing looks for is
// refused after the call.
gg_jvalue gg_jargument(gg_jarguments *args, size_t place, const char *name);
// The functions that templates find by name; undefined if `name` is none.
gg_jvalue gg_jrun_global(gg_jstring name);

#endif
