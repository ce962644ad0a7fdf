// See pickle_machine.h: pools and the stack.
#include "pickle_machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"

enum {
    MAX_STACK = 1 << 18,
    MAX_CELLS = 1 << 19, // values in tuples and in the memo
    MAX_PAIRS = 1 << 17,
    MAX_TENSORS = 1 << 15,
};

void gg_pickle_machine_init(gg_pickle_machine *m, const uint8_t *data, size_t size,
                            const char *label, gorgon_error *err)
{
    const size_t value = sizeof(gg_pickle_value);
    *m = (gg_pickle_machine){
        .c = {.base = data, .size = size, .label = label, .err = err},
        .stack = {.max = MAX_STACK, .size = value, .what = "values on the stack"},
        .memo = {.max = MAX_CELLS, .size = value, .what = "remembered values"},
        .cells = {.max = MAX_CELLS, .size = value, .what = "values in tuples"},
        .pairs = {.max = MAX_PAIRS, .size = sizeof(gg_pickle_pair), .what = "items"},
        .dictionaries = {.max = MAX_PAIRS,
                         .size = sizeof(gg_pickle_dictionary),
                         .what = "dictionaries"},
        .storages = {.max = MAX_TENSORS, .size = sizeof(gg_pickle_storage), .what = "storages"},
        .tensors = {.max = MAX_TENSORS, .size = sizeof(gg_pickled_tensor), .what = "tensors"},
    };
}

void gg_pickle_machine_clear(gg_pickle_machine *m)
{
    gg_pickle_pool *const pools[] = {&m->stack,        &m->memo,     &m->cells,  &m->pairs,
                                     &m->dictionaries, &m->storages, &m->tensors};
    for (size_t i = 0; i < sizeof pools / sizeof pools[0]; i++)
        gg_free(pools[i]->items);
}

bool gg_pickle_reject(gg_pickle_machine *m, const char *format, ...)
{
    char detail[280];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    if (m->c.status == GORGON_OK)
        m->c.status = gg_fail(m->c.err, GORGON_ERROR_FORMAT, "%s: at byte %zu: %s", m->c.label,
                              m->c.position, detail);
    return false;
}

void *gg_pickle_add(gg_pickle_machine *m, gg_pickle_pool *p, size_t n)
{
    if (n > p->max - p->n) {
        gg_pickle_reject(m, "expected at most %zu %s, got more", p->max, p->what);
        return NULL;
    }
    size_t capacity = p->capacity ? p->capacity : 64;
    while (capacity < p->n + n)
        capacity *= 2;
    if (capacity > p->capacity) {
        void *grown = gg_realloc(p->items, p->capacity, capacity, p->size);
        if (!grown) {
            if (m->c.status == GORGON_OK)
                m->c.status =
                    gg_fail(m->c.err, GORGON_ERROR_MEMORY, "%s: out of memory", m->c.label);
            return NULL;
        }
        p->items = grown;
        p->capacity = capacity;
    }
    uint8_t *items = (uint8_t *)p->items + p->n * p->size;
    memset(items, 0, n * p->size);
    p->n += n;
    return items;
}

bool gg_pickle_push(gg_pickle_machine *m, gg_pickle_value v)
{
    gg_pickle_value *top = gg_pickle_add(m, &m->stack, 1);
    if (top)
        *top = v;
    return top != NULL;
}

bool gg_pickle_pop(gg_pickle_machine *m, gg_pickle_value *out)
{
    if (m->stack.n == 0 || gg_pickle_values(&m->stack)[m->stack.n - 1].kind == GG_PICKLE_MARK)
        return gg_pickle_reject(m, "expected a value on the stack, got none");
    *out = gg_pickle_values(&m->stack)[--m->stack.n];
    return true;
}

bool gg_pickle_find_mark(gg_pickle_machine *m, size_t *first)
{
    size_t i = m->stack.n;
    while (i > 0 && gg_pickle_values(&m->stack)[i - 1].kind != GG_PICKLE_MARK)
        i--;
    *first = i;
    return i > 0 || gg_pickle_reject(m, "expected a mark on the stack, got none");
}

bool gg_pickle_push_new(gg_pickle_machine *m, gg_pickle_kind kind, gg_pickle_pool *p)
{
    if (!gg_pickle_add(m, p, 1))
        return false;
    return gg_pickle_push(m, (gg_pickle_value){.kind = kind, .as.at = p->n - 1});
}

bool gg_pickle_tuple(gg_pickle_machine *m, size_t n)
{
    const size_t at = m->cells.n;
    for (size_t i = 0; i < n; i++) {
        if (m->stack.n < n ||
            gg_pickle_values(&m->stack)[m->stack.n - 1 - i].kind == GG_PICKLE_MARK)
            return gg_pickle_reject(m, "expected %zu values for a tuple", n);
    }
    gg_pickle_value *cells = gg_pickle_add(m, &m->cells, n);
    if (!cells)
        return false;
    if (n)
        memcpy(cells, gg_pickle_values(&m->stack) + m->stack.n - n, n * sizeof *cells);
    m->stack.n -= n;
    return gg_pickle_push(
        m, (gg_pickle_value){.kind = GG_PICKLE_TUPLE, .n = (uint32_t)n, .as.at = at});
}

bool gg_pickle_add_pair(gg_pickle_machine *m, gg_pickle_value target, gg_pickle_value key,
                        gg_pickle_value val)
{
    if (target.kind != GG_PICKLE_DICTIONARY)
        return gg_pickle_reject(m, "expected a dictionary to set an item of");
    gg_pickle_pair *p = gg_pickle_add(m, &m->pairs, 1);
    if (!p)
        return false;
    *p = (gg_pickle_pair){.key = key, .value = val};
    gg_pickle_dictionary *d = (gg_pickle_dictionary *)m->dictionaries.items + target.as.at;
    const uint32_t index = (uint32_t)m->pairs.n;
    if (d->last)
        ((gg_pickle_pair *)m->pairs.items)[d->last - 1].next = index;
    else
        d->first = index;
    d->last = index;
    return true;
}

const gg_pickle_value *gg_pickle_cells(const gg_pickle_machine *m, gg_pickle_value v, size_t least)
{
    return v.kind == GG_PICKLE_TUPLE && v.n >= least ? gg_pickle_values(&m->cells) + v.as.at : NULL;
}

gg_pickle_value *gg_pickle_top(const gg_pickle_machine *m, gg_pickle_kind kind)
{
    gg_pickle_value *top = m->stack.n ? gg_pickle_values(&m->stack) + m->stack.n - 1 : NULL;
    return top && top->kind == kind ? top : NULL;
}
