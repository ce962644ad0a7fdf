// Pre-tokenizers as PCRE2 patterns, one line per name. Patterns are anchored, match at every
// character, and backtrack by one character at most, so a text costs linear time.
#include "pretokenize.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"

struct gg_pretokenizer {
    const char *name;
    pcre2_general_context *memory;
    pcre2_code *code;
};

typedef struct known_pattern {
    const char *name;
    const char *pattern;
} known_pattern;

// Unicode's White_Space, as members of a class. PCRE2's own \s has U+180E besides.
#define SPACES                                                                                     \
    "\\x{9}-\\x{d} \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"                                     \
    "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

static const known_pattern known_patterns[] = {
    // openai/gpt-2 encoder.py.
    {"gpt-2", "(*LIMIT_MATCH=100000)(*LIMIT_DEPTH=1000)"
              "'(?:[stmd]|re|ve|ll)| ?\\p{L}++| ?\\p{N}++| ?[^" SPACES "\\p{L}\\p{N}]++"
              "|[" SPACES "]+(?![^" SPACES "])|[" SPACES "]+"},
    // Every \p{N} stands alone; GPT-2's pattern on the text between, where a run of white space
    // leaves its last character to what follows unless a digit or the end follows.
    {"smollm", "(*LIMIT_MATCH=100000)(*LIMIT_DEPTH=1000)"
               " ?\\p{L}++|\\p{N}|'(?:[stmd]|re|ve|ll)| ?[^" SPACES "\\p{L}\\p{N}]++"
               "|[" SPACES "]+(?![^" SPACES "\\p{N}])|[" SPACES "]+"},
};

static void *regex_alloc(size_t size, void *unused)
{
    (void)unused;
    return gg_alloc(size, 1);
}

static void regex_free(void *block, void *unused)
{
    (void)unused;
    gg_free(block);
}

static const known_pattern *find_pattern(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof known_patterns / sizeof known_patterns[0]; i++) {
        if (strlen(known_patterns[i].name) == length &&
            memcmp(known_patterns[i].name, name, length) == 0)
            return &known_patterns[i];
    }
    return NULL;
}

static gorgon_status fail_unknown(const char *label, const char *name, size_t length,
                                  gorgon_error *err)
{
    char list[200] = "";
    for (size_t i = 0; i < sizeof known_patterns / sizeof known_patterns[0]; i++)
        gg_list_append(list, sizeof list, known_patterns[i].name);
    return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                   "%s: pre-tokenizer '%.*s' (tokenizer.ggml.pre) is not known; known: %s", label,
                   (int)(length < 60 ? length : 60), name, list);
}

// Without JIT (no support, or no executable memory allowed) matching is interpreted: slower, the
// same result.
static gorgon_status compile(gg_pretokenizer *pretokenizer, const char *pattern, gorgon_error *err)
{
    int code = 0;
    PCRE2_SIZE offset = 0;
    pcre2_compile_context *context = pcre2_compile_context_create(pretokenizer->memory);
    if (context)
        pretokenizer->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                           PCRE2_UTF | PCRE2_ANCHORED, &code, &offset, context);
    pcre2_compile_context_free(context);
    if (!context || (!pretokenizer->code && code == PCRE2_ERROR_HEAP_FAILED))
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for the pre-tokenizer '%s'",
                       pretokenizer->name);
    if (!pretokenizer->code)
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "PCRE2 refuses the pre-tokenizer '%s': error %d at offset %zu",
                       pretokenizer->name, code, (size_t)offset);
    pcre2_jit_compile(pretokenizer->code, PCRE2_JIT_COMPLETE);
    return GORGON_OK;
}

gorgon_status gg_pretokenizer_create(const char *label, const char *name, size_t length,
                                     gg_pretokenizer **out, gorgon_error *err)
{
    const known_pattern *known = find_pattern(name, length);
    if (!known)
        return fail_unknown(label, name, length, err);
    gg_pretokenizer *pretokenizer = gg_alloc(1, sizeof *pretokenizer);
    if (!pretokenizer)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for the pre-tokenizer '%s'",
                       known->name);
    pretokenizer->name = known->name;
    pretokenizer->memory = pcre2_general_context_create(regex_alloc, regex_free, NULL);
    gorgon_status status;
    if (pretokenizer->memory)
        status = compile(pretokenizer, known->pattern, err);
    else
        status =
            gg_fail(err, GORGON_ERROR_MEMORY, "no memory for the pre-tokenizer '%s'", known->name);
    if (status != GORGON_OK) {
        gg_pretokenizer_free(pretokenizer);
        return status;
    }
    *out = pretokenizer;
    return GORGON_OK;
}

void gg_pretokenizer_free(gg_pretokenizer *pretokenizer)
{
    if (!pretokenizer)
        return;
    pcre2_code_free(pretokenizer->code);
    pcre2_general_context_free(pretokenizer->memory);
    gg_free(pretokenizer);
}

const char *gg_pretokenizer_name(const gg_pretokenizer *pretokenizer)
{
    return pretokenizer->name;
}

gorgon_status gg_splitter_open(const gg_pretokenizer *pretokenizer, gg_splitter *out,
                               gorgon_error *err)
{
    *out = (gg_splitter){.pretokenizer = pretokenizer};
    out->match = pcre2_match_data_create(1, pretokenizer->memory);
    if (!out->match)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory to match the pre-tokenizer '%s'",
                       pretokenizer->name);
    return GORGON_OK;
}

void gg_splitter_close(gg_splitter *splitter)
{
    pcre2_match_data_free(splitter->match);
    *splitter = (gg_splitter){0};
}

void gg_splitter_start(gg_splitter *splitter, const char *text, size_t length)
{
    splitter->text = text;
    splitter->length = length;
    splitter->position = 0;
}

gorgon_status gg_splitter_next(gg_splitter *splitter, const char **piece, size_t *length, bool *got,
                               gorgon_error *err)
{
    const gg_pretokenizer *pretokenizer = splitter->pretokenizer;
    size_t start = splitter->position;
    *got = start < splitter->length;
    if (!*got)
        return GORGON_OK;
    int found = pcre2_match(pretokenizer->code, (PCRE2_SPTR)splitter->text, splitter->length, start,
                            PCRE2_NO_UTF_CHECK, splitter->match, NULL);
    size_t end = found > 0 ? pcre2_get_ovector_pointer(splitter->match)[1] : start;
    if (end <= start) {
        gorgon_status status =
            found == PCRE2_ERROR_NOMEMORY ? GORGON_ERROR_MEMORY : GORGON_ERROR_LIMIT;
        return gg_fail(err, status, "pre-tokenizer '%s' stops at byte %zu of %zu: PCRE2 error %d",
                       pretokenizer->name, start, splitter->length, found);
    }
    *piece = splitter->text + start;
    *length = end - start;
    splitter->position = end;
    return GORGON_OK;
}
