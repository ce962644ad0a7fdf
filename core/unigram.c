// Viterbi over the characters of a piece: at most the longest token's bytes of work per character.
#include "unigram.h"

#include "core/alloc.h"
#include "core/error.h"
#include "utf8.h"

// What an unknown character costs beyond the least likely token, as in sentencepiece.
static const double unknown_penalty = 10.0;

gorgon_status gg_unigram_load(const gg_tokenizer_spec *spec, const gg_vocab *vocab,
                              gg_unigram *unigram, gorgon_error *err)
{
    gg_prefix_entry *entries = gg_alloc(vocab->n, sizeof *entries);
    unigram->scores = gg_alloc(vocab->n, sizeof *unigram->scores);
    if (!entries || !unigram->scores) {
        gg_free(entries);
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for the scores of %zu tokens",
                       vocab->n);
    }
    size_t n = 0;
    double least = 0;
    for (size_t id = 0; id < vocab->n; id++) {
        if (vocab->kinds[id] != GG_TOKEN_NORMAL)
            continue;
        gg_prefix_entry *entry = &entries[n++];
        entry->bytes = gg_vocab_bytes(vocab, id, &entry->length);
        entry->id = (gorgon_token)id;
        unigram->scores[id] = spec->tokens[id].score;
        if (n == 1 || unigram->scores[id] < least)
            least = unigram->scores[id];
    }
    unigram->single = spec->single_scores;
    unigram->unknown_score = least - unknown_penalty;
    if (unigram->single)
        unigram->unknown_score = (double)(float)unigram->unknown_score;
    gg_prefix_set_fill(&unigram->pieces, entries, n);
    return GORGON_OK;
}

void gg_unigram_clear(gg_unigram *unigram)
{
    gg_prefix_set_clear(&unigram->pieces);
    gg_free(unigram->scores);
    *unigram = (gg_unigram){0};
}

static gorgon_status reserve(gg_unigram_work *work, size_t n, gorgon_error *err)
{
    if (n <= work->capacity)
        return GORGON_OK;
    gg_unigram_work_clear(work);
    size_t capacity = n + n / 2;
    work->nodes = gg_alloc(capacity, sizeof *work->nodes);
    if (!work->nodes)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory to segment a piece of %zu bytes", n);
    work->capacity = capacity;
    return GORGON_OK;
}

// Only a better score replaces: of equals the one that begins first stays.
static void offer(const gg_unigram *u, gg_unigram_node *nodes, size_t from, size_t to, double more,
                  gorgon_token id)
{
    gg_unigram_node *node = &nodes[to];
    double score = nodes[from].score + more;
    if (u->single)
        score = (double)(float)score;
    if (node->previous == UINT32_MAX || score > node->score)
        *node = (gg_unigram_node){score, (uint32_t)from, id};
}

static void extend(const gg_unigram *u, gg_unigram_node *nodes, const char *text, size_t length,
                   size_t at)
{
    const size_t character = gg_utf8_step(text + at, length - at);
    gg_prefix_walk walk = {0};
    bool single = false;
    while (at + walk.depth < length && gg_prefix_step(&u->pieces, &walk, text[at + walk.depth])) {
        const gg_prefix_entry *entry = gg_prefix_here(&u->pieces, &walk);
        if (!entry)
            continue;
        offer(u, nodes, at, at + walk.depth, u->scores[entry->id], entry->id);
        single = single || walk.depth == character;
    }
    if (!single)
        offer(u, nodes, at, at + character, u->unknown_score, GORGON_TOKEN_NONE);
}

gorgon_status gg_unigram_segment(const gg_unigram *unigram, gg_unigram_work *work, const char *text,
                                 size_t length, gorgon_error *err)
{
    gorgon_status status = reserve(work, length + 1, err);
    if (status != GORGON_OK)
        return status;
    gg_unigram_node *nodes = work->nodes;
    for (size_t i = 0; i <= length; i++)
        nodes[i] = (gg_unigram_node){.previous = UINT32_MAX};
    for (size_t at = 0; at < length; at += gg_utf8_step(text + at, length - at))
        extend(unigram, nodes, text, length, at);
    // Turn the links round: each start gets the end and the id of the token that begins there.
    uint32_t end = (uint32_t)length, next = UINT32_MAX;
    gorgon_token id = GORGON_TOKEN_NONE;
    for (;;) {
        gg_unigram_node *node = &nodes[end];
        uint32_t start = node->previous;
        gorgon_token own = node->id;
        node->previous = next;
        node->id = id;
        if (end == 0)
            break;
        next = end;
        id = own;
        end = start;
    }
    return GORGON_OK;
}

void gg_unigram_work_clear(gg_unigram_work *work)
{
    gg_free(work->nodes);
    *work = (gg_unigram_work){0};
}
