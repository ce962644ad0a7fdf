// Typed look-ups in objects of a JSON file.
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "core/json.h"

void gg_json_show(const json_t *value, char *out, size_t size)
{
    const size_t n = value ? json_dumpb(value, out, size, JSON_ENCODE_ANY | JSON_COMPACT) : 0;
    if (n > 0 && n < size)
        out[n] = '\0';
    else
        snprintf(out, size, value ? "something longer" : "nothing");
}

const json_t *gg_json_find(gg_json_place at, const char *key)
{
    const json_t *value = json_object_get(at.object, key);
    return json_is_null(value) ? NULL : value;
}

// "expected X, got Y" for a value of the wrong kind or size.
static gorgon_status fail_value(gg_json_place at, const char *key, const json_t *value,
                                const char *expected, gorgon_error *err)
{
    char got[80];
    gg_json_show(value, got, sizeof got);
    return gg_fail(err, GORGON_ERROR_FORMAT, "%s: '%s': expected %s, got %s", at.label, key,
                   expected, got);
}

gorgon_status gg_json_size(gg_json_place at, const char *key, uint64_t low, uint64_t high,
                           const size_t *fallback, size_t *out, gorgon_error *err)
{
    const json_t *value = gg_json_find(at, key);
    char expected[80];
    if (!value && fallback) {
        *out = *fallback;
        return GORGON_OK;
    }
    const json_int_t n = json_is_integer(value) ? json_integer_value(value) : -1;
    if (n >= 0 && (uint64_t)n >= low && (uint64_t)n <= high) {
        *out = (size_t)n;
        return GORGON_OK;
    }
    snprintf(expected, sizeof expected, "a whole number from %llu to %llu", (unsigned long long)low,
             (unsigned long long)high);
    return fail_value(at, key, value, expected, err);
}

gorgon_status gg_json_real(gg_json_place at, const char *key, double low, double high,
                           const double *fallback, double *out, gorgon_error *err)
{
    const json_t *value = gg_json_find(at, key);
    char expected[80];
    if (!value && fallback) {
        *out = *fallback;
        return GORGON_OK;
    }
    *out = json_number_value(value);
    if (json_is_number(value) && *out >= low && *out <= high)
        return GORGON_OK;
    snprintf(expected, sizeof expected, "a number from %g to %g", low, high);
    return fail_value(at, key, value, expected, err);
}

gorgon_status gg_json_reals(gg_json_place at, const char *key, size_t n, double low, double high,
                            float *out, gorgon_error *err)
{
    const json_t *value = gg_json_find(at, key);
    char expected[80];
    snprintf(expected, sizeof expected, "an array of %zu numbers from %g to %g", n, low, high);
    if (!json_is_array(value))
        return fail_value(at, key, value, expected, err);
    if (json_array_size(value) != n)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: '%s': expected %s, got %zu elements",
                       at.label, key, expected, json_array_size(value));
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(value, i);
        const double number = json_number_value(item);
        if (!json_is_number(item) || !(number >= low && number <= high))
            return fail_value(at, key, item, expected, err);
        out[i] = (float)number;
    }
    return GORGON_OK;
}

gorgon_status gg_json_bool(gg_json_place at, const char *key, bool fallback, bool *out,
                           gorgon_error *err)
{
    const json_t *value = gg_json_find(at, key);
    *out = value ? json_is_true(value) : fallback;
    return !value || json_is_boolean(value) ? GORGON_OK
                                            : fail_value(at, key, value, "true or false", err);
}

gorgon_status gg_json_text(gg_json_place at, const char *key, const char **out, gorgon_error *err)
{
    const json_t *value = gg_json_find(at, key);
    *out = json_string_value(value);
    return !value || *out ? GORGON_OK : fail_value(at, key, value, "a string", err);
}

gorgon_status gg_json_object(gg_json_place at, const char *key, const json_t **out,
                             gorgon_error *err)
{
    *out = gg_json_find(at, key);
    return !*out || json_is_object(*out) ? GORGON_OK : fail_value(at, key, *out, "an object", err);
}
