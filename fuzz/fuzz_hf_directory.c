// Fuzz target: a Hugging Face directory either fails with a line or gives a model that can run, and
// that is the same model after conversion. The input is its files: each begins with a line
// "@NAME"; those of weights list their tensors (tensor_lines.h).
#define _GNU_SOURCE // mkdtemp, memmem
#include "model_walk.h"
#include "scratch.h"
#include "tensor_lines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {"config.json",
                                    "tokenizer.json",
                                    "tokenizer_config.json",
                                    "generation_config.json",
                                    "chat_template.jinja",
                                    "model.safetensors",
                                    "model.safetensors.index.json",
                                    "a.safetensors",
                                    "b.safetensors"};
enum { N_NAMES = sizeof names / sizeof names[0] };

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void write_one(const char *name, const uint8_t *data, size_t n)
{
    const char *end = strrchr(name, '.');
    if (strcmp(end, ".safetensors") != 0) {
        scratch_write(name, data, n);
        return;
    }
    size_t length;
    uint8_t *file = file_of_lines(data, n, &length);
    scratch_write(name, file, length);
    free(file);
}

// Index of the name that the line, after its '@', consists of; N_NAMES if of none.
static size_t find_name(const uint8_t *line, size_t n)
{
    size_t i = 0;
    while (i < N_NAMES && (strlen(names[i]) != n || memcmp(names[i], line, n) != 0))
        i++;
    return i;
}

static void write_directory(const uint8_t *data, size_t size)
{
    const uint8_t *end = data + size, *at = data;
    while (at < end && *at == '@') {
        const uint8_t *line = at + 1, *content = memchr(line, '\n', (size_t)(end - line));
        if (!content)
            return;
        const size_t name = find_name(line, (size_t)(content++ - line));
        const uint8_t *next = memmem(content, (size_t)(end - content), "\n@", 2);
        at = next ? next + 1 : end;
        if (name < N_NAMES)
            write_one(names[name], content, (size_t)(at - content));
    }
}

static void check_converted(const gorgon_model *model)
{
    char path[SCRATCH_PATH];
    gorgon_model *again = NULL;
    snprintf(path, sizeof path, "%s", scratch_path("out.gguf"));
    require(gorgon_model_convert(scratch, path, NULL) == GORGON_OK);
    require(gorgon_model_open(path, 1, &again, NULL) == GORGON_OK);
    const gorgon_fingerprint a = gorgon_model_fingerprint(model),
                             b = gorgon_model_fingerprint(again);
    require(a.vocabulary == b.vocabulary && a.tensors == b.tensors);
    gorgon_model_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gorgon_model *model = NULL;
    gorgon_error err = {0};
    scratch_begin();
    write_directory(data, size);
    gorgon_status status = gorgon_model_open(scratch, 1, &model, &err);
    require(status == err.status && (status == GORGON_OK) == (model != NULL));
    require(status == GORGON_OK || err.message[0] != '\0');
    if (model) {
        walk_model(model);
        check_converted(model);
    }
    gorgon_model_free(model);
    return 0;
}
