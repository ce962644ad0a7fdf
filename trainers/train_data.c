// Loading and ordering of training positions.
#include "trainers/train_data.h"

#include <string.h>

#include "core/alloc.h"
#include "core/engine.h"
#include "core/error.h"
#include "core/sampling.h"
#include "recompute.h"

enum {
    MAX_HELD_OUT = 1 << 18, // records kept for evaluation
    // Counters of the random streams.
    STREAM_CHUNKS = 1,
    STREAM_RECORDS = 2,
};

typedef struct chunk_count {
    uint64_t trained, usable, held_out; // records
} chunk_count;

struct gg_train_data {
    gg_train_source source;
    size_t n_vocab, n_chunks;
    chunk_count *chunks; // [n_chunks]
    uint64_t positions, records;
    uint64_t *counts; // [n_vocab]
    gg_feature_store held_out;
    uint32_t *held_out_records;
    size_t n_held_out;
    // The group in memory: chunks sequence[first .. end) of an epoch.
    gg_feature_store store;
    uint32_t *order;             // [group_usable] record indices, shuffled by pieces
    uint32_t *pieces;            // [ceil(group_usable / piece)] first record of each
    uint64_t epoch, group_start; // stream offset within the epoch
    size_t group_usable, group_first;
    bool loaded;
    uint32_t *sequence; // [n_chunks] chunk order of `epoch`
};

static gorgon_status out_of_memory(gorgon_error *err)
{
    return gg_fail(err, GORGON_ERROR_MEMORY, "training data: out of memory");
}

static void store_free(gg_feature_store *s)
{
    gg_free(s->hidden);
    gg_free(s->next);
    gg_free(s->ids);
    gg_free(s->logprob);
    gg_free(s->run);
    *s = (gg_feature_store){0};
}

static bool store_create(gg_feature_store *s, size_t capacity, size_t d)
{
    size_t values;
    if (!gg_mul(capacity, d, &values))
        return false;
    *s = (gg_feature_store){.capacity = capacity, .d = d};
    s->hidden = gg_alloc(values, sizeof *s->hidden);
    s->next = gg_alloc(capacity, sizeof *s->next);
    s->ids = gg_alloc(capacity, GG_TARGETS * sizeof *s->ids);
    s->logprob = gg_alloc(capacity, GG_TARGETS * sizeof *s->logprob);
    s->run = gg_alloc(capacity, sizeof *s->run);
    if (s->hidden && s->next && s->ids && s->logprob && s->run)
        return true;
    store_free(s);
    return false;
}

// Room for n records, at least doubling what there is.
static bool store_reserve(gg_feature_store *s, size_t n)
{
    if (n <= s->capacity)
        return true;
    n = n < 2 * s->capacity ? 2 * s->capacity : n;
    gg_feature_store bigger;
    if (!store_create(&bigger, n, s->d))
        return false;
    memcpy(bigger.hidden, s->hidden, s->n * s->d * sizeof *s->hidden);
    memcpy(bigger.next, s->next, s->n * sizeof *s->next);
    memcpy(bigger.ids, s->ids, s->n * GG_TARGETS * sizeof *s->ids);
    memcpy(bigger.logprob, s->logprob, s->n * GG_TARGETS * sizeof *s->logprob);
    memcpy(bigger.run, s->run, s->n);
    bigger.n = s->n;
    store_free(s);
    *s = bigger;
    return true;
}

static uint64_t record_bytes(size_t d)
{
    return 2 * (uint64_t)d + 4 + 8 * GG_TARGETS + 1 + 4; // with its entry of the order
}

// Heads of record i that have a target: its successors without a gap.
static uint8_t run_length(const gg_cache_sequence *s, size_t i, size_t n_heads)
{
    size_t run = 0;
    while (run < n_heads && i + run + 1 < s->n_records &&
           s->positions[i + run + 1] == s->positions[i] + run + 1)
        run++;
    return (uint8_t)run;
}

// Appends a sequence; the store has room for it.
static gorgon_status store_add(gg_feature_store *store, const gg_train_source *source,
                               const gg_cache_sequence *s, gorgon_error *err)
{
    size_t at = store->n, n = s->n_records, d = store->d;
    for (size_t i = 0; i < n; i++) {
        store->next[at + i] = (uint32_t)s->tokens[s->positions[i] + 1];
        store->run[at + i] = run_length(s, i, source->n_heads);
    }
    memcpy(store->ids + at * GG_TARGETS, s->target_ids, n * GG_TARGETS * sizeof *store->ids);
    memcpy(store->logprob + at * GG_TARGETS, s->target_logprob,
           n * GG_TARGETS * sizeof *store->logprob);
    store->n += n;
    if (s->hidden) {
        memcpy(store->hidden + at * d, s->hidden, n * d * sizeof *store->hidden);
        return GORGON_OK;
    }
    return gg_recompute_hidden(source->engine, s, store->hidden + at * d, err);
}

static void count_sequence(gg_train_data *data, size_t chunk, const gg_cache_sequence *s)
{
    chunk_count *count = &data->chunks[chunk];
    if (gg_cache_held_out(s->index, data->source.held_out)) {
        count->held_out += s->n_records;
        return;
    }
    count->trained += s->n_records;
    for (size_t i = 0; i < s->n_records; i++) {
        count->usable += run_length(s, i, data->source.n_heads) > 0;
        data->counts[s->tokens[s->positions[i] + 1]]++;
    }
}

static gorgon_status scan_chunk(gg_train_data *data, size_t chunk, gorgon_error *err)
{
    gg_cache_sequence *sequences;
    size_t n;
    gorgon_status status =
        gg_cache_read(data->source.cache, chunk, GG_CACHE_HIDDEN, &sequences, &n, err);
    for (size_t i = 0; i < n && status == GORGON_OK; i++) {
        const gg_cache_sequence *s = &sequences[i];
        count_sequence(data, chunk, s);
        if (!gg_cache_held_out(s->index, data->source.held_out) ||
            data->held_out.n + s->n_records > MAX_HELD_OUT)
            continue;
        status = store_reserve(&data->held_out, data->held_out.n + s->n_records)
                     ? store_add(&data->held_out, &data->source, s, err)
                     : out_of_memory(err);
    }
    gg_cache_chunk_free(sequences, n);
    return status;
}

static gorgon_status list_held_out(gg_train_data *data, gorgon_error *err)
{
    const gg_feature_store *store = &data->held_out;
    data->held_out_records = gg_alloc(store->n, sizeof *data->held_out_records);
    if (!data->held_out_records)
        return out_of_memory(err);
    for (size_t i = 0; i < store->n; i++) {
        if (store->run[i] > 0)
            data->held_out_records[data->n_held_out++] = (uint32_t)i;
    }
    return GORGON_OK;
}

static gorgon_status scan(gg_train_data *data, gorgon_error *err)
{
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < data->n_chunks && status == GORGON_OK; i++) {
        status = scan_chunk(data, i, err);
        data->positions += data->chunks[i].usable;
        data->records += data->chunks[i].trained;
    }
    if (status == GORGON_OK && data->positions == 0)
        status = gg_fail(err, GORGON_ERROR_LIMIT,
                         "training data: %llu sequences hold no position to train on",
                         (unsigned long long)gg_cache_sequences(data->source.cache));
    return status == GORGON_OK ? list_held_out(data, err) : status;
}

gorgon_status gg_train_data_open(const gg_train_source *source, gg_train_data **out,
                                 gorgon_error *err)
{
    gg_train_data *data = gg_alloc(1, sizeof *data);
    *out = NULL;
    if (!data)
        return out_of_memory(err);
    data->source = *source;
    data->n_vocab = gg_cache_identity_of(source->cache).base.n_vocab;
    data->n_chunks = gg_cache_chunks(source->cache);
    data->chunks = gg_alloc(data->n_chunks, sizeof *data->chunks);
    data->counts = gg_alloc(data->n_vocab, sizeof *data->counts);
    data->sequence = gg_alloc(data->n_chunks, sizeof *data->sequence);
    gorgon_status status = GORGON_OK;
    if (!data->chunks || !data->counts || !data->sequence ||
        !store_create(&data->held_out, 0, gg_cache_d_model(source->cache)))
        status = out_of_memory(err);
    if (status == GORGON_OK)
        status = scan(data, err);
    if (status != GORGON_OK) {
        gg_train_data_free(data);
        return status;
    }
    *out = data;
    return GORGON_OK;
}

void gg_train_data_free(gg_train_data *data)
{
    if (!data)
        return;
    gg_free(data->chunks);
    gg_free(data->counts);
    gg_free(data->sequence);
    gg_free(data->held_out_records);
    gg_free(data->order);
    gg_free(data->pieces);
    store_free(&data->held_out);
    store_free(&data->store);
    gg_free(data);
}

uint64_t gg_train_data_positions(const gg_train_data *data)
{
    return data->positions;
}

uint64_t gg_train_data_records(const gg_train_data *data)
{
    return data->records;
}

const uint64_t *gg_train_data_counts(const gg_train_data *data)
{
    return data->counts;
}

const gg_feature_store *gg_train_data_held_out(const gg_train_data *data, const uint32_t **records,
                                               size_t *n)
{
    *records = data->held_out_records;
    *n = data->n_held_out;
    return &data->held_out;
}

// Fisher-Yates with the counter-based generator.
static void shuffle(uint32_t *x, size_t n, uint64_t seed, uint64_t stream, uint64_t epoch,
                    uint64_t part)
{
    uint64_t key = gg_random_bits(seed, stream, epoch, part);
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)(gg_random_bits(key, i, 0, 0) % i);
        uint32_t swapped = x[i - 1];
        x[i - 1] = x[j];
        x[j] = swapped;
    }
}

static bool all_fit(const gg_train_data *data)
{
    return data->records <= data->source.budget_bytes / record_bytes(data->held_out.d);
}

static void order_chunks(gg_train_data *data, uint64_t epoch)
{
    for (size_t i = 0; i < data->n_chunks; i++)
        data->sequence[i] = (uint32_t)i;
    if (!all_fit(data)) // one group is shuffled as a whole and never loaded again
        shuffle(data->sequence, data->n_chunks, data->source.seed, STREAM_CHUNKS, epoch, 0);
    data->epoch = epoch;
}

// The group that begins with the chunk at `first` of the order: its end, records and positions.
static size_t group_end(const gg_train_data *data, size_t first, uint64_t *trained,
                        uint64_t *usable)
{
    uint64_t most = data->source.budget_bytes / record_bytes(data->held_out.d);
    size_t end = first;
    *trained = *usable = 0;
    do {
        const chunk_count *count = &data->chunks[data->sequence[end]];
        *trained += count->trained;
        *usable += count->usable;
        end++;
    } while (end < data->n_chunks && *trained + data->chunks[data->sequence[end]].trained <= most);
    return end;
}

static gorgon_status load_chunk(gg_train_data *data, size_t chunk, gorgon_error *err)
{
    gg_cache_sequence *sequences;
    size_t n;
    gorgon_status status =
        gg_cache_read(data->source.cache, chunk, GG_CACHE_HIDDEN, &sequences, &n, err);
    for (size_t i = 0; i < n && status == GORGON_OK; i++) {
        if (!gg_cache_held_out(sequences[i].index, data->source.held_out))
            status = store_add(&data->store, &data->source, &sequences[i], err);
    }
    gg_cache_chunk_free(sequences, n);
    return status;
}

static size_t pieces_of(const gg_train_data *data, size_t usable)
{
    return usable / data->source.piece + (usable % data->source.piece > 0);
}

static gorgon_status load_group(gg_train_data *data, size_t first, size_t end, uint64_t trained,
                                uint64_t usable, gorgon_error *err)
{
    data->loaded = false;
    store_free(&data->store);
    gg_free(data->order);
    gg_free(data->pieces);
    data->order = gg_alloc((size_t)usable, sizeof *data->order);
    data->pieces = gg_alloc(pieces_of(data, (size_t)usable), sizeof *data->pieces);
    if (!data->order || !data->pieces ||
        !store_create(&data->store, (size_t)trained, data->held_out.d))
        return out_of_memory(err);
    gorgon_status status = GORGON_OK;
    for (size_t i = first; i < end && status == GORGON_OK; i++)
        status = load_chunk(data, data->sequence[i], err);
    data->group_first = first;
    data->group_usable = (size_t)usable;
    data->loaded = status == GORGON_OK;
    return status;
}

// Every piece-th usable record begins a piece, which goes on over the next piece - 1.
static void order_group(gg_train_data *data)
{
    const size_t piece = data->source.piece, n_pieces = pieces_of(data, data->group_usable);
    size_t n = 0;
    for (size_t i = 0; i < data->store.n; i++) {
        if (data->store.run[i] > 0 && n++ % piece == 0)
            data->pieces[(n - 1) / piece] = (uint32_t)i;
    }
    shuffle(data->pieces, n_pieces, data->source.seed, STREAM_RECORDS, data->epoch,
            data->group_first);
    n = 0;
    for (size_t p = 0; p < n_pieces; p++) {
        size_t taken = 0;
        for (size_t i = data->pieces[p]; i < data->store.n && taken < piece; i++) {
            if (data->store.run[i] > 0)
                data->order[n + taken++] = (uint32_t)i;
        }
        n += taken;
    }
}

// Makes the group that holds offset `offset` of `epoch` the one in memory.
static gorgon_status seek_group(gg_train_data *data, uint64_t epoch, uint64_t offset,
                                gorgon_error *err)
{
    bool same_epoch = data->loaded && data->epoch == epoch;
    if (same_epoch && offset >= data->group_start &&
        offset - data->group_start < data->group_usable)
        return GORGON_OK;
    if (!same_epoch)
        order_chunks(data, epoch);
    uint64_t start = 0, trained = 0, usable = 0;
    size_t first = 0, end = group_end(data, 0, &trained, &usable);
    while (offset - start >= usable) {
        start += usable;
        first = end;
        end = group_end(data, first, &trained, &usable);
    }
    data->group_start = start;
    gorgon_status status = GORGON_OK;
    if (!data->loaded || !all_fit(data))
        status = load_group(data, first, end, trained, usable, err);
    if (status == GORGON_OK)
        order_group(data);
    return status;
}

gorgon_status gg_train_data_take(gg_train_data *data, uint64_t position, size_t wanted,
                                 const gg_feature_store **store, const uint32_t **records,
                                 size_t *got, gorgon_error *err)
{
    uint64_t epoch = position / data->positions, offset = position % data->positions;
    gorgon_status status = seek_group(data, epoch, offset, err);
    if (status != GORGON_OK)
        return status;
    size_t at = (size_t)(offset - data->group_start), left = data->group_usable - at;
    *store = &data->store;
    *records = data->order + at;
    *got = wanted < left ? wanted : left;
    return GORGON_OK;
}
