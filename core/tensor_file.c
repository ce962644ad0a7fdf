// Files of named tensors: which reader takes a file, checkpoints of several files, look-up.
#include "core/tensor_file.h"

#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/json.h"
#include "tensor_entry.h"

typedef enum content {
    UNKNOWN,
    SAFETENSORS,
    ARCHIVE,
    INDEX,   // JSON
    FOREIGN, // what people take for tensors
} content;

static const char pickles[] = "a pickle outside an archive, as torch before 1.6 wrote; load and "
                              "save it with a newer one";
static const struct {
    size_t at, n;
    const char *bytes, *what;
} foreign[] = {
    {0, 2, "\x80\x02", pickles},
    {0, 2, "\x80\x03", pickles},
    {0, 2, "\x80\x04", pickles},
    {0, 2, "\x80\x05", pickles},
    {257, 5, "ustar", "a tar archive, as the first versions of torch wrote"},
    {0, 23, "version https://git-lfs", "a pointer of Git LFS in the place of the file"},
};
enum { N_FOREIGN = sizeof foreign / sizeof foreign[0] };

// N_FOREIGN: none of these.
static size_t foreign_of(const uint8_t *data, size_t size)
{
    size_t i = 0;
    while (i < N_FOREIGN && (size < foreign[i].at + foreign[i].n ||
                             memcmp(data + foreign[i].at, foreign[i].bytes, foreign[i].n) != 0))
        i++;
    return i;
}

static content content_of(const uint8_t *data, size_t size)
{
    if (size >= 4 && memcmp(data, "PK", 2) == 0 && data[2] < 8 && data[3] == data[2] + 1)
        return ARCHIVE;
    if (foreign_of(data, size) < N_FOREIGN)
        return FOREIGN;
    if (size >= 4 && memcmp(data, "GGUF", 4) == 0)
        return UNKNOWN;                           // one of 123 tensors would look like the next
    const bool text = size > 0 && data[0] == '{'; // or the length of a header
    if (size > 8 && (data[8] == '{' || data[8] == '[') && (!text || data[7] == 0))
        return SAFETENSORS;
    return text ? INDEX : UNKNOWN;
}

bool gg_tensor_file_claims(const void *data, size_t size)
{
    return content_of(data, size) != UNKNOWN;
}

void gg_tensor_file_close(gg_tensor_file *file)
{
    if (!file)
        return;
    for (size_t i = 0; i < file->n; i++) {
        gg_free(file->entries[i].name);
        gg_free(file->entries[i].copy);
    }
    for (size_t i = 0; i < file->n_containers; i++) {
        gg_zip_close(file->containers[i].zip);
        gg_unmap(&file->containers[i].mapping);
        gg_free(file->containers[i].path);
    }
    gg_free(file->containers);
    gg_free(file->entries);
    gg_free(file->order);
    gg_free(file->path);
    gg_free(file);
}

static gorgon_status out_of_memory(const char *path, gorgon_error *err)
{
    return gg_fail(err, GORGON_ERROR_MEMORY, "cannot open '%s': out of memory", path);
}

static gg_tensor_file *create(const char *path, size_t containers)
{
    gg_tensor_file *file = gg_alloc(1, sizeof *file);
    if (!file)
        return NULL;
    file->path = gg_strdup(path);
    file->containers = gg_alloc(containers, sizeof *file->containers);
    if (!file->path || !file->containers) {
        gg_tensor_file_close(file);
        return NULL;
    }
    file->label = gg_path_end(file->path);
    return file;
}

// Adds a file, for which there is room, and reads it; takes the mapping, also on failure.
static gorgon_status add_container(gg_tensor_file *file, const char *path, gg_mapping mapping,
                                   const uint8_t *data, size_t size, gorgon_error *err)
{
    gg_container *c = &file->containers[file->n_containers++];
    *c = (gg_container){.path = gg_strdup(path), .mapping = mapping, .data = data, .size = size};
    if (!c->path)
        return out_of_memory(path, err);
    c->label = gg_path_end(c->path);
    switch (content_of(data, size)) {
    case SAFETENSORS:
        file->format = "safetensors";
        return gg_safetensors_read(file, err);
    case ARCHIVE:
        file->format = "torch archive";
        return gg_torch_read(file, err);
    case FOREIGN:
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "%s: expected a torch archive or safetensors, got %s", c->label,
                       foreign[foreign_of(data, size)].what);
    case INDEX:
    case UNKNOWN:
        break;
    }
    return gg_fail(err, GORGON_ERROR_FORMAT,
                   "%s: expected a torch archive or safetensors, got something else", c->label);
}

static gorgon_status map_container(gg_tensor_file *file, const char *path, gorgon_error *err)
{
    gg_mapping mapping;
    gorgon_status status = gg_map_file(path, &mapping, err);
    return status == GORGON_OK ? add_container(file, path, mapping, mapping.data, mapping.size, err)
                               : status;
}

// Sorts by name. qsort has no context: the names' owners are what is sorted.
static int by_name(const void *a, const void *b)
{
    const gg_tensor_entry *x = *(const gg_tensor_entry *const *)a;
    const gg_tensor_entry *y = *(const gg_tensor_entry *const *)b;
    return strcmp(x->name, y->name);
}

// All tensors are there: look-up by name, and nothing twice.
static gorgon_status finish(gg_tensor_file *file, gorgon_error *err)
{
    const gg_tensor_entry **list = gg_alloc(file->n, sizeof *list);
    file->order = gg_alloc(file->n, sizeof *file->order);
    if (!list || !file->order) {
        gg_free(list);
        return out_of_memory(file->path, err);
    }
    for (size_t i = 0; i < file->n; i++) {
        gg_tensor_entry *e = &file->entries[i];
        e->tensor.name = e->name;
        e->tensor.file = file->containers[e->container].path;
        list[i] = e;
    }
    qsort(list, file->n, sizeof *list, by_name);
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < file->n && status == GORGON_OK; i++) {
        file->order[i] = (uint32_t)(list[i] - file->entries);
        if (i > 0 && strcmp(list[i]->name, list[i - 1]->name) == 0)
            status = gg_fail(err, GORGON_ERROR_FORMAT,
                             "%s: tensor '%.80s': expected each name once, got it twice",
                             file->containers[list[i]->container].label, list[i]->name);
    }
    gg_free(list);
    return status;
}

static gorgon_status open_one(const char *path, gg_mapping mapping, const uint8_t *data,
                              size_t size, gg_tensor_file **out, gorgon_error *err)
{
    gg_tensor_file *file = create(path, 1);
    if (!file) {
        gg_unmap(&mapping);
        return out_of_memory(path, err);
    }
    gorgon_status status = add_container(file, path, mapping, data, size, err);
    if (status == GORGON_OK)
        status = finish(file, err);
    if (status == GORGON_OK)
        *out = file;
    else
        gg_tensor_file_close(file);
    return status;
}

// "<directory of path>/<name>", or NULL.
static char *beside(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    const size_t n = slash ? (size_t)(slash - path) + 1 : 0, length = strlen(name);
    char *full = gg_alloc(n + length + 1, 1);
    if (full) {
        memcpy(full, path, n);
        memcpy(full + n, name, length);
    }
    return full;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// The files that a weight_map names, each once: names[json_object_size(map)], *n of them.
static gorgon_status list_shards(const char *label, json_t *map, const char **names, size_t *n,
                                 gorgon_error *err)
{
    const char *tensor;
    json_t *value;
    size_t all = 0;
    json_object_foreach(map, tensor, value)
    {
        const char *name = json_string_value(value);
        if (!name || !*name || *name == '.' || strpbrk(name, "/\\") || strlen(name) > GG_MAX_NAME)
            return gg_fail(err, GORGON_ERROR_FORMAT,
                           "%s: tensor '%.80s': expected the name of a file in this directory, got "
                           "'%.80s'",
                           label, tensor, name ? name : "no text");
        names[all++] = name;
    }
    qsort(names, all, sizeof *names, by_text);
    *n = 0;
    for (size_t i = 0; i < all; i++) {
        if (i == 0 || strcmp(names[i], names[*n - 1]) != 0)
            names[(*n)++] = names[i];
    }
    if (*n > GG_MAX_PARTS)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: expected at most %d files, got %zu", label,
                       GG_MAX_PARTS, *n);
    return GORGON_OK;
}

// Every tensor of the map is in the file that it names.
static gorgon_status check_map(const gg_tensor_file *file, json_t *map, gorgon_error *err)
{
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value)
    {
        const gg_named_tensor *t = gg_tensor_file_find(file, name);
        const char *slash = t ? strrchr(t->file, '/') : NULL;
        if (!t || strcmp(slash ? slash + 1 : t->file, json_string_value(value)) != 0)
            return gg_fail(err, GORGON_ERROR_FORMAT,
                           "%s: expected tensor '%.80s' in '%.80s', got none there", file->label,
                           name, json_string_value(value));
    }
    return GORGON_OK;
}

static gorgon_status read_shards(gg_tensor_file *file, json_t *map, gorgon_error *err)
{
    size_t n = 0;
    const size_t n_tensors = json_object_size(map);
    if (n_tensors > GG_MAX_TENSORS)
        return gg_fail(err, GORGON_ERROR_FORMAT, "%s: expected at most %d tensors, got %zu",
                       file->label, GG_MAX_TENSORS, n_tensors);
    const char **names = gg_alloc(n_tensors, sizeof *names);
    if (!names)
        return out_of_memory(file->path, err);
    gorgon_status status = list_shards(file->label, map, names, &n, err);
    for (size_t i = 0; status == GORGON_OK && i < n; i++) {
        char *path = beside(file->path, names[i]);
        status = path ? map_container(file, path, err) : out_of_memory(file->path, err);
        gg_free(path);
    }
    gg_free(names);
    if (status == GORGON_OK)
        status = finish(file, err);
    return status == GORGON_OK ? check_map(file, map, err) : status;
}

static gorgon_status open_index(const char *path, gg_tensor_file **out, gorgon_error *err)
{
    json_t *index = NULL;
    gorgon_status status = gg_json_read(path, &index, err);
    if (status != GORGON_OK)
        return status;
    json_t *map = json_object_get(index, "weight_map");
    gg_tensor_file *file = create(path, GG_MAX_PARTS);
    if (!file)
        status = out_of_memory(path, err);
    else if (!json_is_object(map) || json_object_size(map) == 0)
        status = gg_fail(err, GORGON_ERROR_FORMAT,
                         "%s: expected a \"weight_map\": an object of tensor and file names",
                         file->label);
    else
        status = read_shards(file, map, err);
    json_decref(index);
    if (status == GORGON_OK)
        *out = file;
    else
        gg_tensor_file_close(file);
    return status;
}

static gorgon_status open_path(const char *path, gg_tensor_file **out, gorgon_error *err)
{
    gg_mapping mapping;
    gorgon_status status = gg_map_file(path, &mapping, err);
    if (status != GORGON_OK)
        return status;
    if (content_of(mapping.data, mapping.size) != INDEX)
        return open_one(path, mapping, mapping.data, mapping.size, out, err);
    gg_unmap(&mapping);
    return open_index(path, out, err);
}

bool gg_tensor_file_find_in(const char *directory, char path[GG_MAX_PATH])
{
    static const char *const names[] = {"model.safetensors.index.json", "model.safetensors",
                                        "pytorch_model.bin.index.json", "pytorch_model.bin", NULL};
    return gg_path_find(directory, names, path);
}

gorgon_status gg_tensor_file_open(const char *path, gg_tensor_file **out, gorgon_error *err)
{
    char inside[GG_MAX_PATH];
    *out = NULL;
    if (!gg_is_directory(path))
        return open_path(path, out, err);
    if (gg_tensor_file_find_in(path, inside))
        return open_path(inside, out, err);
    return gg_fail(err, GORGON_ERROR_IO,
                   "%s: expected model.safetensors, pytorch_model.bin or an index of either in "
                   "this directory, got none",
                   gg_path_end(path));
}

gorgon_status gg_tensor_file_open_memory(const void *data, size_t size, const char *label,
                                         gg_tensor_file **out, gorgon_error *err)
{
    *out = NULL;
    return open_one(label, (gg_mapping){0}, data, size, out, err);
}

const char *gg_tensor_file_path(const gg_tensor_file *file)
{
    return file->path;
}

const char *gg_tensor_file_format(const gg_tensor_file *file)
{
    return file->format;
}

size_t gg_tensor_file_parts(const gg_tensor_file *file)
{
    return file->n_containers;
}

uint64_t gg_tensor_file_bytes(const gg_tensor_file *file)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < file->n_containers; i++)
        bytes += file->containers[i].size;
    return bytes;
}

size_t gg_tensor_file_count(const gg_tensor_file *file)
{
    return file->n;
}

const gg_named_tensor *gg_tensor_file_at(const gg_tensor_file *file, size_t index)
{
    return &file->entries[index].tensor;
}

const gg_named_tensor *gg_tensor_file_find(const gg_tensor_file *file, const char *name)
{
    size_t low = 0, high = file->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const gg_tensor_entry *e = &file->entries[file->order[middle]];
        const int order = strcmp(name, e->name);
        if (order == 0)
            return &e->tensor;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}
