// What is to be compared: architectures with their shapes, parameter budget, lists of proposers.
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"

enum { MOST_HEADS = 16, MOST_BLOCKS = 8 };

bool compare_path(char path[COMPARE_PATH], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(path, COMPARE_PATH, format, args);
    va_end(args);
    if (n >= 0 && n < COMPARE_PATH)
        return true;
    return cli_complain("compare: a path below the output directory is longer than %d bytes",
                        COMPARE_PATH - 1);
}

// The library's own copy of the name; NULL after a message.
static const char *known_architecture(const char *name)
{
    char known[256] = "";
    for (const char *const *a = gorgon_train_architectures(); *a; a++) {
        if (strcmp(*a, name) == 0)
            return *a;
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", *a);
    }
    cli_complain("compare: --archs got '%s', expected names out of %s", name, known);
    return NULL;
}

// "blocks=2"
static bool set_shape(const compare *c, const char *text, compare_architecture *a)
{
    const struct {
        const char *key;
        size_t *value, least, most;
    } keys[] = {{"heads", &a->train.n_heads, 1, MOST_HEADS},
                {"blocks", &a->train.n_blocks, 1, MOST_BLOCKS},
                {"vocab", &a->train.draft_vocab, 0, 1 << 20},
                {"rank", &a->train.rank, 1, 4096}};
    const char *equals = strchr(text, '=');
    for (size_t i = 0; equals && i < sizeof keys / sizeof keys[0]; i++) {
        size_t length = strlen(keys[i].key);
        if (length != (size_t)(equals - text) || strncmp(text, keys[i].key, length) != 0)
            continue;
        if (i == 1 && c->parameters > 0)
            return cli_complain("compare: --archs got '%s', but --params chooses the blocks", text);
        char *end;
        errno = 0;
        unsigned long long value = strtoull(equals + 1, &end, 10);
        if (equals[1] < '0' || equals[1] > '9' || *end || errno || value < keys[i].least ||
            value > keys[i].most)
            return cli_complain("compare: --archs got '%s', expected %s from %zu to %zu", text,
                                keys[i].key, keys[i].least, keys[i].most);
        *keys[i].value = (size_t)value;
        return true;
    }
    return cli_complain("compare: --archs got '%s', expected heads=N, blocks=N, vocab=N or rank=N",
                        text);
}

static void make_slug(const char *name, char *slug)
{
    for (; *name; name++)
        *slug++ = strchr(":=", *name) ? '-' : *name;
    *slug = '\0';
}

static bool read_architecture(compare *c, const char *text, size_t length)
{
    if (c->n_architectures == COMPARE_ARCHITECTURES)
        return cli_complain("compare: --archs names more than %d", COMPARE_ARCHITECTURES);
    if (length == 0 || length >= COMPARE_NAME)
        return cli_complain("compare: --archs got '%s', expected names separated by commas",
                            c->architectures);
    compare_architecture *a = &c->architecture[c->n_architectures];
    char parts[COMPARE_NAME];
    memcpy(a->name, text, length);
    a->name[length] = '\0';
    memcpy(parts, a->name, length + 1);
    make_slug(a->name, a->slug);
    for (size_t i = 0; i < c->n_architectures; i++) {
        if (strcmp(c->architecture[i].slug, a->slug) == 0)
            return cli_complain("compare: --archs names '%s' twice", a->name);
    }
    a->train = c->train;
    char *rest = strchr(parts, ':');
    if (rest)
        *rest++ = '\0';
    a->train.architecture = known_architecture(parts);
    while (a->train.architecture && rest) {
        char *next = strchr(rest, ':');
        if (next)
            *next++ = '\0';
        if (!set_shape(c, rest, a))
            return false;
        rest = next;
    }
    c->n_architectures += a->train.architecture != NULL;
    return a->train.architecture != NULL;
}

bool compare_read_architectures(compare *c)
{
    if (!c->architectures) {
        for (const char *const *a = gorgon_train_architectures(); *a; a++) {
            if (!read_architecture(c, *a, strlen(*a)))
                return false;
        }
        return true;
    }
    for (const char *at = c->architectures;; at++) {
        size_t length = strcspn(at, ",");
        if (!read_architecture(c, at, length))
            return false;
        at += length;
        if (!*at)
            return true;
    }
}

typedef struct fitting {
    uint64_t most, best, least; // parameters: allowed; of the best shape, 0 = none; ever seen
    size_t n_heads, n_blocks;   // of the best
} fitting;

static void consider(const compare *c, const gorgon_train_options *options, fitting *f)
{
    uint64_t count;
    if (gorgon_train_parameters(c->session.model, options, &count, NULL) != GORGON_OK)
        return;
    f->least = f->least == 0 || count < f->least ? count : f->least;
    if (count > f->most || count <= f->best)
        return;
    f->best = count;
    f->n_heads = options->n_heads;
    f->n_blocks = options->n_blocks;
}

// The most blocks that fit into the budget; where none fit, the most depths with which some do.
static bool fit(const compare *c, compare_architecture *a)
{
    fitting f = {.most = c->parameters};
    gorgon_train_options options = a->train;
    size_t heads = options.n_heads > 0 ? options.n_heads : MOST_HEADS;
    for (; heads > 0 && f.best == 0; options.n_heads = --heads) {
        options.n_blocks = a->train.n_blocks;
        consider(c, &options, &f);
        for (options.n_blocks = 1; options.n_blocks <= MOST_BLOCKS; options.n_blocks++)
            consider(c, &options, &f);
    }
    if (f.best == 0)
        return cli_complain("compare: --params got %llu, but %s has at least %llu parameters",
                            (unsigned long long)f.most, a->name, (unsigned long long)f.least);
    a->train.n_heads = f.n_heads;
    a->train.n_blocks = f.n_blocks;
    return true;
}

bool compare_fit_shapes(compare *c)
{
    gorgon_error err = {0};
    uint64_t count;
    for (size_t i = 0; i < c->n_architectures; i++) {
        compare_architecture *a = &c->architecture[i];
        if (gorgon_train_parameters(c->session.model, &a->train, &count, &err) != GORGON_OK)
            return cli_fail(&err);
        if (c->parameters > 0 && !fit(c, a))
            return false;
    }
    return true;
}

static bool add_list(compare *c, const char *list)
{
    size_t n = strlen(list) + 1;
    char *copy = c->n_lists < COMPARE_LISTS ? malloc(n) : NULL;
    if (!copy)
        return cli_complain("out of memory");
    memcpy(copy, list, n);
    c->lists[c->n_lists++] = copy;
    return true;
}

// Lists are tried before the work, not after it. NULL: all that can run without heads.
static bool try_list(compare *c, const char *list, gorgon_telemetry *found, size_t *n)
{
    gorgon_error err = {0};
    gorgon_decoder *decoder = NULL;
    gorgon_decoder_options options;
    gorgon_decoder_options_init(&options);
    options.propose = list ? list : "all";
    options.datastore = c->session.datastore;
    options.tree = "off";
    if (gorgon_decoder_create(c->session.engine, &options, &decoder, &err) != GORGON_OK)
        return cli_fail(&err);
    *n = gorgon_decoder_telemetry(decoder, found, PAIRS_MAX_PROPOSERS);
    gorgon_decoder_free(decoder);
    return true;
}

static bool default_lists(compare *c)
{
    gorgon_telemetry found[PAIRS_MAX_PROPOSERS];
    size_t n = 0;
    cli_text all = {0};
    bool good = try_list(c, NULL, found, &n);
    for (size_t i = 0; i < n && good; i++) {
        cli_text_put(&all, "%s%s", i ? "," : "", found[i].proposer);
        good = add_list(c, found[i].proposer);
    }
    if (good && n > 1)
        good = !all.failed && add_list(c, all.data);
    cli_text_clear(&all);
    return good;
}

bool compare_read_lists(compare *c)
{
    gorgon_telemetry found[PAIRS_MAX_PROPOSERS];
    size_t n;
    if (c->no_untrained)
        return true;
    if (c->untrained.n == 0)
        return default_lists(c);
    for (size_t i = 0; i < c->untrained.n; i++) {
        if (!try_list(c, c->untrained.values[i], found, &n) || !add_list(c, c->untrained.values[i]))
            return false;
    }
    return true;
}
