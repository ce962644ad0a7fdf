// Defaults and checks of training options, before any work is done.
#include "train_options.h"

#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "core/limits.h"

void gorgon_train_options_init(gorgon_train_options *options)
{
    *options = (gorgon_train_options){
        .seed = 1,
        .architecture = "medusa",
        .root_embedding = true,
        .draft_vocab = 4096,
        .epochs = 2.0,
        .batch = 512,
        .learning_rate = 1.5e-3,
        .warmup_share = 0.03,
        .weight_decay = 0.01,
        .clip = 1.0,
        .head_decay = 0.8,
        .held_out = 0.05,
        .weight_type = "F16",
        .checkpoint_steps = 100,
    };
}

static gorgon_status find_kind(const char *name, gg_head_kind *kind, gorgon_error *err)
{
    char list[256];
    size_t used = 0;
    if (name && gg_head_kind_find(name, kind))
        return GORGON_OK;
    for (const char *const *n = gorgon_train_architectures(); *n && used < sizeof list; n++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", *n);
    return gg_fail(err, GORGON_ERROR_ARGUMENT,
                   "training: architecture is '%.40s', expected one of %s", name ? name : "", list);
}

static gorgon_status check_count(const char *name, uint64_t value, uint64_t least, uint64_t most,
                                 gorgon_error *err)
{
    if (value >= least && value <= most)
        return GORGON_OK;
    return gg_fail(err, GORGON_ERROR_ARGUMENT, "training: %s is %llu, expected %llu to %llu", name,
                   (unsigned long long)value, (unsigned long long)least, (unsigned long long)most);
}

// Written so that NaN fails.
static gorgon_status check_real(const char *name, double value, double least, double most,
                                gorgon_error *err)
{
    if (value >= least && value <= most)
        return GORGON_OK;
    return gg_fail(err, GORGON_ERROR_ARGUMENT, "training: %s is %g, expected %g to %g", name, value,
                   least, most);
}

static gorgon_status check_ranges(const gorgon_train_options *o, size_t d_model, gorgon_error *err)
{
    const struct {
        const char *name;
        uint64_t value, least, most;
    } counts[] = {{"n_heads", o->n_heads, 1, GG_MAX_DRAFT_HEADS},
                  {"n_blocks", o->n_blocks, 1, GG_MAX_HEAD_BLOCKS},
                  {"rank", o->rank, 0, d_model < GG_HEADS_MAX_RANK ? d_model : GG_HEADS_MAX_RANK},
                  {"batch", o->batch, 1, 1 << 16},
                  {"draft_vocab", o->draft_vocab, 0, GG_MAX_VOCAB}};
    const struct {
        const char *name;
        double value, least, most;
    } reals[] = {{"epochs", o->epochs, 1e-6, 1e6},
                 {"learning_rate", o->learning_rate, 0.0, 1.0},
                 {"warmup_share", o->warmup_share, 0.0, 1.0},
                 {"weight_decay", o->weight_decay, 0.0, 10.0},
                 {"clip", o->clip, 0.0, 1e9},
                 {"head_decay", o->head_decay, 1e-3, 1.0},
                 {"held_out", o->held_out, 0.0, 0.9}};
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < sizeof counts / sizeof *counts && status == GORGON_OK; i++)
        status = check_count(counts[i].name, counts[i].value, counts[i].least, counts[i].most, err);
    for (size_t i = 0; i < sizeof reals / sizeof *reals && status == GORGON_OK; i++)
        status = check_real(reals[i].name, reals[i].value, reals[i].least, reals[i].most, err);
    return status;
}

// The type, and that it can hold every matrix.
static gorgon_status find_type(const gorgon_train_options *o, const gg_head_shape *shape,
                               gg_dtype *type, gorgon_error *err)
{
    static const gg_dtype types[] = {GG_F16, GG_F32, GG_Q8_0};
    gg_head_layout layout;
    size_t at = 0, n = sizeof types / sizeof *types;
    while (at < n && (!o->weight_type || strcmp(o->weight_type, gg_dtype_name(types[at])) != 0))
        at++;
    if (at == n)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "training: weight_type is '%s', expected F16, F32 or Q8_0",
                       o->weight_type ? o->weight_type : "");
    *type = types[at];
    gg_head_layout_of(shape, &layout);
    for (size_t i = 0; i < layout.n_parts; i++) {
        const size_t n_in = layout.parts[i].n_in;
        if (n_in > 0 && gg_dtype_row_bytes(*type, n_in) == 0)
            return gg_fail(err, GORGON_ERROR_ARGUMENT,
                           "training: weight_type is %s, which holds multiples of %d values, but "
                           "the heads have rows of %zu",
                           o->weight_type, GG_BLOCK, n_in);
    }
    return GORGON_OK;
}

// Matrices of one's own for every token of the model would be larger than the model.
static gorgon_status check_own_output(const gg_head_shape *shape, size_t n_vocab, gorgon_error *err)
{
    if (!shape->own_output)
        return GORGON_OK;
    if (gg_head_traits_of(shape->kind)->follows)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "training: heads that see drafted tokens have no own_output");
    if (shape->n_draft > 0 && shape->n_draft < n_vocab)
        return GORGON_OK;
    return gg_fail(err, GORGON_ERROR_ARGUMENT,
                   "training: own_output needs a draft_vocab below the %zu tokens of the model",
                   n_vocab);
}

gorgon_status gg_train_plan_make(const gorgon_train_options *wanted, const gorgon_model *model,
                                 gg_train_plan *plan, gorgon_error *err)
{
    const gg_geometry *geometry = gg_model_geometry(model);
    const size_t d_model = geometry->d_model;
    gg_head_shape *shape = &plan->shape;
    *plan = (gg_train_plan){.options = *wanted};
    *shape = (gg_head_shape){.n_heads = wanted->n_heads,
                             .n_blocks = wanted->n_blocks,
                             .d_model = d_model,
                             .n_draft = wanted->draft_vocab,
                             .rank = wanted->rank,
                             .root_embedding = wanted->root_embedding,
                             .own_output = wanted->own_output};
    gorgon_status status = find_kind(wanted->architecture, &shape->kind, err);
    if (status != GORGON_OK)
        return status;
    gg_head_shape_complete(shape);
    plan->options.n_heads = shape->n_heads;
    plan->options.n_blocks = shape->n_blocks;
    plan->options.rank = shape->rank;
    status = check_ranges(&plan->options, d_model, err);
    const char *fault = status == GORGON_OK ? gg_head_shape_fault(shape) : NULL;
    if (fault)
        status = gg_fail(err, GORGON_ERROR_ARGUMENT, "training: %s", fault);
    if (status == GORGON_OK)
        status = check_own_output(shape, geometry->n_vocab, err);
    if (status == GORGON_OK && (!wanted->cache || !wanted->out))
        status = gg_fail(err, GORGON_ERROR_ARGUMENT, "training: no %s given",
                         wanted->cache ? "heads file to write" : "feature cache");
    return status == GORGON_OK ? find_type(wanted, shape, &plan->weight_type, err) : status;
}

gorgon_status gorgon_train_parameters(const gorgon_model *model,
                                      const gorgon_train_options *options, uint64_t *count,
                                      gorgon_error *err)
{
    gorgon_train_options wanted = *options;
    gg_train_plan plan;
    gg_head_layout layout;
    *count = 0;
    wanted.cache = wanted.out = "";
    gorgon_status status = gg_train_plan_make(&wanted, model, &plan, err);
    if (status != GORGON_OK)
        return status;
    gg_head_layout_of(&plan.shape, &layout);
    *count = layout.n;
    return GORGON_OK;
}
