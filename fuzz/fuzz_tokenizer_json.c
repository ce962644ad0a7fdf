// Fuzz target: whatever a tokenizer.json holds (or, if it begins like one, a GGUF file), building a
// tokenizer from it and using that must stay inside its memory and keep its promises.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/tokenizer.h"
#include "tokenizer_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static gorgon_status from_json(const uint8_t *data, size_t size, gorgon_tokenizer **out,
                               gorgon_error *err)
{
    gg_tokenizer_files files = {.label = "input"};
    gg_tokenizer_spec spec = {0};
    gorgon_status status = gg_json_parse(data, size, "input", &files.tokenizer, err);
    if (status != GORGON_OK)
        return status;
    files.config = files.generation = files.tokenizer; // so that all keys are looked for
    gg_gguf_writer *writer = NULL;
    status = gg_tokenizer_spec_from_json(&files, 0, &spec, err);
    if (status == GORGON_OK && gg_gguf_writer_create(&writer, NULL) == GORGON_OK)
        gg_tokenizer_spec_put(&spec, writer, NULL); // may refuse what GGUF cannot hold
    if (status == GORGON_OK)
        status = gg_tokenizer_build(&spec, out, err);
    gg_gguf_writer_free(writer);
    gg_tokenizer_spec_clear(&spec);
    json_decref(files.tokenizer);
    return status;
}

static gorgon_status from_gguf(const uint8_t *data, size_t size, gorgon_tokenizer **out,
                               gorgon_error *err)
{
    gg_gguf *file = NULL;
    gorgon_status status = gg_gguf_open_memory(data, size, "input", &file, err);
    if (status == GORGON_OK)
        status = gg_tokenizer_from_gguf(file, out, err);
    gg_gguf_close(file);
    return status;
}

// Ids are of the vocabulary, and decode.
static void check_text(const gorgon_tokenizer *tokenizer, const char *text, size_t length)
{
    for (int special = 0; special < 2; special++) {
        gorgon_token *ids = NULL;
        char *decoded = NULL;
        size_t n, decoded_length;
        if (gorgon_tokenizer_prompt(tokenizer, text, length, special, &ids, &n, NULL) != GORGON_OK)
            continue;
        for (size_t i = 0; i < n; i++)
            require(ids[i] >= 0 && (size_t)ids[i] < gorgon_tokenizer_size(tokenizer));
        require(gorgon_tokenizer_decode(tokenizer, ids, n, &decoded, &decoded_length, NULL) ==
                GORGON_OK);
        gorgon_free(ids);
        gorgon_free(decoded);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] =
        "  ab <s>\xe2\x96\x81 c\xcc\xa7\xcc\x81 12\xef\xac\x81\t\n\xf0\x9f\x98\x80";
    gorgon_error err = {0};
    gorgon_tokenizer *tokenizer = NULL;
    bool gguf = size >= 4 && memcmp(data, "GGUF", 4) == 0;
    gorgon_status status =
        gguf ? from_gguf(data, size, &tokenizer, &err) : from_json(data, size, &tokenizer, &err);
    require(status == err.status && (status == GORGON_OK) == (tokenizer != NULL));
    require(status == GORGON_OK || err.message[0] != '\0');
    if (!tokenizer)
        return 0;
    check_text(tokenizer, text, sizeof text - 1);
    check_text(tokenizer, (const char *)data, size < 4096 ? size : 4096);
    gorgon_tokenizer_free(tokenizer);
    return 0;
}
