// Heads of other trainers: what they compute, against the trainers' own modules; what is counted
// and what configs claim; layouts of other sizes; refusals.
#define _XOPEN_SOURCE 700 // mkdtemp
#include "formats_fixture.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "heads/proposer.h"
#include "safetensors_fixture.h"

static void check_every_file(const base *b, const char *name, float tolerance)
{
    char path[512];
    snprintf(path, sizeof path, FORMATS "/%s", name);
    gorgon_heads *heads = open_format(path); // the directory
    check_golden(b, heads, name, tolerance);
    gorgon_heads_free(heads);
    DIR *directory = opendir(path);
    for (struct dirent *e; (e = readdir(directory)) != NULL;) {
        if (strcmp(e->d_name, "golden.safetensors") == 0 ||
            (!strstr(e->d_name, ".pt") && !strstr(e->d_name, ".safetensors")))
            continue;
        snprintf(path, sizeof path, FORMATS "/%s/%s", name, e->d_name);
        heads = open_format(path);
        check_golden(b, heads, name, tolerance);
        gorgon_heads_free(heads);
    }
    closedir(directory);
}

Test(heads_formats, logits_of_the_trainers_modules)
{
    base b = base_open(GORGON_ACTIVATIONS_F32);
    for (size_t i = 0; i < N_FORMATS; i++)
        check_every_file(&b, format_names[i], 1e-3f);
    base_close(&b);
}

// As served: weights and activations of 8 bits, so that only gross errors show.
Test(heads_formats, served_logits)
{
    base b = base_open(GORGON_ACTIVATIONS_INT8);
    for (size_t i = 0; i < N_FORMATS; i++)
        check_every_file(&b, format_names[i], 0.5f);
    base_close(&b);
}

typedef struct expected_warning {
    const char *name, *part; // NULL: no warning
} expected_warning;

Test(heads_formats, contradictions_of_configs_are_said)
{
    static const expected_warning cases[] = {
        {"medusa_3x1", "\"medusa_num_heads\": 2, the tensors say 3"},
        {"medusa_5x2_shared_storage", "\"medusa_num_heads\": 2, the tensors say 5"},
        {"medusa_f16_2x1", NULL},
        {"medusa_v2_4x1", "\"medusa_num_heads\": 2, the tensors say 4"},
        {"vllm_full", NULL},
        {"vllm_original_lm_head_nobias", NULL},
        {"vllm_truncated", NULL},
        {"vllm_truncated_full_heads", NULL},
        {"hydra_2x3", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[256];
        snprintf(path, sizeof path, FORMATS "/%s", cases[i].name);
        gorgon_heads *heads = open_format(path);
        const char *warning = gorgon_heads_warning(heads, 0);
        if (cases[i].part)
            cr_assert(warning && strstr(warning, cases[i].part), "%s: %s", cases[i].name, warning);
        else
            cr_assert_null(warning, "%s: %s", cases[i].name, warning);
        cr_assert_null(gorgon_heads_warning(heads, 1));
        gorgon_heads_free(heads);
    }
}

typedef struct folder {
    char path[64];
    base base;
} folder;

static folder folder_create(void)
{
    folder f = {.path = "/tmp/gorgon-test-XXXXXX", .base = base_open(GORGON_ACTIVATIONS_F32)};
    cr_assert_not_null(mkdtemp(f.path));
    return f;
}

static void folder_remove(folder *f)
{
    char path[512];
    DIR *directory = opendir(f->path);
    for (struct dirent *e; (e = readdir(directory)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", f->path, e->d_name);
        if (e->d_name[0] != '.')
            unlink(path);
    }
    closedir(directory);
    cr_assert_eq(rmdir(f->path), 0);
    base_close(&f->base);
}

static void write_text(const folder *f, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", f->path, name);
    FILE *stream = fopen(path, "wb");
    cr_assert(stream && fputs(text, stream) >= 0 && fclose(stream) == 0);
}

enum { HEADS = 3, BLOCKS = 2, D = 64, VOCAB = 384 };

// The same heads under other names; patterns of weight, bias and output, each with its numbers in
// the order head, block.
typedef struct naming {
    const char *weight, *bias, *output;
    bool one_output;
} naming;

// The pattern with its '#'s filled in.
static void add_tensor(made_file *f, const char *pattern, size_t head, size_t block, size_t rows,
                       size_t columns, uint64_t seed)
{
    char name[96];
    size_t n = 0, numbers[] = {head, block}, used = 0;
    for (; *pattern; pattern++) {
        if (*pattern == '#')
            n += (size_t)snprintf(name + n, sizeof name - n, "%zu", numbers[used++]);
        else
            name[n++] = *pattern;
    }
    name[n] = '\0';
    make_tensor(f, rows, columns, seed, name);
}

static made_file make_heads(const naming *n)
{
    made_file f = {.n = 0};
    for (size_t k = 0; k < HEADS; k++) {
        for (size_t b = 0; b < BLOCKS; b++) {
            add_tensor(&f, n->weight, k, b, D, D, 100 * k + 10 * b + 1);
            if (n->bias)
                add_tensor(&f, n->bias, k, b, D, 0, 100 * k + 10 * b + 2);
        }
        if (!n->one_output || k == 0)
            add_tensor(&f, n->output, k, BLOCKS, VOCAB, D, 100 * k + 7);
    }
    return f;
}

static void compute(const folder *f, const char *name, float *logits)
{
    char path[160];
    float hidden[D];
    gorgon_error err = {0};
    snprintf(path, sizeof path, "%s%s", f->path, name);
    gorgon_heads *heads = open_format(path);
    for (size_t i = 0; i < D; i++)
        hidden[i] = 0.01f * (float)i - 0.3f;
    cr_assert_eq(gorgon_heads_logits(f->base.engine, heads, 0, hidden, 5, logits, NULL, &err),
                 GORGON_OK, "%s", err.message);
    gorgon_heads_free(heads);
}

static float reference[HEADS * VOCAB], computed[HEADS * VOCAB];

static void make_reference(const folder *f, const naming *n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/reference.safetensors", f->path);
    const made_file file = make_heads(n);
    write_made(&file, 0, file.n, path);
    compute(f, "/reference.safetensors", reference);
}

static void check_same(const folder *f, const char *name)
{
    compute(f, name, computed);
    cr_assert_eq(memcmp(computed, reference, sizeof reference), 0, "%s", name);
}

static const naming fasterdecoding = {"#.#.linear.weight", "#.#.linear.bias", "#.#.weight", false};

// Any naming, any prefix, one file or several, F32, BF16 or both: the same heads.
Test(heads_formats, layouts_of_the_same_heads)
{
    static const naming namings[] = {
        {"module.#.#.linear.weight", "module.#.#.linear.bias", "module.#.#.weight", 0},
        {"medusa_head.#.#.linear.weight", "medusa_head.#.#.linear.bias", "medusa_head.#.#.weight",
         0},
        {"blocks.#.layers.#.weight", "blocks.#.layers.#.bias", "lm_heads.#.weight", 0},
        {"medusa_heads.blocks.#.layers.#.weight", "medusa_heads.blocks.#.layers.#.bias",
         "medusa_heads.lm_heads.#.weight", 0},
        {"medusa_heads.#.medusa_layers.#.linear.weight",
         "medusa_heads.#.medusa_layers.#.linear.bias", "medusa_heads.#.lm_head.weight", 0},
        {"parallel_draft_heads.#.medusa_layers.#.linear.weight",
         "parallel_draft_heads.#.medusa_layers.#.linear.bias",
         "parallel_draft_heads.#.lm_head.weight", 0},
        {"parallel_draft_heads.#.#.linear.weight", "parallel_draft_heads.#.#.linear.bias",
         "parallel_draft_heads.#.lm_head.weight", 0},
        {"hydra_mlp.#.#.linear.weight", "hydra_mlp.#.#.linear.bias", "hydra_lm_head.#.weight",
         0}, // not grounded
    };
    folder f = folder_create();
    char path[128];
    make_reference(&f, &fasterdecoding);
    for (size_t i = 0; i < 3 * sizeof namings / sizeof namings[0]; i++) {
        made_file file = make_heads(&namings[i / 3]);
        for (size_t t = 0; t < file.n; t++) // F32, BF16, and both
            file.tensors[t].half = i % 3 == 1 || (i % 3 == 2 && t % 2);
        snprintf(path, sizeof path, "%s/model.safetensors", f.path);
        write_made(&file, 0, file.n, path);
        check_same(&f, "/model.safetensors");
        check_same(&f, "");
    }
    folder_remove(&f);
}

Test(heads_formats, one_output_for_all_heads)
{
    static const naming namings[] = {
        {"blocks.#.layers.#.weight", NULL, "lm_heads.#.weight", true},
        {"blocks.#.layers.#.weight", NULL, "lm_head.weight", true},
        {"parallel_draft_heads.medusa_heads.#.#.linear.weight", NULL,
         "parallel_draft_heads.lm_head.weight", true},
    };
    folder f = folder_create();
    gorgon_head_set_info info;
    char path[128];
    make_reference(&f, &namings[0]);
    for (size_t i = 1; i < 3; i++) {
        snprintf(path, sizeof path, "%s/model.safetensors", f.path);
        made_file file = make_heads(&namings[i]);
        write_made(&file, 0, file.n, path);
        check_same(&f, "/model.safetensors");
        gorgon_heads *heads = open_format(path);
        cr_assert_eq(gorgon_heads_describe(heads, 0, &info, NULL), GORGON_OK);
        cr_assert(info.own_output && info.shared_output && info.bias_free);
        gorgon_heads_free(heads);
    }
    folder_remove(&f);
}

// The heads lie in two files among the base's tensors, as in v1.0.
Test(heads_formats, merged_checkpoint_of_several_files)
{
    static const naming merged = {"medusa_head.#.#.linear.weight", "medusa_head.#.#.linear.bias",
                                  "medusa_head.#.#.weight", false};
    static char map[1 << 14] = "{\"weight_map\": {";
    folder f = folder_create();
    char path[128];
    make_reference(&f, &fasterdecoding);
    made_file file = make_heads(&merged);
    make_tensor(&file, VOCAB, D, 5, "model.embed_tokens.weight");
    make_tensor(&file, D, 0, 6, "model.norm.weight");
    const size_t half = file.n / 2;
    for (size_t i = 0; i < file.n; i++)
        snprintf(map + strlen(map), sizeof map - strlen(map), "%s\"%s\": \"%c.safetensors\"",
                 i ? ", " : "", file.tensors[i].name, i < half ? 'a' : 'b');
    snprintf(map + strlen(map), sizeof map - strlen(map), "}}");
    write_text(&f, "model.safetensors.index.json", map);
    write_text(&f, "config.json",
               "{\"model_type\": \"llama\", \"num_hidden_layers\": 32,"
               " \"medusa_num_heads\": 5, \"medusa_num_layers\": 2}");
    snprintf(path, sizeof path, "%s/a.safetensors", f.path);
    write_made(&file, 0, half, path);
    snprintf(path, sizeof path, "%s/b.safetensors", f.path);
    write_made(&file, half, file.n, path);
    check_same(&f, "");
    check_same(&f, "/model.safetensors.index.json");
    gorgon_heads *heads = open_format(f.path);
    const char *warning = gorgon_heads_warning(heads, 0);
    cr_assert(warning && strstr(warning, "\"medusa_num_heads\": 5, the tensors say 3"));
    cr_assert_null(gorgon_heads_warning(heads, 1));
    cr_assert_eq(gorgon_heads_tensors(heads), file.n);
    gorgon_heads_free(heads);
    folder_remove(&f);
}

// speculators' draft: offsets instead of ids.
Test(heads_formats, token_offsets)
{
    folder f = folder_create();
    made_file file = {.n = 0};
    char path[128];
    make_tensor(&file, D, D, 1, "blocks.0.layers.0.weight");
    make_tensor(&file, 20, D, 2, "lm_heads.0.weight");
    make_tensor(&file, 20, 0, 0, "d2t"); // 40, 38, .., 2
    snprintf(path, sizeof path, "%s/model.safetensors", f.path);
    write_made(&file, 0, file.n, path);
    gorgon_heads *heads = open_format(path);
    const gg_head_set *set = gg_heads_set(heads, 0);
    cr_assert_eq(set->shape.n_draft, 20);
    for (size_t i = 0; i < 20; i++)
        cr_assert_eq(set->draft_ids[i], 40 - i);
    cr_assert_eq(gorgon_heads_fingerprint(heads).n_vocab, 0);
    cr_assert_eq(gorgon_heads_check(heads, f.base.model, NULL, NULL), GORGON_OK);
    gorgon_heads_free(heads);
    write_text(&f, "config.json", "{\"vocab_size\": 500, \"num_heads\": [1]}");
    heads = open_format(path);
    gorgon_error err = {0};
    cr_assert_eq(gorgon_heads_check(heads, f.base.model, NULL, &err), GORGON_ERROR_MISMATCH);
    cr_assert(strstr(err.message, "n_vocab: expected 500"), "%s", err.message);
    cr_assert(strstr(gorgon_heads_warning(heads, 0), "\"num_heads\": [1], the tensors say 1"));
    gorgon_heads_free(heads);
    write_text(&f, "config.json", "{\"vocab_size\": 40}");
    heads = open_format(path);
    cr_assert(strstr(gorgon_heads_warning(heads, 0), "\"vocab_size\": 40, the tensors say 41 to"));
    gorgon_heads_free(heads);
    folder_remove(&f);
}

// vLLM multiplies logits by it.
Test(heads_formats, logit_scale)
{
    static const naming vllm = {"blocks.#.layers.#.weight", NULL, "lm_heads.#.weight", false};
    folder f = folder_create();
    char path[128];
    made_file file = make_heads(&vllm);
    make_reference(&f, &vllm);
    for (size_t i = 0; i < HEADS * VOCAB; i++)
        reference[i] *= 0.5f; // exactly
    for (size_t t = 0; t < file.n; t++)
        file.tensors[t].half = true;
    snprintf(path, sizeof path, "%s/model.safetensors", f.path);
    write_made(&file, 0, file.n, path);
    write_text(&f, "config.json", "{\"logit_scale\": 0.5}");
    check_same(&f, "/model.safetensors");
    folder_remove(&f);
}

// What heads see or put out by their config and gorgon does not compute.
Test(heads_formats, configs_that_are_refused)
{
    static const struct {
        const char *name, *config, *part;
    } cases[] = {
        {"hydra_mlp.0.0.linear.weight", "{\"hidden_state_offset\": 1}", "1, expected 0"},
        {"hydra_mlp.0.0.linear.weight", "{\"hidden_state_offset\": \"0\"}", "expected 0"},
        {"blocks.0.layers.0.weight", "{\"logit_scale\": 0}", "0, expected a factor"},
        {"blocks.0.layers.0.weight", "{\"logit_scale\": -1.0}", "-1.0, expected a factor"},
        {"blocks.0.layers.0.weight", "{\"logit_scale\": []}", "[], expected a factor"},
        {"hydra_mlp.0.0.linear.weight", "{\"hidden_state_offset\": 0}", NULL},
        {"blocks.0.layers.0.weight", "{\"logit_scale\": null}", NULL},
    };
    folder f = folder_create();
    char path[128];
    snprintf(path, sizeof path, "%s/model.safetensors", f.path);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gorgon_heads *heads = NULL;
        gorgon_error err = {0};
        made_file file = {.n = 0};
        make_tensor(&file, D, D, 1, cases[i].name);
        make_tensor(&file, VOCAB, D, 2,
                    i < 2 || i == 5 ? "hydra_lm_head.0.weight" : "lm_heads.0.weight");
        write_made(&file, 0, file.n, path);
        write_text(&f, "config.json", cases[i].config);
        cr_assert_eq(gorgon_heads_open(path, &heads, &err),
                     cases[i].part ? GORGON_ERROR_UNSUPPORTED : GORGON_OK, "%s", err.message);
        cr_assert(!cases[i].part || strstr(err.message, cases[i].part), "%s", err.message);
        gorgon_heads_free(heads);
    }
    folder_remove(&f);
}

typedef struct spoiled {
    const char *name;     // tensor that is changed
    const char *other;    // its new name, NULL: none
    size_t rows, columns; // its new shape; rows 0: it is left out
    const char *part;     // of the message
} spoiled;

Test(heads_formats, files_that_contradict_themselves_are_refused)
{
    static const spoiled cases[] = {
        {"1.0.linear.weight", NULL, 0, 0, "head 1 has no weight of block 0"},
        {"1.1.linear.bias", NULL, 0, 0, "head 1 has no bias of block 1"},
        {"1.2.weight", NULL, 0, 0, "output matrix of each of 3 heads, got 2"},
        {"1.2.weight", "1.1.weight", VOCAB, D, "behind 2 blocks, got 1"},
        {"1.2.weight", "3.2.weight", VOCAB, D, "output matrix of each"},
        {"1.2.weight", "1.2.linear.weight", D, D, "head 0 has no weight of block 2"},
        {"2.0.linear.weight", "16.0.linear.weight", D, D, "heads 0 to 15, got 16"},
        {"2.1.linear.weight", "2.8.linear.weight", D, D, "at most 8 blocks, got number 8"},
        {"2.1.linear.weight", "2.01.linear.weight", D, D, "none of this name"},
        {"2.1.linear.weight", "a.2.1.linear.weight", D, D, "none of this name"},
        {"2.2.weight", "prefix_embeding_layer.weight", VOCAB, D, "none of this name"},
        {"0.0.linear.weight", NULL, D, D + 1, "first blocks of width"},
        {"0.1.linear.weight", NULL, D, D + 1, "expected F32, F16 or BF16 of 64 x 64"},
        {"0.1.linear.bias", NULL, D + 1, 0, "64 x 1"},
        {"1.2.weight", NULL, VOCAB + 1, D, "384 x 64"},
        {"0.2.weight", NULL, VOCAB, 0, "a row for every token"},
    };
    folder f = folder_create();
    char path[128];
    snprintf(path, sizeof path, "%s/model.safetensors", f.path);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gorgon_heads *heads = NULL;
        gorgon_error err = {0};
        made_file file = make_heads(&fasterdecoding);
        size_t at = 0;
        while (strcmp(file.tensors[at].name, cases[i].name) != 0)
            at++;
        made_tensor *t = &file.tensors[at];
        if (cases[i].other)
            snprintf(t->name, sizeof t->name, "%s", cases[i].other);
        t->rows = cases[i].rows;
        t->columns = cases[i].columns;
        if (t->rows == 0)
            *t = file.tensors[--file.n];
        write_made(&file, 0, file.n, path);
        cr_assert_neq(gorgon_heads_open(path, &heads, &err), GORGON_OK, "%s", cases[i].part);
        cr_assert(strstr(err.message, cases[i].part), "'%s' lacks '%s'", err.message,
                  cases[i].part);
    }
    folder_remove(&f);
}

Test(heads_formats, heads_behind_different_words)
{
    folder f = folder_create();
    gorgon_heads *heads = NULL;
    gorgon_error err = {0};
    made_file file = {.n = 0};
    char path[128];
    make_tensor(&file, D, D, 1, "a.0.0.linear.weight");
    make_tensor(&file, D, D, 2, "b.0.0.linear.weight");
    snprintf(path, sizeof path, "%s/model.safetensors", f.path);
    write_made(&file, 0, file.n, path);
    cr_assert_eq(gorgon_heads_open(path, &heads, &err), GORGON_ERROR_FORMAT);
    cr_assert(
        strstr(err.message, "'b.0.0.linear.weight': expected all heads behind the same words"),
        "%s", err.message);
    write_text(&f, "model.safetensors.index.json", "{\"weight_map\": {\"a\": \"../a\"}}");
    cr_assert(gorgon_heads_probe(f.path)); // whose opening says what is wrong
    folder_remove(&f);
}

Test(heads_formats, files_without_heads)
{
    gorgon_heads *heads = NULL;
    gorgon_error err = {0};
    const char *path = FORMATS "/medusa_3x1/golden.safetensors";
    cr_assert(gorgon_heads_probe(path)); // a lone file of tensors is no model
    cr_assert_neq(gorgon_heads_open(path, &heads, &err), GORGON_OK);
    cr_assert(strstr(err.message, "no heads among its 2 tensors"), "%s", err.message);
    cr_assert_not(gorgon_heads_probe(FORMATS));
    cr_assert_not(gorgon_heads_probe(FORMATS_BASE));
    cr_assert(gorgon_heads_probe(GG_SOURCE_DIR "/tests/corpus/torch/zip_bomb.pt"));
}

// Heads of a base of 64 wide states and 384 tokens are refused for another.
Test(heads_formats, heads_of_another_base)
{
    gorgon_model *model = NULL;
    gorgon_error err = {0};
    cr_assert_eq(gorgon_model_open(GG_SOURCE_DIR "/models/tiny/tiny.gguf", 1, &model, &err),
                 GORGON_OK);
    gorgon_heads *heads = open_format(FORMATS "/medusa_3x1");
    cr_assert_eq(gorgon_heads_check(heads, model, NULL, &err), GORGON_ERROR_MISMATCH);
    gorgon_heads_free(heads);
    gorgon_model_free(model);
}

// Every allocation fails in turn.
Test(heads_formats, failing_allocations)
{
    static const char *const names[] = {"medusa_3x1", "vllm_truncated_full_heads", "hydra_2x3"};
    for (size_t i = 0; i < 3; i++) {
        char path[256];
        size_t failures = 0;
        gorgon_status status;
        snprintf(path, sizeof path, FORMATS "/%s", names[i]);
        do {
            gorgon_heads *heads = NULL;
            gorgon_error err = {0};
            gg_alloc_fail_at(++failures);
            status = gorgon_heads_open(path, &heads, &err);
            gg_alloc_fail_at(0);
            cr_assert(status == GORGON_OK || status == GORGON_ERROR_MEMORY, "%s", err.message);
            gorgon_heads_free(heads);
        } while (status != GORGON_OK);
        cr_assert_gt(failures, 15);
    }
}
