// Byte-pair merging. Short pieces, nearly all of a text, are scanned for the lowest rank; long ones
// use a linked list and a heap of candidate pairs, so that no text costs quadratic time.
#include "bpe.h"

#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/limits.h"
#include "utf8.h"

#define NO_RANK     UINT32_MAX
#define NO_NODE     UINT32_MAX
#define SHORT_PIECE 24

static size_t first_slot(const gg_merges *merges, gorgon_token left, gorgon_token right)
{
    return (size_t)gg_hash_mix((uint64_t)(uint32_t)left << 32 | (uint32_t)right) & merges->mask;
}

static const gg_merge *find_merge(const gg_merges *merges, gorgon_token left, gorgon_token right)
{
    size_t slot = first_slot(merges, left, right);
    for (size_t probe = 0; probe < GG_MAX_PROBES; probe++) {
        const gg_merge *merge = &merges->slots[(slot + probe) & merges->mask];
        if (merge->left == left && merge->right == right)
            return merge;
        if (merge->left == GORGON_TOKEN_NONE)
            break;
    }
    return NULL;
}

// *old is what is there already under the pair, NULL if the merge went in.
static gorgon_status insert_merge(const gg_tokenizer_spec *spec, gg_merges *merges,
                                  const gg_merge *merge, const gg_merge **old, gorgon_error *err)
{
    size_t slot = first_slot(merges, merge->left, merge->right);
    *old = NULL;
    for (size_t probe = 0; probe < GG_MAX_PROBES; probe++) {
        gg_merge *entry = &merges->slots[(slot + probe) & merges->mask];
        if (entry->left == merge->left && entry->right == merge->right) {
            *old = entry;
            return GORGON_OK;
        }
        if (entry->left == GORGON_TOKEN_NONE) {
            *entry = *merge;
            return GORGON_OK;
        }
    }
    return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                   "%s: %s[%u] finds no slot in the merge table within %d probes", spec->label,
                   spec->merges_place, merge->rank, GG_MAX_PROBES);
}

static gorgon_status reserve_merges(gg_merges *merges, size_t n, gorgon_error *err)
{
    size_t size = gg_table_size(n);
    merges->n = n;
    merges->slots = gg_alloc(size, sizeof *merges->slots);
    if (!merges->slots)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for %zu merges", n);
    merges->mask = size - 1;
    for (size_t i = 0; i < size; i++)
        merges->slots[i].left = GORGON_TOKEN_NONE;
    return GORGON_OK;
}

static int shown(size_t length)
{
    return (int)(length < 40 ? length : 40);
}

static gorgon_status resolve_merge(const gg_tokenizer_spec *spec, const gg_vocab *vocab, size_t i,
                                   gg_merge *merge, gorgon_error *err)
{
    char bytes[2 * GG_MAX_TOKEN_BYTES];
    const gg_spec_merge *parts = &spec->merges[i];
    size_t left = 0, right = 0, bad;
    bool good = parts->length[0] <= GG_MAX_TOKEN_BYTES && parts->length[1] <= GG_MAX_TOKEN_BYTES;
    if (!good ||
        !gg_vocab_decode(spec->model, parts->text[0], parts->length[0], bytes, &left, &bad) ||
        !gg_vocab_decode(spec->model, parts->text[1], parts->length[1], bytes + left, &right,
                         &bad) ||
        left == 0 || right == 0)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: %s[%zu] is not two spelled tokens and one space: '%.*s' '%.*s'",
                       spec->label, spec->merges_place, i, shown(parts->length[0]), parts->text[0],
                       shown(parts->length[1]), parts->text[1]);
    merge->rank = (uint32_t)i;
    merge->left = gg_vocab_find(vocab, bytes, left);
    merge->right = gg_vocab_find(vocab, bytes + left, right);
    merge->result = gg_vocab_find(vocab, bytes, left + right);
    if (merge->left != GORGON_TOKEN_NONE && merge->right != GORGON_TOKEN_NONE &&
        merge->result != GORGON_TOKEN_NONE)
        return GORGON_OK;
    const char *missing = merge->left == GORGON_TOKEN_NONE    ? "left part"
                          : merge->right == GORGON_TOKEN_NONE ? "right part"
                                                              : "result";
    return gg_fail(err, GORGON_ERROR_FORMAT, "%s: the %s of %s[%zu] is no token: '%.*s' '%.*s'",
                   spec->label, missing, spec->merges_place, i, shown(parts->length[0]),
                   parts->text[0], shown(parts->length[1]), parts->text[1]);
}

static gorgon_status load_listed(const gg_tokenizer_spec *spec, const gg_vocab *vocab,
                                 gg_merges *merges, gorgon_error *err)
{
    if (spec->n_merges > GG_MAX_MERGES)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s has %zu elements, expected at most %u",
                       spec->label, spec->merges_place, spec->n_merges, GG_MAX_MERGES);
    gorgon_status status = reserve_merges(merges, spec->n_merges, err);
    for (size_t i = 0; status == GORGON_OK && i < spec->n_merges; i++) {
        gg_merge merge;
        const gg_merge *old = NULL;
        status = resolve_merge(spec, vocab, i, &merge, err);
        if (status == GORGON_OK)
            status = insert_merge(spec, merges, &merge, &old, err);
        if (old)
            return gg_fail(err, GORGON_ERROR_FORMAT, "%s: %s[%zu] repeats [%u] (tokens %d and %d)",
                           spec->label, spec->merges_place, i, old->rank, (int)old->left,
                           (int)old->right);
    }
    return status;
}

// Every way to put token `id` together from two others. Counts them; inserts them at `rank` if
// there is a table.
static gorgon_status split_token(const gg_tokenizer_spec *spec, const gg_vocab *vocab, size_t id,
                                 uint32_t rank, gg_merges *merges, size_t *n, gorgon_error *err)
{
    size_t length;
    const char *bytes = gg_vocab_bytes(vocab, id, &length);
    gorgon_status status = GORGON_OK;
    for (size_t at = gg_utf8_step(bytes, length); status == GORGON_OK && at < length;
         at += gg_utf8_step(bytes + at, length - at)) {
        gg_merge merge = {.rank = rank, .result = (gorgon_token)id};
        const gg_merge *old;
        merge.left = gg_vocab_find_piece(vocab, bytes, at);
        if (merge.left == GORGON_TOKEN_NONE)
            continue;
        merge.right = gg_vocab_find_piece(vocab, bytes + at, length - at);
        if (merge.right == GORGON_TOKEN_NONE)
            continue;
        ++*n;
        if (merges->slots)
            status = insert_merge(spec, merges, &merge, &old, err);
    }
    return status;
}

typedef struct scored_token {
    double score;
    uint32_t id;
} scored_token;

static int compare_scores(const void *a, const void *b)
{
    const scored_token *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

// Tokens of equal score get equal ranks: of them the leftmost pair merges first.
static gorgon_status load_scored(const gg_tokenizer_spec *spec, const gg_vocab *vocab,
                                 gg_merges *merges, gorgon_error *err)
{
    scored_token *order = gg_alloc(vocab->n, sizeof *order);
    if (!order)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory to sort %zu tokens", vocab->n);
    size_t n = 0, n_merges = 0;
    gorgon_status status = GORGON_OK;
    for (size_t id = 0; status == GORGON_OK && id < vocab->n; id++) {
        size_t length;
        const char *bytes = gg_vocab_bytes(vocab, id, &length);
        if (gg_vocab_find_piece(vocab, bytes, length) != (gorgon_token)id)
            continue; // not found by its text, so never the result of a merge
        order[n++] = (scored_token){spec->tokens[id].score, (uint32_t)id};
        status = split_token(spec, vocab, id, 0, merges, &n_merges, err);
    }
    qsort(order, n, sizeof *order, compare_scores);
    if (n_merges > GG_MAX_MERGES)
        status = gg_fail(err, GORGON_ERROR_LIMIT, "%s: %s can be merged in %zu ways, at most %u",
                         spec->label, spec->tokens_place, n_merges, GG_MAX_MERGES);
    if (status == GORGON_OK)
        status = reserve_merges(merges, n_merges, err);
    uint32_t rank = 0;
    for (size_t i = 0; status == GORGON_OK && i < n; i++) {
        if (i > 0 && order[i].score != order[i - 1].score)
            rank = (uint32_t)i;
        n_merges = 0;
        status = split_token(spec, vocab, order[i].id, rank, merges, &n_merges, err);
    }
    gg_free(order);
    return status;
}

gorgon_status gg_merges_load(const gg_tokenizer_spec *spec, const gg_vocab *vocab,
                             gg_merges *merges, gorgon_error *err)
{
    return spec->merges ? load_listed(spec, vocab, merges, err)
                        : load_scored(spec, vocab, merges, err);
}

void gg_merges_clear(gg_merges *merges)
{
    gg_free(merges->slots);
    *merges = (gg_merges){0};
}

// At most SHORT_PIECE ids; the pair at i is pairs[i], NULL where there is no merge.
static void merge_short(const gg_merges *merges, gorgon_token *ids, size_t *n)
{
    const gg_merge *pairs[SHORT_PIECE];
    size_t left = *n;
    for (size_t i = 0; i + 1 < left; i++)
        pairs[i] = find_merge(merges, ids[i], ids[i + 1]);
    while (left > 1) {
        size_t best = left;
        uint32_t rank = NO_RANK;
        for (size_t i = 0; i + 1 < left; i++) {
            if (pairs[i] && pairs[i]->rank < rank) {
                rank = pairs[i]->rank;
                best = i;
            }
        }
        if (best == left)
            break;
        ids[best] = pairs[best]->result;
        left--;
        for (size_t i = best + 1; i < left; i++) {
            ids[i] = ids[i + 1];
            pairs[i - 1] = pairs[i];
        }
        if (best > 0)
            pairs[best - 1] = find_merge(merges, ids[best - 1], ids[best]);
        if (best + 1 < left)
            pairs[best] = find_merge(merges, ids[best], ids[best + 1]);
    }
    *n = left;
}

static void sift_down(uint64_t *heap, size_t n, size_t at)
{
    uint64_t value = heap[at];
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= value)
            break;
        heap[at] = heap[child];
    }
    heap[at] = value;
}

static void heap_push(uint64_t *heap, size_t *n, uint64_t value)
{
    size_t at = (*n)++;
    for (; at > 0 && heap[(at - 1) / 2] > value; at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = value;
}

static uint64_t heap_pop(uint64_t *heap, size_t *n)
{
    uint64_t top = heap[0];
    heap[0] = heap[--*n];
    if (*n > 1)
        sift_down(heap, *n, 0);
    return top;
}

// Looks up the pair that begins at node `at`; true when it can merge.
static bool refresh_pair(const gg_merges *merges, const gorgon_token *ids, gg_bpe_node *nodes,
                         uint32_t at)
{
    gg_bpe_node *node = &nodes[at];
    const gg_merge *merge = NULL;
    if (node->next != NO_NODE)
        merge = find_merge(merges, ids[at], ids[node->next]);
    node->rank = merge ? merge->rank : NO_RANK;
    node->result = merge ? merge->result : GORGON_TOKEN_NONE;
    return merge != NULL;
}

static uint64_t heap_key(const gg_bpe_node *nodes, uint32_t at)
{
    return (uint64_t)nodes[at].rank << 32 | at;
}

static size_t start_heap(const gg_merges *merges, gg_bpe_work *work, const gorgon_token *ids,
                         size_t n)
{
    size_t n_heap = 0;
    for (size_t i = 0; i < n; i++) {
        work->nodes[i].previous = i > 0 ? (uint32_t)i - 1 : NO_NODE;
        work->nodes[i].next = i + 1 < n ? (uint32_t)i + 1 : NO_NODE;
        if (refresh_pair(merges, ids, work->nodes, (uint32_t)i))
            work->heap[n_heap++] = heap_key(work->nodes, (uint32_t)i);
    }
    for (size_t i = n_heap / 2; i-- > 0;)
        sift_down(work->heap, n_heap, i);
    return n_heap;
}

// An entry of the heap is out of date when its node's rank has changed. Every merge removes an
// entry and adds at most two, and there are fewer than n merges: 2 n entries suffice.
static void merge_long(const gg_merges *merges, gg_bpe_work *work, gorgon_token *ids, size_t *n)
{
    gg_bpe_node *nodes = work->nodes;
    size_t n_heap = start_heap(merges, work, ids, *n);
    while (n_heap > 0) {
        uint64_t key = heap_pop(work->heap, &n_heap);
        uint32_t at = (uint32_t)key;
        if (nodes[at].rank != (uint32_t)(key >> 32))
            continue;
        uint32_t gone = nodes[at].next, after = nodes[gone].next, before = nodes[at].previous;
        ids[at] = nodes[at].result;
        nodes[at].next = after;
        nodes[gone].rank = NO_RANK;
        if (after != NO_NODE)
            nodes[after].previous = at;
        if (refresh_pair(merges, ids, nodes, at))
            heap_push(work->heap, &n_heap, heap_key(nodes, at));
        if (before != NO_NODE && refresh_pair(merges, ids, nodes, before))
            heap_push(work->heap, &n_heap, heap_key(nodes, before));
    }
    size_t kept = 0;
    for (uint32_t at = 0; at != NO_NODE; at = nodes[at].next)
        ids[kept++] = ids[at];
    *n = kept;
}

static gorgon_status reserve_work(gg_bpe_work *work, size_t n, gorgon_error *err)
{
    if (n <= work->capacity)
        return GORGON_OK;
    gg_bpe_work_clear(work);
    size_t capacity = n + n / 2;
    work->nodes = gg_alloc(capacity, sizeof *work->nodes);
    work->heap = gg_alloc(capacity, 2 * sizeof *work->heap);
    if (!work->nodes || !work->heap)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory to merge a piece of %zu bytes", n);
    work->capacity = capacity;
    return GORGON_OK;
}

gorgon_status gg_bpe_merge(const gg_merges *merges, gg_bpe_work *work, gorgon_token *ids, size_t *n,
                           gorgon_error *err)
{
    if (*n <= SHORT_PIECE) {
        merge_short(merges, ids, n);
        return GORGON_OK;
    }
    gorgon_status status = reserve_work(work, *n, err);
    if (status == GORGON_OK)
        merge_long(merges, work, ids, n);
    return status;
}

void gg_bpe_work_clear(gg_bpe_work *work)
{
    gg_free(work->nodes);
    gg_free(work->heap);
    *work = (gg_bpe_work){0};
}
