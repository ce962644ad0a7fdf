// Look-ups in a GGUF view. The view was validated when it was built: nothing here can run past it.
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "gguf_view.h"

static const struct {
    const char *name;
    size_t bytes;
} kinds[] = {
    [GG_GGUF_U8] = {"u8", 1},   [GG_GGUF_I8] = {"i8", 1},       [GG_GGUF_U16] = {"u16", 2},
    [GG_GGUF_I16] = {"i16", 2}, [GG_GGUF_U32] = {"u32", 4},     [GG_GGUF_I32] = {"i32", 4},
    [GG_GGUF_F32] = {"f32", 4}, [GG_GGUF_BOOL] = {"bool", 1},   [GG_GGUF_STRING] = {"string", 0},
    [GG_GGUF_U64] = {"u64", 8}, [GG_GGUF_ARRAY] = {"array", 0}, [GG_GGUF_I64] = {"i64", 8},
    [GG_GGUF_F64] = {"f64", 8},
};

const char *gg_gguf_kind_name(gg_gguf_kind kind)
{
    return (size_t)kind < sizeof kinds / sizeof kinds[0] ? kinds[kind].name : NULL;
}

size_t gg_gguf_kind_bytes(gg_gguf_kind kind)
{
    return (size_t)kind < sizeof kinds / sizeof kinds[0] ? kinds[kind].bytes : 0;
}

uint64_t gg_gguf_load(const uint8_t *p, size_t n)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++)
        value |= (uint64_t)p[i] << (8 * i);
    return value;
}

static int compare_names(const char *a, size_t a_length, const char *b, size_t b_length)
{
    if (a_length != b_length)
        return a_length < b_length ? -1 : 1;
    return memcmp(a, b, a_length);
}

int gg_gguf_ref_compare(const void *a, const void *b)
{
    const gg_gguf_ref *x = a;
    const gg_gguf_ref *y = b;
    int order = compare_names(x->name, x->length, y->name, y->length);
    return order != 0 ? order : x->at < y->at ? -1 : x->at > y->at;
}

static const gg_gguf_ref *find_ref(const gg_gguf_ref *refs, size_t n, const char *name)
{
    size_t length = strlen(name);
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_names(refs[middle].name, refs[middle].length, name, length);
        if (order == 0)
            return &refs[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const char *gg_gguf_path(const gg_gguf *file)
{
    return file->path;
}

uint64_t gg_gguf_size(const gg_gguf *file)
{
    return file->size;
}

size_t gg_gguf_tensor_count(const gg_gguf *file)
{
    return file->n_tensors;
}

const gg_tensor *gg_gguf_tensor_at(const gg_gguf *file, size_t index)
{
    return index < file->n_tensors ? &file->tensors[index] : NULL;
}

const gg_tensor *gg_gguf_find(const gg_gguf *file, const char *name)
{
    const gg_gguf_ref *ref = find_ref(file->names, file->n_tensors, name);
    return ref ? &file->tensors[ref->item] : NULL;
}

gorgon_status gg_gguf_require(const gg_gguf *file, const char *name, const gg_tensor **out,
                              gorgon_error *err)
{
    *out = NULL;
    const gg_tensor *tensor = gg_gguf_find(file, name);
    if (!tensor)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: tensor '%s' is missing", file->label, name);
    if (!gg_dtype_name(tensor->type))
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "%s: tensor '%s' has type %s, which this build does not read", file->label,
                       name, tensor->type_name);
    *out = tensor;
    return GORGON_OK;
}

size_t gg_gguf_key_count(const gg_gguf *file)
{
    return file->n_entries;
}

const char *gg_gguf_key_at(const gg_gguf *file, size_t index, gg_gguf_kind *kind)
{
    if (index >= file->n_entries)
        return NULL;
    if (kind)
        *kind = file->entries[index].kind;
    return file->entries[index].key;
}

static const gg_gguf_entry *find_entry(const gg_gguf *file, const char *key)
{
    const gg_gguf_ref *ref = find_ref(file->keys, file->n_entries, key);
    return ref ? &file->entries[ref->item] : NULL;
}

bool gg_gguf_has(const gg_gguf *file, const char *key)
{
    return find_entry(file, key) != NULL;
}

static gorgon_status fail_missing(const gg_gguf *file, const char *key, gorgon_error *err)
{
    return gg_fail(err, GORGON_ERROR_FORMAT, "%s: key '%s' is missing", file->label, key);
}

static gorgon_status fail_kind(const gg_gguf *file, const gg_gguf_entry *entry,
                               const char *expected, gorgon_error *err)
{
    bool array = entry->kind == GG_GGUF_ARRAY;
    return gg_fail(err, GORGON_ERROR_FORMAT, "%s: key '%s' at byte %zu: expected %s, got %s%s",
                   file->label, entry->key, entry->at, expected,
                   array ? "an array of " : "a value of kind ",
                   gg_gguf_kind_name(array ? entry->element : entry->kind));
}

// The value at p as a signed number; false when it is not an integer or exceeds INT64_MAX.
static bool load_integer(gg_gguf_kind kind, const uint8_t *p, int64_t *out)
{
    uint64_t bits = gg_gguf_load(p, gg_gguf_kind_bytes(kind));
    switch (kind) {
    case GG_GGUF_I8:
        *out = (int64_t)bits - (bits > INT8_MAX ? 0x100 : 0);
        return true;
    case GG_GGUF_I16:
        *out = (int64_t)bits - (bits > INT16_MAX ? 0x10000 : 0);
        return true;
    case GG_GGUF_I32:
        *out = (int64_t)bits - (bits > INT32_MAX ? INT64_C(0x100000000) : 0);
        return true;
    case GG_GGUF_I64:
        memcpy(out, &bits, sizeof bits);
        return true;
    case GG_GGUF_U8:
    case GG_GGUF_U16:
    case GG_GGUF_U32:
    case GG_GGUF_U64:
        *out = (int64_t)(bits & INT64_MAX);
        return bits <= INT64_MAX;
    default:
        return false;
    }
}

static bool load_float(gg_gguf_kind kind, const uint8_t *p, float *out)
{
    uint64_t bits = gg_gguf_load(p, gg_gguf_kind_bytes(kind));
    if (kind == GG_GGUF_F32) {
        uint32_t low = (uint32_t)bits;
        memcpy(out, &low, sizeof low);
        return true;
    }
    if (kind != GG_GGUF_F64)
        return false;
    double wide;
    memcpy(&wide, &bits, sizeof bits);
    *out = (float)wide;
    return true;
}

gorgon_status gg_gguf_get_u64(const gg_gguf *file, const char *key, uint64_t *out,
                              gorgon_error *err)
{
    const gg_gguf_entry *entry = find_entry(file, key);
    if (!entry)
        return fail_missing(file, key, err);
    if (entry->kind == GG_GGUF_U64) {
        *out = gg_gguf_load(entry->value, 8);
        return GORGON_OK;
    }
    int64_t value;
    if (!load_integer(entry->kind, entry->value, &value))
        return fail_kind(file, entry, "an integer", err);
    if (value < 0)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: key '%s' at byte %zu: expected an integer of at least 0, got %" PRId64,
                       file->label, key, entry->at, value);
    *out = (uint64_t)value;
    return GORGON_OK;
}

gorgon_status gg_gguf_get_f32(const gg_gguf *file, const char *key, float *out, gorgon_error *err)
{
    const gg_gguf_entry *entry = find_entry(file, key);
    if (!entry)
        return fail_missing(file, key, err);
    if (!load_float(entry->kind, entry->value, out))
        return fail_kind(file, entry, "a float", err);
    return GORGON_OK;
}

gorgon_status gg_gguf_get_bool(const gg_gguf *file, const char *key, bool *out, gorgon_error *err)
{
    const gg_gguf_entry *entry = find_entry(file, key);
    if (!entry)
        return fail_missing(file, key, err);
    if (entry->kind != GG_GGUF_BOOL)
        return fail_kind(file, entry, "a bool", err);
    *out = entry->value[0] != 0;
    return GORGON_OK;
}

gorgon_status gg_gguf_get_string(const gg_gguf *file, const char *key, const char **out,
                                 size_t *length, gorgon_error *err)
{
    const gg_gguf_entry *entry = find_entry(file, key);
    if (!entry)
        return fail_missing(file, key, err);
    if (entry->kind != GG_GGUF_STRING)
        return fail_kind(file, entry, "a string", err);
    *out = entry->text;
    if (length)
        *length = entry->n;
    return GORGON_OK;
}

static gorgon_status find_array(const gg_gguf *file, const char *key, const gg_gguf_entry **out,
                                gorgon_error *err)
{
    *out = find_entry(file, key);
    if (!*out)
        return fail_missing(file, key, err);
    if ((*out)->kind != GG_GGUF_ARRAY)
        return fail_kind(file, *out, "an array", err);
    return GORGON_OK;
}

gorgon_status gg_gguf_get_array(const gg_gguf *file, const char *key, gg_gguf_kind *kind, size_t *n,
                                gorgon_error *err)
{
    const gg_gguf_entry *entry;
    gorgon_status status = find_array(file, key, &entry, err);
    if (status != GORGON_OK)
        return status;
    *kind = entry->element;
    *n = entry->n;
    return GORGON_OK;
}

// As find_array, for an array of exactly n scalars.
static gorgon_status find_scalars(const gg_gguf *file, const char *key, size_t n,
                                  const gg_gguf_entry **out, gorgon_error *err)
{
    gorgon_status status = find_array(file, key, out, err);
    if (status != GORGON_OK)
        return status;
    if ((*out)->n != n)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: key '%s' at byte %zu: expected %zu elements, got %zu", file->label, key,
                       (*out)->at, n, (*out)->n);
    if (gg_gguf_kind_bytes((*out)->element) == 0)
        return fail_kind(file, *out, "an array of numbers", err);
    return GORGON_OK;
}

gorgon_status gg_gguf_array_f32(const gg_gguf *file, const char *key, float *out, size_t n,
                                gorgon_error *err)
{
    const gg_gguf_entry *entry;
    gorgon_status status = find_scalars(file, key, n, &entry, err);
    if (status != GORGON_OK)
        return status;
    size_t bytes = gg_gguf_kind_bytes(entry->element);
    for (size_t i = 0; i < n; i++) {
        int64_t integer;
        const uint8_t *p = entry->value + i * bytes;
        if (load_float(entry->element, p, &out[i]))
            continue;
        if (!load_integer(entry->element, p, &integer))
            return fail_kind(file, entry, "an array of numbers", err);
        out[i] = (float)integer;
    }
    return GORGON_OK;
}

gorgon_status gg_gguf_array_i64(const gg_gguf *file, const char *key, int64_t *out, size_t n,
                                gorgon_error *err)
{
    const gg_gguf_entry *entry;
    gorgon_status status = find_scalars(file, key, n, &entry, err);
    if (status != GORGON_OK)
        return status;
    const gg_gguf_kind kind = entry->element == GG_GGUF_BOOL ? GG_GGUF_U8 : entry->element;
    size_t bytes = gg_gguf_kind_bytes(kind);
    for (size_t i = 0; i < n; i++) {
        if (!load_integer(kind, entry->value + i * bytes, &out[i]))
            return fail_kind(file, entry, "an array of integers below 2^63", err);
    }
    return GORGON_OK;
}

bool gg_gguf_array_next_string(const gg_gguf *file, const char *key, size_t *cursor,
                               const char **text, size_t *length)
{
    const gg_gguf_entry *entry = find_entry(file, key);
    if (!entry || entry->kind != GG_GGUF_ARRAY || entry->element != GG_GGUF_STRING ||
        *cursor >= entry->value_bytes)
        return false;
    // The cursor is a byte offset into the elements, each a u64 length and its text.
    const uint8_t *element = entry->value + *cursor;
    *length = (size_t)gg_gguf_load(element, 8);
    *text = (const char *)element + 8;
    *cursor += 8 + *length;
    return true;
}
