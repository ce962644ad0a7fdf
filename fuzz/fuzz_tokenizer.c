// Encodes arbitrary bytes with a tiny tokenizer, both ways, and decodes them back: valid UTF-8 must
// return whole but for the byte that the vocabulary lacks, anything else must be refused.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../tests/tokenizer_fixture.h"
#include "core/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static gorgon_tokenizer *make_tokenizer(void)
{
    static tiny_gguf bytes;
    gorgon_error err = {0};
    gg_gguf *file = NULL;
    gorgon_tokenizer *tokenizer = NULL;
    tiny_spec spec = {.eos = TINY_EOS};
    tiny_build(&bytes, &spec);
    if (gg_gguf_open_memory(bytes.bytes, bytes.n, "tiny.gguf", &file, &err) != GORGON_OK ||
        gg_tokenizer_from_gguf(file, &tokenizer, &err) != GORGON_OK)
        abort();
    gg_gguf_close(file);
    return tokenizer;
}

// Aborts unless text is the input without the byte that has no token.
static void check_text(const uint8_t *data, size_t size, const char *text, size_t length)
{
    size_t kept = 0;
    for (size_t i = 0; i < size; i++) {
        if (data[i] == TINY_MISSING_BYTE)
            continue;
        if (kept >= length || (uint8_t)text[kept] != data[i])
            abort();
        kept++;
    }
    if (kept != length || text[length] != '\0')
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static gorgon_tokenizer *tokenizer; // made by the first input, used by all
    if (!tokenizer)
        tokenizer = make_tokenizer();
    for (int parse_special = 0; parse_special < 2; parse_special++) {
        gorgon_error err = {0};
        gorgon_token *ids = NULL;
        size_t n_ids, length;
        char *text = NULL;
        gorgon_status status = gorgon_tokenizer_encode(tokenizer, (const char *)data, size,
                                                       parse_special != 0, &ids, &n_ids, &err);
        if (status == GORGON_ERROR_ARGUMENT && strstr(err.message, "not valid UTF-8"))
            continue;
        if (status != GORGON_OK || n_ids > size ||
            gorgon_tokenizer_decode(tokenizer, ids, n_ids, &text, &length, &err) != GORGON_OK)
            abort();
        check_text(data, size, text, length);
        if (gorgon_utf8_complete((const char *)data, size) != size)
            abort(); // valid text never ends inside a character
        gorgon_free(ids);
        gorgon_free(text);
    }
    return 0;
}
