// See heads/datastore.h. A damaged file gives other matches, never a read outside of it: an index
// out of range reads as a separator.
#include "datastore_format.h"
#include "heads/datastore.h"

// The token `back` before place i of the sorted order.
static uint32_t token_before(const gorgon_datastore *s, size_t i, size_t back)
{
    const size_t place = gg_store_u32(s->places + 4 * i);
    if (place < back || place - back >= s->text.n)
        return gg_store_separator(s->text.width);
    return gg_store_token(&s->text, place - back);
}

// How many of the context's n last tokens stand at place i; *less: the place sorts before them.
static size_t common(const gorgon_datastore *s, size_t i, const gorgon_token *backwards, size_t n,
                     bool *less)
{
    *less = false;
    for (size_t k = 0; k < n; k++) {
        const uint32_t token = token_before(s, i, k);
        if (token != (uint32_t)backwards[k]) {
            *less = token < (uint32_t)backwards[k];
            return k;
        }
    }
    return n;
}

static bool shares(const gorgon_datastore *s, size_t i, const gorgon_token *backwards, size_t n)
{
    bool less;
    return common(s, i, backwards, n, &less) == n;
}

// The first of the places that share n tokens, when those from `from` on do: in growing steps
// backwards, then by halves.
static size_t widen_down(const gorgon_datastore *s, const gorgon_token *backwards, size_t n,
                         size_t from)
{
    size_t low = 0; // all below do not share
    for (size_t step = 1; from > low; step *= 2) {
        const size_t probe = from - low > step ? from - step : low;
        if (!shares(s, probe, backwards, n)) {
            low = probe + 1;
            break;
        }
        from = probe;
    }
    while (low < from) {
        const size_t middle = low + (from - low) / 2;
        if (shares(s, middle, backwards, n))
            from = middle;
        else
            low = middle + 1;
    }
    return from;
}

// One after the last of them, when those before `end` do.
static size_t widen_up(const gorgon_datastore *s, const gorgon_token *backwards, size_t n,
                       size_t end)
{
    size_t high = s->n_places; // none from here on shares
    for (size_t step = 1; end < high; step *= 2) {
        const size_t probe = high - end > step ? end + step - 1 : high - 1;
        if (!shares(s, probe, backwards, n)) {
            high = probe;
            break;
        }
        end = probe + 1;
    }
    while (end < high) {
        const size_t middle = end + (high - end) / 2;
        if (shares(s, middle, backwards, n))
            end = middle + 1;
        else
            high = middle;
    }
    return end;
}

gg_datastore_match gg_datastore_widen(const gorgon_datastore *store, const gorgon_token *backwards,
                                      gg_datastore_match match, size_t length)
{
    return (gg_datastore_match){
        .length = length,
        .first = widen_down(store, backwards, length, match.first),
        .end = widen_up(store, backwards, length, match.end),
    };
}

gg_datastore_match gg_datastore_longest(const gorgon_datastore *store,
                                        const gorgon_token *backwards, size_t n)
{
    size_t low = 0, high = store->n_places, below = 0, above = 0;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        bool less;
        const size_t shared = common(store, middle, backwards, n, &less);
        if (less) {
            low = middle + 1;
            below = shared;
        } else {
            high = middle;
            above = shared;
        }
    }
    // The neighbours of where the context would stand were the last compared on their sides.
    gg_datastore_match match = {.length = above >= below ? above : below, .first = low, .end = low};
    if (match.length == 0)
        return match;
    if (above < below)
        match.first--;
    else
        match.end++;
    return gg_datastore_widen(store, backwards, match, match.length);
}

gorgon_token gg_datastore_next(const gorgon_datastore *store, size_t i)
{
    const size_t place = gg_store_u32(store->places + 4 * i);
    if (place + 1 >= store->text.n)
        return GORGON_TOKEN_NONE;
    const uint32_t token = gg_store_token(&store->text, place + 1);
    return token < store->info.n_vocab ? (gorgon_token)token : GORGON_TOKEN_NONE;
}
