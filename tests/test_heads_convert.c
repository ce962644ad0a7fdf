// Heads between formats: round trips bit for bit, what a format cannot say, files whole or not at
// all.
#define _XOPEN_SOURCE 700 // mkdtemp
#include "formats_fixture.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "heads_fixture.h"

typedef struct folder {
    char path[64];
} folder;

static folder folder_create(void)
{
    folder f = {"/tmp/gorgon-test-XXXXXX"};
    cr_assert_not_null(mkdtemp(f.path));
    return f;
}

// Removes what conversions leave, and fails if there is more.
static void empty(const char *path)
{
    char inner[512];
    DIR *directory = opendir(path);
    cr_assert_not_null(directory);
    for (struct dirent *e; (e = readdir(directory)) != NULL;) {
        cr_assert_null(strstr(e->d_name, ".tmp."), "%s was left behind", e->d_name);
        snprintf(inner, sizeof inner, "%s/%s", path, e->d_name);
        if (e->d_name[0] != '.')
            unlink(inner);
    }
    closedir(directory);
    cr_assert_eq(rmdir(path), 0);
}

static void folder_remove(const folder *f)
{
    static const char *const inner[] = {"x", "y"};
    for (size_t i = 0; i < 2; i++) {
        char path[128];
        struct stat info;
        snprintf(path, sizeof path, "%s/%s", f->path, inner[i]);
        if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
            empty(path);
    }
    empty(f->path);
}

static const char *at(const folder *f, const char *name)
{
    static char paths[4][128];
    static size_t next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", f->path, name);
    return path;
}

static void convert(const char *in, const char *to, const char *out, const gorgon_model *model)
{
    gorgon_error err = {0};
    gorgon_heads *heads = open_format(in);
    const gorgon_convert_options options = {.to = to, .model = model};
    cr_assert_eq(gorgon_heads_convert(heads, &options, out, &err), GORGON_OK, "%s", err.message);
    gorgon_heads_free(heads);
}

static void check_refused(const char *in, const char *to, const char *out, const char *part)
{
    gorgon_error err = {0};
    gorgon_heads *heads = open_format(in);
    const gorgon_convert_options options = {.to = to};
    cr_assert_neq(gorgon_heads_convert(heads, &options, out, &err), GORGON_OK, "%s", part);
    cr_assert(strstr(err.message, part), "'%s' lacks '%s'", err.message, part);
    gorgon_heads_free(heads);
}

static void check_same_file(const char *a, const char *b)
{
    FILE *x = fopen(a, "rb"), *y = fopen(b, "rb");
    cr_assert(x && y);
    int c;
    while ((c = getc(x)) != EOF)
        cr_assert_eq(c, getc(y), "%s differs at byte %ld", a, ftell(x));
    cr_assert_eq(getc(y), EOF);
    fclose(x);
    fclose(y);
}

// Every tensor of a is in b with its bits.
static void check_same_tensors(const char *a, const char *b)
{
    gg_tensor_file *x = NULL, *y = NULL;
    gorgon_error err = {0};
    cr_assert_eq(gg_tensor_file_open(a, &x, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(gg_tensor_file_open(b, &y, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(gg_tensor_file_count(x), gg_tensor_file_count(y));
    for (size_t i = 0; i < gg_tensor_file_count(x); i++) {
        const gg_named_tensor *t = gg_tensor_file_at(x, i);
        const gg_named_tensor *u = gg_tensor_file_find(y, t->name);
        const uint8_t *v, *w;
        cr_assert(u && u->element == t->element && u->n_dims == t->n_dims, "%s", t->name);
        cr_assert_eq(memcmp(t->dims, u->dims, sizeof t->dims), 0, "%s", t->name);
        cr_assert_eq(gg_tensor_file_data(x, t, &v, &err), GORGON_OK);
        cr_assert_eq(gg_tensor_file_data(y, u, &w, &err), GORGON_OK);
        cr_assert_eq(memcmp(v, w, t->bytes), 0, "%s", t->name);
    }
    gg_tensor_file_close(x);
    gg_tensor_file_close(y);
}

typedef struct trip {
    const char *name, *file, *to; // to NULL: no format but the side-car can say it
    const char *out;
} trip;

// X -> side-car -> X keeps tensors, and the side-car of that is the same file; the side-car
// computes what the trainer's module computes.
Test(heads_convert, round_trips_of_other_formats)
{
    static const trip trips[] = {
        {"medusa_3x1", "medusa_lm_head.pt", "fasterdecoding", "medusa_lm_head.safetensors"},
        {"medusa_3x1", "medusa_lm_head.safetensors", "fasterdecoding",
         "medusa_lm_head.safetensors"},
        {"medusa_5x2_shared_storage", "medusa_lm_head.pt", "fasterdecoding",
         "medusa_lm_head.safetensors"},
        {"medusa_f16_2x1", "medusa_lm_head.safetensors", "fasterdecoding",
         "medusa_lm_head.safetensors"},
        {"medusa_v2_4x1", "medusa_lm_head.pt", "fasterdecoding-v2", "medusa_lm_head.safetensors"},
        {"vllm_full", "model.safetensors", "vllm", "model.safetensors"},
        {"vllm_original_lm_head_nobias", "model.safetensors", "vllm", "model.safetensors"},
        {"vllm_truncated", "model.safetensors", "vllm", "model.safetensors"},
        {"hydra_2x3", "hydra_lm_head.pt", NULL, NULL},
        {"hydra_4x1", "hydra_lm_head.safetensors", NULL, NULL},
    };
    const folder f = folder_create();
    base b = base_open(GORGON_ACTIVATIONS_F32);
    for (size_t i = 0; i < sizeof trips / sizeof trips[0]; i++) {
        char in[256], out[256];
        snprintf(in, sizeof in, FORMATS "/%s/%s", trips[i].name, trips[i].file);
        convert(in, "gguf", at(&f, "a.gguf"), NULL);
        gorgon_heads *heads = open_format(at(&f, "a.gguf"));
        check_golden(&b, heads, trips[i].name, 1e-3f);
        gorgon_heads_free(heads);
        if (!trips[i].to)
            continue;
        convert(at(&f, "a.gguf"), trips[i].to, at(&f, "x"), NULL);
        snprintf(out, sizeof out, "%s/%s", at(&f, "x"), trips[i].out);
        check_same_tensors(in, out);
        heads = open_format(at(&f, "x"));
        cr_assert_null(gorgon_heads_warning(heads, 0), "%s", gorgon_heads_warning(heads, 0));
        check_golden(&b, heads, trips[i].name, 1e-3f);
        gorgon_heads_free(heads);
        convert(at(&f, "x"), "gguf", at(&f, "b.gguf"), b.model);
        convert(at(&f, "a.gguf"), "gguf", at(&f, "a.gguf"), b.model); // in place
        check_same_file(at(&f, "a.gguf"), at(&f, "b.gguf"));
        empty(at(&f, "x"));
    }
    base_close(&b);
    folder_remove(&f);
}

// Outputs stored whole are cut to the draft vocabulary; one matrix for all heads is copied for
// formats without such a thing; that of the base is written out.
Test(heads_convert, outputs_of_another_form)
{
    const folder f = folder_create();
    base b = base_open(GORGON_ACTIVATIONS_F32);
    static const char *const cases[][2] = {
        {"vllm_truncated_full_heads", "vllm"},
        {"vllm_original_lm_head_nobias", "fasterdecoding"},
        {"medusa_v2_4x1", "fasterdecoding"},
        {"medusa_v2_4x1", "vllm"},
        {"medusa_3x1", "vllm"},
        {"vllm_full", "fasterdecoding"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char in[256];
        snprintf(in, sizeof in, FORMATS "/%s", cases[i][0]);
        convert(in, cases[i][1], at(&f, "x"), b.model);
        gorgon_heads *heads = open_format(at(&f, "x"));
        check_golden(&b, heads, cases[i][0], 1e-3f);
        gorgon_heads_free(heads);
        empty(at(&f, "x"));
    }
    base_close(&b);
    folder_remove(&f);
}

// Side-cars of the types that trainers here write.
Test(heads_convert, round_trips_of_side_cars)
{
    static const heads_spec specs[] = {
        {.n_heads = 3, .n_blocks = 2, .type = GG_F32, .seed = 1},
        {.n_heads = 2, .n_blocks = 1, .n_draft = 40, .type = GG_F16, .seed = 2},
        {.n_heads = 2, .n_blocks = 1, .type = GG_Q8_0, .seed = 3},
    };
    const folder f = folder_create();
    gorgon_model *model = open_tiny();
    const gg_geometry *g = gg_model_geometry(model);
    gorgon_error err = {0};
    for (size_t i = 0; i < 3; i++) {
        heads_fixture made = heads_fixture_create(g->d_model, g->n_vocab, &specs[i]);
        cr_assert_eq(gg_heads_write(at(&f, "a.gguf"), model, &made.source, 1, &err), GORGON_OK,
                     "%s", err.message);
        // Once with the base's output written out, whence on the round trip is exact.
        convert(at(&f, "a.gguf"), specs[i].n_draft ? "vllm" : "fasterdecoding-v2", at(&f, "x"),
                model);
        convert(at(&f, "x"), "gguf", at(&f, "a.gguf"), model);
        convert(at(&f, "a.gguf"), "vllm", at(&f, "y"), model);
        if (specs[i].n_draft) {
            convert(at(&f, "y"), "gguf", at(&f, "b.gguf"), model);
            check_same_file(at(&f, "a.gguf"), at(&f, "b.gguf"));
        }
        gorgon_heads *heads = open_format(at(&f, "a.gguf"));
        const gg_head_set *set = gg_heads_set(heads, 0);
        for (size_t k = 0; k < set->n_parts; k++) {
            if (set->parts[k].role == GG_PART_BIAS)
                cr_assert_eq(memcmp(set->data[k],
                                    fixture_part(&made.source, GG_PART_BIAS, set->parts[k].head,
                                                 set->parts[k].block),
                                    g->d_model * sizeof(float)),
                             0);
        }
        gorgon_heads_free(heads);
        empty(at(&f, "x"));
        empty(at(&f, "y"));
        heads_fixture_free(&made);
    }
    gorgon_model_free(model);
    folder_remove(&f);
}

// All that a set of a side-car has beside its weights stays with it.
Test(heads_convert, side_car_to_side_car)
{
    static const char shipped[] = GG_SOURCE_DIR "/models/tiny/heads.gguf";
    const folder f = folder_create();
    convert(shipped, "gguf", at(&f, "a.gguf"), NULL);
    gorgon_heads *a = open_format(shipped), *b = open_format(at(&f, "a.gguf"));
    const gorgon_fingerprint x = gorgon_heads_fingerprint(a), y = gorgon_heads_fingerprint(b);
    cr_assert(x.vocabulary == y.vocabulary && x.tensors == y.tensors && x.n_layers == y.n_layers);
    cr_assert_eq(gorgon_heads_count(a), gorgon_heads_count(b));
    for (size_t i = 0; i < gorgon_heads_count(a); i++) {
        const gg_head_set *s = gg_heads_set(a, i), *t = gg_heads_set(b, i);
        cr_assert_eq(memcmp(&s->shape, &t->shape, sizeof s->shape), 0);
        cr_assert_eq(s->n_calibration, t->n_calibration);
        cr_assert_eq(s->successors.n, t->successors.n);
        cr_assert_str_eq(s->training_json, t->training_json);
        cr_assert_str_eq(s->accuracy_json, t->accuracy_json);
        for (size_t k = 0; k < s->n_parts; k++) {
            const gg_head_part *p = &s->parts[k];
            const size_t row =
                p->n_in ? gg_dtype_row_bytes(s->weight_type, p->n_in) : sizeof(float);
            cr_assert_eq(memcmp(s->data[k], t->data[k], p->n_out * row), 0);
        }
    }
    gorgon_heads_free(a);
    gorgon_heads_free(b);
    folder_remove(&f);
}

Test(heads_convert, what_a_format_cannot_say)
{
    static const char *const cases[][3] = {
        {"medusa_3x1", "fasterdecoding-v2", "cannot express output matrices"},
        {"medusa_v2_4x1", "fasterdecoding", "give the model"},
        {"medusa_v2_4x1", "vllm", "give the model"},
        {"vllm_truncated", "fasterdecoding", "cannot express a draft vocabulary"},
        {"hydra_2x3", "vllm", "cannot express hydra heads"},
        {"hydra_2x3", "fasterdecoding", "cannot express hydra heads"},
        {"medusa_3x1", "onnx", "expected one of: gguf, fasterdecoding"},
    };
    const folder f = folder_create();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char in[256];
        snprintf(in, sizeof in, FORMATS "/%s", cases[i][0]);
        check_refused(in, cases[i][1], at(&f, "x"), cases[i][2]);
    }
    check_refused(GG_SOURCE_DIR "/models/tiny/heads.gguf", "vllm", at(&f, "x"), "root token");
    folder_remove(&f); // no directory was left
}

Test(heads_convert, calibration_is_for_side_cars)
{
    gorgon_error err = {0};
    cr_assert_eq(gg_heads_set_calibration(FORMATS "/vllm_full", 0, NULL, 0, NULL, &err),
                 GORGON_ERROR_UNSUPPORTED);
    cr_assert(strstr(err.message, "gorgon convert"), "%s", err.message);
    const folder f = folder_create();
    const float weights[] = {1, 2, 3};
    convert(FORMATS "/hydra_2x3", "gguf", at(&f, "a.gguf"), NULL);
    convert(FORMATS "/hydra_2x3", "gguf", at(&f, "b.gguf"), NULL);
    err = (gorgon_error){0};
    cr_assert_eq(gg_heads_set_calibration(at(&f, "a.gguf"), 0, weights, 3, NULL, &err), GORGON_OK,
                 "%s", err.message);
    gorgon_heads *heads = open_format(at(&f, "a.gguf"));
    cr_assert_eq(gg_heads_set(heads, 0)->n_calibration, 3);
    cr_assert(gg_heads_set(heads, 0)->shape.residual);
    gorgon_heads_free(heads);
    folder_remove(&f);
}

Test(heads_convert, nothing_is_overwritten_that_is_something_else)
{
    const folder f = folder_create();
    const char *in = FORMATS "/medusa_3x1";
    check_refused(in, "vllm", at(&f, "a/b"), "a/b");
    cr_assert_eq(mkdir(at(&f, "x"), 0777), 0);
    fclose(fopen(at(&f, "x/notes"), "w"));
    check_refused(in, "vllm", at(&f, "x"), "'notes'");
    cr_assert_eq(unlink(at(&f, "x/notes")), 0);
    convert(in, "vllm", at(&f, "x"), NULL);
    convert(FORMATS "/vllm_full", "vllm", at(&f, "x"), NULL); // its own kind is replaced
    check_refused(in, "fasterdecoding", at(&f, "x"), "model.safetensors");
    check_refused(in, "gguf", at(&f, "x"), "a directory");
    convert(at(&f, "x"), "vllm", at(&f, "x"), NULL); // onto itself
    check_same_tensors(FORMATS "/vllm_full", at(&f, "x"));
    fclose(fopen(at(&f, "y"), "w"));
    check_refused(in, "vllm", at(&f, "y"), "y");
    folder_remove(&f);
}

// Every allocation fails in turn: nothing is left, or what was there is.
Test(heads_convert, failing_allocations)
{
    static const char *const cases[][2] = {
        {"vllm_truncated", "vllm"}, {"medusa_f16_2x1", "fasterdecoding"}, {"hydra_2x3", "gguf"}};
    const folder f = folder_create();
    for (size_t i = 0; i < 3; i++) {
        char in[256];
        size_t failures = 0;
        gorgon_status status;
        snprintf(in, sizeof in, FORMATS "/%s", cases[i][0]);
        gorgon_heads *heads = open_format(in);
        const gorgon_convert_options options = {.to = cases[i][1]};
        do {
            gorgon_error err = {0};
            struct stat info;
            gg_alloc_fail_at(++failures);
            status = gorgon_heads_convert(heads, &options, at(&f, "x"), &err);
            gg_alloc_fail_at(0);
            cr_assert(status == GORGON_OK || status == GORGON_ERROR_MEMORY, "%s", err.message);
            cr_assert_eq(status == GORGON_OK, stat(at(&f, "x"), &info) == 0, "%zu", failures);
        } while (status != GORGON_OK);
        cr_assert_gt(failures, 5);
        gorgon_heads_free(heads);
        if (i < 2)
            empty(at(&f, "x"));
    }
    folder_remove(&f);
}
