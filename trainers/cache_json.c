// Reading and writing cache.json. 64-bit hashes are hexadecimal text: JSON integers are signed.
#include "cache_json.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"

enum { VERSION = 1, MAX_JSON = 1 << 16 };

char *gg_cache_path(const char *directory, const char *name)
{
    size_t n = strlen(directory), m = strlen(name);
    char *path = gg_alloc(n + m + 2, 1);
    if (!path)
        return NULL;
    memcpy(path, directory, n);
    path[n] = '/';
    memcpy(path + n + 1, name, m);
    return path;
}

static gorgon_status out_of_memory(const char *directory, gorgon_error *err)
{
    return gg_fail(err, GORGON_ERROR_MEMORY, "feature cache '%s': out of memory", directory);
}

static json_t *hex(uint64_t value)
{
    return json_sprintf("%016" PRIx64, value);
}

static json_t *to_json(const gg_cache_identity *id, const gg_cache_counts *counts)
{
    const gorgon_fingerprint *base = &id->base;
    json_t *root =
        json_pack("{s:s, s:i, s:{s:o?, s:o?, s:i, s:i, s:i}, s:o?, s:o?, s:b}", "format",
                  "gorgon-cache", "version", VERSION, "base", "vocabulary", hex(base->vocabulary),
                  "tensors", hex(base->tensors), "n_layers", (int)base->n_layers, "d_model",
                  (int)base->d_model, "n_vocab", (int)base->n_vocab, "seed", hex(id->seed),
                  "options_hash", hex(id->options_hash), "complete", (int)counts->complete);
    if (root && counts->complete) {
        json_object_set_new(root, "chunks", json_integer((json_int_t)counts->chunks));
        json_object_set_new(root, "sequences", json_integer((json_int_t)counts->sequences));
        json_object_set_new(root, "records", json_integer((json_int_t)counts->records));
    }
    return root;
}

gorgon_status gg_cache_json_write(const char *directory, const gg_cache_identity *identity,
                                  const gg_cache_counts *counts, gorgon_error *err)
{
    char *path = gg_cache_path(directory, GG_CACHE_JSON_NAME);
    json_t *root = to_json(identity, counts);
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    gorgon_status status = GORGON_OK;
    gorgon_output *out = NULL;
    if (!path || !text)
        status = out_of_memory(directory, err);
    if (status == GORGON_OK)
        status = gorgon_output_create(path, &out, err);
    if (status == GORGON_OK) {
        status = gorgon_output_write(out, text, strlen(text), err);
        if (status == GORGON_OK)
            status = gorgon_output_write(out, "\n", 1, err);
        if (status == GORGON_OK)
            status = gorgon_output_commit(out, err);
        else
            gorgon_output_discard(out);
    }
    free(text);
    json_decref(root);
    gg_free(path);
    return status;
}

static bool read_hex(const json_t *object, const char *key, uint64_t *out)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return false;
    *out = strtoull(text, NULL, 16);
    return true;
}

static bool read_count(const json_t *object, const char *key, uint64_t *out)
{
    const json_t *value = json_object_get(object, key);
    json_int_t number = json_integer_value(value);
    *out = (uint64_t)number;
    return json_is_integer(value) && number >= 0;
}

static bool read_u32(const json_t *object, const char *key, uint32_t *out)
{
    const json_t *value = json_object_get(object, key);
    json_int_t number = json_integer_value(value);
    *out = (uint32_t)number;
    return json_is_integer(value) && number >= 0 && number <= (json_int_t)UINT32_MAX;
}

static bool interpret_json(const json_t *root, gg_cache_identity *id, gg_cache_counts *counts)
{
    const json_t *base = json_object_get(root, "base");
    const json_t *complete = json_object_get(root, "complete");
    counts->complete = json_is_true(complete);
    return json_is_boolean(complete) && read_hex(root, "seed", &id->seed) &&
           read_hex(root, "options_hash", &id->options_hash) &&
           read_hex(base, "vocabulary", &id->base.vocabulary) &&
           read_hex(base, "tensors", &id->base.tensors) &&
           read_u32(base, "n_layers", &id->base.n_layers) &&
           read_u32(base, "d_model", &id->base.d_model) &&
           read_u32(base, "n_vocab", &id->base.n_vocab) &&
           (!counts->complete || (read_count(root, "chunks", &counts->chunks) &&
                                  read_count(root, "sequences", &counts->sequences) &&
                                  read_count(root, "records", &counts->records)));
}

static gorgon_status parse_json(const char *path, const gg_mapping *map, gg_cache_identity *id,
                                gg_cache_counts *counts, gorgon_error *err)
{
    json_error_t where;
    if (map->size > MAX_JSON)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: expected at most %d bytes, got %zu", path,
                       MAX_JSON, map->size);
    json_t *root = json_loadb((const char *)map->data, map->size, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: byte %d: %s", path, where.position,
                       where.text);
    const char *format = json_string_value(json_object_get(root, "format"));
    json_int_t version = json_integer_value(json_object_get(root, "version"));
    gorgon_status status = GORGON_OK;
    if (!format || strcmp(format, "gorgon-cache") != 0)
        status = gg_fail(err, GORGON_ERROR_FORMAT, "%s: not a feature cache", path);
    else if (version != VERSION)
        status = gg_fail(err, GORGON_ERROR_UNSUPPORTED, "%s: cache version %lld, expected %d", path,
                         (long long)version, VERSION);
    else if (!interpret_json(root, id, counts))
        status =
            gg_fail(err, GORGON_ERROR_FORMAT,
                    "%s: identity, counts or the complete flag are missing or malformed", path);
    json_decref(root);
    return status;
}

gorgon_status gg_cache_json_read(const char *directory, gg_cache_identity *id,
                                 gg_cache_counts *counts, bool *found, gorgon_error *err)
{
    struct stat info;
    char *path = gg_cache_path(directory, GG_CACHE_JSON_NAME);
    if (!path)
        return out_of_memory(directory, err);
    *found = stat(path, &info) == 0 || errno != ENOENT;
    gg_mapping map;
    gorgon_status status = GORGON_OK;
    if (*found) {
        status = gg_map_file(path, &map, err);
        if (status == GORGON_OK) {
            status = parse_json(path, &map, id, counts, err);
            gg_unmap(&map);
        }
    }
    gg_free(path);
    return status;
}
