// Tensors of a gg_tensor_file one by one: what a reader says of them is checked, and their elements
// are brought into order.
#include "tensor_entry.h"

#include <inttypes.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/kernels.h"
#include "utf8.h"

static const struct {
    const char *name;
    size_t bytes;
} elements[GG_ELEMENTS] = {
    [GG_ELEMENT_F32] = {"F32", 4},         [GG_ELEMENT_F16] = {"F16", 2},
    [GG_ELEMENT_BF16] = {"BF16", 2},       [GG_ELEMENT_F64] = {"F64", 8},
    [GG_ELEMENT_I64] = {"I64", 8},         [GG_ELEMENT_I32] = {"I32", 4},
    [GG_ELEMENT_I16] = {"I16", 2},         [GG_ELEMENT_I8] = {"I8", 1},
    [GG_ELEMENT_U8] = {"U8", 1},           [GG_ELEMENT_BOOL] = {"BOOL", 1},
    [GG_ELEMENT_U16] = {"U16", 2},         [GG_ELEMENT_U32] = {"U32", 4},
    [GG_ELEMENT_U64] = {"U64", 8},         [GG_ELEMENT_F8_E4M3] = {"F8_E4M3", 1},
    [GG_ELEMENT_F8_E5M2] = {"F8_E5M2", 1},
};

const char *gg_element_name(gg_element element)
{
    return elements[element].name;
}

size_t gg_element_bytes(gg_element element)
{
    return elements[element].bytes;
}

bool gg_element_find(const char *name, gg_element *out)
{
    for (size_t i = 0; i < GG_ELEMENTS; i++) {
        if (strcmp(elements[i].name, name) == 0) {
            *out = (gg_element)i;
            return true;
        }
    }
    return false;
}

void gg_element_floats(gg_element element, const uint8_t *data, size_t first, size_t n, float *y)
{
    data += first * gg_element_bytes(element);
    if (element == GG_ELEMENT_F32) {
        memcpy(y, data, n * sizeof *y);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const uint16_t half = (uint16_t)(data[2 * i] | data[2 * i + 1] << 8);
        const uint32_t bits = (uint32_t)half << 16;
        if (element == GG_ELEMENT_F16)
            y[i] = gg_f16_to_f32(half);
        else
            memcpy(&y[i], &bits, sizeof bits);
    }
}

void gg_tensor_entry_dense(gg_tensor_entry *entry)
{
    uint64_t stride = 1;
    for (size_t i = entry->tensor.n_dims; i-- > 0;) {
        entry->strides[i] = stride;
        stride *= entry->tensor.dims[i] ? entry->tensor.dims[i] : 1; // checked by who adds it
    }
}

// Sets n and bytes of the tensor.
static bool measure(gg_named_tensor *t)
{
    size_t n = 1;
    bool empty = false;
    for (size_t i = 0; i < t->n_dims; i++) {
        if (t->dims[i] > SIZE_MAX || (t->dims[i] && !gg_mul(n, (size_t)t->dims[i], &n)))
            return false;
        empty = empty || t->dims[i] == 0;
    }
    t->n = empty ? 0 : n;
    return gg_mul(t->n, gg_element_bytes(t->element), &t->bytes) && t->bytes <= PTRDIFF_MAX;
}

// True if no two elements have one place: each stride, in ascending order, reaches beyond all that
// the smaller ones cover. *last: the last element's distance from the first.
static bool spread(const gg_tensor_entry *e, uint64_t *last)
{
    bool used[GG_MAX_RANK] = {false};
    uint64_t covered = 0;
    for (size_t round = 0; round < e->tensor.n_dims; round++) {
        size_t best = GG_MAX_RANK;
        for (size_t i = 0; i < e->tensor.n_dims; i++) {
            if (!used[i] && (best == GG_MAX_RANK || e->strides[i] < e->strides[best]))
                best = i;
        }
        used[best] = true;
        const uint64_t steps = e->tensor.dims[best] - 1, stride = e->strides[best];
        if (steps == 0)
            continue;
        if (stride <= covered || stride > (UINT64_MAX - covered) / steps)
            return false;
        covered += steps * stride;
    }
    *last = covered;
    return true;
}

static bool is_dense(const gg_tensor_entry *e)
{
    uint64_t stride = 1;
    for (size_t i = e->tensor.n_dims; i-- > 0;) {
        if (e->tensor.dims[i] != 1 && e->strides[i] != stride)
            return false;
        stride *= e->tensor.dims[i];
    }
    return true;
}

static gorgon_status check_entry(gg_tensor_entry *e, const char *what, gorgon_error *err)
{
    const char *name = e->name;
    uint64_t last = 0;
    if (!measure(&e->tensor))
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: tensor '%.80s': its size overflows", what,
                       name);
    if (e->tensor.n == 0)
        return GORGON_OK;
    if (!spread(e, &last))
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: tensor '%.80s': expected strides that give every element its own "
                       "place, got overlapping ones",
                       what, name);
    if (e->first > e->n_storage || last >= e->n_storage - e->first)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: tensor '%.80s': expected elements inside its storage of %" PRIu64
                       ", got %" PRIu64 " to %" PRIu64,
                       what, name, e->n_storage, e->first, e->first + last);
    e->dense = is_dense(e);
    return GORGON_OK;
}

static gorgon_status grow(gg_tensor_file *file, gorgon_error *err)
{
    const size_t capacity = file->capacity ? 2 * file->capacity : 64;
    gg_tensor_entry *grown =
        gg_realloc(file->entries, file->capacity, capacity, sizeof *file->entries);
    if (!grown)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory for %zu tensors", file->label,
                       capacity);
    file->entries = grown;
    file->capacity = capacity;
    return GORGON_OK;
}

gorgon_status gg_tensor_file_add(gg_tensor_file *file, const gg_tensor_entry *entry,
                                 const char *name, size_t length, const char *what,
                                 gorgon_error *err)
{
    if (length == 0 || length >= GG_MAX_NAME || !gg_utf8_printable(name, length))
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: tensor %zu: expected a name of 1 to %d bytes of UTF-8 without control "
                       "characters, got %zu bytes",
                       what, file->n, GG_MAX_NAME - 1, length);
    if (file->n == GG_MAX_TENSORS)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: expected at most %d tensors, got more", what,
                       GG_MAX_TENSORS);
    gorgon_status status = file->n == file->capacity ? grow(file, err) : GORGON_OK;
    if (status != GORGON_OK)
        return status;
    gg_tensor_entry *e = &file->entries[file->n];
    *e = *entry;
    e->name = gg_alloc(length + 1, 1);
    if (!e->name)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory for %zu tensors", what,
                       file->n);
    file->n++;
    memcpy(e->name, name, length);
    e->container = file->n_containers - 1;
    return check_entry(e, what, err);
}

// Copies the elements of a tensor whose storage has another order.
static void gather(const gg_tensor_entry *e, uint8_t *to)
{
    const size_t size = gg_element_bytes(e->tensor.element);
    uint64_t at[GG_MAX_RANK] = {0}, place = e->first;
    for (size_t i = 0; i < e->tensor.n; i++) {
        memcpy(to + i * size, e->storage + place * size, size);
        for (size_t k = e->tensor.n_dims; k-- > 0;) {
            place += e->strides[k];
            if (++at[k] < e->tensor.dims[k])
                break;
            place -= e->strides[k] * e->tensor.dims[k];
            at[k] = 0;
        }
    }
}

gorgon_status gg_tensor_file_data(gg_tensor_file *file, const gg_named_tensor *tensor,
                                  const uint8_t **out, gorgon_error *err)
{
    // The tensor is the first member of one of the file's entries.
    gg_tensor_entry *e =
        &file->entries[(const gg_tensor_entry *)(const void *)tensor - file->entries];
    const gg_container *c = &file->containers[e->container];
    gorgon_status status = GORGON_OK;
    *out = c->data;
    if (e->tensor.n == 0)
        return GORGON_OK;
    if (!e->storage)
        status = gg_zip_contents(c->zip, e->packed, &e->storage, err);
    if (status != GORGON_OK)
        return status;
    if (e->dense) {
        *out = e->storage + e->first * gg_element_bytes(tensor->element);
        return GORGON_OK;
    }
    if (!e->copy) {
        e->copy = gg_alloc_uninit(e->tensor.bytes, 1);
        if (!e->copy)
            return gg_fail(err, GORGON_ERROR_MEMORY, "%s: tensor '%.80s': out of memory", c->label,
                           e->name);
        gather(e, e->copy);
    }
    *out = e->copy;
    return GORGON_OK;
}
