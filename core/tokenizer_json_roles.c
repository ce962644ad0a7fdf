// Which tokens begin and end a text, and the chat template: from the files beside a tokenizer.json
// and its post_processor.
#include <string.h>

#include "core/error.h"
#include "tokenizer_json.h"

// A token of the config: its text, or an object with its content. False if it names none there is.
static bool read_token(const gg_json_reader *r, const char *key, gorgon_token *id)
{
    const json_t *value = json_object_get(r->files->config, key);
    if (json_is_object(value))
        value = json_object_get(value, "content");
    *id = GORGON_TOKEN_NONE;
    if (!json_is_string(value))
        return true; // null or absent
    *id = gg_tokenizer_spec_find(r->spec, json_string_value(value), json_string_length(value));
    return *id != GORGON_TOKEN_NONE;
}

// What a template has before and after a text: at most one token each.
static gorgon_status read_template(gg_json_reader *r, const json_t *processor)
{
    const json_t *single = json_object_get(processor, "single"), *item;
    gorgon_token ids[2] = {GORGON_TOKEN_NONE, GORGON_TOKEN_NONE}; // before, after
    size_t i;
    bool after = false;
    json_array_foreach(single, i, item)
    {
        const json_t *name = json_object_get(json_object_get(item, "SpecialToken"), "id");
        if (!json_is_string(name)) { // the text's place
            after = true;
            continue;
        }
        if (ids[after] != GORGON_TOKEN_NONE)
            return gg_json_expected(r, "post_processor: TemplateProcessing.single",
                                    "at most one token on each side of the text", single);
        ids[after] =
            gg_tokenizer_spec_find(r->spec, json_string_value(name), json_string_length(name));
        if (ids[after] == GORGON_TOKEN_NONE)
            return gg_json_expected(r, "post_processor: TemplateProcessing.single",
                                    "a token of the vocabulary", name);
    }
    for (i = 0; i < 2; i++) {
        if (ids[i] == GORGON_TOKEN_NONE)
            continue;
        *(i == 0 ? &r->spec->adds_bos : &r->spec->adds_eos) = true;
        *(i == 0 ? &r->spec->bos : &r->spec->eos) = ids[i];
    }
    return GORGON_OK;
}

static gorgon_status read_processor(gg_json_reader *r, const json_t *item, const char *place)
{
    (void)place;
    const bool template = gg_json_is(json_object_get(item, "type"), "TemplateProcessing");
    return template ? read_template(r, item) : GORGON_OK;
}

static void read_switch(const json_t *config, const char *key, bool *flag)
{
    const json_t *value = json_object_get(config, key);
    if (json_is_boolean(value))
        *flag = json_is_true(value);
}

static gorgon_status read_config(gg_json_reader *r)
{
    const json_t *config = r->files->config;
    gg_tokenizer_spec *spec = r->spec;
    gorgon_token bos, eos;
    read_token(r, "bos_token", &bos); // one that does not exist matters only where it is added
    if (!read_token(r, "eos_token", &eos))
        return gg_fail(r->err, GORGON_ERROR_FORMAT,
                       "%s: the eos_token of the tokenizer_config.json beside it is no token",
                       r->files->label);
    spec->bos = bos != GORGON_TOKEN_NONE ? bos : spec->bos;
    spec->eos = eos != GORGON_TOKEN_NONE ? eos : spec->eos;
    read_switch(config, "add_bos_token", &spec->adds_bos);
    read_switch(config, "add_eos_token", &spec->adds_eos);
    if (spec->adds_bos && spec->bos == GORGON_TOKEN_NONE)
        return gg_fail(r->err, GORGON_ERROR_FORMAT,
                       "%s: add_bos_token of the tokenizer_config.json beside it is true, its "
                       "bos_token is no token",
                       r->files->label);
    spec->adds_eos = spec->adds_eos && spec->eos != GORGON_TOKEN_NONE;
    return GORGON_OK;
}

// "eos_token_id" of generation_config.json: one id or several.
static void read_ends(gg_json_reader *r)
{
    const json_t *value = json_object_get(r->files->generation, "eos_token_id");
    const size_t n = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(value) ? json_array_get(value, i) : value;
        json_int_t number = json_integer_value(id);
        if (json_is_integer(id) && number >= 0 && (uint64_t)number < r->spec->n)
            gg_tokenizer_spec_end(r->spec, (gorgon_token)number);
    }
}

// A template, or a list of named ones of which "default" counts.
static void read_chat(gg_json_reader *r)
{
    const json_t *value = json_object_get(r->files->config, "chat_template");
    if (r->files->chat) {
        r->spec->chat = r->files->chat;
        r->spec->chat_length = r->files->chat_length;
        return;
    }
    for (size_t i = 0; json_is_array(value) && i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        if (gg_json_is(json_object_get(item, "name"), "default"))
            value = json_object_get(item, "template");
    }
    r->spec->chat = json_string_value(value);
    r->spec->chat_length = json_string_length(value);
}

gorgon_status gg_json_read_roles(gg_json_reader *r)
{
    gorgon_status status =
        gg_json_read_sequence(r, json_object_get(r->files->tokenizer, "post_processor"),
                              "processors", "post_processor", read_processor);
    if (status == GORGON_OK)
        status = read_config(r);
    if (status != GORGON_OK)
        return status;
    read_ends(r);
    read_chat(r);
    return GORGON_OK;
}
