// The opcodes that torch.save needs for a dictionary of tensors, and the names of all others.
// Format: CPython, Lib/pickletools.py; what torch.save writes: torch/_utils.py.
#include <string.h>

#include "pickle_machine.h"

enum { SHOWN = 80 }; // bytes of a name in messages

static const struct {
    const char *module, *name;
    enum { MAKE_DICTIONARY, MAKE_TENSOR, MAKE_PARAMETER, STORAGE_CLASS } role;
    gg_element element;
} globals[] = {
    {"collections", "OrderedDict", MAKE_DICTIONARY, 0},
    {"torch._utils", "_rebuild_tensor_v2", MAKE_TENSOR, 0},
    {"torch._utils", "_rebuild_parameter", MAKE_PARAMETER, 0},
    {"torch", "FloatStorage", STORAGE_CLASS, GG_ELEMENT_F32},
    {"torch", "HalfStorage", STORAGE_CLASS, GG_ELEMENT_F16},
    {"torch", "BFloat16Storage", STORAGE_CLASS, GG_ELEMENT_BF16},
    {"torch", "DoubleStorage", STORAGE_CLASS, GG_ELEMENT_F64},
    {"torch", "LongStorage", STORAGE_CLASS, GG_ELEMENT_I64},
    {"torch", "IntStorage", STORAGE_CLASS, GG_ELEMENT_I32},
    {"torch", "ShortStorage", STORAGE_CLASS, GG_ELEMENT_I16},
    {"torch", "CharStorage", STORAGE_CLASS, GG_ELEMENT_I8},
    {"torch", "ByteStorage", STORAGE_CLASS, GG_ELEMENT_U8},
    {"torch", "BoolStorage", STORAGE_CLASS, GG_ELEMENT_BOOL},
};

static bool push_integer(gg_pickle_machine *m, int64_t i)
{
    return gg_pickle_push(m, (gg_pickle_value){.kind = GG_PICKLE_INTEGER, .as.integer = i});
}

static bool is_text(gg_pickle_value v, const char *text)
{
    return v.kind == GG_PICKLE_TEXT && v.n == strlen(text) && memcmp(v.as.text, text, v.n) == 0;
}

static bool run_proto(gg_pickle_machine *m, uint8_t code)
{
    (void)code;
    const uint8_t version = gg_read_u8(&m->c, "pickle");
    return (version >= 2 && version <= 5) ||
           gg_pickle_reject(m, "expected pickle protocol 2 to 5, got %u", version);
}

static bool run_frame(gg_pickle_machine *m, uint8_t code)
{
    (void)code;
    gg_read_u64(&m->c, "frame");
    return true;
}

static bool run_stop(gg_pickle_machine *m, uint8_t code)
{
    (void)code;
    m->stopped = true;
    return true;
}

static bool run_constant(gg_pickle_machine *m, uint8_t code)
{
    switch (code) {
    case '(':
        return gg_pickle_push(m, (gg_pickle_value){.kind = GG_PICKLE_MARK});
    case 'N':
        return gg_pickle_push(m, (gg_pickle_value){.kind = GG_PICKLE_NONE});
    case ']':
        return gg_pickle_push(m, (gg_pickle_value){.kind = GG_PICKLE_LIST});
    case '}':
        return gg_pickle_push_new(m, GG_PICKLE_DICTIONARY, &m->dictionaries);
    default: // true, false
        return gg_pickle_push(
            m, (gg_pickle_value){.kind = GG_PICKLE_BOOL, .as.integer = code == 0x88});
    }
}

static bool run_number(gg_pickle_machine *m, uint8_t code)
{
    if (code == 'K')
        return push_integer(m, gg_read_u8(&m->c, "integer"));
    if (code == 'M')
        return push_integer(m, gg_read_u16(&m->c, "integer"));
    if (code == 'J')
        return push_integer(m, (int32_t)gg_read_u32(&m->c, "integer"));
    if (code == 'G') {
        gg_read_u64(&m->c, "float");
        return gg_pickle_push(m, (gg_pickle_value){.kind = GG_PICKLE_FLOAT});
    }
    const uint8_t n = gg_read_u8(&m->c, "integer"); // LONG1
    const uint8_t *bytes = gg_read_bytes(&m->c, n, "integer");
    if (!bytes || n > 8)
        return gg_pickle_reject(m, "expected an integer of at most 8 bytes, got %u", n);
    uint64_t all = n && bytes[n - 1] & 0x80 ? UINT64_MAX : 0; // two's complement
    for (size_t i = 0; i < n; i++)
        all = (all & ~(UINT64_C(255) << (8 * i))) | (uint64_t)bytes[i] << (8 * i);
    return push_integer(m, (int64_t)all);
}

static bool run_text(gg_pickle_machine *m, uint8_t code)
{
    const size_t n = code == 'X' ? gg_read_u32(&m->c, "text") : gg_read_u8(&m->c, "text");
    const uint8_t *text = gg_read_bytes(&m->c, n, "text");
    return text &&
           gg_pickle_push(
               m, (gg_pickle_value){.kind = GG_PICKLE_TEXT, .n = (uint32_t)n, .as.text = text});
}

static bool run_tuple(gg_pickle_machine *m, uint8_t code)
{
    size_t first;
    if (code == ')')
        return gg_pickle_tuple(m, 0);
    if (code != 't')
        return gg_pickle_tuple(m, code - (size_t)0x84);
    if (!gg_pickle_find_mark(m, &first) || !gg_pickle_tuple(m, m->stack.n - first))
        return false;
    gg_pickle_value made = gg_pickle_values(&m->stack)[--m->stack.n];
    m->stack.n--; // the mark
    return gg_pickle_push(m, made);
}

static bool run_put(gg_pickle_machine *m, uint8_t code)
{
    size_t at = m->memo.n; // MEMOIZE
    if (code == 'q')
        at = gg_read_u8(&m->c, "memo");
    else if (code == 'r')
        at = gg_read_u32(&m->c, "memo");
    if (m->stack.n == 0 || gg_pickle_top(m, GG_PICKLE_MARK) || at > m->memo.max)
        return gg_pickle_reject(m, "expected a value to remember at most at place %zu",
                                m->memo.max);
    if (at >= m->memo.n && !gg_pickle_add(m, &m->memo, at + 1 - m->memo.n))
        return false;
    gg_pickle_values(&m->memo)[at] = gg_pickle_values(&m->stack)[m->stack.n - 1];
    return true;
}

static bool run_get(gg_pickle_machine *m, uint8_t code)
{
    const size_t at = code == 'h' ? gg_read_u8(&m->c, "memo") : gg_read_u32(&m->c, "memo");
    if (at >= m->memo.n || gg_pickle_values(&m->memo)[at].kind == GG_PICKLE_MARK)
        return gg_pickle_reject(m, "expected a remembered value, got place %zu of %zu", at,
                                m->memo.n);
    return gg_pickle_push(m, gg_pickle_values(&m->memo)[at]);
}

static bool push_global(gg_pickle_machine *m, const uint8_t *module, size_t n_module,
                        const uint8_t *name, size_t n_name)
{
    for (size_t i = 0; i < sizeof globals / sizeof globals[0]; i++) {
        if (strlen(globals[i].module) == n_module && strlen(globals[i].name) == n_name &&
            memcmp(globals[i].module, module, n_module) == 0 &&
            memcmp(globals[i].name, name, n_name) == 0)
            return gg_pickle_push(m, (gg_pickle_value){.kind = GG_PICKLE_GLOBAL, .as.at = i});
    }
    return gg_pickle_reject(m, "expected nothing but tensors, got the global '%.*s.%.*s'",
                            (int)(n_module < SHOWN ? n_module : SHOWN), (const char *)module,
                            (int)(n_name < SHOWN ? n_name : SHOWN), (const char *)name);
}

// A line of the input without its end.
static const uint8_t *read_line(gg_pickle_machine *m, size_t *n)
{
    const uint8_t *from = m->c.base + m->c.position;
    const size_t left = gg_cursor_left(&m->c);
    const uint8_t *end = left ? memchr(from, '\n', left) : NULL;
    if (!end) {
        gg_pickle_reject(m, "expected the name of a global, got no end of it");
        return NULL;
    }
    *n = (size_t)(end - from);
    gg_read_bytes(&m->c, *n + 1, "global");
    return from;
}

static bool run_global(gg_pickle_machine *m, uint8_t code)
{
    gg_pickle_value module, name;
    if (code == 0x93) { // STACK_GLOBAL
        if (!gg_pickle_pop(m, &name) || !gg_pickle_pop(m, &module))
            return false;
        if (module.kind != GG_PICKLE_TEXT || name.kind != GG_PICKLE_TEXT)
            return gg_pickle_reject(m, "expected the name of a global as text");
        return push_global(m, module.as.text, module.n, name.as.text, name.n);
    }
    size_t n_module = 0, n_name = 0;
    const uint8_t *module_text = read_line(m, &n_module);
    const uint8_t *name_text = module_text ? read_line(m, &n_name) : NULL;
    return name_text && push_global(m, module_text, n_module, name_text, n_name);
}

static bool copy_sizes(gg_pickle_machine *m, gg_pickle_value v, size_t n, uint64_t *to)
{
    const gg_pickle_value *sizes = gg_pickle_cells(m, v, n);
    if (!sizes || v.n != n || n > GG_MAX_RANK)
        return gg_pickle_reject(
            m,
            "expected a tensor's sizes and strides: two tuples of one length of at "
            "most %d",
            GG_MAX_RANK);
    for (size_t i = 0; i < n; i++) {
        if (sizes[i].kind != GG_PICKLE_INTEGER || sizes[i].as.integer < 0)
            return gg_pickle_reject(m, "expected whole numbers of 0 or more as sizes and strides");
        to[i] = (uint64_t)sizes[i].as.integer;
    }
    return true;
}

// (storage, offset, sizes, strides, requires_grad, hooks)
static bool make_tensor(gg_pickle_machine *m, gg_pickle_value arguments)
{
    const gg_pickle_value *a = gg_pickle_cells(m, arguments, 6);
    if (!a || a[0].kind != GG_PICKLE_STORAGE || a[1].kind != GG_PICKLE_INTEGER ||
        a[1].as.integer < 0)
        return gg_pickle_reject(m, "expected a tensor of a storage and an offset");
    const gg_pickle_storage *s = (const gg_pickle_storage *)m->storages.items + a[0].as.at;
    gg_pickled_tensor t = {.element = s->element,
                           .key = (const char *)s->key.as.text,
                           .key_length = s->key.n,
                           .n_storage = s->n,
                           .first = (uint64_t)a[1].as.integer,
                           .n_dims = a[2].n};
    if (!copy_sizes(m, a[2], t.n_dims, t.dims) || !copy_sizes(m, a[3], t.n_dims, t.strides) ||
        !gg_pickle_push_new(m, GG_PICKLE_TENSOR, &m->tensors))
        return false;
    ((gg_pickled_tensor *)m->tensors.items)[m->tensors.n - 1] = t;
    return true;
}

static bool run_reduce(gg_pickle_machine *m, uint8_t code)
{
    gg_pickle_value arguments, callee;
    (void)code;
    if (!gg_pickle_pop(m, &arguments) || !gg_pickle_pop(m, &callee))
        return false;
    if (callee.kind != GG_PICKLE_GLOBAL || arguments.kind != GG_PICKLE_TUPLE)
        return gg_pickle_reject(
            m, "expected a global and its arguments to REDUCE, got something else");
    switch (globals[callee.as.at].role) {
    case MAKE_DICTIONARY:
        return arguments.n == 0 ? gg_pickle_push_new(m, GG_PICKLE_DICTIONARY, &m->dictionaries)
                                : gg_pickle_reject(m, "expected an OrderedDict without arguments");
    case MAKE_TENSOR:
        return make_tensor(m, arguments);
    case MAKE_PARAMETER: {
        const gg_pickle_value *a = gg_pickle_cells(m, arguments, 1);
        return a && a[0].kind == GG_PICKLE_TENSOR
                   ? gg_pickle_push(m, a[0])
                   : gg_pickle_reject(m, "expected a parameter of a tensor");
    }
    case STORAGE_CLASS:
        break;
    }
    return gg_pickle_reject(m, "expected no call of '%s.%s'", globals[callee.as.at].module,
                            globals[callee.as.at].name);
}

// ("storage", class, key, location, elements)
static bool run_persistent(gg_pickle_machine *m, uint8_t code)
{
    gg_pickle_value id;
    (void)code;
    if (!gg_pickle_pop(m, &id))
        return false;
    const gg_pickle_value *a = gg_pickle_cells(m, id, 5);
    if (!a || !is_text(a[0], "storage") || a[1].kind != GG_PICKLE_GLOBAL ||
        globals[a[1].as.at].role != STORAGE_CLASS || a[2].kind != GG_PICKLE_TEXT ||
        a[3].kind != GG_PICKLE_TEXT || a[4].kind != GG_PICKLE_INTEGER || a[4].as.integer < 0)
        return gg_pickle_reject(m, "expected the persistent id of a storage, got something else");
    if (!gg_pickle_push_new(m, GG_PICKLE_STORAGE, &m->storages))
        return false;
    // The tuple's pool has not moved: only storages and stack have grown.
    ((gg_pickle_storage *)m->storages.items)[m->storages.n - 1] =
        (gg_pickle_storage){globals[a[1].as.at].element, a[2], (uint64_t)a[4].as.integer};
    return true;
}

static bool run_set_item(gg_pickle_machine *m, uint8_t code)
{
    gg_pickle_value key, val;
    (void)code;
    if (!gg_pickle_pop(m, &val) || !gg_pickle_pop(m, &key))
        return false;
    return m->stack.n > 0
               ? gg_pickle_add_pair(m, gg_pickle_values(&m->stack)[m->stack.n - 1], key, val)
               : gg_pickle_reject(m, "expected a dictionary on the stack");
}

static bool run_set_items(gg_pickle_machine *m, uint8_t code)
{
    size_t first;
    (void)code;
    if (!gg_pickle_find_mark(m, &first))
        return false;
    if (first < 2 || (m->stack.n - first) % 2 != 0)
        return gg_pickle_reject(m, "expected a dictionary and pairs on the stack");
    for (size_t i = first; i < m->stack.n; i += 2) {
        const gg_pickle_value *at = gg_pickle_values(&m->stack);
        if (!gg_pickle_add_pair(m, at[first - 2], at[i], at[i + 1]))
            return false;
    }
    m->stack.n = first - 1;
    return true;
}

static bool run_append(gg_pickle_machine *m, uint8_t code)
{
    gg_pickle_value dropped;
    size_t first = 0;
    if (code == 'a' ? !gg_pickle_pop(m, &dropped) : !gg_pickle_find_mark(m, &first))
        return false;
    if (code == 'e')
        m->stack.n = first - 1;
    return gg_pickle_top(m, GG_PICKLE_LIST) || gg_pickle_reject(m, "expected a list to append to");
}

// Attributes of a dictionary: state_dict() leaves its versions there.
static bool run_build(gg_pickle_machine *m, uint8_t code)
{
    gg_pickle_value state;
    (void)code;
    if (!gg_pickle_pop(m, &state))
        return false;
    return (state.kind == GG_PICKLE_DICTIONARY && gg_pickle_top(m, GG_PICKLE_DICTIONARY)) ||
           gg_pickle_reject(m,
                            "expected BUILD to give attributes to a dictionary, got another use");
}

typedef struct opcode {
    const char *name;
    bool (*run)(gg_pickle_machine *m, uint8_t code); // NULL: refused
} opcode;

static const opcode opcodes[256] = {
    ['('] = {"MARK", run_constant},
    [')'] = {"EMPTY_TUPLE", run_tuple},
    ['.'] = {"STOP", run_stop},
    ['0'] = {"POP", NULL},
    ['1'] = {"POP_MARK", NULL},
    ['2'] = {"DUP", NULL},
    ['B'] = {"BINBYTES", NULL},
    ['C'] = {"SHORT_BINBYTES", NULL},
    ['F'] = {"FLOAT", NULL},
    ['G'] = {"BINFLOAT", run_number},
    ['I'] = {"INT", NULL},
    ['J'] = {"BININT", run_number},
    ['K'] = {"BININT1", run_number},
    ['L'] = {"LONG", NULL},
    ['M'] = {"BININT2", run_number},
    ['N'] = {"NONE", run_constant},
    ['P'] = {"PERSID", NULL},
    ['Q'] = {"BINPERSID", run_persistent},
    ['R'] = {"REDUCE", run_reduce},
    ['S'] = {"STRING", NULL},
    ['T'] = {"BINSTRING", NULL},
    ['U'] = {"SHORT_BINSTRING", NULL},
    ['V'] = {"UNICODE", NULL},
    ['X'] = {"BINUNICODE", run_text},
    [']'] = {"EMPTY_LIST", run_constant},
    ['a'] = {"APPEND", run_append},
    ['b'] = {"BUILD", run_build},
    ['c'] = {"GLOBAL", run_global},
    ['d'] = {"DICT", NULL},
    ['e'] = {"APPENDS", run_append},
    ['g'] = {"GET", NULL},
    ['h'] = {"BINGET", run_get},
    ['i'] = {"INST", NULL},
    ['j'] = {"LONG_BINGET", run_get},
    ['l'] = {"LIST", NULL},
    ['o'] = {"OBJ", NULL},
    ['p'] = {"PUT", NULL},
    ['q'] = {"BINPUT", run_put},
    ['r'] = {"LONG_BINPUT", run_put},
    ['s'] = {"SETITEM", run_set_item},
    ['t'] = {"TUPLE", run_tuple},
    ['u'] = {"SETITEMS", run_set_items},
    ['}'] = {"EMPTY_DICT", run_constant},
    [0x80] = {"PROTO", run_proto},
    [0x81] = {"NEWOBJ", NULL},
    [0x82] = {"EXT1", NULL},
    [0x83] = {"EXT2", NULL},
    [0x84] = {"EXT4", NULL},
    [0x85] = {"TUPLE1", run_tuple},
    [0x86] = {"TUPLE2", run_tuple},
    [0x87] = {"TUPLE3", run_tuple},
    [0x88] = {"NEWTRUE", run_constant},
    [0x89] = {"NEWFALSE", run_constant},
    [0x8a] = {"LONG1", run_number},
    [0x8b] = {"LONG4", NULL},
    [0x8c] = {"SHORT_BINUNICODE", run_text},
    [0x8d] = {"BINUNICODE8", NULL},
    [0x8e] = {"BINBYTES8", NULL},
    [0x8f] = {"EMPTY_SET", NULL},
    [0x90] = {"ADDITEMS", NULL},
    [0x91] = {"FROZENSET", NULL},
    [0x92] = {"NEWOBJ_EX", NULL},
    [0x93] = {"STACK_GLOBAL", run_global},
    [0x94] = {"MEMOIZE", run_put},
    [0x95] = {"FRAME", run_frame},
    [0x96] = {"BYTEARRAY8", NULL},
    [0x97] = {"NEXT_BUFFER", NULL},
    [0x98] = {"READONLY_BUFFER", NULL},
};

bool gg_pickle_run(gg_pickle_machine *m)
{
    while (!m->stopped) {
        const uint8_t code = gg_read_u8(&m->c, "opcode");
        if (m->c.status != GORGON_OK)
            return false;
        const opcode *o = &opcodes[code];
        if (!o->run)
            return o->name
                       ? gg_pickle_reject(m, "expected nothing but tensors, got opcode %s", o->name)
                       : gg_pickle_reject(m, "expected an opcode, got byte 0x%02x", code);
        if (!o->run(m, code) || m->c.status != GORGON_OK)
            return false;
    }
    if (m->stack.n != 1 || gg_pickle_values(&m->stack)[0].kind != GG_PICKLE_DICTIONARY)
        return gg_pickle_reject(m,
                                "expected a dictionary of tensors in the end, got something else");
    return true;
}
