// Checkpoint file: header, four arrays, content hash; little-endian. Written through a temporary,
// so that it is always whole.
#include "train_state.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"

static const char MAGIC[8] = "GGTRAIN";
enum { VERSION = 2, HEAD = 8, POINT = 4, CHUNK = 1 << 14 };
enum { WORDS = HEAD + POINT * GG_TRAIN_HISTORY };

gorgon_status gg_train_state_create(size_t n, uint64_t identity, gg_train_state *state,
                                    gorgon_error *err)
{
    *state = (gg_train_state){.n = n, .identity = identity};
    state->parameters = gg_alloc(n, sizeof(float));
    state->first = gg_alloc(n, sizeof(float));
    state->second = gg_alloc(n, sizeof(float));
    state->best = gg_alloc(n, sizeof(float));
    if (state->parameters && state->first && state->second && state->best)
        return GORGON_OK;
    gg_train_state_clear(state);
    return gg_fail(err, GORGON_ERROR_MEMORY, "training state: no memory for %zu parameters", n);
}

void gg_train_state_clear(gg_train_state *state)
{
    gg_free(state->parameters);
    gg_free(state->first);
    gg_free(state->second);
    gg_free(state->best);
    *state = (gg_train_state){0};
}

static uint64_t double_bits(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static double bits_double(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static void pack_words(const gg_train_state *s, uint64_t words[WORDS])
{
    memset(words, 0, WORDS * sizeof *words);
    const uint64_t head[HEAD] = {
        s->identity, s->step,      double_bits(s->loss_sum),     s->loss_steps, s->n_history,
        s->n,        s->best_step, double_bits(s->best_accepted)};
    memcpy(words, head, sizeof head);
    for (size_t i = 0; i < GG_TRAIN_HISTORY; i++) {
        const gg_train_point *p = &s->history[i];
        const uint64_t point[POINT] = {p->step, double_bits(p->trained), double_bits(p->held_out),
                                       double_bits(p->accepted)};
        memcpy(words + HEAD + POINT * i, point, sizeof point);
    }
}

static void unpack_words(gg_train_state *s, const uint64_t words[WORDS])
{
    s->step = words[1];
    s->loss_sum = bits_double(words[2]);
    s->loss_steps = words[3];
    s->n_history = words[4];
    s->best_step = words[6];
    s->best_accepted = bits_double(words[7]);
    for (size_t i = 0; i < GG_TRAIN_HISTORY; i++) {
        const uint64_t *point = words + HEAD + POINT * i;
        s->history[i] = (gg_train_point){point[0], bits_double(point[1]), bits_double(point[2]),
                                         bits_double(point[3])};
    }
}

static void put_word(uint8_t *p, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

// Writes x[n] as little-endian floats and folds them into *hash.
static gorgon_status write_floats(gorgon_output *out, const float *x, size_t n, uint64_t *hash,
                                  gorgon_error *err)
{
    uint8_t bytes[CHUNK];
    gorgon_status status = GORGON_OK;
    for (size_t at = 0; at < n && status == GORGON_OK; at += CHUNK / 4) {
        size_t part = n - at < CHUNK / 4 ? n - at : CHUNK / 4;
        for (size_t i = 0; i < part; i++) {
            uint32_t bits;
            memcpy(&bits, &x[at + i], sizeof bits);
            put_word(bytes + 4 * i, bits, 4);
        }
        *hash = gg_hash(bytes, 4 * part, *hash);
        status = gorgon_output_write(out, bytes, 4 * part, err);
    }
    return status;
}

gorgon_status gg_train_state_save(const gg_train_state *state, const char *path, gorgon_error *err)
{
    uint8_t header[16 + 8 * WORDS], tail[8];
    uint64_t words[WORDS];
    pack_words(state, words);
    memcpy(header, MAGIC, sizeof MAGIC);
    put_word(header + 8, VERSION, 8);
    for (size_t i = 0; i < WORDS; i++)
        put_word(header + 16 + 8 * i, words[i], 8);
    uint64_t hash = gg_hash(header, sizeof header, 0);
    gorgon_output *out;
    gorgon_status status = gorgon_output_create(path, &out, err);
    if (status != GORGON_OK)
        return status;
    status = gorgon_output_write(out, header, sizeof header, err);
    const float *arrays[] = {state->parameters, state->first, state->second, state->best};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays && status == GORGON_OK; i++)
        status = write_floats(out, arrays[i], state->n, &hash, err);
    put_word(tail, hash, 8);
    if (status == GORGON_OK)
        status = gorgon_output_write(out, tail, sizeof tail, err);
    if (status != GORGON_OK) {
        gorgon_output_discard(out);
        return status;
    }
    return gorgon_output_commit(out, err);
}

static bool read_floats(gg_cursor *c, float *x, size_t n, uint64_t *hash)
{
    for (size_t at = 0; at < n; at += CHUNK / 4) {
        size_t part = n - at < CHUNK / 4 ? n - at : CHUNK / 4;
        const uint8_t *bytes = gg_read_bytes(c, 4 * part, "parameters");
        if (!bytes)
            return false;
        *hash = gg_hash(bytes, 4 * part, *hash);
        for (size_t i = 0; i < part; i++) {
            const uint8_t *b = bytes + 4 * i;
            uint32_t bits =
                (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
            memcpy(&x[at + i], &bits, sizeof bits);
        }
    }
    return true;
}

static gorgon_status parse(gg_train_state *state, gg_cursor *c, const char *path, bool *resumed,
                           gorgon_error *err)
{
    uint64_t words[WORDS];
    const uint8_t *magic = gg_read_bytes(c, sizeof MAGIC, "magic");
    uint64_t version = gg_read_u64(c, "version");
    if (magic && (memcmp(magic, MAGIC, sizeof MAGIC) != 0 || version != VERSION))
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: not a training checkpoint of version %d; remove it to start over", path,
                       VERSION);
    for (size_t i = 0; i < WORDS; i++)
        words[i] = gg_read_u64(c, "header");
    if (c->status != GORGON_OK)
        return c->status;
    if (words[0] != state->identity || words[5] != state->n)
        return GORGON_OK;
    uint64_t hash = gg_hash(c->base, c->position, 0);
    bool whole = read_floats(c, state->parameters, state->n, &hash) &&
                 read_floats(c, state->first, state->n, &hash) &&
                 read_floats(c, state->second, state->n, &hash) &&
                 read_floats(c, state->best, state->n, &hash);
    uint64_t stored = gg_read_u64(c, "checksum");
    if (!whole || c->status != GORGON_OK)
        return c->status;
    if (stored != hash || gg_cursor_left(c) != 0 || words[4] > GG_TRAIN_HISTORY)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: the training checkpoint is damaged; remove it to start over", path);
    unpack_words(state, words);
    *resumed = true;
    return GORGON_OK;
}

gorgon_status gg_train_state_load(gg_train_state *state, const char *path, bool *resumed,
                                  gorgon_error *err)
{
    struct stat info;
    gg_mapping map;
    *resumed = false;
    if (stat(path, &info) != 0 && errno == ENOENT)
        return GORGON_OK;
    gorgon_status status = gg_map_file(path, &map, err);
    if (status != GORGON_OK)
        return status;
    gg_cursor c = {.base = map.data, .size = map.size, .label = path, .err = err};
    status = parse(state, &c, path, resumed, err);
    gg_unmap(&map);
    return status;
}
