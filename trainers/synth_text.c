// Writes the text of a feature cache.
#include "synth_text.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/file.h"

static gorgon_status write_line(gorgon_output *out, const gorgon_tokenizer *tokenizer,
                                const gg_cache_sequence *s, gorgon_error *err)
{
    char *text = NULL;
    size_t length = 0;
    gorgon_status status =
        gorgon_tokenizer_decode(tokenizer, s->tokens, s->n_tokens, &text, &length, err);
    if (status != GORGON_OK)
        return status;
    json_t *line = json_object();
    json_object_set_new(line, "index", json_integer((json_int_t)s->index));
    json_object_set_new(line, "temperature", json_real((double)s->temperature));
    json_object_set_new(line, "tokens", json_integer((json_int_t)s->n_tokens));
    json_t *value = json_stringn(text, gorgon_utf8_complete(text, length));
    json_object_set_new(line, "text", value ? value : json_string(""));
    char *dump = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(6));
    if (dump) {
        status = gorgon_output_write(out, dump, strlen(dump), err);
        if (status == GORGON_OK)
            status = gorgon_output_write(out, "\n", 1, err);
    } else {
        status = gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for a line of text");
    }
    free(dump);
    json_decref(line);
    gorgon_free(text);
    return status;
}

gorgon_status gg_synth_write_text(const gorgon_model *model, const gg_cache *cache,
                                  const char *path, gorgon_error *err)
{
    const gorgon_tokenizer *tokenizer = gorgon_model_tokenizer(model);
    gorgon_output *out = NULL;
    gorgon_status status = gorgon_output_create(path, &out, err);
    for (size_t c = 0; c < gg_cache_chunks(cache) && status == GORGON_OK; c++) {
        gg_cache_sequence *sequences = NULL;
        size_t n = 0;
        status = gg_cache_read(cache, c, GG_CACHE_TEXT, &sequences, &n, err);
        for (size_t i = 0; i < n && status == GORGON_OK; i++)
            status = write_line(out, tokenizer, &sequences[i], err);
        gg_cache_chunk_free(sequences, n);
    }
    if (status != GORGON_OK) {
        gorgon_output_discard(out);
        return status;
    }
    return gorgon_output_commit(out, err);
}
