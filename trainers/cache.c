// The feature cache's directory: cache.json with the identity, and chunk files, which are the truth
// about what is there. A killed run leaves whole chunks and perhaps temporaries; opening for
// writing removes those.
#include "trainers/cache.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache_chunk.h"
#include "cache_json.h"
#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"

enum { MAX_CHUNKS = 1000000 };
static const char JSON_NAME[] = GG_CACHE_JSON_NAME;

struct gg_cache {
    char *directory;
    gg_cache_identity identity;
    uint64_t limit_bytes;
    bool complete;
    gg_chunk_info *chunks; // [n_chunks], capacity a power of two
    size_t n_chunks;
    uint64_t sequences, records, hidden_records, bytes;
};

static void chunk_name(size_t chunk, char name[32])
{
    snprintf(name, 32, "chunk-%06zu.ggc", chunk);
}

static char *chunk_path(const char *directory, size_t chunk)
{
    char name[32];
    chunk_name(chunk, name);
    return gg_cache_path(directory, name);
}

static gorgon_status out_of_memory(const char *directory, gorgon_error *err)
{
    return gg_fail(err, GORGON_ERROR_MEMORY, "feature cache '%s': out of memory", directory);
}

static bool is_temporary(const char *name)
{
    bool ours = strncmp(name, "chunk-", 6) == 0 ||
                strncmp(name, JSON_NAME, sizeof JSON_NAME - 1) == 0 ||
                strncmp(name, GG_TRAIN_STATE_NAME, sizeof GG_TRAIN_STATE_NAME - 1) == 0;
    return ours && strstr(name, ".tmp.") != NULL;
}

// Number of a chunk file's name, or -1.
static long chunk_number(const char *name)
{
    char expected[32], *end;
    if (strncmp(name, "chunk-", 6) != 0)
        return -1;
    errno = 0;
    long number = strtol(name + 6, &end, 10);
    if (errno != 0 || end == name + 6 || number < 0 || number >= MAX_CHUNKS)
        return -1;
    chunk_name((size_t)number, expected);
    return strcmp(name, expected) == 0 ? number : -1;
}

typedef struct listing {
    bool exists;
    size_t n_chunks; // files
    long last_chunk; // greatest number, -1 = none
    bool remove_temporaries, remove_all;
} listing;

static gorgon_status visit_entry(const char *directory, const char *name, listing *l,
                                 gorgon_error *err)
{
    long number = chunk_number(name);
    if (number >= 0) {
        l->n_chunks++;
        l->last_chunk = number > l->last_chunk ? number : l->last_chunk;
    }
    bool own =
        number >= 0 || strcmp(name, JSON_NAME) == 0 || strcmp(name, GG_TRAIN_STATE_NAME) == 0;
    bool temporary = is_temporary(name);
    if (!(temporary && (l->remove_temporaries || l->remove_all)) && !(own && l->remove_all))
        return GORGON_OK;
    char *path = gg_cache_path(directory, name);
    if (!path)
        return out_of_memory(directory, err);
    gorgon_status status = GORGON_OK;
    if (unlink(path) != 0 && errno != ENOENT)
        status = gg_fail_errno(err, "remove", path, errno);
    gg_free(path);
    return status;
}

static gorgon_status list_directory(const char *directory, listing *l, gorgon_error *err)
{
    l->n_chunks = 0;
    l->last_chunk = -1;
    DIR *dir = opendir(directory);
    l->exists = dir != NULL;
    if (!dir)
        return errno == ENOENT ? GORGON_OK : gg_fail_errno(err, "open", directory, errno);
    gorgon_status status = GORGON_OK;
    struct dirent *entry;
    errno = 0;
    while (status == GORGON_OK && (entry = readdir(dir)) != NULL) {
        status = visit_entry(directory, entry->d_name, l, err);
        errno = 0;
    }
    if (status == GORGON_OK && errno != 0)
        status = gg_fail_errno(err, "list", directory, errno);
    closedir(dir);
    return status;
}

static uint64_t identity_hash(const gg_cache_identity *id)
{
    const uint64_t words[] = {id->base.vocabulary, id->base.tensors, id->base.n_layers,
                              id->base.d_model,    id->base.n_vocab, id->seed,
                              id->options_hash};
    return gg_hash(words, sizeof words, 0);
}

static gorgon_status write_json(const gg_cache *c, gorgon_error *err)
{
    gg_cache_counts counts = {.complete = c->complete,
                              .chunks = c->n_chunks,
                              .sequences = c->sequences,
                              .records = c->records};
    return gg_cache_json_write(c->directory, &c->identity, &counts, err);
}

static gorgon_status add_chunk(gg_cache *c, const gg_chunk_info *info, gorgon_error *err)
{
    if ((c->n_chunks & (c->n_chunks - 1)) == 0) {
        size_t capacity = c->n_chunks == 0 ? 1 : 2 * c->n_chunks;
        gg_chunk_info *grown = gg_realloc(c->chunks, c->n_chunks, capacity, sizeof *grown);
        if (!grown)
            return out_of_memory(c->directory, err);
        c->chunks = grown;
    }
    c->chunks[c->n_chunks++] = *info;
    c->sequences += info->n_sequences;
    c->records += info->n_records;
    c->hidden_records += info->n_hidden;
    c->bytes += info->bytes;
    return GORGON_OK;
}

static gorgon_status check_chunk(const gg_cache *c, const char *path, const gg_chunk_info *info,
                                 gorgon_error *err)
{
    const gorgon_fingerprint *base = &c->identity.base;
    if (info->identity != identity_hash(&c->identity) || info->d_model != base->d_model ||
        info->n_vocab != base->n_vocab)
        return gg_fail(err, GORGON_ERROR_MISMATCH,
                       "%s: belongs to another cache: identity %016" PRIx64
                       ", expected %016" PRIx64,
                       path, info->identity, identity_hash(&c->identity));
    if (info->first_index != gg_cache_next_index(c))
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: begins at job %" PRIu64 ", expected %" PRIu64,
                       path, info->first_index, gg_cache_next_index(c));
    return GORGON_OK;
}

static gorgon_status scan_chunk(gg_cache *c, const char *path, gorgon_error *err)
{
    gg_mapping map;
    gg_chunk_info info;
    gorgon_status status = gg_map_file(path, &map, err);
    if (status != GORGON_OK)
        return status;
    status = gg_chunk_header(map.data, map.size, path, &info, err);
    gg_unmap(&map);
    if (status == GORGON_OK)
        status = check_chunk(c, path, &info, err);
    return status == GORGON_OK ? add_chunk(c, &info, err) : status;
}

static gorgon_status scan_chunks(gg_cache *c, const listing *l, gorgon_error *err)
{
    if (l->n_chunks != (size_t)(l->last_chunk + 1))
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "feature cache '%s': %zu chunk files, but the last is number %ld: one is "
                       "missing",
                       c->directory, l->n_chunks, l->last_chunk);
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < l->n_chunks && status == GORGON_OK; i++) {
        char *path = chunk_path(c->directory, i);
        status = path ? scan_chunk(c, path, err) : out_of_memory(c->directory, err);
        gg_free(path);
    }
    return status;
}

static gorgon_status check_counts(gg_cache *c, const gg_cache_counts *counts, gorgon_error *err)
{
    c->complete = counts->complete;
    if (counts->complete && (counts->chunks != c->n_chunks || counts->sequences != c->sequences ||
                             counts->records != c->records))
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "feature cache '%s': %s counts %" PRIu64 " chunks and %" PRIu64
                       " records, the files have %zu and %" PRIu64,
                       c->directory, JSON_NAME, counts->chunks, counts->records, c->n_chunks,
                       c->records);
    return GORGON_OK;
}

static gorgon_status check_base(const char *directory, const gorgon_fingerprint *a,
                                const gorgon_fingerprint *b, gorgon_error *err)
{
    if (a->vocabulary == b->vocabulary && a->tensors == b->tensors && a->n_layers == b->n_layers &&
        a->d_model == b->d_model && a->n_vocab == b->n_vocab)
        return GORGON_OK;
    return gg_fail(err, GORGON_ERROR_MISMATCH,
                   "feature cache '%s': made with another model (%u layers, width %u, vocabulary "
                   "%u, tensors %016" PRIx64 "; this one: %u, %u, %u, %016" PRIx64 ")",
                   directory, a->n_layers, a->d_model, a->n_vocab, a->tensors, b->n_layers,
                   b->d_model, b->n_vocab, b->tensors);
}

static gorgon_status check_identity(const char *directory, const gg_cache_identity *have,
                                    const gg_cache_identity *wanted, gorgon_error *err)
{
    gorgon_status status = check_base(directory, &have->base, &wanted->base, err);
    if (status != GORGON_OK)
        return status;
    if (have->seed != wanted->seed)
        return gg_fail(err, GORGON_ERROR_MISMATCH,
                       "feature cache '%s': made with seed %" PRIu64 ", not %" PRIu64, directory,
                       have->seed, wanted->seed);
    if (have->options_hash != wanted->options_hash)
        return gg_fail(err, GORGON_ERROR_MISMATCH,
                       "feature cache '%s': made with other synthesis options", directory);
    return GORGON_OK;
}

static gorgon_status new_cache(const char *directory, gg_cache **out, gorgon_error *err)
{
    gg_cache *c = gg_alloc(1, sizeof *c);
    if (c)
        c->directory = gg_strdup(directory);
    *out = c;
    if (c && c->directory)
        return GORGON_OK;
    gg_cache_free(c);
    *out = NULL;
    return out_of_memory(directory, err);
}

static gorgon_status open_for_writing(gg_cache *c, gorgon_error *err)
{
    gg_cache_identity have = {0};
    gg_cache_counts counts = {0};
    bool found = false;
    listing l = {.remove_temporaries = true};
    if (mkdir(c->directory, 0777) != 0 && errno != EEXIST)
        return gg_fail_errno(err, "create directory", c->directory, errno);
    gorgon_status status = list_directory(c->directory, &l, err);
    if (status == GORGON_OK)
        status = gg_cache_json_read(c->directory, &have, &counts, &found, err);
    if (status == GORGON_OK && found)
        status = check_identity(c->directory, &have, &c->identity, err);
    if (status == GORGON_OK && !found && l.n_chunks > 0)
        status = gg_fail(err, GORGON_ERROR_FORMAT, "feature cache '%s': %zu chunks, but no %s",
                         c->directory, l.n_chunks, JSON_NAME);
    if (status == GORGON_OK && !found)
        status = write_json(c, err);
    if (status == GORGON_OK)
        status = scan_chunks(c, &l, err);
    return status == GORGON_OK ? check_counts(c, &counts, err) : status;
}

gorgon_status gg_cache_open(const char *directory, const gg_cache_identity *identity,
                            uint64_t limit_bytes, gg_cache **out, gorgon_error *err)
{
    gorgon_status status = new_cache(directory, out, err);
    if (status != GORGON_OK)
        return status;
    (*out)->identity = *identity;
    (*out)->limit_bytes = limit_bytes;
    status = open_for_writing(*out, err);
    if (status != GORGON_OK) {
        gg_cache_free(*out);
        *out = NULL;
    }
    return status;
}

static gorgon_status open_for_reading(gg_cache *c, const gorgon_fingerprint *base,
                                      gorgon_error *err)
{
    gg_cache_counts counts = {0};
    bool found = false;
    listing l = {0};
    gorgon_status status = list_directory(c->directory, &l, err);
    if (status == GORGON_OK && l.exists)
        status = gg_cache_json_read(c->directory, &c->identity, &counts, &found, err);
    if (status == GORGON_OK && !found)
        status = gg_fail(err, GORGON_ERROR_IO,
                         "no feature cache in '%s': expected %s, which `gorgon synth` writes",
                         c->directory, JSON_NAME);
    if (status == GORGON_OK)
        status = check_base(c->directory, &c->identity.base, base, err);
    if (status == GORGON_OK)
        status = scan_chunks(c, &l, err);
    return status == GORGON_OK ? check_counts(c, &counts, err) : status;
}

gorgon_status gg_cache_open_existing(const char *directory, gorgon_fingerprint base, gg_cache **out,
                                     gorgon_error *err)
{
    gorgon_status status = new_cache(directory, out, err);
    if (status != GORGON_OK)
        return status;
    status = open_for_reading(*out, &base, err);
    if (status != GORGON_OK) {
        gg_cache_free(*out);
        *out = NULL;
    }
    return status;
}

void gg_cache_free(gg_cache *cache)
{
    if (!cache)
        return;
    gg_free(cache->directory);
    gg_free(cache->chunks);
    gg_free(cache);
}

size_t gg_cache_chunks(const gg_cache *cache)
{
    return cache->n_chunks;
}

uint64_t gg_cache_sequences(const gg_cache *cache)
{
    return cache->sequences;
}

uint64_t gg_cache_records(const gg_cache *cache)
{
    return cache->records;
}

uint64_t gg_cache_next_index(const gg_cache *cache)
{
    return cache->n_chunks > 0 ? cache->chunks[cache->n_chunks - 1].end_index : 0;
}

bool gg_cache_complete(const gg_cache *cache)
{
    return cache->complete;
}

uint64_t gg_cache_bytes(const gg_cache *cache)
{
    return cache->bytes;
}

size_t gg_cache_d_model(const gg_cache *cache)
{
    return cache->identity.base.d_model;
}

gg_cache_identity gg_cache_identity_of(const gg_cache *cache)
{
    return cache->identity;
}

static gorgon_status check_append(const gg_cache *c, uint64_t first_index, uint64_t end_index,
                                  const gg_cache_sequence *sequences, size_t n, gorgon_error *err)
{
    if (c->complete || c->n_chunks >= MAX_CHUNKS)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "feature cache '%s' is %s", c->directory,
                       c->complete ? "complete" : "full");
    if (first_index != gg_cache_next_index(c) || end_index <= first_index)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "feature cache '%s': jobs %" PRIu64 " to %" PRIu64 " do not follow %" PRIu64,
                       c->directory, first_index, end_index, gg_cache_next_index(c));
    uint64_t least = first_index;
    for (size_t i = 0; i < n; i++) {
        const char *reason = "an index out of order";
        if (sequences[i].index < least || sequences[i].index >= end_index ||
            !gg_chunk_sequence_valid(&sequences[i], c->identity.base.n_vocab, &reason))
            return gg_fail(err, GORGON_ERROR_ARGUMENT,
                           "feature cache '%s': sequence %" PRIu64 " has %s", c->directory,
                           sequences[i].index, reason);
        least = sequences[i].index + 1;
    }
    return GORGON_OK;
}

// Hidden states are kept in order of appearance until the limit; which ones does not depend on how
// the run was interrupted.
static void choose_hidden(const gg_cache *c, const gg_cache_sequence *sequences, size_t n,
                          bool *keep)
{
    uint64_t per_record = 2 * (uint64_t)c->identity.base.d_model;
    uint64_t used = c->hidden_records * per_record;
    for (size_t i = 0; i < n; i++) {
        uint64_t bytes = sequences[i].n_records * per_record;
        bool fits =
            c->limit_bytes == 0 || (used <= c->limit_bytes && bytes <= c->limit_bytes - used);
        keep[i] = sequences[i].hidden != NULL && fits;
        used += keep[i] ? bytes : 0;
    }
}

gorgon_status gg_cache_append(gg_cache *cache, uint64_t first_index, uint64_t end_index,
                              const gg_cache_sequence *sequences, size_t n, gorgon_error *err)
{
    gorgon_status status = check_append(cache, first_index, end_index, sequences, n, err);
    if (status != GORGON_OK)
        return status;
    bool *keep = gg_alloc(n, sizeof *keep);
    char *path = chunk_path(cache->directory, cache->n_chunks);
    gg_chunk_info info = {.d_model = cache->identity.base.d_model,
                          .n_vocab = cache->identity.base.n_vocab,
                          .first_index = first_index,
                          .end_index = end_index,
                          .identity = identity_hash(&cache->identity)};
    if (keep && path) {
        choose_hidden(cache, sequences, n, keep);
        status = gg_chunk_write(path, &info, sequences, keep, n, err);
    } else {
        status = out_of_memory(cache->directory, err);
    }
    if (status == GORGON_OK)
        status = add_chunk(cache, &info, err);
    gg_free(keep);
    gg_free(path);
    return status;
}

static gorgon_status set_complete(gg_cache *c, bool complete, gorgon_error *err)
{
    bool before = c->complete;
    c->complete = complete;
    gorgon_status status = write_json(c, err);
    c->complete = status == GORGON_OK ? complete : before;
    return status;
}

gorgon_status gg_cache_finish(gg_cache *cache, gorgon_error *err)
{
    return set_complete(cache, true, err);
}

gorgon_status gg_cache_extend(gg_cache *cache, gorgon_error *err)
{
    return cache->complete ? set_complete(cache, false, err) : GORGON_OK;
}

gorgon_status gg_cache_read(const gg_cache *cache, size_t chunk, gg_cache_extent extent,
                            gg_cache_sequence **sequences, size_t *n, gorgon_error *err)
{
    *sequences = NULL;
    *n = 0;
    if (chunk >= cache->n_chunks)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "feature cache '%s': chunk %zu of %zu",
                       cache->directory, chunk, cache->n_chunks);
    char *path = chunk_path(cache->directory, chunk);
    if (!path)
        return out_of_memory(cache->directory, err);
    gg_mapping map;
    gg_chunk_info info;
    gorgon_status status = gg_map_file(path, &map, err);
    if (status == GORGON_OK) {
        status = gg_chunk_header(map.data, map.size, path, &info, err);
        const gg_chunk_info *seen = &cache->chunks[chunk];
        if (status == GORGON_OK &&
            (info.identity != seen->identity || info.first_index != seen->first_index ||
             info.bytes != seen->bytes || info.d_model != seen->d_model))
            status =
                gg_fail(err, GORGON_ERROR_MISMATCH, "%s: changed since the cache was opened", path);
        if (status == GORGON_OK)
            status = gg_cache_chunk_parse(map.data, map.size, path, extent, sequences, n, err);
        gg_unmap(&map);
    }
    gg_free(path);
    return status;
}

gorgon_status gg_cache_remove(const char *directory, gorgon_error *err)
{
    listing l = {.remove_all = true};
    gorgon_status status = list_directory(directory, &l, err);
    if (status == GORGON_OK && l.exists && rmdir(directory) != 0 && errno != ENOTEMPTY &&
        errno != EEXIST)
        return gg_fail_errno(err, "remove directory", directory, errno);
    return status;
}

bool gg_cache_held_out(uint64_t index, double share)
{
    uint64_t job = index / 2; // both sequences of a job are on the same side
    uint64_t h = gg_hash(&job, sizeof job, UINT64_C(0x68656c642d6f7574));
    return (double)(h >> 11) * 0x1p-53 < share;
}
