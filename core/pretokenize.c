// Pre-tokenizers: stages of PCRE2 patterns from the table, compiled once, walked without memory of
// their own.
#include "pretokenize.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"

struct gg_pretokenizer {
    const gg_known_split *known;
    pcre2_general_context *memory;
    pcre2_match_context *limits;
    pcre2_code *stages[GG_SPLIT_STAGES];
    size_t n_stages;
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

static bool is_name(const char *known, const char *name, size_t length)
{
    return strlen(known) == length && memcmp(known, name, length) == 0;
}

const gg_known_split *gg_split_find(const char *name, size_t length)
{
    for (size_t i = 0; i < gg_split_aliases_n; i++) {
        if (is_name(gg_split_aliases[i].alias, name, length)) {
            name = gg_split_aliases[i].name;
            length = strlen(name);
            break;
        }
    }
    for (size_t i = 0; i < gg_known_splits_n; i++) {
        if (is_name(gg_known_splits[i].name, name, length))
            return &gg_known_splits[i];
    }
    return NULL;
}

static gorgon_status fail_unknown(const char *label, const char *name, size_t length,
                                  gorgon_error *err)
{
    char list[400] = "";
    for (size_t i = 0; i < gg_known_splits_n; i++)
        gg_list_append(list, sizeof list, gg_known_splits[i].name);
    for (size_t i = 0; i < gg_split_aliases_n; i++)
        gg_list_append(list, sizeof list, gg_split_aliases[i].alias);
    return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                   "%s: pre-tokenizer '%.*s' (tokenizer.ggml.pre) is not known; known: %s", label,
                   (int)(length < 60 ? length : 60), name, list);
}

// Without JIT (no support, or no executable memory allowed) matching is interpreted: slower, the
// same result.
static gorgon_status compile(gg_pretokenizer *pretokenizer, const char *pattern, gorgon_error *err)
{
    const char *name = pretokenizer->known->name;
    int code = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code *stage = NULL;
    pcre2_compile_context *context = pcre2_compile_context_create(pretokenizer->memory);
    if (context)
        stage = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &offset,
                              context);
    pcre2_compile_context_free(context);
    if (!context || (!stage && code == PCRE2_ERROR_HEAP_FAILED))
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for the pre-tokenizer '%s'", name);
    if (!stage)
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "PCRE2 refuses the pre-tokenizer '%s': error %d at offset %zu", name, code,
                       (size_t)offset);
    pcre2_jit_compile(stage, PCRE2_JIT_COMPLETE);
    pretokenizer->stages[pretokenizer->n_stages++] = stage;
    return GORGON_OK;
}

static gorgon_status compile_all(gg_pretokenizer *pretokenizer, gorgon_error *err)
{
    pretokenizer->memory = pcre2_general_context_create(regex_alloc, regex_free, NULL);
    if (pretokenizer->memory)
        pretokenizer->limits = pcre2_match_context_create(pretokenizer->memory);
    if (!pretokenizer->limits)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for the pre-tokenizer '%s'",
                       pretokenizer->known->name);
    // The patterns are linear: only the text's length bounds a match.
    pcre2_set_match_limit(pretokenizer->limits, UINT32_MAX);
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; status == GORGON_OK && i < GG_SPLIT_STAGES; i++) {
        if (pretokenizer->known->stages[i])
            status = compile(pretokenizer, pretokenizer->known->stages[i], err);
    }
    return status;
}

gorgon_status gg_pretokenizer_create(const char *label, const char *name, size_t length,
                                     gg_pretokenizer **out, gorgon_error *err)
{
    const gg_known_split *known = gg_split_find(name, length);
    if (!known)
        return fail_unknown(label, name, length, err);
    gg_pretokenizer *pretokenizer = gg_alloc(1, sizeof *pretokenizer);
    if (!pretokenizer)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for the pre-tokenizer '%s'",
                       known->name);
    pretokenizer->known = known;
    gorgon_status status = compile_all(pretokenizer, err);
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
    for (size_t i = 0; i < pretokenizer->n_stages; i++)
        pcre2_code_free(pretokenizer->stages[i]);
    pcre2_match_context_free(pretokenizer->limits);
    pcre2_general_context_free(pretokenizer->memory);
    gg_free(pretokenizer);
}

const char *gg_pretokenizer_name(const gg_pretokenizer *pretokenizer)
{
    return pretokenizer->known->name;
}

gorgon_status gg_splitter_open(const gg_pretokenizer *pretokenizer, gg_splitter *out,
                               gorgon_error *err)
{
    *out = (gg_splitter){.pretokenizer = pretokenizer};
    out->match = pcre2_match_data_create(1, pretokenizer->memory);
    if (!out->match)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory to match the pre-tokenizer '%s'",
                       pretokenizer->known->name);
    return GORGON_OK;
}

void gg_splitter_close(gg_splitter *splitter)
{
    pcre2_match_data_free(splitter->match);
    *splitter = (gg_splitter){0};
}

void gg_splitter_start(gg_splitter *splitter, const char *text, size_t length)
{
    splitter->depth = 0;
    splitter->levels[0] = (gg_split_level){.text = text, .length = length};
}

// The next part of a level: a match of its stage or the text before one.
static gorgon_status next_part(const gg_splitter *splitter, size_t stage, gg_split_level *level,
                               const char **part, size_t *length, gorgon_error *err)
{
    const gg_pretokenizer *pretokenizer = splitter->pretokenizer;
    const size_t start = level->position;
    if (level->match_end <= start) {
        int found = pcre2_match(pretokenizer->stages[stage], (PCRE2_SPTR)level->text, level->length,
                                start, PCRE2_NO_UTF_CHECK, splitter->match, pretokenizer->limits);
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(splitter->match);
        level->match_start = found > 0 ? at[0] : level->length;
        level->match_end = found > 0 ? at[1] : level->length;
        if ((found < 0 && found != PCRE2_ERROR_NOMATCH) || level->match_end <= start)
            return gg_fail(err,
                           found == PCRE2_ERROR_NOMEMORY ? GORGON_ERROR_MEMORY : GORGON_ERROR_LIMIT,
                           "pre-tokenizer '%s' stops at byte %zu of %zu: PCRE2 error %d",
                           pretokenizer->known->name, start, level->length, found);
    }
    level->position = level->match_start > start ? level->match_start : level->match_end;
    *part = level->text + start;
    *length = level->position - start;
    return GORGON_OK;
}

gorgon_status gg_splitter_next(gg_splitter *splitter, const char **piece, size_t *length, bool *got,
                               gorgon_error *err)
{
    const size_t n_stages = splitter->pretokenizer->n_stages;
    for (;;) {
        gg_split_level *level = &splitter->levels[splitter->depth];
        if (level->position == level->length) {
            *got = false;
            if (splitter->depth == 0)
                return GORGON_OK;
            splitter->depth--;
            continue;
        }
        if (n_stages == 0) {
            *piece = level->text;
            *length = level->position = level->length;
        } else {
            gorgon_status status = next_part(splitter, splitter->depth, level, piece, length, err);
            if (status != GORGON_OK)
                return status;
        }
        *got = true;
        if (splitter->depth + 1 >= n_stages)
            return GORGON_OK;
        splitter->levels[++splitter->depth] = (gg_split_level){.text = *piece, .length = *length};
    }
}

// Whether a pattern of a tokenizer.json is the known one; it may write line ends as they are.
static bool same_pattern(const char *known, const char *pattern, size_t length)
{
    size_t at = 0;
    for (; *known; known++) {
        bool escaped = known[0] == '\\' && (known[1] == 'r' || known[1] == 'n');
        char end = known[0] == '\\' && known[1] == 'r' ? '\r' : '\n';
        if (escaped && at < length && pattern[at] == end)
            known++;
        else if (at >= length || pattern[at] != *known)
            return false;
        at++;
    }
    return at == length;
}

const char *gg_split_find_listed(const char *const *patterns, const size_t *lengths, size_t n)
{
    for (size_t i = 0; n <= GG_SPLIT_STAGES && i < gg_listed_splits_n; i++) {
        const gg_listed_split *listed = &gg_listed_splits[i];
        size_t same = 0;
        while (same < n && listed->patterns[same] &&
               same_pattern(listed->patterns[same], patterns[same], lengths[same]))
            same++;
        if (same == n && (n == GG_SPLIT_STAGES || !listed->patterns[n]))
            return listed->name;
    }
    return NULL;
}
