// See datastore_sort.h. Places are dealt into buckets by their token; each bucket is then sorted by
// three-way radix quicksort (Bentley and Sedgewick) on the tokens before it, buckets spread over
// threads. The bounded depth keeps repetitive text as cheap as any other; pivots at pseudo-random
// places keep every text from being a bad case.
#include "datastore_sort.h"

#include <stdatomic.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/system.h"
#include "heads/datastore.h"

enum {
    FEW = 12,     // places sorted by insertion
    PENDING = 96, // parts set aside: the smallest of three goes first, so 2 log3(2^32) at most
};

// Places [first, end) that share their last `depth` tokens.
typedef struct part {
    size_t first, end, depth;
} part;

typedef struct sorter {
    const gg_store_text *text;
    size_t n_vocab;
    uint32_t *place;
    size_t *bucket; // [n_vocab + 1] first place of each token
    gg_team *team;
    const gorgon_datastore_options *options;
    double began, shown;
    atomic_size_t done; // places
    atomic_bool cancelled;
} sorter;

// What a place is sorted by at a depth: a token, at last itself.
static uint32_t key(const gg_store_text *text, uint32_t place, size_t depth)
{
    return depth < GG_DATASTORE_ORDER ? gg_store_token(text, place - depth) : place;
}

static bool precedes(const gg_store_text *text, uint32_t a, uint32_t b, size_t depth)
{
    const uint32_t separator = gg_store_separator(text->width);
    for (; depth < GG_DATASTORE_ORDER; depth++) {
        const uint32_t x = key(text, a, depth), y = key(text, b, depth);
        if (x != y)
            return x < y;
        if (x == separator)
            break;
    }
    return a < b;
}

static void sort_few(const gg_store_text *text, uint32_t *place, const part *p)
{
    for (size_t i = p->first + 1; i < p->end; i++) {
        const uint32_t moving = place[i];
        size_t to = i;
        for (; to > p->first && precedes(text, moving, place[to - 1], p->depth); to--)
            place[to] = place[to - 1];
        place[to] = moving;
    }
}

static uint32_t choose_pivot(const gg_store_text *text, const uint32_t *place, const part *p)
{
    uint32_t k[3];
    uint64_t state = p->first * UINT64_C(0x9e3779b97f4a7c15) + p->end + p->depth;
    for (size_t i = 0; i < 3; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        k[i] = key(text, place[p->first + (size_t)(state >> 32) % (p->end - p->first)], p->depth);
    }
    const uint32_t low = k[0] < k[1] ? k[0] : k[1], high = k[0] < k[1] ? k[1] : k[0];
    return k[2] < low ? low : k[2] > high ? high : k[2];
}

// Splits a part by the pivot into smaller, equal and larger keys.
static void split(const gg_store_text *text, uint32_t *place, const part *p, part out[3])
{
    const uint32_t pivot = choose_pivot(text, place, p);
    size_t smaller = p->first, larger = p->end;
    for (size_t i = p->first; i < larger;) {
        const uint32_t at = place[i], k = key(text, at, p->depth);
        if (k < pivot) {
            place[i++] = place[smaller];
            place[smaller++] = at;
        } else if (k > pivot) {
            place[i] = place[--larger];
            place[larger] = at;
        } else {
            i++;
        }
    }
    const bool ended = pivot == gg_store_separator(text->width);
    out[0] = (part){p->first, smaller, p->depth};
    out[1] = (part){smaller, larger, ended ? GG_DATASTORE_ORDER : p->depth + 1};
    out[2] = (part){larger, p->end, p->depth};
    if (p->depth == GG_DATASTORE_ORDER) // keys were places: at most one is equal
        out[1].end = out[1].first;
}

static size_t length(const part *p)
{
    return p->end - p->first;
}

static void put_in_order(part *a, part *b)
{
    if (length(a) < length(b)) {
        const part c = *a;
        *a = *b;
        *b = c;
    }
}

static void sort_part(const gg_store_text *text, uint32_t *place, part whole)
{
    part pending[PENDING] = {whole};
    for (size_t n = 1; n > 0;) {
        const part p = pending[--n];
        if (length(&p) <= FEW) {
            sort_few(text, place, &p);
            continue;
        }
        part *three = &pending[n];
        split(text, place, &p, three);
        put_in_order(&three[0], &three[1]);
        put_in_order(&three[1], &three[2]);
        put_in_order(&three[0], &three[1]);
        n += 3;
    }
}

static void show(sorter *s)
{
    const double now = gg_now();
    if (!s->options->progress || now - s->shown < 0.1)
        return;
    const size_t done = atomic_load(&s->done), total = s->bucket[s->n_vocab];
    const double rate = (double)done / (now > s->began ? now - s->began : 1.0);
    const gorgon_progress p = {
        "sort", "tokens", done, total, rate, rate > 0.0 ? (double)(total - done) / rate : -1.0, ""};
    s->shown = now;
    if (!s->options->progress(s->options->context, &p))
        atomic_store(&s->cancelled, true);
}

static void sort_on_thread(void *context, size_t thread, size_t n_threads)
{
    sorter *s = context;
    size_t token;
    (void)n_threads;
    while (!atomic_load(&s->cancelled) && gg_team_take(s->team, s->n_vocab, thread, &token)) {
        const part bucket = {s->bucket[token], s->bucket[token + 1], 1};
        if (length(&bucket) > 0)
            sort_part(s->text, s->place, bucket);
        atomic_fetch_add(&s->done, length(&bucket));
        if (thread == 0)
            show(s);
    }
}

// Deals the places into buckets, in order of the text.
static void deal(sorter *s)
{
    const gg_store_text *t = s->text;
    const uint32_t separator = gg_store_separator(t->width);
    size_t *next = s->bucket; // of each token, until it is the first of the token after
    for (size_t i = 0; i + 1 < t->n; i++) {
        const uint32_t token = gg_store_token(t, i);
        if (token != separator && gg_store_token(t, i + 1) != separator)
            next[token + 1]++;
    }
    for (size_t k = 0; k < s->n_vocab; k++)
        next[k + 1] += next[k];
    for (size_t i = 0; i + 1 < t->n; i++) {
        const uint32_t token = gg_store_token(t, i);
        if (token != separator && gg_store_token(t, i + 1) != separator)
            s->place[next[token]++] = (uint32_t)i;
    }
    for (size_t k = s->n_vocab; k > 0; k--)
        next[k] = next[k - 1];
    next[0] = 0;
}

gorgon_status gg_datastore_sort(const gg_store_text *text, size_t n_vocab, uint32_t *place,
                                size_t n_places, gg_team *team,
                                const gorgon_datastore_options *options, gorgon_error *err)
{
    sorter s = {.text = text, .n_vocab = n_vocab, .place = place, .team = team, .options = options};
    s.bucket = gg_alloc(n_vocab + 1, sizeof *s.bucket);
    if (!s.bucket)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for sorting %zu tokens", n_places);
    deal(&s);
    s.began = s.shown = gg_now();
    gg_team_run(team, sort_on_thread, &s);
    gg_free(s.bucket);
    return atomic_load(&s.cancelled) ? gg_fail(err, GORGON_ERROR_CANCELLED, "sorting was cancelled")
                                     : GORGON_OK;
}
