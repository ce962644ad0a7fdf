// See pickle.h: the dictionary that a pickle yields, tensor by tensor.
#include "pickle_machine.h"

#include <string.h>

enum { MAX_VISITS = 1 << 20 }; // pairs looked at

// Where the walk over the dictionaries stands.
typedef struct walk {
    gg_pickle_take take;
    void *context;
    const gg_pickle_pair *outer; // that holds the dictionary being walked, NULL: the outermost
    size_t visits;
} walk;

static bool take_tensor(gg_pickle_machine *m, const walk *w, const gg_pickle_pair *p)
{
    char name[2 * GG_MAX_NAME + 2];
    size_t n = 0;
    gg_pickled_tensor t = ((const gg_pickled_tensor *)m->tensors.items)[p->value.as.at];
    if (p->key.kind != GG_PICKLE_TEXT || p->key.n > GG_MAX_NAME ||
        (w->outer && (w->outer->key.kind != GG_PICKLE_TEXT || w->outer->key.n > GG_MAX_NAME)))
        return gg_pickle_reject(m, "expected tensors named by texts of at most %d bytes",
                                GG_MAX_NAME);
    if (w->outer) {
        memcpy(name, w->outer->key.as.text, w->outer->key.n);
        name[w->outer->key.n] = '.';
        n = w->outer->key.n + (size_t)1;
    }
    memcpy(name + n, p->key.as.text, p->key.n);
    t.name = name;
    t.length = n + p->key.n;
    m->c.status = w->take(w->context, &t, m->c.err);
    return m->c.status == GORGON_OK;
}

static bool walk_dictionary(gg_pickle_machine *m, walk *w, size_t at)
{
    const gg_pickle_dictionary *d = (const gg_pickle_dictionary *)m->dictionaries.items + at;
    const gg_pickle_pair *pairs = m->pairs.items;
    for (uint32_t i = d->first; i > 0; i = pairs[i - 1].next) {
        const gg_pickle_pair *p = &pairs[i - 1];
        if (++w->visits > MAX_VISITS)
            return gg_pickle_reject(m, "expected at most %d values in dictionaries, got more",
                                    MAX_VISITS);
        if (p->value.kind == GG_PICKLE_TENSOR && !take_tensor(m, w, p))
            return false;
        if (p->value.kind == GG_PICKLE_DICTIONARY && !w->outer) {
            w->outer = p;
            // Of what lies deeper, nothing is looked at: no recursion beyond this one.
            const bool good = walk_dictionary(m, w, p->value.as.at);
            w->outer = NULL;
            if (!good)
                return false;
        }
    }
    return true;
}

gorgon_status gg_pickle_read(const uint8_t *data, size_t size, const char *label,
                             gg_pickle_take take, void *context, gorgon_error *err)
{
    gg_pickle_machine m;
    walk w = {.take = take, .context = context};
    gg_pickle_machine_init(&m, data, size, label, err);
    if (size > GG_MAX_PICKLE)
        gg_pickle_reject(&m, "expected a pickle of at most %d bytes, got %zu", GG_MAX_PICKLE, size);
    if (m.c.status == GORGON_OK && gg_pickle_run(&m))
        walk_dictionary(&m, &w, gg_pickle_values(&m.stack)[0].as.at);
    gg_pickle_machine_clear(&m);
    return m.c.status;
}
