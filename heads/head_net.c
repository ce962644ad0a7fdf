// Packing a set of heads and running it.
#include "head_net.h"

#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "packed.h"

enum {
    MAX_LOGITS = 1 << 22, // floats of net->logits beyond which a run takes fewer rows
    LAYER_ROWS = 32,      // at least, for committed rows that go through a layer
};

// Matrices on the input row, side by side for all cells where they are run at once: w[n_first].
static gorgon_status pack_input(gg_head_net *net, gg_packer *p, gg_head_role role,
                                gg_head_role beside, gg_matrix *all)
{
    const gg_head_shape *s = &net->set->shape;
    gorgon_status status = GORGON_OK;
    for (size_t k = 0; k < gg_head_cells(s) && status == GORGON_OK; k++) {
        const gg_stored x = gg_stored_part(net->set, role, k, 0);
        const gg_stored tokens =
            beside == role ? (gg_stored){NULL, 0} : gg_stored_part(net->set, beside, k, 0);
        gg_matrix *w = &all[net->n_first > 1 ? k : 0];
        const size_t n_in = x.n_in + tokens.n_in;
        if (k == 0 || net->n_first > 1)
            status = gg_matrix_create(gg_packer_type(p, net->set->weight_type, s->d_model),
                                      net->lanes * s->d_model, n_in, w, p->err);
        if (status == GORGON_OK)
            status =
                gg_pack_rows(p, w, net->n_first > 1 ? 0 : k * s->d_model, s->d_model, x, tokens);
    }
    return status;
}

static gorgon_status pack_first(gg_head_net *net, gg_packer *p)
{
    gorgon_status status = pack_input(net, p, GG_PART_WEIGHT, GG_PART_ROOT, net->first);
    if (status == GORGON_OK && net->residual)
        status = pack_input(net, p, GG_PART_RESIDUAL, GG_PART_RESIDUAL, net->residual);
    return status;
}

static gorgon_status pack_later(gg_head_net *net, gg_packer *p)
{
    const gg_head_shape *s = &net->set->shape;
    const size_t n = s->n_blocks - 1;
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < gg_head_cells(s) * n && status == GORGON_OK; i++)
        status = gg_pack_part(p, GG_PART_WEIGHT, i / n, 1 + i % n, s->d_model, &net->later[i]);
    return status;
}

static gorgon_status pack_own_output(gg_head_net *net, gg_packer *p)
{
    gorgon_status status = GORGON_OK;
    if (!net->own) {
        net->output = &net->single;
        return gg_pack_part(p, GG_PART_OUTPUT, 0, 0, net->n_out, &net->single);
    }
    for (size_t k = 0; k < gg_head_cells(&net->set->shape) && status == GORGON_OK; k++)
        status = gg_pack_part(p, GG_PART_OUTPUT, k, 0, net->n_out, &net->own[k]);
    return status;
}

// output . U of a head: what the token before adds to the logits is a product of rank inputs.
static gorgon_status pack_bias(gg_head_net *net, gg_packer *p, size_t head, float *up)
{
    const gg_head_shape *s = &net->set->shape;
    const size_t d = s->d_model, rank = s->rank;
    const gg_dtype type = gg_packer_type(p, GG_F32, rank);
    const gg_stored u = gg_stored_part(net->set, GG_PART_UP, head, 0);
    gg_matrix *w = &net->bias[head];
    gorgon_status status = gg_matrix_create(type, net->n_out, rank, w, p->err);
    for (size_t i = 0; i < d && status == GORGON_OK; i++)
        status = gg_packer_values(p, u.rows + i * gg_dtype_row_bytes(net->set->weight_type, rank),
                                  rank, up + i * rank);
    for (size_t o = 0; o < net->n_out && status == GORGON_OK; o++) {
        float *row = up + d * rank, *sum = row + d;
        gg_matrix_row(net->output, o, row);
        memset(sum, 0, rank * sizeof *sum);
        for (size_t i = 0; i < d; i++) {
            for (size_t r = 0; r < rank; r++)
                sum[r] += row[i] * up[i * rank + r];
        }
        gg_quantize_row(type, sum, rank, p->bytes);
        gg_matrix_pack_row(w, o, p->bytes);
    }
    return status;
}

static gorgon_status pack_rank(gg_head_net *net, gg_packer *p)
{
    const gg_head_shape *s = &net->set->shape;
    float *up = gg_alloc(s->d_model * s->rank + s->d_model + s->rank, sizeof *up);
    if (!up)
        return gg_fail(p->err, GORGON_ERROR_MEMORY, "heads: out of memory");
    gorgon_status status = GORGON_OK;
    for (size_t k = 0; k < gg_head_cells(s) && status == GORGON_OK; k++) {
        status = gg_pack_part(p, GG_PART_DOWN, k, 0, s->rank, &net->down[k]);
        if (status == GORGON_OK)
            status = pack_bias(net, p, k, up);
    }
    gg_free(up);
    return status;
}

static gorgon_status gather_output(gg_head_net *net, gg_packer *p)
{
    const gg_head_set *s = net->set;
    const gg_matrix *base = gg_model_output(gg_engine_model(net->engine));
    const size_t d = s->shape.d_model, n = s->shape.n_draft;
    net->output = base;
    if (n == 0)
        return GORGON_OK;
    const gg_dtype type = gg_packer_type(p, base->type, d);
    gorgon_status status = gg_matrix_create(type, n, d, &net->single, p->err);
    for (size_t i = 0; status == GORGON_OK && i < n; i++) {
        if (type == base->type) {
            gg_matrix_copy_row(&net->single, i, base, s->draft_ids[i]);
        } else {
            gg_matrix_row(base, s->draft_ids[i], p->values);
            gg_quantize_row(type, p->values, d, p->bytes);
            gg_matrix_pack_row(&net->single, i, p->bytes);
        }
    }
    net->output = &net->single;
    return status;
}

static gorgon_status alloc_net(gg_head_net *net, gorgon_error *err)
{
    const gg_head_shape *s = &net->set->shape;
    const size_t d = s->d_model, cells = gg_head_cells(s), rows = net->max_rows * net->lanes;
    const gg_head_traits *traits = gg_head_traits_of(s->kind);
    const bool goes_on = traits->one_cell, prefix = traits->layer == GG_LAYER_PREFIX;
    const bool own = s->own_output && !s->shared_output;
    net->first = gg_alloc(net->n_first, sizeof *net->first);
    net->later = gg_alloc(cells * (s->n_blocks - 1), sizeof *net->later);
    net->residual = s->residual ? gg_alloc(net->n_first, sizeof *net->residual) : NULL;
    net->own = own ? gg_alloc(cells, sizeof *net->own) : NULL;
    net->down = s->rank ? gg_alloc(cells, sizeof *net->down) : NULL;
    net->bias = s->rank ? gg_alloc(cells, sizeof *net->bias) : NULL;
    net->ones = gg_alloc(d, sizeof *net->ones);
    net->zeros = gg_alloc(d, sizeof *net->zeros);
    net->input = gg_alloc(net->max_rows, net->n_in * sizeof *net->input);
    net->product = gg_alloc(rows, (d > s->rank ? d : s->rank) * sizeof *net->product);
    net->z = gg_alloc(rows, d * sizeof *net->z);
    net->mapped = s->residual ? gg_alloc(rows, d * sizeof *net->mapped) : NULL;
    net->state = goes_on ? gg_alloc(rows, d * sizeof *net->state) : NULL;
    net->prefix = prefix ? gg_alloc(net->max_rows, d * sizeof *net->prefix) : NULL;
    net->logits = gg_alloc(rows, net->n_out * sizeof *net->logits);
    if (!net->first || !net->later || (s->residual && (!net->residual || !net->mapped)) ||
        (own && !net->own) || (s->rank && (!net->down || !net->bias)) || !net->ones ||
        !net->zeros || !net->input || !net->product || !net->z || (goes_on && !net->state) ||
        (prefix && !net->prefix) || !net->logits)
        return gg_fail(err, GORGON_ERROR_MEMORY, "heads: out of memory for %zu rows",
                       net->max_rows);
    for (size_t i = 0; i < d; i++)
        net->ones[i] = 1.0f;
    gorgon_status status = gg_engine_reserve_linear(net->engine, net->n_in, err);
    return status == GORGON_OK ? gg_engine_reserve_linear(net->engine, s->rank, err) : status;
}

static gorgon_status build(gg_head_net *net, gorgon_error *err)
{
    const gg_head_shape *s = &net->set->shape;
    gg_packer p;
    gorgon_status status = alloc_net(net, err);
    if (status != GORGON_OK)
        return status;
    size_t widest = net->n_in > s->rank ? net->n_in : s->rank;
    widest = widest > s->n_ffn ? widest : s->n_ffn;
    status = gg_packer_create(net->engine, net->set, widest, &p, err);
    if (status == GORGON_OK)
        status = pack_first(net, &p);
    if (status == GORGON_OK)
        status = pack_later(net, &p);
    if (status == GORGON_OK)
        status = s->own_output ? pack_own_output(net, &p) : gather_output(net, &p);
    if (status == GORGON_OK && s->rank)
        status = pack_rank(net, &p);
    if (status == GORGON_OK && gg_head_traits_of(s->kind)->layer != GG_LAYER_NONE)
        status = gg_packed_layer_create(net->engine, &p, net->max_rows, &net->layer);
    gg_packer_clear(&p);
    return status;
}

gorgon_status gg_head_net_check(const gorgon_engine *engine, const gorgon_heads *heads, size_t set,
                                const gg_head_set **out, gorgon_error *err)
{
    gorgon_head_set_info info;
    gorgon_status status = gorgon_heads_describe(heads, set, &info, err);
    if (status == GORGON_OK)
        status = gorgon_heads_check(heads, gg_engine_model(engine), NULL, err);
    *out = gg_heads_set(heads, set);
    return status;
}

gorgon_status gg_head_net_create(gorgon_engine *engine, const gorgon_heads *heads, size_t set,
                                 size_t max_rows, gg_head_net *net, gorgon_error *err)
{
    const gg_head_set *found;
    *net = (gg_head_net){0};
    gorgon_status status = gg_head_net_check(engine, heads, set, &found, err);
    return status == GORGON_OK ? gg_head_net_create_of(engine, found, max_rows, net, err) : status;
}

gorgon_status gg_head_net_create_of(gorgon_engine *engine, const gg_head_set *set, size_t max_rows,
                                    gg_head_net *net, gorgon_error *err)
{
    const gg_head_shape *shape = &set->shape;
    const bool per_depth = gg_head_tokens(shape, shape->n_heads - 1) > 1;
    *net = (gg_head_net){.engine = engine, .set = set};
    net->n_first = per_depth ? shape->n_heads : 1;
    net->lanes = per_depth ? 1 : gg_head_cells(shape);
    net->n_in = (1 + gg_head_tokens(shape, gg_head_cells(shape) - 1)) * shape->d_model;
    net->n_out =
        shape->n_draft ? shape->n_draft : gg_model_geometry(gg_engine_model(engine))->n_vocab;
    const size_t fit = MAX_LOGITS / (net->lanes * net->n_out);
    if (shape->window && max_rows < LAYER_ROWS)
        max_rows = LAYER_ROWS;
    net->max_rows = max_rows < fit ? max_rows : fit;
    if (net->max_rows == 0)
        net->max_rows = 1;
    gorgon_status status = build(net, err);
    if (status != GORGON_OK)
        gg_head_net_clear(net);
    return status;
}

static void clear_matrices(gg_matrix *w, size_t n)
{
    for (size_t i = 0; w && i < n; i++)
        gg_matrix_clear(&w[i]);
    gg_free(w);
}

void gg_head_net_clear(gg_head_net *net)
{
    if (!net->set)
        return;
    const gg_head_shape *s = &net->set->shape;
    const size_t cells = gg_head_cells(s);
    clear_matrices(net->first, net->n_first);
    clear_matrices(net->residual, net->n_first);
    clear_matrices(net->later, cells * (s->n_blocks - 1));
    clear_matrices(net->own, cells);
    clear_matrices(net->down, cells);
    clear_matrices(net->bias, cells);
    gg_matrix_clear(&net->single);
    gg_packed_layer_clear(&net->layer);
    gg_free(net->ones);
    gg_free(net->zeros);
    gg_free(net->mapped);
    gg_free(net->input);
    gg_free(net->product);
    gg_free(net->z);
    gg_free(net->state);
    gg_free(net->prefix);
    gg_free(net->logits);
    *net = (gg_head_net){0};
}

static void embed(const gg_head_net *net, gorgon_token token, float *e)
{
    gg_model_embed(gg_engine_model(net->engine), token, e);
    if (!net->set->shape.raw_embedding)
        gg_engine_kernels(net->engine)
            ->rms_norm(e, net->ones, GG_HEADS_ROOT_EPS, net->set->shape.d_model, e);
}

void gg_head_net_load(const gg_head_net *net, size_t i, const float *hidden, gorgon_token root)
{
    const size_t d = net->set->shape.d_model;
    float *input = net->input + i * net->n_in;
    memcpy(input, hidden, d * sizeof *input);
    if (net->set->shape.root_embedding)
        embed(net, root, input + d);
}

void gg_head_net_load_at(const gg_head_net *net, size_t i, size_t depth, const float *x,
                         const gorgon_token *tokens)
{
    const gg_head_shape *s = &net->set->shape;
    const size_t d = s->d_model;
    float *input = net->input + i * net->n_in;
    if (s->rank) { // the token before is all that counts
        embed(net, tokens[depth], input);
        return;
    }
    const size_t seen = gg_head_tokens(s, gg_head_traits_of(s->kind)->one_cell ? 0 : depth);
    memcpy(input, x, d * sizeof *input);
    for (size_t t = 0; t < seen; t++)
        embed(net, tokens[depth + 1 - seen + t], input + (1 + t) * d);
}

// What block 0 of cell `cell` adds to, of row i of lane `lane`.
static const float *first_x(const gg_head_net *net, size_t cell, size_t lane, size_t i)
{
    const size_t d = net->set->shape.d_model;
    if (!net->residual)
        return net->input + i * net->n_in;
    float *x = net->mapped + (i * net->lanes + lane) * d;
    gg_engine_kernels(net->engine)
        ->add(x, gg_head_data(net->set, GG_PART_RESIDUAL_BIAS, cell, 0), d);
    return x;
}

// A block of cell `cell`, whose z and product are lane `lane` of n rows: z = x + branch.
static void add_block(const gg_head_net *net, size_t cell, size_t lane, size_t block, size_t n)
{
    const gg_head_shape *s = &net->set->shape;
    const gg_kernels *kernels = gg_engine_kernels(net->engine);
    const float *own_bias = gg_head_data(net->set, GG_PART_BIAS, cell, block);
    const float *bias = own_bias ? own_bias : net->zeros;
    const bool activated = gg_head_traits_of(s->kind)->activated;
    const size_t d = s->d_model;
    for (size_t i = 0; i < n; i++) {
        const size_t at = (i * net->lanes + lane) * d;
        const float *x = block ? net->z + at : first_x(net, cell, lane, i);
        if (activated) {
            kernels->silu_residual(x, net->product + at, bias, d, net->z + at);
        } else {
            memcpy(net->z + at, x, d * sizeof *x);
            kernels->add(net->z + at, net->product + at, d);
            kernels->add(net->z + at, bias, d);
        }
    }
}

// Blocks 1 and on of a cell.
static void run_later(const gg_head_net *net, size_t cell, size_t lane, size_t n)
{
    const size_t d = net->set->shape.d_model, stride = net->lanes * d;
    const size_t blocks = net->set->shape.n_blocks;
    for (size_t b = 1; b < blocks; b++) {
        gg_packed_linear(net->engine, &net->later[cell * (blocks - 1) + b - 1], net->z + lane * d,
                         stride, n, net->product + lane * d, stride);
        add_block(net, cell, lane, b, n);
    }
}

// Products of block 0: matrices `at` on n input rows.
static void run_input(const gg_head_net *net, size_t at, size_t n)
{
    const size_t stride = net->lanes * net->set->shape.d_model;
    gg_packed_linear(net->engine, &net->first[at], net->input, net->n_in, n, net->product, stride);
    if (net->residual)
        gg_packed_linear(net->engine, &net->residual[at], net->input, net->n_in, n, net->mapped,
                         stride);
}

// Adds the output bias of cell `cell` to lane `lane` of n rows of logits.
static void add_output_bias(const gg_head_net *net, size_t cell, size_t lane, size_t n)
{
    const gg_head_shape *s = &net->set->shape;
    if (!s->output_bias)
        return;
    const float *bias = gg_head_data(net->set, GG_PART_OUTPUT_BIAS, s->shared_output ? 0 : cell, 0);
    for (size_t i = 0; i < n; i++)
        gg_engine_kernels(net->engine)
            ->add(net->logits + (i * net->lanes + lane) * net->n_out, bias, net->n_out);
}

void gg_head_net_run(const gg_head_net *net, size_t n)
{
    const size_t d = net->set->shape.d_model, stride = net->lanes * d;
    run_input(net, 0, n);
    for (size_t k = 0; k < net->lanes; k++) {
        add_block(net, k, k, 0, n);
        run_later(net, k, k, n);
        if (net->own)
            gg_packed_linear(net->engine, &net->own[k], net->z + k * d, stride, n,
                             net->logits + k * net->n_out, net->lanes * net->n_out);
    }
    if (!net->own)
        gg_packed_linear(net->engine, net->output, net->z, d, n * net->lanes, net->logits,
                         net->n_out);
    for (size_t k = 0; k < net->lanes; k++)
        add_output_bias(net, k, k, n);
}

void gg_head_net_load_prefix(const gg_head_net *net, size_t i, const float *hidden)
{
    const size_t d = net->set->shape.d_model;
    memcpy(net->z + i * d, hidden, d * sizeof *hidden);
}

void gg_head_net_run_prefix(const gg_head_net *net, size_t n)
{
    gg_packed_layer_run(&net->layer, net->z, n, net->prefix);
}

// What markov heads add for the last token.
static void run_bias(const gg_head_net *net, size_t depth, size_t n)
{
    const size_t rank = net->set->shape.rank;
    gg_packed_linear(net->engine, &net->down[depth], net->input, net->n_in, n, net->product, rank);
    gg_packed_linear(net->engine, &net->bias[depth], net->product, rank, n, net->logits,
                     net->n_out);
}

void gg_head_net_run_at(const gg_head_net *net, size_t depth, size_t n)
{
    const gg_head_shape *s = &net->set->shape;
    const gg_head_traits *traits = gg_head_traits_of(s->kind);
    const size_t d = s->d_model, cell = traits->one_cell ? 0 : depth;
    if (s->rank) {
        run_bias(net, depth, n);
        return;
    }
    run_input(net, net->n_first > 1 ? depth : 0, n);
    add_block(net, cell, 0, 0, n);
    if (traits->layer == GG_LAYER_CELL) {
        n = gg_packed_layer_run(&net->layer, net->z, n, net->state);
        memcpy(net->z, net->state, n * d * sizeof *net->z);
    } else if (net->state) {
        memcpy(net->state, net->z, n * d * sizeof *net->state);
    }
    run_later(net, cell, 0, n);
    gg_packed_linear(net->engine, net->own ? &net->own[cell] : net->output, net->z, d, n,
                     net->logits, net->n_out);
    add_output_bias(net, cell, 0, n);
}
