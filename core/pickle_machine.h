// Inside of the pickle reader: its values and where they are kept. Values are small and immutable
// but for dictionaries, which are chains of pairs; every pool has a cap, so that no input takes
// more than some 40 MB.
#ifndef GG_PICKLE_MACHINE_H
#define GG_PICKLE_MACHINE_H

#include "core/error.h"
#include "core/file.h"
#include "pickle.h"

typedef enum gg_pickle_kind {
    GG_PICKLE_MARK, // also a place of the memo that holds nothing
    GG_PICKLE_NONE,
    GG_PICKLE_BOOL,
    GG_PICKLE_INTEGER,
    GG_PICKLE_FLOAT,
    GG_PICKLE_TEXT,
    GG_PICKLE_TUPLE,
    GG_PICKLE_LIST, // what it holds is of no interest
    GG_PICKLE_DICTIONARY,
    GG_PICKLE_GLOBAL,
    GG_PICKLE_STORAGE,
    GG_PICKLE_TENSOR,
} gg_pickle_kind;

typedef struct gg_pickle_value {
    gg_pickle_kind kind;
    uint32_t n; // bytes of text, values of a tuple
    union {
        int64_t integer;
        size_t at;           // index into a pool
        const uint8_t *text; // in the input
    } as;
} gg_pickle_value;

typedef struct gg_pickle_pair {
    gg_pickle_value key, value;
    uint32_t next; // index + 1; 0: the last one
} gg_pickle_pair;

typedef struct gg_pickle_dictionary {
    uint32_t first, last; // pairs, index + 1
} gg_pickle_dictionary;

typedef struct gg_pickle_storage {
    gg_element element;
    gg_pickle_value key;
    uint64_t n;
} gg_pickle_storage;

typedef struct gg_pickle_pool {
    void *items;
    size_t n, capacity, max, size;
    const char *what;
} gg_pickle_pool;

typedef struct gg_pickle_machine {
    gg_cursor c;
    gg_pickle_pool stack, memo, cells; // of values
    gg_pickle_pool pairs, dictionaries, storages, tensors;
    bool stopped;
} gg_pickle_machine;

void gg_pickle_machine_init(gg_pickle_machine *m, const uint8_t *data, size_t size,
                            const char *label, gorgon_error *err);
void gg_pickle_machine_clear(gg_pickle_machine *m);
// Runs the pickle; true: one dictionary is left on the stack, else m->c.status says what is wrong.
bool gg_pickle_run(gg_pickle_machine *m);

// Refuses the pickle; returns false for the caller to return, as all below do after an error.
bool gg_pickle_reject(gg_pickle_machine *m, const char *format, ...) GG_PRINTF(2, 3);
// Room for n more items, zeroed and counted; NULL after an error.
void *gg_pickle_add(gg_pickle_machine *m, gg_pickle_pool *p, size_t n);
bool gg_pickle_push(gg_pickle_machine *m, gg_pickle_value v);
bool gg_pickle_push_new(gg_pickle_machine *m, gg_pickle_kind kind, gg_pickle_pool *p);
bool gg_pickle_pop(gg_pickle_machine *m, gg_pickle_value *out);
gg_pickle_value *gg_pickle_top(const gg_pickle_machine *m, gg_pickle_kind kind); // or NULL
// Index of the first value above the topmost mark.
bool gg_pickle_find_mark(gg_pickle_machine *m, size_t *first);
// The topmost n values become a tuple.
bool gg_pickle_tuple(gg_pickle_machine *m, size_t n);
// The values of a tuple of at least that many, else NULL; until the pool of cells grows.
const gg_pickle_value *gg_pickle_cells(const gg_pickle_machine *m, gg_pickle_value v, size_t least);
bool gg_pickle_add_pair(gg_pickle_machine *m, gg_pickle_value target, gg_pickle_value key,
                        gg_pickle_value val);

static inline gg_pickle_value *gg_pickle_values(const gg_pickle_pool *p)
{
    return p->items;
}

#endif
