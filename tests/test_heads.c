// Heads files: round trips, every refusal, recalibration, failing allocations.
#define _XOPEN_SOURCE 700 // mkdtemp
#include "heads_fixture.h"

#include "core/gguf.h"
#include "core/limits.h"

static const heads_spec plain = {
    .n_heads = 2, .n_blocks = 2, .n_draft = 40, .root = true, .type = GG_F16, .seed = 5};

static const heads_spec layered = {.n_heads = 2,
                                   .n_blocks = 1,
                                   .n_draft = 40,
                                   .root = true,
                                   .type = GG_F16,
                                   .seed = 5,
                                   .kind = GG_HEADS_EAGLE,
                                   .n_attention = 4,
                                   .n_ffn = 48,
                                   .window = 8};

static void check_part(const gg_head_set *set, size_t i, const float *values)
{
    const gg_head_part *p = &set->parts[i];
    const uint8_t *stored = set->data[i];
    if (p->n_in == 0) {
        cr_assert_eq(memcmp(stored, values, p->n_out * sizeof *values), 0);
        return;
    }
    const size_t bytes = gg_dtype_row_bytes(set->weight_type, p->n_in);
    uint8_t *row = gg_alloc(bytes, 1);
    for (size_t o = 0; o < p->n_out; o++) {
        gg_quantize_row(set->weight_type, values + o * p->n_in, p->n_in, row);
        cr_assert_eq(memcmp(stored + o * bytes, row, bytes), 0, "part %zu, row %zu", i, o);
    }
    gg_free(row);
}

static void check_set(const gg_head_set *set, const gg_head_set_source *source)
{
    gg_head_part parts[GG_MAX_HEAD_PARTS];
    cr_assert_not_null(set);
    cr_assert_eq(memcmp(&set->shape, &source->shape, sizeof set->shape), 0);
    cr_assert_eq(set->weight_type, source->weight_type);
    cr_assert_eq(set->n_parts, gg_head_parts(&set->shape, 0, parts));
    for (size_t i = 0; i < set->n_parts; i++)
        check_part(set, i, source->data[i]);
    cr_assert_eq(set->draft_ids == NULL, set->shape.n_draft == 0);
    for (size_t i = 0; i < set->shape.n_draft; i++)
        cr_assert_eq(set->draft_ids[i], source->draft_ids[i]);
    cr_assert_eq(set->n_calibration, source->n_calibration);
    for (size_t i = 0; i < set->n_calibration; i++)
        cr_assert_eq(set->calibration[i], source->calibration[i]);
}

// Of the sets below, n in all.
static void check_descriptions(const gorgon_heads *heads, size_t n, uint64_t d)
{
    gorgon_head_set_info info;
    cr_assert_eq(gorgon_heads_describe(heads, 1, &info, NULL), GORGON_OK);
    cr_assert_eq(info.n_parameters, 3 * (2 * (d * d + d) + d * d));
    cr_assert_str_eq(info.kind, "medusa");
    cr_assert_str_eq(info.weight_type, "F16");
    cr_assert_str_eq(info.training_json, "{\"tokens\": 5}");
    cr_assert_str_eq(info.accuracy_json, "{\"top1\": [0.5]}");
    cr_assert(info.calibrated);
    cr_assert_eq(gorgon_heads_describe(heads, 5, &info, NULL), GORGON_OK);
    cr_assert_eq(info.rank, 32);
    cr_assert_eq(gorgon_heads_describe(heads, 7, &info, NULL), GORGON_OK);
    cr_assert_str_eq(info.kind, "hydra++");
    cr_assert(info.n_attention == 64 && info.n_ffn == 32 && info.window == GG_HEADS_MAX_WINDOW);
    cr_assert_eq(info.n_parameters, 2 * (2 * (d * d + d)) + 3 * d * d + 4 * d * d + 3 * 32 * d);
    cr_assert_eq(gorgon_heads_describe(heads, 0, &info, NULL), GORGON_OK);
    cr_assert(info.rank == 0 && info.n_attention == 0 && info.n_ffn == 0 && info.window == 0);
    cr_assert_str_eq(info.training_json, "");
    cr_assert_not(info.calibrated);
    cr_assert_eq(gorgon_heads_describe(heads, n, &info, NULL), GORGON_ERROR_ARGUMENT);
}

Test(heads, round_trip_of_several_sets)
{
    static const float calibration[] = {1.0f, -0.5f, 0.25f};
    static const heads_spec specs[] = {
        {.n_heads = 1, .n_blocks = 1, .n_draft = 0, .root = false, .type = GG_F32, .seed = 1},
        {.n_heads = 3, .n_blocks = 2, .n_draft = 64, .root = true, .type = GG_F16, .seed = 2},
        {.n_heads = 2, .n_blocks = 1, .n_draft = 33, .root = true, .type = GG_Q8_0, .seed = 3},
        {.n_heads = 2, .n_blocks = 1, .type = GG_F16, .seed = 4, .kind = GG_HEADS_LINEAR},
        {.n_heads = 3, .n_blocks = 2, .root = true, .type = GG_Q8_0, .kind = GG_HEADS_HYDRA},
        {.n_heads = 2, .n_blocks = 1, .root = true, .kind = GG_HEADS_MARKOV, .rank = 32},
        {.n_heads = 4, .n_blocks = 3, .root = true, .kind = GG_HEADS_RECURRENT},
        {.n_heads = 2,
         .n_blocks = 2,
         .root = true,
         .type = GG_Q8_0,
         .kind = GG_HEADS_HYDRA_PREFIX,
         .n_attention = 64,
         .n_ffn = 32,
         .window = GG_HEADS_MAX_WINDOW},
        {.n_heads = 5,
         .n_blocks = 1,
         .root = true,
         .type = GG_F32,
         .kind = GG_HEADS_EAGLE,
         .n_attention = 1,
         .n_ffn = 7,
         .window = 1},
    };
    enum { N = sizeof specs / sizeof specs[0] };
    gorgon_model *model = open_tiny();
    const gg_geometry *g = gg_model_geometry(model);
    scratch s = scratch_create();
    heads_fixture f[N];
    gg_head_set_source sources[N];
    for (size_t i = 0; i < N; i++) {
        f[i] = heads_fixture_create(g->d_model, g->n_vocab, &specs[i]);
        sources[i] = f[i].source;
    }
    sources[1].training_json = "{\"tokens\": 5}";
    sources[1].accuracy_json = "{\"top1\": [0.5]}";
    sources[1].calibration = calibration;
    sources[1].n_calibration = 3;
    gorgon_error err = {0};
    gorgon_heads *heads = NULL;
    cr_assert_eq(gg_heads_write(s.path, model, sources, N, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(gorgon_heads_open(s.path, &heads, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(gorgon_heads_count(heads), N);
    for (size_t i = 0; i < N; i++)
        check_set(gg_heads_set(heads, i), &sources[i]);
    cr_assert_null(gg_heads_set(heads, N));

    check_descriptions(heads, N, g->d_model);

    bool warning = true;
    gorgon_model_info base;
    gorgon_model_describe(model, &base);
    cr_assert_eq(gorgon_heads_check(heads, model, &warning, NULL), GORGON_OK);
    cr_assert_not(warning);
    cr_assert_str_eq(gorgon_heads_base_name(heads), base.name);
    cr_assert_str_eq(gorgon_heads_path(heads), s.path);
    gorgon_heads_free(heads);
    for (size_t i = 0; i < N; i++)
        heads_fixture_free(&f[i]);
    scratch_remove(&s);
    gorgon_model_free(model);
}

// One change to a valid file while it is copied: a key or tensor is left out, or replaced.
typedef struct edit {
    const char *name;  // of the key or tensor
    const char *text;  // string key
    const float *list; // f32 array key of n values
    size_t n;
    uint64_t value; // u32 or u64 key, or bool
    enum { DROP, TEXT, U32, U64, BOOL, LIST, SHAPE, TYPE, POKE, IDS } what;
    uint64_t dims[2]; // SHAPE
    gg_dtype type;    // TYPE
    uint32_t word;    // POKE: 32 bits at byte `value` of the tensor
} edit;

static gorgon_status put_edited_key(gg_gguf_writer *w, const edit *e)
{
    switch (e->what) {
    case TEXT:
        return gg_gguf_put_string(w, e->name, e->text, NULL);
    case U32:
        return gg_gguf_put_u32(w, e->name, (uint32_t)e->value, NULL);
    case U64:
        return gg_gguf_put_u64(w, e->name, e->value, NULL);
    case BOOL:
        return gg_gguf_put_bool(w, e->name, e->value != 0, NULL);
    case LIST:
        return gg_gguf_put_array_f32(w, e->name, e->list, e->n, NULL);
    default:
        return GORGON_OK;
    }
}

static void copy_key(gg_gguf_writer *w, const gg_gguf *file, const char *key, gg_gguf_kind kind)
{
    uint64_t u;
    bool b;
    const char *text;
    float list[16];
    size_t n;
    gg_gguf_kind element;
    gorgon_status status = GORGON_ERROR_FORMAT;
    if (kind == GG_GGUF_STRING && gg_gguf_get_string(file, key, &text, NULL, NULL) == GORGON_OK)
        status = gg_gguf_put_string(w, key, text, NULL);
    else if (kind == GG_GGUF_BOOL && gg_gguf_get_bool(file, key, &b, NULL) == GORGON_OK)
        status = gg_gguf_put_bool(w, key, b, NULL);
    else if (kind == GG_GGUF_ARRAY &&
             gg_gguf_get_array(file, key, &element, &n, NULL) == GORGON_OK && n <= 16 &&
             gg_gguf_array_f32(file, key, list, n, NULL) == GORGON_OK)
        status = gg_gguf_put_array_f32(w, key, list, n, NULL);
    else if (gg_gguf_get_u64(file, key, &u, NULL) == GORGON_OK)
        status = kind == GG_GGUF_U32 ? gg_gguf_put_u32(w, key, (uint32_t)u, NULL)
                                     : gg_gguf_put_u64(w, key, u, NULL);
    cr_assert_eq(status, GORGON_OK, "%s", key);
}

// A tensor in its edited form; 64 KiB are enough for every matrix of the embedded model's heads.
static void put_edited_tensor(gg_gguf_writer *w, const gg_tensor *t, const edit *e)
{
    static uint8_t data[1 << 18];
    uint64_t dims[2] = {t->dims[0], t->dims[1]};
    size_t n_dims = t->n_dims, bytes = t->bytes;
    gg_dtype type = t->type;
    cr_assert_leq(t->bytes, sizeof data);
    memset(data, 0, sizeof data);
    memcpy(data, t->data, t->bytes);
    if (e->what == SHAPE) {
        dims[0] = e->dims[0];
        dims[1] = e->dims[1];
        n_dims = dims[1] ? 2 : 1;
    } else if (e->what == TYPE) {
        type = e->type;
    } else if (e->what == POKE) {
        memcpy(data + e->value, &e->word, sizeof e->word);
    }
    if (e->what == SHAPE || e->what == TYPE)
        bytes = gg_dtype_row_bytes(type, (size_t)dims[0]) * (size_t)(n_dims == 2 ? dims[1] : 1);
    cr_assert_leq(bytes, sizeof data);
    cr_assert_eq(gg_gguf_put_tensor(w, t->name, type, dims, n_dims, data, bytes, NULL), GORGON_OK);
}

static void rewrite(const char *path, const edit *e)
{
    gg_gguf *file;
    gg_gguf_writer *w;
    gorgon_error err = {0};
    bool found = false;
    cr_assert_eq(gg_gguf_open(path, &file, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(gg_gguf_writer_create(&w, &err), GORGON_OK);
    for (size_t i = 0; i < gg_gguf_key_count(file); i++) {
        gg_gguf_kind kind;
        const char *key = gg_gguf_key_at(file, i, &kind);
        if (strcmp(key, e->name) == 0)
            found = true;
        else if (strcmp(key, "general.alignment") != 0)
            copy_key(w, file, key, kind);
    }
    for (size_t i = 0; i < gg_gguf_tensor_count(file); i++) {
        const gg_tensor *t = gg_gguf_tensor_at(file, i);
        static const edit nothing = {.what = DROP};
        const bool chosen = strcmp(t->name, e->name) == 0;
        found = found || chosen;
        if (!chosen || e->what != DROP)
            put_edited_tensor(w, t, chosen ? e : &nothing);
    }
    cr_assert(found || (e->what != DROP && e->what < SHAPE), "'%s' is not in the file", e->name);
    cr_assert_eq(put_edited_key(w, e), GORGON_OK);
    cr_assert_eq(gg_gguf_write(w, path, &err), GORGON_OK, "%s", err.message);
    gg_gguf_writer_free(w);
    gg_gguf_close(file);
}

typedef struct refusal {
    edit edit;
    gorgon_status status;
    const char *part; // of the error line
} refusal;

static void check_refusals(const heads_spec *spec, const refusal *list, size_t n)
{
    gorgon_model *model = open_tiny();
    const gg_geometry *g = gg_model_geometry(model);
    heads_fixture f = heads_fixture_create(g->d_model, g->n_vocab, spec);
    scratch s = scratch_create();
    for (size_t i = 0; i < n; i++) {
        gorgon_heads *heads = NULL;
        gorgon_error err = {0};
        cr_assert_eq(gg_heads_write(s.path, model, &f.source, 1, &err), GORGON_OK);
        rewrite(s.path, &list[i].edit);
        gorgon_status status = gorgon_heads_open(s.path, &heads, &err);
        cr_assert_eq(status, list[i].status, "%s (%d): %s", list[i].edit.name,
                     (int)list[i].edit.what, err.message);
        cr_assert_null(heads);
        cr_assert_not_null(strstr(err.message, list[i].part), "%s: '%s' lacks '%s'",
                           list[i].edit.name, err.message, list[i].part);
        cr_assert_not_null(strstr(err.message, "heads.gguf"), "%s", err.message);
    }
    heads_fixture_free(&f);
    scratch_remove(&s);
    gorgon_model_free(model);
}

#define COUNT(list) (sizeof(list) / sizeof(list)[0])

static const float nan_list[] = {0.0f, __builtin_nanf("")};
static const float long_list[GG_MAX_CALIBRATION + 1] = {0};
static const refusal bad_keys[] = {
    {{.name = "general.architecture", .what = TEXT, .text = "llama"},
     GORGON_ERROR_FORMAT,
     "is 'llama', expected 'gorgon-heads'"},
    {{.name = "gorgon.heads.version", .what = U32, .value = 3},
     GORGON_ERROR_UNSUPPORTED,
     "'gorgon.heads.version' is 3, expected 1 or 2"},
    {{.name = "gorgon.heads.version", .what = DROP}, GORGON_ERROR_FORMAT, "missing"},
    {{.name = "gorgon.heads.sets", .what = U32, .value = 0},
     GORGON_ERROR_FORMAT,
     "is 0, expected 1 to 32"},
    {{.name = "gorgon.heads.sets", .what = U32, .value = 33}, GORGON_ERROR_FORMAT, "is 33"},
    {{.name = "gorgon.heads.sets", .what = U32, .value = 2},
     GORGON_ERROR_FORMAT,
     "gorgon.heads.1.kind"},
    {{.name = "gorgon.heads.0.kind", .what = TEXT, .text = "oracle"},
     GORGON_ERROR_UNSUPPORTED,
     "is 'oracle', expected one of: medusa, linear, markov, hydra, hydra++, recurrent, eagle"},
    {{.name = "gorgon.heads.0.n_heads", .what = U32, .value = 0},
     GORGON_ERROR_FORMAT,
     "expected 1 to 16"},
    {{.name = "gorgon.heads.0.n_heads", .what = U64, .value = UINT64_C(1) << 40},
     GORGON_ERROR_FORMAT,
     "is 1099511627776, expected 1 to 16"},
    {{.name = "gorgon.heads.0.n_heads", .what = U32, .value = 3},
     GORGON_ERROR_FORMAT,
     "tensor 'heads.0.2.block.0.weight' is missing"},
    {{.name = "gorgon.heads.0.n_heads", .what = U32, .value = 1},
     GORGON_ERROR_FORMAT,
     "holds 11 tensors, expected 6"},
    {{.name = "gorgon.heads.0.n_blocks", .what = U32, .value = 9},
     GORGON_ERROR_FORMAT,
     "is 9, expected 1 to 8"},
    {{.name = "gorgon.heads.0.n_blocks", .what = DROP}, GORGON_ERROR_FORMAT, "missing"},
    {{.name = "gorgon.heads.0.n_draft", .what = U32, .value = 1 << 19},
     GORGON_ERROR_FORMAT,
     "is 524288, expected 0 to"},
    {{.name = "gorgon.heads.0.n_draft", .what = U32, .value = 39},
     GORGON_ERROR_FORMAT,
     "has 1 dimensions, 40 x 1, expected 1, 39 x 1"},
    {{.name = "gorgon.heads.0.root_embedding", .what = U32, .value = 1},
     GORGON_ERROR_FORMAT,
     "expected a bool"},
    {{.name = "gorgon.heads.0.root_embedding", .what = BOOL, .value = 0},
     GORGON_ERROR_FORMAT,
     "holds 11 tensors, expected 9"},
    {{.name = "gorgon.heads.0.own_output", .what = BOOL, .value = 1},
     GORGON_ERROR_FORMAT,
     "'heads.0.0.output.weight' is missing"},
    {{.name = "gorgon.heads.0.training", .what = U32, .value = 1},
     GORGON_ERROR_FORMAT,
     "expected a string"},
    {{.name = "gorgon.heads.0.calibration", .what = U32, .value = 1},
     GORGON_ERROR_FORMAT,
     "expected an array"},
    {{.name = "gorgon.heads.0.calibration", .what = LIST, .list = nan_list, .n = 2},
     GORGON_ERROR_FORMAT,
     "not a number"},
    {{.name = "gorgon.heads.0.calibration", .what = LIST, .list = nan_list, .n = 0},
     GORGON_ERROR_FORMAT,
     "holds 0 values"},
    {{.name = "gorgon.heads.0.calibration", .what = LIST, .list = long_list, .n = COUNT(long_list)},
     GORGON_ERROR_FORMAT,
     "holds 65537 values"},
    {{.name = "gorgon.base.name", .what = DROP}, GORGON_ERROR_FORMAT, "missing"},
    {{.name = "gorgon.base.vocabulary", .what = DROP}, GORGON_ERROR_FORMAT, "missing"},
    {{.name = "gorgon.base.tensors", .what = TEXT, .text = "1"},
     GORGON_ERROR_FORMAT,
     "expected an integer"},
    {{.name = "gorgon.base.n_layers", .what = U32, .value = 0}, GORGON_ERROR_FORMAT, "is 0"},
    {{.name = "gorgon.base.d_model", .what = U32, .value = 1 << 18},
     GORGON_ERROR_FORMAT,
     "is 262144"},
    {{.name = "gorgon.base.d_model", .what = U32, .value = 32},
     GORGON_ERROR_FORMAT,
     "heads.0.0.block.0.weight"},
    {{.name = "gorgon.base.n_vocab", .what = U32, .value = 1 << 21},
     GORGON_ERROR_FORMAT,
     "is 2097152"},
};

Test(heads, keys_are_checked)
{
    check_refusals(&plain, bad_keys, COUNT(bad_keys));
}

Test(heads, tensors_are_checked)
{
    static const refusal list[] = {
        {{.name = "heads.0.draft_ids", .what = DROP}, GORGON_ERROR_FORMAT, "is missing"},
        {{.name = "heads.0.draft_ids", .what = TYPE, .type = GG_F32},
         GORGON_ERROR_FORMAT,
         "has type F32, expected I32"},
        {{.name = "heads.0.draft_ids", .what = SHAPE, .dims = {20, 2}},
         GORGON_ERROR_FORMAT,
         "has 2 dimensions, 20 x 2"},
        {{.name = "heads.0.draft_ids", .what = POKE, .value = 0, .word = UINT32_MAX},
         GORGON_ERROR_FORMAT,
         "id 0 is -1, expected ascending ids from 0 to"},
        {{.name = "heads.0.draft_ids", .what = POKE, .value = 8, .word = 0},
         GORGON_ERROR_FORMAT,
         "id 2 is 0, expected ascending"},
        {{.name = "heads.0.draft_ids", .what = POKE, .value = 39 * 4, .word = 1 << 20},
         GORGON_ERROR_FORMAT,
         "id 39 is 1048576"},
        {{.name = "heads.0.0.block.0.weight", .what = TYPE, .type = GG_I32},
         GORGON_ERROR_UNSUPPORTED,
         "has type I32, expected F32, F16 or Q8_0"},
        {{.name = "heads.0.1.block.0.weight", .what = TYPE, .type = GG_F32},
         GORGON_ERROR_FORMAT,
         "has type F32, expected F16"},
        {{.name = "heads.0.1.block.1.weight", .what = SHAPE, .dims = {32, 32}},
         GORGON_ERROR_FORMAT,
         "has 2 dimensions, 32 x 32, expected 2, "},
        {{.name = "heads.0.1.root.weight", .what = DROP}, GORGON_ERROR_FORMAT, "is missing"},
        {{.name = "heads.0.1.root.weight", .what = SHAPE, .dims = {32, 0}},
         GORGON_ERROR_FORMAT,
         "has 1 dimensions"},
        {{.name = "heads.0.1.block.1.bias", .what = DROP}, GORGON_ERROR_FORMAT, "is missing"},
        {{.name = "heads.0.1.block.1.bias", .what = TYPE, .type = GG_F16},
         GORGON_ERROR_FORMAT,
         "has type F16, expected F32"},
        {{.name = "heads.0.1.block.1.bias", .what = SHAPE, .dims = {7, 0}},
         GORGON_ERROR_FORMAT,
         "7 x 1"},
        {{.name = "heads.0.1.block.1.bias", .what = POKE, .value = 4, .word = 0x7fc00000},
         GORGON_ERROR_FORMAT,
         "infinite or not a number"},
        {{.name = "heads.0.1.block.1.weight", .what = POKE, .value = 6, .word = 0x0000fc00},
         GORGON_ERROR_FORMAT,
         "infinite or not a number"},
    };
    check_refusals(&plain, list, COUNT(list));
}

#define KEY(field)    "gorgon.heads.0." field
#define TENSOR(field) "heads.0.0." field ".weight"

Test(heads, keys_of_a_decoder_layer_are_checked)
{
    static const refusal list[] = {
        {{.name = KEY("n_attention"), .what = DROP},
         GORGON_ERROR_FORMAT,
         "'gorgon.heads.0.n_attention' is missing"},
        {{.name = KEY("n_ffn"), .what = DROP},
         GORGON_ERROR_FORMAT,
         "'gorgon.heads.0.n_ffn' is missing"},
        {{.name = KEY("window"), .what = DROP},
         GORGON_ERROR_FORMAT,
         "'gorgon.heads.0.window' is missing"},
        {{.name = KEY("n_attention"), .what = U32, .value = 0},
         GORGON_ERROR_FORMAT,
         "is 0, expected 1 to 128"},
        {{.name = KEY("n_attention"), .what = U32, .value = 129},
         GORGON_ERROR_FORMAT,
         "is 129, expected 1 to 128"},
        {{.name = KEY("n_attention"), .what = U32, .value = 3},
         GORGON_ERROR_FORMAT,
         "set 0: d_model is no even multiple of n_attention"},
        {{.name = KEY("n_attention"), .what = U32, .value = 128},
         GORGON_ERROR_FORMAT,
         "set 0: d_model is no even multiple of n_attention"},
        {{.name = KEY("n_ffn"), .what = U32, .value = 0},
         GORGON_ERROR_FORMAT,
         "is 0, expected 1 to 65536"},
        {{.name = KEY("n_ffn"), .what = U64, .value = UINT64_C(1) << 33},
         GORGON_ERROR_FORMAT,
         "is 8589934592, expected 1 to 65536"},
        {{.name = KEY("n_ffn"), .what = U32, .value = 47},
         GORGON_ERROR_FORMAT,
         "'heads.0.0.ffn_gate.weight' has 2 dimensions, 128 x 48, expected 2, 128 x 47"},
        {{.name = KEY("window"), .what = U32, .value = 0},
         GORGON_ERROR_FORMAT,
         "is 0, expected 1 to 1024"},
        {{.name = KEY("window"), .what = U32, .value = 1025},
         GORGON_ERROR_FORMAT,
         "is 1025, expected 1 to 1024"},
        {{.name = KEY("window"), .what = TEXT, .text = "8"},
         GORGON_ERROR_FORMAT,
         "expected an integer"},
        {{.name = KEY("n_blocks"), .what = U32, .value = 2},
         GORGON_ERROR_FORMAT,
         "set 0: heads without activation have one block"},
        {{.name = KEY("kind"), .what = TEXT, .text = "recurrent"},
         GORGON_ERROR_FORMAT,
         "holds 11 tensors, expected 4"},
    };
    check_refusals(&layered, list, COUNT(list));
}

Test(heads, tensors_of_a_decoder_layer_are_checked)
{
    static const refusal list[] = {
        {{.name = TENSOR("attn_q"), .what = DROP}, GORGON_ERROR_FORMAT, "is missing"},
        {{.name = TENSOR("attn_k"), .what = DROP}, GORGON_ERROR_FORMAT, "is missing"},
        {{.name = TENSOR("attn_v"), .what = TYPE, .type = GG_F32},
         GORGON_ERROR_FORMAT,
         "'heads.0.0.attn_v.weight' has type F32, expected F16"},
        {{.name = TENSOR("attn_output"), .what = SHAPE, .dims = {128, 64}},
         GORGON_ERROR_FORMAT,
         "has 2 dimensions, 128 x 64, expected 2, 128 x 128"},
        {{.name = TENSOR("ffn_gate"), .what = SHAPE, .dims = {48, 128}},
         GORGON_ERROR_FORMAT,
         "has 2 dimensions, 48 x 128, expected 2, 128 x 48"},
        {{.name = TENSOR("ffn_up"), .what = SHAPE, .dims = {128, 0}},
         GORGON_ERROR_FORMAT,
         "has 1 dimensions"},
        {{.name = TENSOR("ffn_down"), .what = SHAPE, .dims = {128, 48}},
         GORGON_ERROR_FORMAT,
         "has 2 dimensions, 128 x 48, expected 2, 48 x 128"},
        {{.name = TENSOR("ffn_down"), .what = POKE, .value = 4, .word = 0x7c00},
         GORGON_ERROR_FORMAT,
         "'heads.0.0.ffn_down.weight' holds a value that is infinite or not a number"},
    };
    check_refusals(&layered, list, COUNT(list));
}

Test(heads, own_output_is_read)
{
    gorgon_model *model = open_tiny();
    const gg_geometry *g = gg_model_geometry(model);
    const size_t d = g->d_model;
    const heads_spec spec = {.n_heads = 1, .n_blocks = 1, .n_draft = 0, .type = GG_F32, .seed = 9};
    heads_fixture f = heads_fixture_create(d, g->n_vocab, &spec);
    scratch s = scratch_create();
    gorgon_error err = {0};
    gorgon_heads *heads = write_and_open(&s, model, &f.source);
    gorgon_heads_free(heads);
    rewrite(s.path, &(edit){.name = "gorgon.heads.0.own_output", .what = BOOL, .value = 1});
    gg_gguf *file;
    gg_gguf_writer *w;
    cr_assert_eq(gg_gguf_open(s.path, &file, &err), GORGON_OK);
    cr_assert_eq(gg_gguf_writer_create(&w, &err), GORGON_OK);
    for (size_t i = 0; i < gg_gguf_key_count(file); i++) {
        gg_gguf_kind kind;
        const char *key = gg_gguf_key_at(file, i, &kind);
        copy_key(w, file, key, kind);
    }
    for (size_t i = 0; i < gg_gguf_tensor_count(file); i++)
        put_edited_tensor(w, gg_gguf_tensor_at(file, i), &(edit){.what = DROP});
    float *output = gg_alloc(g->n_vocab * d, sizeof *output);
    for (size_t i = 0; i < g->n_vocab * d; i++)
        output[i] = (float)i;
    const uint64_t dims[] = {d, g->n_vocab};
    cr_assert_eq(gg_gguf_put_tensor(w, "heads.0.0.output.weight", GG_F32, dims, 2, output,
                                    g->n_vocab * d * sizeof *output, &err),
                 GORGON_OK);
    cr_assert_eq(gg_gguf_write(w, s.path, &err), GORGON_OK);
    gg_gguf_writer_free(w);
    gg_gguf_close(file);
    cr_assert_eq(gorgon_heads_open(s.path, &heads, &err), GORGON_OK, "%s", err.message);
    const gg_head_set *set = gg_heads_set(heads, 0);
    cr_assert(set->shape.own_output);
    cr_assert_eq(
        memcmp(gg_head_data(set, GG_PART_OUTPUT, 0, 0), output, g->n_vocab * d * sizeof *output),
        0);
    gorgon_heads_free(heads);
    gg_free(output);
    heads_fixture_free(&f);
    scratch_remove(&s);
    gorgon_model_free(model);
}

Test(heads, another_base_is_refused_and_another_quantisation_warned_of)
{
    static const refusal list[] = {
        {{.name = "gorgon.base.n_layers", .what = U32, .value = 31},
         GORGON_ERROR_MISMATCH,
         "n_layers: expected 31, the model has"},
        {{.name = "gorgon.base.n_vocab", .what = U32, .value = 49152},
         GORGON_ERROR_MISMATCH,
         "n_vocab: expected 49152, the model has"},
        {{.name = "gorgon.base.vocabulary", .what = U64, .value = 0xabc},
         GORGON_ERROR_MISMATCH,
         "vocabulary hash: expected 0000000000000abc, the model has"},
        {{.name = "gorgon.base.tensors", .what = U64, .value = 1}, GORGON_OK, ""},
    };
    gorgon_model *model = open_tiny();
    const gg_geometry *g = gg_model_geometry(model);
    heads_fixture f = heads_fixture_create(g->d_model, g->n_vocab, &plain);
    scratch s = scratch_create();
    for (size_t i = 0; i < COUNT(list); i++) {
        gorgon_heads *heads = NULL;
        gorgon_error err = {0};
        bool warning = false;
        cr_assert_eq(gg_heads_write(s.path, model, &f.source, 1, &err), GORGON_OK);
        rewrite(s.path, &list[i].edit);
        cr_assert_eq(gorgon_heads_open(s.path, &heads, &err), GORGON_OK, "%s", err.message);
        cr_assert_eq(gorgon_heads_check(heads, model, &warning, &err), list[i].status, "%s",
                     err.message);
        cr_assert_not_null(strstr(err.message, list[i].part), "%s", err.message);
        cr_assert_eq(warning, list[i].status == GORGON_OK);
        cr_assert_eq(gorgon_heads_check(heads, model, NULL, NULL), list[i].status);
        gorgon_heads_free(heads);
    }
    heads_fixture_free(&f);
    scratch_remove(&s);
    gorgon_model_free(model);
}
