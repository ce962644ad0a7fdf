// Feature cache: round trips, kill-safety, damage, limits, identity, the held-out split.
#define _XOPEN_SOURCE 700 // mkdtemp
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/sampling.h"
#include "trainers/cache.h"

enum { D = 32, VOCAB = 500, MOST = 1 << 20 };

static char directory[64];

static void make_directory(void)
{
    snprintf(directory, sizeof directory, "/tmp/gorgon-cache-XXXXXX");
    cr_assert(mkdtemp(directory));
    cr_assert_eq(rmdir(directory), 0); // the cache creates it
}

static void remove_directory(void)
{
    cr_assert_eq(gg_cache_remove(directory, NULL), GORGON_OK);
    cr_assert_neq(access(directory, F_OK), 0);
}

TestSuite(cache, .init = make_directory, .fini = remove_directory);

static gg_cache_identity identity(void)
{
    return (gg_cache_identity){.base = {11, 22, 3, D, VOCAB}, .seed = 5, .options_hash = 7};
}

// Sequence `index`: 20 + index % 7 tokens, records in two runs.
static gg_cache_sequence make_sequence(uint64_t index)
{
    gg_cache_sequence s = {.index = index, .n_tokens = 20 + (uint32_t)(index % 7)};
    s.tokens = gg_alloc(s.n_tokens, sizeof *s.tokens);
    s.positions = gg_alloc(s.n_tokens, sizeof *s.positions);
    for (uint32_t i = 0; i < s.n_tokens; i++) {
        s.tokens[i] = (gorgon_token)(gg_random_bits(1, index, i, 0) % VOCAB);
        if ((i > 4 && i < 9) || (i > 11 && i + 1 < s.n_tokens))
            s.positions[s.n_records++] = i;
    }
    size_t n = s.n_records;
    s.hidden = gg_alloc(n * D, sizeof *s.hidden);
    s.target_ids = gg_alloc(n * GG_TARGETS, sizeof *s.target_ids);
    s.target_logprob = gg_alloc(n * GG_TARGETS, sizeof *s.target_logprob);
    for (size_t i = 0; i < n * D; i++)
        s.hidden[i] = (uint16_t)gg_random_bits(2, index, i, 0);
    for (size_t i = 0; i < n * GG_TARGETS; i++) {
        s.target_ids[i] = (uint32_t)(gg_random_bits(3, index, i, 0) % VOCAB);
        s.target_logprob[i] = -(float)gg_random_uniform(4, index, i, 0);
    }
    return s;
}

static void free_sequence(gg_cache_sequence *s)
{
    gg_free(s->tokens);
    gg_free(s->positions);
    gg_free(s->hidden);
    gg_free(s->target_ids);
    gg_free(s->target_logprob);
}

static void append(gg_cache *cache, uint64_t first, uint64_t end)
{
    gg_cache_sequence all[64];
    size_t n = 0;
    gorgon_error err = {0};
    for (uint64_t i = first; i < end; i++) {
        if (i % 5 != 3) // a job may yield nothing
            all[n++] = make_sequence(i);
    }
    cr_assert_eq(gg_cache_append(cache, first, end, all, n, &err), GORGON_OK, "%s", err.message);
    for (size_t i = 0; i < n; i++)
        free_sequence(&all[i]);
}

static gg_cache *open_cache(uint64_t limit)
{
    gg_cache_identity id = identity();
    gg_cache *cache;
    gorgon_error err = {0};
    cr_assert_eq(gg_cache_open(directory, &id, limit, &cache, &err), GORGON_OK, "%s", err.message);
    return cache;
}

static void check_sequence(const gg_cache_sequence *got, bool hidden)
{
    gg_cache_sequence want = make_sequence(got->index);
    size_t n = want.n_records;
    cr_assert_eq(got->n_tokens, want.n_tokens);
    cr_assert_eq(got->n_records, n);
    cr_assert_arr_eq(got->tokens, want.tokens, want.n_tokens * sizeof *want.tokens);
    cr_assert_arr_eq(got->positions, want.positions, n * sizeof *want.positions);
    cr_assert_arr_eq(got->target_ids, want.target_ids, n * GG_TARGETS * sizeof(uint32_t));
    cr_assert_arr_eq(got->target_logprob, want.target_logprob, n * GG_TARGETS * sizeof(float));
    cr_assert_eq(got->hidden != NULL, hidden);
    if (hidden)
        cr_assert_arr_eq(got->hidden, want.hidden, n * D * sizeof *want.hidden);
    free_sequence(&want);
}

static size_t check_chunk(const gg_cache *cache, size_t chunk)
{
    gg_cache_sequence *all;
    size_t n;
    gorgon_error err = {0};
    cr_assert_eq(gg_cache_read(cache, chunk, GG_CACHE_HIDDEN, &all, &n, &err), GORGON_OK, "%s",
                 err.message);
    for (size_t i = 0; i < n; i++)
        check_sequence(&all[i], true);
    gg_cache_chunk_free(all, n);
    return n;
}

static void file_path(char path[128], const char *name)
{
    snprintf(path, 128, "%s/%s", directory, name);
}

static uint8_t *read_file(const char *name, size_t *size)
{
    char path[128];
    file_path(path, name);
    FILE *f = fopen(path, "rb");
    uint8_t *data = gg_alloc(MOST, 1);
    cr_assert(f && data, "%s", path);
    *size = fread(data, 1, MOST, f);
    fclose(f);
    return data;
}

static void write_file(const char *name, const uint8_t *data, size_t size)
{
    char path[128];
    file_path(path, name);
    FILE *f = fopen(path, "wb");
    cr_assert(f);
    cr_assert_eq(fwrite(data, 1, size, f), size);
    fclose(f);
}

Test(cache, round_trip)
{
    gg_cache *cache = open_cache(0);
    cr_assert_eq(gg_cache_next_index(cache), 0);
    append(cache, 0, 10);
    append(cache, 10, 17);
    cr_assert_eq(gg_cache_chunks(cache), 2);
    cr_assert_eq(gg_cache_next_index(cache), 17);
    cr_assert_eq(gg_cache_finish(cache, NULL), GORGON_OK);
    uint64_t bytes = gg_cache_bytes(cache), records = gg_cache_records(cache);
    gg_cache_free(cache);

    gorgon_error err = {0};
    cr_assert_eq(gg_cache_open_existing(directory, identity().base, &cache, &err), GORGON_OK, "%s",
                 err.message);
    cr_assert(gg_cache_complete(cache));
    cr_assert_eq(gg_cache_sequences(cache), 14);
    cr_assert_eq(gg_cache_records(cache), records);
    cr_assert_eq(gg_cache_bytes(cache), bytes);
    cr_assert_eq(gg_cache_d_model(cache), D);
    cr_assert_eq(gg_cache_identity_of(cache).seed, 5);
    cr_assert_eq(check_chunk(cache, 0), 8);
    cr_assert_eq(check_chunk(cache, 1), 6);
    gg_cache_sequence *all;
    size_t n;
    cr_assert_eq(gg_cache_read(cache, 2, GG_CACHE_HIDDEN, &all, &n, NULL), GORGON_ERROR_ARGUMENT);
    cr_assert_eq(gg_cache_append(cache, 17, 18, NULL, 0, NULL), GORGON_ERROR_ARGUMENT);
    gg_cache_free(cache);
}

Test(cache, a_complete_one_can_be_extended)
{
    gg_cache *cache = open_cache(0);
    append(cache, 0, 10);
    cr_assert_eq(gg_cache_finish(cache, NULL), GORGON_OK);
    gg_cache_free(cache);
    cache = open_cache(0);
    cr_assert(gg_cache_complete(cache));
    cr_assert_eq(gg_cache_extend(cache, NULL), GORGON_OK);
    append(cache, 10, 17);
    gg_cache_free(cache); // interrupted: what is there counts, and more may come
    cache = open_cache(0);
    cr_assert_not(gg_cache_complete(cache));
    cr_assert_eq(gg_cache_chunks(cache), 2);
    cr_assert_eq(gg_cache_next_index(cache), 17);
    gg_cache_free(cache);
}

Test(cache, an_interrupted_run_continues)
{
    gg_cache *cache = open_cache(0);
    append(cache, 0, 4);
    gg_cache_free(cache);
    uint8_t junk[100] = {1};
    write_file("chunk-000001.ggc.tmp.123", junk, sizeof junk); // killed while writing
    write_file("cache.json.tmp.123", junk, 3);
    write_file("mine.txt", junk, 3);
    cache = open_cache(0);
    char path[128];
    file_path(path, "chunk-000001.ggc.tmp.123");
    cr_assert_neq(access(path, F_OK), 0);
    file_path(path, "cache.json.tmp.123");
    cr_assert_neq(access(path, F_OK), 0);
    file_path(path, "mine.txt");
    cr_assert_eq(access(path, F_OK), 0, "a foreign file was touched");
    cr_assert_eq(gg_cache_next_index(cache), 4);
    cr_assert_not(gg_cache_complete(cache));
    append(cache, 4, 9);
    gg_cache_free(cache);
    size_t resumed, whole;
    uint8_t *a = read_file("chunk-000001.ggc", &resumed);
    unlink(path);
    cr_assert_eq(gg_cache_remove(directory, NULL), GORGON_OK);
    cache = open_cache(0);
    append(cache, 0, 4);
    append(cache, 4, 9);
    gg_cache_free(cache);
    uint8_t *b = read_file("chunk-000001.ggc", &whole);
    cr_assert_eq(resumed, whole);
    cr_assert_arr_eq(a, b, whole);
    gg_free(a);
    gg_free(b);
}

static gorgon_status open_existing(gorgon_error *err)
{
    gg_cache *cache;
    *err = (gorgon_error){0};
    gorgon_status status = gg_cache_open_existing(directory, identity().base, &cache, err);
    gg_cache_free(cache);
    return status;
}

Test(cache, every_truncation_is_refused)
{
    gg_cache *cache = open_cache(0);
    append(cache, 0, 3);
    gg_cache_free(cache);
    size_t size;
    gorgon_error err;
    uint8_t *data = read_file("chunk-000000.ggc", &size);
    for (size_t n = 0; n < size; n++) {
        gg_cache_sequence *all;
        size_t count;
        err = (gorgon_error){0};
        // An exact copy: the address sanitizer sees a read beyond the cut.
        uint8_t *cut = malloc(n ? n : 1);
        memcpy(cut, data, n);
        cr_assert_neq(gg_cache_chunk_parse(cut, n, "cut", GG_CACHE_HIDDEN, &all, &count, &err),
                      GORGON_OK);
        cr_assert(strncmp(err.message, "cut: ", 5) == 0, "%s", err.message);
        free(cut);
    }
    static const size_t cuts[] = {0, 1, 8, 255, 256, 300};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        write_file("chunk-000000.ggc", data, cuts[i]);
        cr_assert_neq(open_existing(&err), GORGON_OK);
        cr_assert(strstr(err.message, "chunk-000000.ggc"), "%s", err.message);
    }
    write_file("chunk-000000.ggc", data, size - 1);
    cr_assert_eq(open_existing(&err), GORGON_ERROR_FORMAT);
    data[size] = 0;
    write_file("chunk-000000.ggc", data, size + 1);
    cr_assert_eq(open_existing(&err), GORGON_ERROR_FORMAT);
    cr_assert(strstr(err.message, "1 bytes follow"), "%s", err.message);
    gg_free(data);
}

Test(cache, every_flipped_bit_is_refused)
{
    gg_cache *cache = open_cache(0);
    append(cache, 0, 3);
    gg_cache_free(cache);
    size_t size, n;
    uint8_t *data = read_file("chunk-000000.ggc", &size);
    gg_cache_sequence *all;
    for (size_t i = 0; i < size; i++) {
        gorgon_error err = {0};
        data[i] ^= (uint8_t)(1u << (i % 8));
        cr_assert_neq(gg_cache_chunk_parse(data, size, "bent", GG_CACHE_HIDDEN, &all, &n, &err),
                      GORGON_OK, "byte %zu", i);
        cr_assert(strncmp(err.message, "bent: ", 6) == 0, "%s", err.message);
        data[i] ^= (uint8_t)(1u << (i % 8));
    }
    data[size - 1] ^= 1; // of the last part, read only when the chunk is
    write_file("chunk-000000.ggc", data, size);
    gorgon_error err = {0};
    cr_assert_eq(gg_cache_open_existing(directory, identity().base, &cache, &err), GORGON_OK);
    cr_assert_eq(gg_cache_read(cache, 0, GG_CACHE_HIDDEN, &all, &n, &err), GORGON_ERROR_FORMAT);
    cr_assert(strstr(err.message, "chunk-000000.ggc: checksum of hidden states"), "%s",
              err.message);
    cr_assert_eq(gg_cache_read(cache, 0, GG_CACHE_TEXT, &all, &n, &err), GORGON_OK, "%s",
                 err.message);
    for (size_t k = 0; k < n; k++)
        check_sequence(&all[k], false);
    cr_assert(n > 0);
    gg_cache_chunk_free(all, n);
    gg_cache_free(cache);
    gg_free(data);
}

Test(cache, limit_leaves_hidden_states_out)
{
    gg_cache_sequence first = make_sequence(0);
    uint64_t one = first.n_records * D * 2;
    free_sequence(&first);
    gg_cache *cache = open_cache(2 * one);
    append(cache, 0, 3);
    append(cache, 3, 10);
    gg_cache_free(cache);
    cache = open_cache(2 * one);
    uint64_t kept = 0;
    size_t left_out = 0;
    for (size_t chunk = 0; chunk < 2; chunk++) {
        gg_cache_sequence *all;
        size_t n;
        cr_assert_eq(gg_cache_read(cache, chunk, GG_CACHE_HIDDEN, &all, &n, NULL), GORGON_OK);
        for (size_t i = 0; i < n; i++) {
            kept += all[i].hidden ? all[i].n_records * D * 2 : 0;
            left_out += !all[i].hidden;
            check_sequence(&all[i], all[i].hidden != NULL);
        }
        gg_cache_chunk_free(all, n);
    }
    cr_assert(kept > 0 && kept <= 2 * one && left_out >= 5);
    gg_cache_free(cache);
}

Test(cache, another_identity_is_refused)
{
    gg_cache *cache = open_cache(0), *other;
    append(cache, 0, 3);
    gg_cache_free(cache);
    gorgon_error err = {0};
    gg_cache_identity id = identity();
    id.seed++;
    cr_assert_eq(gg_cache_open(directory, &id, 0, &other, &err), GORGON_ERROR_MISMATCH);
    cr_assert(strstr(err.message, "seed 5, not 6"), "%s", err.message);
    id = identity();
    id.options_hash++;
    cr_assert_eq(gg_cache_open(directory, &id, 0, &other, NULL), GORGON_ERROR_MISMATCH);
    id = identity();
    id.base.tensors++;
    cr_assert_eq(gg_cache_open(directory, &id, 0, &other, NULL), GORGON_ERROR_MISMATCH);
    cr_assert_eq(gg_cache_open_existing(directory, id.base, &other, NULL), GORGON_ERROR_MISMATCH);
    // A chunk of another cache among ours.
    size_t size;
    uint8_t *chunk = read_file("chunk-000000.ggc", &size);
    cr_assert_eq(gg_cache_remove(directory, NULL), GORGON_OK);
    id = identity();
    id.seed++;
    cr_assert_eq(gg_cache_open(directory, &id, 0, &other, NULL), GORGON_OK);
    gg_cache_free(other);
    write_file("chunk-000000.ggc", chunk, size);
    err = (gorgon_error){0};
    cr_assert_eq(gg_cache_open(directory, &id, 0, &other, &err), GORGON_ERROR_MISMATCH);
    cr_assert(strstr(err.message, "chunk-000000.ggc: belongs to another cache"), "%s", err.message);
    gg_free(chunk);
}

Test(cache, missing_pieces_are_named)
{
    gorgon_error err;
    cr_assert_eq(open_existing(&err), GORGON_ERROR_IO);
    cr_assert(strstr(err.message, "gorgon synth"), "%s", err.message);
    gg_cache *cache = open_cache(0);
    append(cache, 0, 3);
    append(cache, 3, 6);
    cr_assert_eq(gg_cache_finish(cache, NULL), GORGON_OK);
    gg_cache_free(cache);
    size_t size;
    char path[128];
    uint8_t *last = read_file("chunk-000001.ggc", &size);
    file_path(path, "chunk-000001.ggc");
    unlink(path);
    cr_assert_eq(open_existing(&err), GORGON_ERROR_FORMAT);
    cr_assert(strstr(err.message, "counts 2 chunks"), "%s", err.message);
    write_file("chunk-000001.ggc", last, size);
    file_path(path, "chunk-000000.ggc");
    unlink(path);
    cr_assert_eq(open_existing(&err), GORGON_ERROR_FORMAT);
    cr_assert(strstr(err.message, "one is missing"), "%s", err.message);
    const char *broken = "{\"format\": \"gorgon-cache\", \"version\": 1}";
    write_file("cache.json", (const uint8_t *)broken, strlen(broken));
    cr_assert_eq(open_existing(&err), GORGON_ERROR_FORMAT);
    write_file("cache.json", (const uint8_t *)broken, strlen(broken) - 3);
    cr_assert_eq(open_existing(&err), GORGON_ERROR_FORMAT);
    gg_free(last);
}

Test(cache, bad_sequences_are_not_written)
{
    gg_cache *cache = open_cache(0);
    gorgon_error err = {0};
    gg_cache_sequence s = make_sequence(0);
    uint32_t last = s.positions[s.n_records - 1];
    s.positions[s.n_records - 1] = s.n_tokens - 1; // no token follows
    cr_assert_eq(gg_cache_append(cache, 0, 1, &s, 1, &err), GORGON_ERROR_ARGUMENT);
    cr_assert(strstr(err.message, "positions"), "%s", err.message);
    s.positions[s.n_records - 1] = last;
    s.tokens[3] = -1;
    cr_assert_eq(gg_cache_append(cache, 0, 1, &s, 1, NULL), GORGON_ERROR_ARGUMENT);
    s.tokens[3] = 1;
    cr_assert_eq(gg_cache_append(cache, 1, 2, &s, 1, NULL), GORGON_ERROR_ARGUMENT);
    cr_assert_eq(gg_cache_append(cache, 0, 1, &s, 1, NULL), GORGON_OK);
    free_sequence(&s);
    gg_cache_free(cache);
}

Test(cache, failing_allocations)
{
    gg_cache *cache = open_cache(0);
    append(cache, 0, 3);
    gg_cache_free(cache);
    for (size_t at = 1;; at++) {
        gg_cache_sequence *all = NULL;
        size_t n = 0;
        gorgon_error err = {0};
        gg_alloc_fail_at(at);
        gorgon_status status = gg_cache_open_existing(directory, identity().base, &cache, &err);
        if (status == GORGON_OK)
            status = gg_cache_read(cache, 0, GG_CACHE_HIDDEN, &all, &n, &err);
        size_t made = gg_alloc_fail_at(0);
        gg_cache_chunk_free(all, n);
        gg_cache_free(cache);
        if (status == GORGON_OK) {
            cr_assert(made < at);
            break;
        }
        cr_assert_eq(status, GORGON_ERROR_MEMORY, "allocation %zu: %s", at, err.message);
    }
}

// These sequences are evaluated, never trained on: the split may not change between versions.
// Both sequences of a job (2 j and 2 j + 1) are on the same side.
Test(cache, held_out_is_stable)
{
    static const uint64_t expected[] = {34, 35, 44, 45, 48, 49};
    size_t n = 0, share = 0;
    for (uint64_t i = 0; i < 100; i++) {
        if (gg_cache_held_out(i, 0.05)) {
            cr_assert_lt(n, sizeof expected / sizeof *expected);
            cr_assert_eq(i, expected[n++]);
        }
    }
    cr_assert_eq(n, sizeof expected / sizeof *expected);
    for (uint64_t i = 0; i < 100000; i++) {
        share += gg_cache_held_out(i, 0.05);
        cr_assert(!gg_cache_held_out(i, 0.05) || gg_cache_held_out(i, 0.06));
    }
    cr_assert(share > 4700 && share < 5300, "%zu", share);
    cr_assert_not(gg_cache_held_out(1, 0.0));
}
