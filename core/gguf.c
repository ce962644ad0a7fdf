// GGUF reader: validates a file's directory and builds the view. Everything is checked here, once;
// the look-ups in gguf_get.c rely on it. Metadata are read in one pass; memory is taken only for
// counts that the remaining bytes can hold. Tensor data are never touched.
#include "core/gguf.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/limits.h"
#include "gguf_types.h"
#include "gguf_view.h"
#include "utf8.h"

enum {
    MIN_ENTRY_BYTES = 8 + 1 + 4 + 1,          // key length, key, kind, value
    MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8, // name length, name, rank, dimension, type, offset
    MIN_ARRAY_BYTES = 4 + 8,                  // element kind, count
    MIN_STRING_BYTES = 8,                     // length
    MIN_ALIGNMENT = 8,
    DEFAULT_ALIGNMENT = 32,
    SHOWN_NAME = 80, // bytes of a name in an error line of 500
};

typedef struct parser {
    gg_cursor c;
    gg_gguf *file;
    size_t arena_bytes;
    size_t alignment;
    char item[SHOWN_NAME + 16]; // what is being read: "key 'general.name'"
} parser;

// Refuses the file because of the item being read; returns false for the caller to return.
static bool reject(parser *p, size_t at, gorgon_status status, const char *format, ...)
    GG_PRINTF(4, 5);
static bool reject(parser *p, size_t at, gorgon_status status, const char *format, ...)
{
    char detail[280];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    if (p->c.status == GORGON_OK)
        p->c.status =
            gg_fail(p->c.err, status, "%s: %s at byte %zu: %s", p->c.label, p->item, at, detail);
    return false;
}

static bool out_of_memory(parser *p)
{
    return reject(p, p->c.position, GORGON_ERROR_MEMORY, "out of memory");
}

static void set_item(parser *p, const char *kind, const char *name, size_t length)
{
    int shown = (int)(length < SHOWN_NAME ? length : SHOWN_NAME);
    snprintf(p->item, sizeof p->item, "%s '%.*s'", kind, shown, name);
}

// True when `count` items of at least `minimum` bytes fit into the rest of the file.
static bool check_count(parser *p, size_t at, uint64_t count, size_t minimum, uint64_t cap)
{
    size_t left = gg_cursor_left(&p->c);
    if (count > cap)
        return reject(p, at, GORGON_ERROR_FORMAT,
                      "expected a count of at most %" PRIu64 ", got %" PRIu64, cap, count);
    if (count > left / minimum)
        return reject(p, at, GORGON_ERROR_FORMAT,
                      "expected a count of at most %zu (%zu bytes follow), got %" PRIu64,
                      left / minimum, left, count);
    return true;
}

// Reads the name of item number `index` into ref and makes it the item that messages name.
static bool read_name(parser *p, const char *kind, size_t index, gg_gguf_ref *ref)
{
    snprintf(p->item, sizeof p->item, "name of %s %zu", kind, index);
    size_t at = p->c.position;
    uint64_t length = gg_read_u64(&p->c, p->item);
    if (p->c.status != GORGON_OK)
        return false;
    if (length == 0 || length > GG_MAX_NAME)
        return reject(p, at, GORGON_ERROR_FORMAT, "expected 1 to %d bytes, got %" PRIu64,
                      GG_MAX_NAME, length);
    const uint8_t *bytes = gg_read_bytes(&p->c, (size_t)length, p->item);
    if (!bytes)
        return false;
    if (!gg_utf8_printable((const char *)bytes, (size_t)length))
        return reject(p, at, GORGON_ERROR_FORMAT,
                      "expected UTF-8 without control characters, got other bytes");
    *ref = (gg_gguf_ref){(const char *)bytes, (size_t)length, index, at};
    p->arena_bytes += (size_t)length + 1;
    set_item(p, kind, ref->name, ref->length);
    return true;
}

static const uint8_t *read_string(parser *p, size_t *length)
{
    size_t at = p->c.position;
    uint64_t n = gg_read_u64(&p->c, p->item);
    if (p->c.status == GORGON_OK && n > GG_MAX_STRING)
        reject(p, at, GORGON_ERROR_FORMAT, "expected a string of at most %u bytes, got %" PRIu64,
               GG_MAX_STRING, n);
    *length = (size_t)n;
    return gg_read_bytes(&p->c, (size_t)n, p->item);
}

static bool read_kind(parser *p, gg_gguf_kind *kind)
{
    size_t at = p->c.position;
    uint32_t id = gg_read_u32(&p->c, p->item);
    if (id > GG_GGUF_F64)
        return reject(p, at, GORGON_ERROR_FORMAT, "expected a value kind of 0 to 12, got %" PRIu32,
                      id);
    *kind = (gg_gguf_kind)id;
    return p->c.status == GORGON_OK;
}

static bool check_bools(parser *p, const uint8_t *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (values[i] > 1)
            return reject(p, (size_t)(values - p->c.base) + i, GORGON_ERROR_FORMAT,
                          "expected a bool of 0 or 1, got %u", values[i]);
    }
    return true;
}

// Passes over n values of a kind that is no array.
static bool read_values(parser *p, gg_gguf_kind kind, size_t n)
{
    if (kind == GG_GGUF_STRING) {
        size_t length;
        for (size_t i = 0; i < n; i++) {
            if (!read_string(p, &length))
                return false;
        }
        return true;
    }
    const uint8_t *values = gg_read_bytes(&p->c, n * gg_gguf_kind_bytes(kind), p->item);
    return values && (kind != GG_GGUF_BOOL || check_bools(p, values, n));
}

static bool read_array_header(parser *p, gg_gguf_kind *kind, size_t *n)
{
    if (!read_kind(p, kind))
        return false;
    size_t minimum = gg_gguf_kind_bytes(*kind);
    if (minimum == 0)
        minimum = *kind == GG_GGUF_STRING ? MIN_STRING_BYTES : MIN_ARRAY_BYTES;
    size_t at = p->c.position;
    uint64_t count = gg_read_u64(&p->c, p->item);
    if (p->c.status != GORGON_OK || !check_count(p, at, count, minimum, SIZE_MAX))
        return false;
    *n = (size_t)count;
    return true;
}

// Reads an array with all that is nested in it; `left` counts the arrays still to come per depth.
static bool read_array(parser *p, gg_gguf_entry *entry)
{
    if (!read_array_header(p, &entry->element, &entry->n))
        return false;
    entry->value = p->c.base + p->c.position;
    size_t left[GG_MAX_NESTING] = {0};
    size_t depth = 0;
    gg_gguf_kind kind = entry->element;
    size_t n = entry->n;
    for (;;) {
        if (kind != GG_GGUF_ARRAY) {
            if (!read_values(p, kind, n))
                return false;
        } else if (++depth == GG_MAX_NESTING) {
            return reject(p, p->c.position, GORGON_ERROR_FORMAT,
                          "expected arrays nested at most %d deep, got more", GG_MAX_NESTING);
        } else {
            left[depth] = n;
        }
        while (depth > 0 && left[depth] == 0)
            depth--;
        if (depth == 0)
            break;
        left[depth]--;
        if (!read_array_header(p, &kind, &n))
            return false;
    }
    entry->value_bytes = (size_t)(p->c.base + p->c.position - entry->value);
    return true;
}

static bool read_alignment(parser *p, const gg_gguf_entry *entry)
{
    if (entry->kind != GG_GGUF_U32)
        return reject(p, entry->at, GORGON_ERROR_FORMAT, "expected a u32, got %s",
                      gg_gguf_kind_name(entry->kind));
    uint64_t value = gg_gguf_load(entry->value, 4);
    if (value < MIN_ALIGNMENT || (value & (value - 1)) != 0)
        return reject(p, entry->at, GORGON_ERROR_FORMAT,
                      "expected a power of two of at least %d, got %" PRIu64, MIN_ALIGNMENT, value);
    p->alignment = (size_t)value;
    return true;
}

static bool read_entry(parser *p, size_t index)
{
    gg_gguf_entry *entry = &p->file->entries[index];
    gg_gguf_ref *ref = &p->file->keys[index];
    if (!read_name(p, "key", index, ref) || !read_kind(p, &entry->kind))
        return false;
    entry->at = ref->at;
    if (entry->kind == GG_GGUF_ARRAY) {
        if (!read_array(p, entry))
            return false;
    } else if (entry->kind == GG_GGUF_STRING) {
        entry->value = read_string(p, &entry->n);
        if (!entry->value)
            return false;
        p->arena_bytes += entry->n + 1;
    } else {
        entry->value = p->c.base + p->c.position;
        if (!read_values(p, entry->kind, 1))
            return false;
    }
    if (ref->length == strlen("general.alignment") &&
        memcmp(ref->name, "general.alignment", ref->length) == 0)
        return read_alignment(p, entry);
    return true;
}

static bool read_shape(parser *p, gg_tensor *t)
{
    size_t at = p->c.position;
    uint32_t n_dims = gg_read_u32(&p->c, p->item);
    if (p->c.status == GORGON_OK && (n_dims == 0 || n_dims > GG_MAX_DIMS))
        return reject(p, at, GORGON_ERROR_FORMAT, "expected 1 to %d dimensions, got %" PRIu32,
                      GG_MAX_DIMS, n_dims);
    t->n_dims = n_dims;
    for (size_t i = 0; i < GG_MAX_DIMS; i++)
        t->dims[i] = i < t->n_dims ? gg_read_u64(&p->c, p->item) : 1;
    while (t->n_dims > 2 && t->dims[t->n_dims - 1] == 1) // as ggml counts them
        t->n_dims--;
    return p->c.status == GORGON_OK;
}

// Reads one tensor's description; t->offset stays relative until the data section is known.
static bool read_tensor(parser *p, size_t index)
{
    gg_tensor *t = &p->file->tensors[index];
    if (!read_name(p, "tensor", index, &p->file->names[index]) || !read_shape(p, t))
        return false;
    size_t at = p->c.position;
    uint32_t id = gg_read_u32(&p->c, p->item);
    t->offset = gg_read_u64(&p->c, p->item);
    if (p->c.status != GORGON_OK)
        return false;
    const gg_gguf_type *type = gg_gguf_type_get(id);
    if (!type)
        return reject(p, at, GORGON_ERROR_FORMAT,
                      "expected the id of a GGML type, got unknown type %" PRIu32, id);
    t->type = (gg_dtype)id;
    t->type_name = type->name;
    const char *problem = gg_gguf_type_span(type, t->dims, t->n_dims, &t->bytes);
    if (problem)
        return reject(p, at, GORGON_ERROR_FORMAT,
                      "expected a shape that %s can hold, got %" PRIu64 " x %" PRIu64 " x %" PRIu64
                      " x %" PRIu64 ": %s",
                      type->name, t->dims[0], t->dims[1], t->dims[2], t->dims[3], problem);
    return true;
}

// Places every tensor in the data section, which starts at `start`.
static bool place_tensors(parser *p, size_t start)
{
    gg_gguf *file = p->file;
    size_t room = start < file->size ? file->size - start : 0;
    for (size_t i = 0; i < file->n_tensors; i++) {
        gg_tensor *t = &file->tensors[i];
        const gg_gguf_ref *ref = &file->names[i];
        set_item(p, "tensor", ref->name, ref->length);
        if (t->offset % p->alignment != 0)
            return reject(p, ref->at, GORGON_ERROR_FORMAT,
                          "expected a data offset that is a multiple of %zu, got %" PRIu64,
                          p->alignment, t->offset);
        if (t->offset > room || t->bytes > room - t->offset)
            return reject(p, ref->at, GORGON_ERROR_FORMAT,
                          "expected %zu bytes of data inside the file of %zu bytes, got offset "
                          "%zu + %" PRIu64,
                          t->bytes, file->size, start, t->offset);
        t->data = file->data + start + (size_t)t->offset;
        t->offset += start;
    }
    return true;
}

static int compare_offsets(const void *a, const void *b)
{
    const gg_tensor *x = *(const gg_tensor *const *)a;
    const gg_tensor *y = *(const gg_tensor *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static bool check_overlap(parser *p)
{
    gg_gguf *file = p->file;
    const gg_tensor **order = gg_alloc(file->n_tensors, sizeof *order);
    if (!order)
        return out_of_memory(p);
    for (size_t i = 0; i < file->n_tensors; i++)
        order[i] = &file->tensors[i];
    qsort(order, file->n_tensors, sizeof *order, compare_offsets);
    bool good = true;
    for (size_t i = 1; good && i < file->n_tensors; i++) {
        const gg_tensor *before = order[i - 1];
        if (order[i]->offset - before->offset >= before->bytes)
            continue;
        set_item(p, "tensor", order[i]->name, strlen(order[i]->name));
        good = reject(p, file->names[order[i] - file->tensors].at, GORGON_ERROR_FORMAT,
                      "expected data of its own, got byte %" PRIu64 " inside tensor '%.*s'",
                      order[i]->offset, SHOWN_NAME, before->name);
    }
    gg_free(order);
    return good;
}

static const char *intern(char **arena, const void *bytes, size_t n)
{
    char *copy = *arena;
    memcpy(copy, bytes, n);
    *arena += n + 1; // the arena is zeroed: the terminator is there
    return copy;
}

// Copies keys, names and scalar strings out of the file, where nothing is NUL-terminated.
static bool intern_all(parser *p)
{
    gg_gguf *file = p->file;
    char *arena = file->arena = gg_alloc(p->arena_bytes, 1);
    if (!arena)
        return out_of_memory(p);
    for (size_t i = 0; i < file->n_entries; i++) {
        gg_gguf_entry *entry = &file->entries[i];
        file->keys[i].name = entry->key = intern(&arena, file->keys[i].name, file->keys[i].length);
        if (entry->kind == GG_GGUF_STRING)
            entry->text = intern(&arena, entry->value, entry->n);
    }
    for (size_t i = 0; i < file->n_tensors; i++) {
        gg_gguf_ref *ref = &file->names[i];
        ref->name = file->tensors[i].name = intern(&arena, ref->name, ref->length);
    }
    return true;
}

// Sorts the index of names and refuses a name that occurs twice.
static bool sort_refs(parser *p, const char *kind, gg_gguf_ref *refs, size_t n)
{
    qsort(refs, n, sizeof *refs, gg_gguf_ref_compare);
    for (size_t i = 1; i < n; i++) {
        if (refs[i].length != refs[i - 1].length ||
            memcmp(refs[i].name, refs[i - 1].name, refs[i].length) != 0)
            continue;
        set_item(p, kind, refs[i].name, refs[i].length);
        return reject(p, refs[i].at, GORGON_ERROR_FORMAT,
                      "expected a name of its own, got one already used at byte %zu",
                      refs[i - 1].at);
    }
    return true;
}

static bool read_header(parser *p, uint64_t *n_tensors, uint64_t *n_entries)
{
    snprintf(p->item, sizeof p->item, "GGUF header");
    const uint8_t *magic = gg_read_bytes(&p->c, 4, p->item);
    if (!magic)
        return false;
    if (memcmp(magic, "GGUF", 4) != 0)
        return reject(p, 0, GORGON_ERROR_FORMAT,
                      "expected the bytes 47 47 55 46 (\"GGUF\"), got %02x %02x %02x %02x",
                      magic[0], magic[1], magic[2], magic[3]);
    uint32_t version = gg_read_u32(&p->c, p->item);
    if (p->c.status == GORGON_OK && version != 0 && (version & 0xffff) == 0)
        return reject(p, 4, GORGON_ERROR_UNSUPPORTED,
                      "expected a little-endian file, got a big-endian one");
    if (p->c.status == GORGON_OK && version != 2 && version != 3)
        return reject(p, 4, version == 1 ? GORGON_ERROR_UNSUPPORTED : GORGON_ERROR_FORMAT,
                      "expected version 2 or 3, got %" PRIu32, version);
    *n_tensors = gg_read_u64(&p->c, p->item);
    *n_entries = gg_read_u64(&p->c, p->item);
    return p->c.status == GORGON_OK;
}

static bool read_directory(parser *p)
{
    gg_gguf *file = p->file;
    uint64_t n_tensors = 0, n_entries = 0;
    if (!read_header(p, &n_tensors, &n_entries))
        return false;
    snprintf(p->item, sizeof p->item, "tensor count");
    if (!check_count(p, 8, n_tensors, MIN_TENSOR_BYTES, GG_MAX_TENSORS))
        return false;
    snprintf(p->item, sizeof p->item, "key count");
    if (!check_count(p, 16, n_entries, MIN_ENTRY_BYTES, GG_MAX_METADATA))
        return false;
    file->n_entries = (size_t)n_entries;
    file->n_tensors = (size_t)n_tensors;
    file->entries = gg_alloc(file->n_entries, sizeof *file->entries);
    file->keys = gg_alloc(file->n_entries, sizeof *file->keys);
    file->tensors = gg_alloc(file->n_tensors, sizeof *file->tensors);
    file->names = gg_alloc(file->n_tensors, sizeof *file->names);
    if (!file->entries || !file->keys || !file->tensors || !file->names)
        return out_of_memory(p);
    for (size_t i = 0; i < file->n_entries; i++) {
        if (!read_entry(p, i))
            return false;
    }
    for (size_t i = 0; i < file->n_tensors; i++) {
        if (!read_tensor(p, i))
            return false;
    }
    size_t start;
    if (!gg_add(p->c.position, p->alignment - 1, &start))
        return reject(p, p->c.position, GORGON_ERROR_FORMAT, "the data offset overflows");
    return place_tensors(p, start / p->alignment * p->alignment) && intern_all(p) &&
           check_overlap(p) && sort_refs(p, "key", file->keys, file->n_entries) &&
           sort_refs(p, "tensor", file->names, file->n_tensors);
}

// Builds the view over file->data; takes the mapping, also on failure.
static gorgon_status open_view(gg_mapping mapping, const void *data, size_t size, const char *path,
                               gg_gguf **out, gorgon_error *err)
{
    gg_gguf *file = gg_alloc(1, sizeof *file);
    char *name = gg_strdup(path);
    if (!file || !name) {
        gg_unmap(&mapping);
        gg_free(file);
        gg_free(name);
        return gg_fail(err, GORGON_ERROR_MEMORY, "cannot open '%s': out of memory", path);
    }
    file->mapping = mapping;
    file->data = data;
    file->size = size;
    file->path = name;
    file->label = gg_path_end(name);
    parser p = {.c = {.base = data, .size = size, .label = file->label, .err = err},
                .file = file,
                .alignment = DEFAULT_ALIGNMENT};
    if (!read_directory(&p)) {
        gg_gguf_close(file);
        return p.c.status;
    }
    *out = file;
    return GORGON_OK;
}

gorgon_status gg_gguf_open_file(const char *path, gg_gguf **out, gorgon_error *err)
{
    *out = NULL;
    gg_mapping mapping;
    gorgon_status status = gg_map_file(path, &mapping, err);
    if (status != GORGON_OK)
        return status;
    return open_view(mapping, mapping.data, mapping.size, path, out, err);
}

gorgon_status gg_gguf_open_memory(const void *data, size_t size, const char *label, gg_gguf **out,
                                  gorgon_error *err)
{
    *out = NULL;
    return open_view((gg_mapping){0}, data, size, label, out, err);
}

void gg_gguf_close(gg_gguf *file)
{
    if (!file)
        return;
    for (size_t i = 0; i < file->n_parts; i++)
        gg_gguf_close(file->parts[i]); // a part has none of its own
    gg_free(file->parts);
    gg_free(file->entries);
    gg_free(file->keys);
    gg_free(file->tensors);
    gg_free(file->names);
    gg_free(file->arena);
    gg_free(file->path);
    gg_unmap(&file->mapping);
    if (file->release)
        file->release(file->kept);
    gg_free(file->owned);
    gg_free(file);
}
