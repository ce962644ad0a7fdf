// Writing heads files: refused sources, recalibration, failing allocations, truncated files.
#define _XOPEN_SOURCE 700 // mkdtemp
#include "heads_fixture.h"

#include "core/file.h"
#include "core/limits.h"

static const heads_spec small = {
    .n_heads = 2, .n_blocks = 1, .n_draft = 20, .root = true, .type = GG_Q8_0, .seed = 8};

typedef struct setting {
    gorgon_model *model;
    const gg_geometry *g;
    heads_fixture f;
    scratch s;
} setting;

static setting set_up(const heads_spec *spec)
{
    setting t = {.model = open_tiny(), .s = scratch_create()};
    t.g = gg_model_geometry(t.model);
    t.f = heads_fixture_create(t.g->d_model, t.g->n_vocab, spec);
    return t;
}

static void tear_down(setting *t)
{
    heads_fixture_free(&t->f);
    scratch_remove(&t->s);
    gorgon_model_free(t->model);
}

// The whole file, NUL-terminated; freed with gg_free.
static uint8_t *read_file(const char *path, size_t *n)
{
    gg_mapping map;
    cr_assert_eq(gg_map_file(path, &map, NULL), GORGON_OK);
    uint8_t *bytes = gg_alloc(map.size + 1, 1);
    memcpy(bytes, map.data, map.size);
    *n = map.size;
    gg_unmap(&map);
    return bytes;
}

static void check_refused(setting *t, gg_head_set_source source, const char *part)
{
    gorgon_error err = {0};
    cr_assert_eq(gg_heads_write(t->s.path, t->model, &source, 1, &err), GORGON_ERROR_ARGUMENT);
    cr_assert_not_null(strstr(err.message, part), "'%s' lacks '%s'", err.message, part);
    cr_assert_neq(access(t->s.path, F_OK), 0, "a refused set left a file behind");
}

Test(heads_write, bad_sources_are_refused)
{
    setting t = set_up(&small);
    gg_head_set_source source = t.f.source;
    source.shape.n_heads = GG_MAX_DRAFT_HEADS + 1;
    check_refused(&t, source, "n_heads is 17, expected 1 to 16");
    source = t.f.source;
    source.shape.n_blocks = 0;
    check_refused(&t, source, "n_blocks is 0");
    source = t.f.source;
    source.shape.d_model = 31;
    check_refused(&t, source, "d_model is 31");
    source = t.f.source;
    source.shape.n_draft = t.g->n_vocab + 1;
    check_refused(&t, source, "n_draft is");
    source = t.f.source;
    source.weight_type = GG_Q4_0;
    check_refused(&t, source, "weight type 2, expected F32");
    source = t.f.source;
    source.shape.rank = 4;
    check_refused(&t, source, "only markov heads have a rank");
    source.shape.kind = GG_HEADS_MARKOV;
    source.shape.rank = 0;
    check_refused(&t, source, "markov heads need a rank");
    source.shape.rank = 4;
    check_refused(&t, source, "Q8_0 cannot hold rows of 4 values");
    source = t.f.source;
    source.shape.kind = GG_HEADS_HYDRA;
    source.shape.root_embedding = false;
    check_refused(&t, source, "heads that see drafted tokens need root_embedding");
    source = t.f.source;
    source.shape.kind = GG_HEADS_LINEAR;
    source.shape.n_blocks = 2;
    check_refused(&t, source, "heads without activation have one block");
    source = t.f.source;
    source.n_calibration = GG_MAX_CALIBRATION + 1;
    check_refused(&t, source, "65537 calibration values");
    const float bad = __builtin_inff();
    source = t.f.source;
    source.calibration = &bad;
    source.n_calibration = 1;
    check_refused(&t, source, "a calibration value is infinite");
    t.f.ids[3] = t.f.ids[2];
    check_refused(&t, t.f.source, "draft id 3 is");
    cr_assert_eq(gg_heads_write(t.s.path, t.model, &t.f.source, 0, NULL), GORGON_ERROR_ARGUMENT);
    tear_down(&t);
}

Test(heads_write, bad_sizes_of_a_decoder_layer_are_refused)
{
    static const struct {
        size_t n_attention, n_ffn, window;
        const char *part;
    } list[] = {
        {0, 32, 4, "d_model is no even multiple of n_attention"},
        {5, 32, 4, "d_model is no even multiple of n_attention"},
        {128, 32, 4, "d_model is no even multiple of n_attention"},
        {4, 0, 4, "a decoder layer needs n_ffn and window"},
        {4, 32, 0, "a decoder layer needs n_ffn and window"},
        {4, GG_HEADS_MAX_FFN + 1, 4, "n_ffn is 65537, expected 0 to 65536"},
        {4, 32, GG_HEADS_MAX_WINDOW + 1, "window is 1025, expected 0 to 1024"},
    };
    heads_spec spec = small;
    spec.kind = GG_HEADS_EAGLE;
    spec.n_attention = 4;
    spec.n_ffn = 33;
    spec.window = 4;
    setting t = set_up(&spec);
    check_refused(&t, t.f.source, "'heads.0.0.ffn_down.weight': Q8_0 cannot hold rows of 33");
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        gg_head_set_source source = t.f.source;
        source.shape.n_attention = list[i].n_attention;
        source.shape.n_ffn = list[i].n_ffn;
        source.shape.window = list[i].window;
        check_refused(&t, source, list[i].part);
        source.shape.kind = GG_HEADS_RECURRENT;
        if (source.shape.n_ffn <= GG_HEADS_MAX_FFN && source.shape.window <= GG_HEADS_MAX_WINDOW)
            check_refused(&t, source, "only hydra++ and eagle heads have a decoder layer");
    }
    tear_down(&t);
}

Test(heads_write, values_that_the_type_cannot_hold_are_refused)
{
    heads_spec spec = small;
    spec.type = GG_F16;
    setting t = set_up(&spec);
    t.f.values[5] = 1e6f; // above the largest F16
    check_refused(&t, t.f.source, "'heads.0.0.block.0.weight'");
    t.f.values[5] = __builtin_nanf("");
    check_refused(&t, t.f.source, "'heads.0.0.block.0.weight'");
    t.f.values[5] = 0.0f;
    const size_t d = t.g->d_model;
    t.f.values[3 * d * d + d] = __builtin_inff(); // behind head 0 and a weight of head 1
    check_refused(&t, t.f.source, "'heads.0.1.block.0.bias'");
    tear_down(&t);
}

Test(heads_write, an_unwritable_path_is_an_error)
{
    setting t = set_up(&small);
    gorgon_error err = {0};
    char path[160];
    snprintf(path, sizeof path, "%s/none/heads.gguf", t.s.directory);
    cr_assert_eq(gg_heads_write(path, t.model, &t.f.source, 1, &err), GORGON_ERROR_IO);
    cr_assert_not_null(strstr(err.message, "none"), "%s", err.message);
    tear_down(&t);
}

static void check_same_tensors(const gg_head_set *a, const gg_head_set *b)
{
    cr_assert_eq(a->n_parts, b->n_parts);
    for (size_t i = 0; i < a->n_parts; i++) {
        const gg_head_part *p = &a->parts[i];
        const size_t row = p->n_in ? gg_dtype_row_bytes(a->weight_type, p->n_in) : sizeof(float);
        cr_assert_eq(memcmp(a->data[i], b->data[i], p->n_out * row), 0);
    }
    const size_t n = a->shape.n_draft;
    cr_assert_eq(memcmp(a->draft_ids, b->draft_ids, n * sizeof *a->draft_ids), 0);
}

Test(heads_write, calibration_is_replaced_and_the_rest_kept)
{
    static const float first[] = {1.0f, 2.0f, 3.0f}, second[] = {-4.0f, 5.5f};
    setting t = set_up(&small);
    gorgon_error err = {0};
    gg_head_set_source sets[2] = {t.f.source, t.f.source};
    sets[0].training_json = sets[1].training_json = "{\"steps\":7}";
    sets[0].accuracy_json = "{\"a\":0}";
    sets[0].calibration = first;
    sets[0].n_calibration = 3;
    cr_assert_eq(gg_heads_write(t.s.path, t.model, sets, 2, &err), GORGON_OK, "%s", err.message);
    size_t n, n_after;
    uint8_t *before = read_file(t.s.path, &n);
    gorgon_heads *old, *heads;
    cr_assert_eq(gg_heads_open_memory(before, n, "before", &old, &err), GORGON_OK);

    cr_assert_eq(gg_heads_set_calibration(t.s.path, 1, second, 2, NULL, &err), GORGON_OK, "%s",
                 err.message);
    cr_assert_eq(gg_heads_set_calibration(t.s.path, 0, second, 2, "{\"a\":1}", &err), GORGON_OK);
    cr_assert_eq(gorgon_heads_open(t.s.path, &heads, &err), GORGON_OK, "%s", err.message);
    for (size_t i = 0; i < 2; i++) {
        const gg_head_set *set = gg_heads_set(heads, i);
        check_same_tensors(gg_heads_set(old, i), set);
        cr_assert_eq(set->n_calibration, 2);
        cr_assert_eq(set->calibration[1], 5.5f);
        cr_assert_str_eq(set->training_json, "{\"steps\":7}");
        cr_assert_str_eq(set->accuracy_json, i == 0 ? "{\"a\":1}" : "");
    }
    gorgon_heads_free(heads);
    cr_assert_eq(gg_heads_set_calibration(t.s.path, 0, first, 3, NULL, &err), GORGON_OK);
    cr_assert_eq(gorgon_heads_open(t.s.path, &heads, &err), GORGON_OK, "%s", err.message);
    cr_assert_str_eq(gg_heads_set(heads, 0)->accuracy_json, "{\"a\":1}"); // kept
    const gorgon_fingerprint a = gorgon_heads_fingerprint(old), b = gorgon_heads_fingerprint(heads);
    cr_assert(a.vocabulary == b.vocabulary && a.tensors == b.tensors);
    gorgon_heads_free(heads);

    // Back to the first state, the file has its first size; an empty calibration removes the key.
    cr_assert_eq(gg_heads_set_calibration(t.s.path, 1, NULL, 0, NULL, &err), GORGON_OK);
    cr_assert_eq(gg_heads_set_calibration(t.s.path, 0, first, 3, "{\"a\":0}", &err), GORGON_OK);
    uint8_t *after = read_file(t.s.path, &n_after);
    cr_assert_eq(n, n_after);
    gorgon_heads_free(old);
    gg_free(before);
    gg_free(after);
    tear_down(&t);
}

Test(heads_write, a_refused_calibration_leaves_the_file_alone)
{
    static const float good[] = {1.0f}, bad[] = {__builtin_nanf("")};
    setting t = set_up(&small);
    gorgon_error err = {0};
    cr_assert_eq(gg_heads_write(t.s.path, t.model, &t.f.source, 1, &err), GORGON_OK);
    size_t n, n_after;
    uint8_t *before = read_file(t.s.path, &n);
    cr_assert_eq(gg_heads_set_calibration(t.s.path, 1, good, 1, NULL, &err), GORGON_ERROR_ARGUMENT);
    cr_assert_not_null(strstr(err.message, "no set 1, expected 0 to 0"), "%s", err.message);
    cr_assert_eq(gg_heads_set_calibration(t.s.path, 0, bad, 1, NULL, NULL), GORGON_ERROR_ARGUMENT);
    for (size_t fail = 1; fail < 40; fail++) {
        gg_alloc_fail_at(fail);
        gorgon_status status = gg_heads_set_calibration(t.s.path, 0, good, 1, NULL, NULL);
        const bool failed = gg_alloc_fail_at(0) >= fail;
        cr_assert(failed && status == GORGON_ERROR_MEMORY, "allocation %zu", fail);
    }
    uint8_t *after = read_file(t.s.path, &n_after);
    cr_assert(n == n_after && memcmp(before, after, n) == 0);
    gg_free(before);
    gg_free(after);
    tear_down(&t);
}

Test(heads_write, every_failing_allocation_is_reported)
{
    static const float calibration[] = {1.0f};
    setting t = set_up(&small);
    t.f.source.calibration = calibration;
    t.f.source.n_calibration = 1;
    gorgon_status status = GORGON_ERROR_MEMORY;
    size_t fail = 1;
    for (; status != GORGON_OK; fail++) {
        gg_alloc_fail_at(fail);
        status = gg_heads_write(t.s.path, t.model, &t.f.source, 1, NULL);
        gg_alloc_fail_at(0);
        cr_assert(status == GORGON_OK || status == GORGON_ERROR_MEMORY);
        cr_assert(status == GORGON_OK || access(t.s.path, F_OK) != 0);
    }
    cr_assert_gt(fail, 10);
    status = GORGON_ERROR_MEMORY;
    for (fail = 1; status != GORGON_OK; fail++) {
        gorgon_heads *heads = NULL;
        gorgon_error err = {0};
        gg_alloc_fail_at(fail);
        status = gorgon_heads_open(t.s.path, &heads, &err);
        gg_alloc_fail_at(0);
        cr_assert(status == GORGON_OK || (status == GORGON_ERROR_MEMORY && !heads), "%s",
                  err.message);
        gorgon_heads_free(heads);
    }
    cr_assert_gt(fail, 10);
    tear_down(&t);
}

Test(heads_write, every_truncation_is_refused)
{
    setting t = set_up(&small);
    gorgon_error err = {0};
    cr_assert_eq(gg_heads_write(t.s.path, t.model, &t.f.source, 1, &err), GORGON_OK);
    size_t n;
    uint8_t *bytes = read_file(t.s.path, &n);
    gorgon_heads *heads = NULL;
    cr_assert_eq(gg_heads_open_memory(bytes, n, "whole", &heads, &err), GORGON_OK);
    gorgon_heads_free(heads);
    for (size_t size = 0; size < n - 64; size += size < 2000 ? 1 : 41) {
        uint8_t *part = malloc(size + 1); // as long as the input, so that a sanitizer sees overruns
        memcpy(part, bytes, size);
        heads = NULL;
        cr_assert_neq(gg_heads_open_memory(part, size, "part", &heads, NULL), GORGON_OK);
        cr_assert_null(heads);
        free(part);
    }
    gg_free(bytes);
    tear_down(&t);
}
