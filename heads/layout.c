// Names of heads of other trainers: which layout a file has, and what each tensor is in it.
#include "layout.h"

#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"

// In the order in which they are tried: the names of later ones are parts of those before.
static const gg_head_layout *const layouts[] = {
    &gg_layout_modelopt,
    &gg_layout_hydra,
    &gg_layout_vllm,
    &gg_layout_fasterdecoding,
};
enum { N_LAYOUTS = sizeof layouts / sizeof layouts[0], MAX_NUMBER = 9999 };

// A name that follows a rule.
typedef struct match {
    const gg_layout_rule *rule;
    size_t prefix; // bytes before
    size_t n_numbers;
    size_t numbers[2]; // head and block
} match;

// A decimal number without leading zeros; returns its digits, 0: none.
static size_t read_number(const char *text, size_t *out)
{
    size_t n = 0, value = 0;
    while (text[n] >= '0' && text[n] <= '9' && value <= MAX_NUMBER)
        value = value * 10 + (size_t)(text[n++] - '0');
    *out = value;
    return value > MAX_NUMBER || (n > 1 && text[0] == '0') ? 0 : n;
}

static bool follows(const char *pattern, const char *name, match *m)
{
    m->n_numbers = 0;
    for (; *pattern; pattern++) {
        if (*pattern != '#') {
            if (*name++ != *pattern)
                return false;
            continue;
        }
        const size_t digits = read_number(name, &m->numbers[m->n_numbers++]);
        if (digits == 0)
            return false;
        name += digits;
    }
    return *name == '\0';
}

// Looks for a rule of the layout that the name follows behind some words; those may be given.
static bool find_rule(const gg_head_layout *layout, const char *name, const char *prefix, match *m)
{
    const size_t given = prefix ? strlen(prefix) : 0;
    if (prefix && strncmp(name, prefix, given) != 0)
        return false;
    for (const char *at = name + given; at; at = prefix ? NULL : strchr(at, '.')) {
        at += *at == '.';
        for (const gg_layout_rule *r = layout->rules; r->pattern; r++) {
            if (follows(r->pattern, at, m)) {
                m->rule = r;
                m->prefix = (size_t)(at - name);
                return true;
            }
        }
    }
    return false;
}

bool gg_layout_find(const gg_tensor_file *file, const gg_head_layout **layout,
                    char prefix[GG_MAX_NAME])
{
    match m;
    for (size_t i = 0; i < N_LAYOUTS; i++) {
        for (size_t k = 0; k < gg_tensor_file_count(file); k++) {
            const char *name = gg_tensor_file_at(file, k)->name;
            if (!find_rule(layouts[i], name, NULL, &m) || m.rule->role != GG_LAYOUT_WEIGHT)
                continue;
            *layout = layouts[i];
            memcpy(prefix, name, m.prefix);
            prefix[m.prefix] = '\0';
            return true;
        }
    }
    return false;
}

void gg_layout_name(const gg_head_layout *layout, gg_layout_role role, size_t head, size_t block,
                    char name[GG_MAX_NAME])
{
    const size_t numbers[] = {head, block};
    size_t n = 0, used = 0;
    const gg_layout_rule *r = layout->rules;
    while (r->pattern && r->role != role)
        r++;
    for (const char *c = r->pattern ? r->pattern : ""; *c; c++) {
        if (*c == '#')
            n += (size_t)snprintf(name + n, GG_MAX_NAME - n, "%zu", numbers[used++]);
        else
            name[n++] = *c;
    }
    name[n] = '\0';
}

typedef struct sorter {
    const char *label;
    gg_layout_grid *grid;
    size_t output_blocks[GG_MAX_DRAFT_HEADS]; // as the names of outputs have it
    gorgon_error *err;
} sorter;

// Where a tensor of this role belongs, NULL: nowhere.
static const gg_named_tensor **place(gg_layout_grid *g, const match *m)
{
    const size_t head = m->n_numbers > 0 ? m->numbers[0] : 0;
    const size_t block = m->n_numbers > 1 ? m->numbers[1] : 0;
    switch (m->rule->role) {
    case GG_LAYOUT_WEIGHT:
        return &g->weight[head][block];
    case GG_LAYOUT_BIAS:
        return &g->bias[head][block];
    case GG_LAYOUT_RESIDUAL:
        return &g->residual[head];
    case GG_LAYOUT_RESIDUAL_BIAS:
        return &g->residual_bias[head];
    case GG_LAYOUT_OUTPUT:
        return &g->output[head];
    case GG_LAYOUT_OUTPUT_BIAS:
        return &g->output_bias[head];
    case GG_LAYOUT_TOKEN_MAP:
        return &g->token_map;
    case GG_LAYOUT_TOKEN_OFFSETS:
        return &g->token_offsets;
    case GG_LAYOUT_EMBEDDING:
        return &g->embedding;
    case GG_LAYOUT_UNUSED:
        break;
    }
    return NULL;
}

static gorgon_status reject(const sorter *s, const gg_named_tensor *t, const char *what)
{
    return gg_fail(s->err, GORGON_ERROR_FORMAT, "%s: %s heads: tensor '%.80s': %s", s->label,
                   s->grid->layout->name, t->name, what);
}

static gorgon_status sort_tensor(sorter *s, const gg_named_tensor *t, const match *m)
{
    const gg_layout_role role = m->rule->role;
    const bool block = role == GG_LAYOUT_WEIGHT || role == GG_LAYOUT_BIAS;
    const bool output = role == GG_LAYOUT_OUTPUT || role == GG_LAYOUT_OUTPUT_BIAS;
    if (m->n_numbers > 0 && m->numbers[0] >= GG_MAX_DRAFT_HEADS)
        return gg_fail(s->err, GORGON_ERROR_UNSUPPORTED,
                       "%s: %s heads: tensor '%.80s': expected heads 0 to %d, got %zu", s->label,
                       s->grid->layout->name, t->name, GG_MAX_DRAFT_HEADS - 1, m->numbers[0]);
    if (m->n_numbers > 1 && m->numbers[1] >= GG_MAX_HEAD_BLOCKS + (size_t)output)
        return gg_fail(s->err, GORGON_ERROR_UNSUPPORTED,
                       "%s: %s heads: tensor '%.80s': expected at most %d blocks, got number %zu",
                       s->label, s->grid->layout->name, t->name, GG_MAX_HEAD_BLOCKS, m->numbers[1]);
    if ((role == GG_LAYOUT_RESIDUAL || role == GG_LAYOUT_RESIDUAL_BIAS) && m->n_numbers > 1 &&
        m->numbers[1] > 0)
        return reject(s, t, "only block 0 maps its input");
    const gg_named_tensor **at = place(s->grid, m);
    if (at && *at)
        return reject(s, t, "another tensor has its place");
    if (at)
        *at = t;
    if (output && m->n_numbers > 1)
        s->output_blocks[m->numbers[0]] = m->numbers[1];
    if (block && m->numbers[0] >= s->grid->n_heads)
        s->grid->n_heads = m->numbers[0] + 1;
    if (block && m->numbers[1] >= s->grid->n_blocks)
        s->grid->n_blocks = m->numbers[1] + 1;
    return GORGON_OK;
}

static gorgon_status missing(const sorter *s, const char *what, size_t head, size_t block)
{
    return gg_fail(s->err, GORGON_ERROR_FORMAT,
                   "%s: %s heads: head %zu has no %s of block %zu, though others have (%zu heads, "
                   "at most %zu blocks)",
                   s->label, s->grid->layout->name, head, what, block, s->grid->n_heads,
                   s->grid->n_blocks);
}

// True if all of n pointers, `stride` apart, are there, or none.
static bool all_or_none(const gg_named_tensor *const *list, size_t n)
{
    size_t there = 0;
    for (size_t i = 0; i < n; i++)
        there += list[i] != NULL;
    return there == 0 || there == n;
}

static gorgon_status check_blocks(const sorter *s)
{
    const gg_layout_grid *g = s->grid;
    const bool biased = g->bias[0][0] != NULL;
    for (size_t k = 0; k < g->n_heads; k++) {
        for (size_t b = 0; b < g->n_blocks; b++) {
            if (!g->weight[k][b])
                return missing(s, "weight", k, b);
            if ((g->bias[k][b] != NULL) != biased)
                return missing(s, "bias", biased ? k : 0, biased ? b : 0);
        }
    }
    if (!all_or_none(g->residual, g->n_heads) || !all_or_none(g->residual_bias, g->n_heads) ||
        (g->residual[0] != NULL) != (g->residual_bias[0] != NULL))
        return gg_fail(s->err, GORGON_ERROR_FORMAT,
                       "%s: %s heads: expected a residual matrix and its bias of every head, or "
                       "none",
                       s->label, g->layout->name);
    return GORGON_OK;
}

static gorgon_status check_outputs(const sorter *s)
{
    const gg_layout_grid *g = s->grid;
    size_t outputs = 0, biases = 0;
    bool good = true;
    for (size_t k = 0; k < GG_MAX_DRAFT_HEADS; k++) {
        const gg_named_tensor *t = g->output[k];
        outputs += t != NULL;
        biases += g->output_bias[k] != NULL;
        good = good && (!t || k < g->n_heads) && (t || !g->output_bias[k]);
        if (t && s->output_blocks[k] != SIZE_MAX && s->output_blocks[k] != g->n_blocks)
            return gg_fail(s->err, GORGON_ERROR_FORMAT,
                           "%s: %s heads: tensor '%.80s': expected an output behind %zu blocks, "
                           "got %zu",
                           s->label, g->layout->name, t->name, g->n_blocks, s->output_blocks[k]);
    }
    const bool one = g->layout->one_output && outputs == 1 && g->output[0];
    if (!good || (outputs > 0 && outputs < g->n_heads && !one))
        return gg_fail(s->err, GORGON_ERROR_FORMAT,
                       "%s: %s heads: expected an output matrix of each of %zu heads, got %zu",
                       s->label, g->layout->name, g->n_heads, outputs);
    if (biases > 0 && biases < outputs)
        return gg_fail(s->err, GORGON_ERROR_FORMAT,
                       "%s: %s heads: expected a bias of each of %zu output matrices, got %zu",
                       s->label, g->layout->name, outputs, biases);
    return GORGON_OK;
}

gorgon_status gg_layout_sort(const gg_tensor_file *file, const char *label, gg_layout_grid *g,
                             gorgon_error *err)
{
    *g = (gg_layout_grid){.output_scale = 1};
    sorter s = {.label = label, .grid = g, .err = err};
    for (size_t k = 0; k < GG_MAX_DRAFT_HEADS; k++)
        s.output_blocks[k] = SIZE_MAX;
    if (!gg_layout_find(file, &g->layout, g->prefix)) {
        char list[200] = "";
        for (size_t i = 0; i < N_LAYOUTS; i++)
            gg_list_append(list, sizeof list, layouts[i]->name);
        const bool empty = gg_tensor_file_count(file) == 0;
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: no heads among its %zu tensors%s%.80s%s, expected names of one of: %s",
                       label, gg_tensor_file_count(file), empty ? "" : " (one is '",
                       empty ? "" : gg_tensor_file_at(file, 0)->name, empty ? "" : "')", list);
    }
    for (size_t i = 0; i < gg_tensor_file_count(file); i++) {
        const gg_named_tensor *t = gg_tensor_file_at(file, i);
        match m;
        if (!find_rule(g->layout, t->name, g->prefix, &m)) {
            const bool inside = strncmp(t->name, g->prefix, strlen(g->prefix)) == 0;
            if (inside && !g->layout->merged)
                return reject(&s, t, "expected none of this name among the heads");
            if (!inside && find_rule(g->layout, t->name, NULL, &m) &&
                m.rule->role == GG_LAYOUT_WEIGHT)
                return reject(&s, t, "expected all heads behind the same words");
            g->n_others++;
            continue;
        }
        gorgon_status status = sort_tensor(&s, t, &m);
        if (status != GORGON_OK)
            return status;
    }
    gorgon_status status = check_blocks(&s);
    return status == GORGON_OK ? check_outputs(&s) : status;
}

bool gg_heads_in_tensors(const gg_tensor_file *file)
{
    const gg_head_layout *layout;
    char prefix[GG_MAX_NAME];
    return gg_layout_find(file, &layout, prefix);
}

gorgon_status gg_heads_read_tensors(gorgon_heads *h, gg_tensor_file *file, gorgon_error *err)
{
    h->tensors = file;
    gg_layout_grid *grid = gg_alloc(1, sizeof *grid);
    if (!grid)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", h->label);
    gorgon_status status = gg_layout_sort(file, h->label, grid, err);
    if (status == GORGON_OK) {
        h->format = grid->layout->name;
        status = gg_layout_make_set(h, grid, err);
    }
    if (status == GORGON_OK)
        status = gg_layout_config(h, grid, err);
    if (status == GORGON_OK)
        status = gg_layout_fill_set(h, grid, err);
    if (status == GORGON_OK && grid->n_others > 0 && grid->layout->merged_note)
        gg_heads_warn(h, "%s: %s", h->label, grid->layout->merged_note);
    gg_free(grid);
    return status;
}
