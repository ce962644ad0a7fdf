// JSON from outside: parsed by jansson after a look at how deep it nests and how much memory it
// would take.
#ifndef GG_CORE_JSON_H
#define GG_CORE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gorgon/status.h"

// n bytes, any value. Duplicate keys, ill-formed UTF-8, nesting beyond GG_MAX_NESTING and whatever
// would take more than some 40 MB are refused. `label` begins the message: "a.safetensors: header".
// *out is the caller's (json_decref).
gorgon_status gg_json_parse(const void *text, size_t n, const char *label, json_t **out,
                            gorgon_error *err);
// A whole file of at most GG_MAX_JSON bytes, which must hold an object.
gorgon_status gg_json_read(const char *path, json_t **out, gorgon_error *err);
// The same for a tokenizer: GG_MAX_TOKENIZER bytes, which may take some 1 GB.
gorgon_status gg_json_read_large(const char *path, json_t **out, gorgon_error *err);
// What a value is, for messages: "an object", "a string"; "nothing" for NULL.
const char *gg_json_kind(const json_t *value);
// A value as it stands in a file, for messages: "something longer" if it is, "nothing" for NULL.
void gg_json_show(const json_t *value, char *out, size_t size);

// An object of a file, for the getters below.
typedef struct gg_json_place {
    const json_t *object;
    const char *label;
} gg_json_place;

// What stands at the key; NULL if nothing or null does.
const json_t *gg_json_find(gg_json_place at, const char *key);
// A whole number from low to high; an absent one is `fallback`, or an error where that is NULL.
gorgon_status gg_json_size(gg_json_place at, const char *key, uint64_t low, uint64_t high,
                           const size_t *fallback, size_t *out, gorgon_error *err);
gorgon_status gg_json_real(gg_json_place at, const char *key, double low, double high,
                           const double *fallback, double *out, gorgon_error *err);
// An array of n numbers, each from low to high.
gorgon_status gg_json_reals(gg_json_place at, const char *key, size_t n, double low, double high,
                            float *out, gorgon_error *err);
gorgon_status gg_json_bool(gg_json_place at, const char *key, bool fallback, bool *out,
                           gorgon_error *err);
// Borrowed from the object, NULL if absent; without NUL inside.
gorgon_status gg_json_text(gg_json_place at, const char *key, const char **out, gorgon_error *err);
gorgon_status gg_json_object(gg_json_place at, const char *key, const json_t **out,
                             gorgon_error *err);

#endif
