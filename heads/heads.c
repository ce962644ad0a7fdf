// Heads as the layers above see them: opening a file of any format by its content, and what it
// holds.
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"
#include "heads_format.h"
#include "heads_impl.h"
#include "successors.h"

enum { MAX_WARNING = 320 };

static void free_set(gg_head_set *set)
{
    for (size_t i = 0; set->copies && i < set->n_parts; i++)
        gg_free(set->copies[i]);
    gg_free(set->draft_ids);
    gg_free(set->parts);
    gg_free(set->data);
    gg_free(set->copies);
    gg_free(set->vectors);
    gg_free(set->calibration);
    gg_successors_clear(&set->successors);
}

void gorgon_heads_free(gorgon_heads *heads)
{
    if (!heads)
        return;
    for (size_t i = 0; i < heads->n_sets; i++)
        free_set(&heads->sets[i]);
    for (size_t i = 0; i < GG_HEADS_WARNINGS; i++)
        gg_free(heads->warnings[i]);
    gg_free(heads->sets);
    gg_free(heads->path);
    gg_free(heads->base_name);
    gg_free(heads->config);
    gg_gguf_close(heads->file);
    gg_tensor_file_close(heads->tensors);
    gg_free(heads);
}

static gorgon_heads *create(const char *path)
{
    gorgon_heads *h = gg_alloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->path = gg_strdup(path);
    if (!h->path) {
        gg_free(h);
        return NULL;
    }
    h->label = gg_path_end(h->path);
    return h;
}

// One of the two is given; takes it, also on failure.
static gorgon_status open_file(const char *path, gg_gguf *file, gg_tensor_file *tensors,
                               bool in_memory, gorgon_heads **out, gorgon_error *err)
{
    gorgon_heads *h = create(path);
    if (!h) {
        gg_gguf_close(file);
        gg_tensor_file_close(tensors);
        return gg_fail(err, GORGON_ERROR_MEMORY, "cannot open '%.160s': out of memory", path);
    }
    h->in_memory = in_memory;
    gorgon_status status =
        file ? gg_heads_read_gguf(h, file, err) : gg_heads_read_tensors(h, tensors, err);
    if (status == GORGON_OK)
        *out = h;
    else
        gorgon_heads_free(h);
    return status;
}

typedef enum content { SIDE_CAR, TENSORS, DIRECTORY } content;

static content content_of(const char *path)
{
    gg_mapping mapping;
    if (gg_is_directory(path))
        return DIRECTORY;
    if (gg_map_file(path, &mapping, NULL) != GORGON_OK)
        return SIDE_CAR; // its reader says what is wrong
    const bool tensors = gg_tensor_file_claims(mapping.data, mapping.size);
    gg_unmap(&mapping);
    return tensors ? TENSORS : SIDE_CAR;
}

// Heads in a directory that says so; false: it has no such file.
static bool find_in_directory(const char *path, char full[GG_MAX_PATH])
{
    static const char *const names[] = {"medusa_lm_head.safetensors", "medusa_lm_head.pt",
                                        "hydra_lm_head.safetensors", "hydra_lm_head.pt", NULL};
    return gg_path_find(path, names, full);
}

static gorgon_status open_tensors(const char *path, gg_tensor_file **out, gorgon_error *err)
{
    char full[GG_MAX_PATH];
    return gg_tensor_file_open(find_in_directory(path, full) ? full : path, out, err);
}

gorgon_status gorgon_heads_open(const char *path, gorgon_heads **out, gorgon_error *err)
{
    gg_gguf *file = NULL;
    gg_tensor_file *tensors = NULL;
    *out = NULL;
    gorgon_status status = content_of(path) == SIDE_CAR ? gg_gguf_open(path, &file, err)
                                                        : open_tensors(path, &tensors, err);
    return status == GORGON_OK ? open_file(path, file, tensors, false, out, err) : status;
}

gorgon_status gg_heads_open_memory(const void *data, size_t size, const char *name,
                                   gorgon_heads **out, gorgon_error *err)
{
    gg_gguf *file = NULL;
    gg_tensor_file *tensors = NULL;
    *out = NULL;
    gorgon_status status = gg_tensor_file_claims(data, size)
                               ? gg_tensor_file_open_memory(data, size, name, &tensors, err)
                               : gg_gguf_open_memory(data, size, name, &file, err);
    return status == GORGON_OK ? open_file(name, file, tensors, true, out, err) : status;
}

static bool probe_gguf(const char *path)
{
    gg_gguf *file = NULL;
    const char *architecture = "";
    size_t length = 0;
    bool heads = gg_gguf_open(path, &file, NULL) == GORGON_OK &&
                 gg_gguf_get_string(file, "general.architecture", &architecture, &length, NULL) ==
                     GORGON_OK &&
                 strcmp(architecture, GG_HEADS_ARCHITECTURE) == 0;
    gg_gguf_close(file);
    return heads;
}

bool gorgon_heads_probe(const char *path)
{
    char full[GG_MAX_PATH];
    gg_tensor_file *tensors = NULL;
    const content what = content_of(path);
    if (what == SIDE_CAR)
        return probe_gguf(path);
    if (what == TENSORS || find_in_directory(path, full))
        return true;
    if (!gg_tensor_file_find_in(path, full))
        return false;
    if (gg_tensor_file_open(path, &tensors, NULL) != GORGON_OK)
        return true; // gorgon_heads_open says what is wrong with the tensors
    const bool heads = gg_heads_in_tensors(tensors);
    gg_tensor_file_close(tensors);
    return heads;
}

gorgon_status gg_heads_alloc_sets(gorgon_heads *h, size_t n, gorgon_error *err)
{
    h->sets = gg_alloc(n, sizeof *h->sets);
    if (!h->sets)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", h->label);
    h->n_sets = n;
    for (size_t i = 0; i < n; i++)
        h->sets[i].training_json = h->sets[i].accuracy_json = "";
    return GORGON_OK;
}

gorgon_status gg_heads_alloc_parts(const gorgon_heads *h, size_t index, gorgon_error *err)
{
    gg_head_part parts[GG_MAX_HEAD_PARTS];
    gg_head_set *set = &h->sets[index];
    const size_t n = gg_head_parts(&set->shape, h->base.n_vocab, parts);
    size_t n_values = 0;
    for (size_t i = 0; i < n; i++)
        n_values += parts[i].n_in == 0 ? parts[i].n_out : 0;
    set->parts = gg_alloc(n, sizeof *set->parts);
    set->data = gg_alloc(n, sizeof *set->data);
    set->copies = gg_alloc(n, sizeof *set->copies);
    set->vectors = gg_alloc(n_values, sizeof *set->vectors);
    if (!set->parts || !set->data || !set->copies || !set->vectors)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: set %zu: out of memory", h->label, index);
    set->n_parts = n;
    memcpy(set->parts, parts, n * sizeof *parts);
    return GORGON_OK;
}

void gg_heads_warn(gorgon_heads *h, const char *format, ...)
{
    char text[MAX_WARNING];
    size_t i = 0;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    gg_make_printable(text);
    while (i < GG_HEADS_WARNINGS && h->warnings[i])
        i++;
    if (i < GG_HEADS_WARNINGS)
        h->warnings[i] = gg_strdup(text);
}

size_t gorgon_heads_count(const gorgon_heads *heads)
{
    return heads->n_sets;
}

const gg_head_set *gg_heads_set(const gorgon_heads *heads, size_t set)
{
    return set < heads->n_sets ? &heads->sets[set] : NULL;
}

const char *gorgon_heads_path(const gorgon_heads *heads)
{
    return heads->path;
}

const char *gorgon_heads_base_name(const gorgon_heads *heads)
{
    return heads->base_name ? heads->base_name : "";
}

const char *gorgon_heads_format(const gorgon_heads *heads)
{
    return heads->format;
}

const char *gorgon_heads_container(const gorgon_heads *heads)
{
    return heads->tensors ? gg_tensor_file_format(heads->tensors) : "GGUF";
}

const char *gorgon_heads_config(const gorgon_heads *heads)
{
    return heads->config ? heads->config : "";
}

const char *gorgon_heads_warning(const gorgon_heads *heads, size_t index)
{
    return index < GG_HEADS_WARNINGS ? heads->warnings[index] : NULL;
}

uint64_t gorgon_heads_file_bytes(const gorgon_heads *heads)
{
    return heads->tensors ? gg_tensor_file_bytes(heads->tensors) : gg_gguf_size(heads->file);
}

size_t gorgon_heads_tensors(const gorgon_heads *heads)
{
    return heads->tensors ? gg_tensor_file_count(heads->tensors)
                          : gg_gguf_tensor_count(heads->file);
}

gorgon_fingerprint gorgon_heads_fingerprint(const gorgon_heads *heads)
{
    return heads->base;
}

static uint64_t parameters(const gg_head_set *s)
{
    uint64_t n = 0;
    for (size_t i = 0; i < s->n_parts; i++)
        n += (uint64_t)s->parts[i].n_out * (s->parts[i].n_in ? s->parts[i].n_in : 1);
    return n;
}

gorgon_status gorgon_heads_describe(const gorgon_heads *heads, size_t set,
                                    gorgon_head_set_info *info, gorgon_error *err)
{
    const gg_head_set *s = gg_heads_set(heads, set);
    if (!s)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "%s: no set %zu, expected 0 to %zu",
                       heads->label, set, heads->n_sets - 1);
    *info = (gorgon_head_set_info){
        .kind = gg_head_traits_of(s->shape.kind)->name,
        .n_heads = s->shape.n_heads,
        .n_blocks = s->shape.n_blocks,
        .d_model = s->shape.d_model,
        .n_draft = s->shape.n_draft,
        .rank = s->shape.rank,
        .n_attention = s->shape.n_attention,
        .n_ffn = s->shape.n_ffn,
        .window = s->shape.window,
        .root_embedding = s->shape.root_embedding,
        .own_output = s->shape.own_output,
        .shared_output = s->shape.shared_output,
        .output_bias = s->shape.output_bias,
        .bias_free = s->shape.bias_free,
        .residual = s->shape.residual,
        .raw_embedding = s->shape.raw_embedding,
        .n_parameters = parameters(s),
        .weight_type = gg_dtype_name(s->weight_type),
        .training_json = s->training_json,
        .accuracy_json = s->accuracy_json,
        .calibrated = s->n_calibration > 0,
    };
    return GORGON_OK;
}

// An expected value of 0 is unknown.
static gorgon_status compare(const gorgon_heads *heads, const char *what, uint32_t expected,
                             uint32_t got, gorgon_error *err)
{
    if (expected == 0 || expected == got)
        return GORGON_OK;
    return gg_fail(err, GORGON_ERROR_MISMATCH,
                   "%s: heads of another base ('%.60s'): %s: expected %" PRIu32
                   ", the model has %" PRIu32,
                   heads->label, gorgon_heads_base_name(heads), what, expected, got);
}

// Where the size of the base's vocabulary is unknown, its draft ids have to fit all the same.
static gorgon_status check_ids(const gorgon_heads *heads, uint32_t n_vocab, gorgon_error *err)
{
    for (size_t i = 0; i < heads->n_sets; i++) {
        const gg_head_set *s = &heads->sets[i];
        for (size_t k = 0; k < s->shape.n_draft; k++) {
            if (s->draft_ids[k] >= n_vocab)
                return gg_fail(err, GORGON_ERROR_MISMATCH,
                               "%s: heads of another base ('%.60s'): draft id %" PRIu32
                               ", the model has %" PRIu32 " tokens",
                               heads->label, gorgon_heads_base_name(heads), s->draft_ids[k],
                               n_vocab);
        }
    }
    return GORGON_OK;
}

gorgon_status gorgon_heads_check(const gorgon_heads *heads, const gorgon_model *model,
                                 bool *warning, gorgon_error *err)
{
    const gorgon_fingerprint *h = &heads->base;
    const gorgon_fingerprint m = gorgon_model_fingerprint(model);
    gorgon_status status = compare(heads, "n_layers", h->n_layers, m.n_layers, err);
    if (status == GORGON_OK)
        status = compare(heads, "d_model", h->d_model, m.d_model, err);
    if (status == GORGON_OK)
        status = compare(heads, "n_vocab", h->n_vocab, m.n_vocab, err);
    if (status == GORGON_OK && h->n_vocab == 0)
        status = check_ids(heads, m.n_vocab, err);
    if (status == GORGON_OK && h->vocabulary != 0 && h->vocabulary != m.vocabulary)
        status =
            gg_fail(err, GORGON_ERROR_MISMATCH,
                    "%s: heads of another base ('%.60s'): vocabulary hash: expected %016" PRIx64
                    ", the model has %016" PRIx64,
                    heads->label, gorgon_heads_base_name(heads), h->vocabulary, m.vocabulary);
    if (status == GORGON_OK && warning)
        *warning = h->tensors != 0 && h->tensors != m.tensors;
    return status;
}
