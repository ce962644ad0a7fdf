// The file of measured pass costs: {"gorgon_pass_cost": 1, "entries": [{"key", "seconds": [..],
// "position_s"}]}. A key names everything that a time depends on.
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "cost.h"

enum { VERSION = 1, MAX_ENTRIES = 64, MAX_FILE = 1 << 20, KEY_BYTES = 160 };

// Kernels change between versions: bump when they do so noticeably.
static const uint64_t kernels_generation = 3;

static void make_key(const gorgon_engine *engine, char key[KEY_BYTES])
{
    gorgon_fingerprint print = gorgon_model_fingerprint(gg_engine_model(engine));
    char host[256] = "";
    if (gethostname(host, sizeof host - 1) != 0)
        host[0] = '\0';
    uint64_t machine = gg_hash(host, strlen(host), kernels_generation);
    snprintf(key, KEY_BYTES, "%016" PRIx64 "-%016" PRIx64 "-%zu-%s-%s", print.tensors, machine,
             gorgon_engine_threads(engine), gorgon_engine_cpu_level(engine),
             gg_engine_activations(engine) == GORGON_ACTIVATIONS_INT8 ? "int8" : "f32");
}

// The whole document, or NULL if it is not one of ours.
static json_t *read_document(const char *path)
{
    gg_mapping file;
    if (gg_map_file(path, &file, NULL) != GORGON_OK)
        return NULL;
    json_t *root = NULL;
    if (file.size <= MAX_FILE)
        root = json_loadb((const char *)file.data, file.size, 0, NULL);
    gg_unmap(&file);
    if (root && json_integer_value(json_object_get(root, "gorgon_pass_cost")) == VERSION &&
        json_is_array(json_object_get(root, "entries")))
        return root;
    json_decref(root);
    return NULL;
}

static size_t find_entry(const json_t *entries, const char *key)
{
    size_t i = 0;
    for (; i < json_array_size(entries); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(entries, i), "key"));
        if (name && strcmp(name, key) == 0)
            break;
    }
    return i;
}

static bool plausible(double seconds)
{
    return isfinite(seconds) && seconds > 0.0 && seconds < 1e4;
}

static bool read_entry(const json_t *entry, gg_cost *cost)
{
    const json_t *seconds = json_object_get(entry, "seconds");
    if (json_array_size(seconds) != GG_COST_KNOTS)
        return false;
    for (size_t k = 0; k < GG_COST_KNOTS; k++) {
        cost->base_s[k] = json_number_value(json_array_get(seconds, k));
        if (!plausible(cost->base_s[k]) || (k > 0 && cost->base_s[k] < cost->base_s[k - 1]))
            return false;
    }
    cost->position_s = json_number_value(json_object_get(entry, "position_s"));
    return plausible(cost->position_s);
}

bool gg_cost_load(gg_cost *cost, const char *path, const gorgon_engine *engine)
{
    char key[KEY_BYTES];
    make_key(engine, key);
    json_t *root = read_document(path);
    if (!root)
        return false;
    const json_t *entries = json_object_get(root, "entries");
    gg_cost read = {.measured = true};
    bool known = read_entry(json_array_get(entries, find_entry(entries, key)), &read);
    json_decref(root);
    if (!known)
        return false;
    gg_cost_reset(&read);
    *cost = read;
    return true;
}

static json_t *make_entry(const gg_cost *cost, const char *key)
{
    json_t *seconds = json_array();
    for (size_t k = 0; k < GG_COST_KNOTS; k++)
        json_array_append_new(seconds, json_real(cost->base_s[k]));
    return json_pack("{s:s, s:o, s:f}", "key", key, "seconds", seconds, "position_s",
                     cost->position_s);
}

static void write_document(const json_t *root, const char *path)
{
    char *text = json_dumps(root, JSON_INDENT(1));
    gorgon_output *out = NULL;
    if (text && gorgon_output_create(path, &out, NULL) == GORGON_OK) {
        gorgon_output_write(out, text, strlen(text), NULL);
        gorgon_output_commit(out, NULL);
    }
    free(text);
}

void gg_cost_store(const gg_cost *cost, const char *path, const gorgon_engine *engine)
{
    char key[KEY_BYTES];
    make_key(engine, key);
    json_t *root = read_document(path);
    if (!root)
        root = json_pack("{s:i, s:[]}", "gorgon_pass_cost", VERSION, "entries");
    json_t *entries = json_object_get(root, "entries");
    size_t at = find_entry(entries, key);
    if (at < json_array_size(entries))
        json_array_remove(entries, at);
    while (json_array_size(entries) >= MAX_ENTRIES)
        json_array_remove(entries, 0);
    json_array_append_new(entries, make_entry(cost, key));
    write_document(root, path);
    json_decref(root);
}
