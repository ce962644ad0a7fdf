// See core/json.h.
#include "core/json.h"

#include <string.h>

#include "core/error.h"
#include "core/file.h"
#include "core/limits.h"

enum {
    // What jansson allocates per value, by the character that announces it.
    OBJECT_BYTES = 320,
    ARRAY_BYTES = 128,
    VALUE_BYTES = 96,
    TEXT_COPIES = 3, // of each byte of a text while it is parsed
};

typedef struct limits {
    size_t bytes;  // of a file
    size_t memory; // of its values
} limits;

static const limits common = {GG_MAX_JSON, (size_t)40 << 20};
static const limits large = {GG_MAX_TOKENIZER, (size_t)1 << 30};

typedef struct scan {
    size_t depth, bytes, most;
} scan;

static bool weigh(scan *s, char c)
{
    if (c == '{' || c == '[') {
        s->bytes += c == '{' ? OBJECT_BYTES : ARRAY_BYTES;
        return ++s->depth <= GG_MAX_NESTING;
    }
    if (c == '}' || c == ']')
        s->depth -= s->depth > 0;
    if (c == ',' || c == ':')
        s->bytes += VALUE_BYTES;
    return s->bytes <= s->most;
}

static gorgon_status check_size(const char *text, size_t n, const char *label, size_t memory,
                                gorgon_error *err)
{
    scan s = {.most = memory};
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        if (quoted)
            s.bytes += TEXT_COPIES;
        if (quoted && text[i] == '\\')
            i++;
        else if (text[i] == '"')
            quoted = !quoted;
        else if (!weigh(&s, quoted ? ' ' : text[i]))
            return gg_fail(err, GORGON_ERROR_FORMAT,
                           "%s: JSON at byte %zu: expected values nested at most %d deep in at "
                           "most %zu MB of memory, got more",
                           label, i, GG_MAX_NESTING, memory >> 20);
    }
    return GORGON_OK;
}

static gorgon_status parse(const void *text, size_t n, const char *label, const limits *limit,
                           json_t **out, gorgon_error *err)
{
    json_error_t problem;
    *out = NULL;
    gorgon_status status = check_size(text, n, label, limit->memory, err);
    if (status != GORGON_OK)
        return status;
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &problem);
    if (*out)
        return GORGON_OK;
    // It says nothing where it finds no memory to begin with.
    if (!problem.text[0] || json_error_code(&problem) == json_error_out_of_memory)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: no memory for JSON of %zu bytes", label, n);
    return gg_fail(err, GORGON_ERROR_FORMAT, "%s: not JSON at byte %d: %.100s", label,
                   problem.position, problem.text);
}

static gorgon_status read_file(const char *path, const limits *limit, json_t **out,
                               gorgon_error *err)
{
    gg_mapping file;
    *out = NULL;
    const char *label = gg_path_end(path);
    gorgon_status status = gg_map_file(path, &file, err);
    if (status != GORGON_OK)
        return status;
    if (file.size > limit->bytes)
        status =
            gg_fail(err, GORGON_ERROR_FORMAT, "%s: expected at most %zu bytes of JSON, got %zu",
                    label, limit->bytes, file.size);
    else
        status = parse(file.data, file.size, label, limit, out, err);
    gg_unmap(&file);
    if (status == GORGON_OK && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        status = gg_fail(err, GORGON_ERROR_FORMAT, "%s: expected a JSON object", label);
    }
    return status;
}

gorgon_status gg_json_parse(const void *text, size_t n, const char *label, json_t **out,
                            gorgon_error *err)
{
    return parse(text, n, label, &common, out, err);
}

gorgon_status gg_json_read(const char *path, json_t **out, gorgon_error *err)
{
    return read_file(path, &common, out, err);
}

gorgon_status gg_json_read_large(const char *path, json_t **out, gorgon_error *err)
{
    return read_file(path, &large, out, err);
}

const char *gg_json_kind(const json_t *value)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "an object",   [JSON_ARRAY] = "an array", [JSON_STRING] = "a string",
        [JSON_INTEGER] = "an integer", [JSON_REAL] = "a number",  [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",        [JSON_NULL] = "null",
    };
    return value ? names[json_typeof(value)] : "nothing";
}
