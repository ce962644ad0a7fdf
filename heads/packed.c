// See packed.h.
#include "packed.h"

#include <string.h>

#include "core/alloc.h"
#include "core/error.h"

gorgon_status gg_packer_create(const gorgon_engine *engine, const gg_head_set *set, size_t widest,
                               gg_packer *p, gorgon_error *err)
{
    const bool int8 = gg_engine_activations(engine) == GORGON_ACTIVATIONS_INT8;
    *p = (gg_packer){.set = set, .int8 = int8, .err = err};
    p->values = gg_alloc(widest, sizeof *p->values);
    p->bytes = gg_alloc(widest, sizeof(float));
    if (!p->values || !p->bytes)
        return gg_fail(err, GORGON_ERROR_MEMORY, "heads: out of memory");
    return GORGON_OK;
}

void gg_packer_clear(gg_packer *p)
{
    gg_matrix_clear(&p->row);
    gg_free(p->values);
    gg_free(p->bytes);
}

gg_stored gg_stored_part(const gg_head_set *set, gg_head_role role, size_t head, size_t block)
{
    const size_t i = gg_head_part_find(set->parts, set->n_parts, role, head, block);
    return i < set->n_parts ? (gg_stored){set->data[i], set->parts[i].n_in} : (gg_stored){NULL, 0};
}

gorgon_status gg_packer_values(gg_packer *p, const uint8_t *row, size_t n, float *values)
{
    if (p->row.n_in != n) {
        gg_matrix_clear(&p->row);
        gorgon_status status = gg_matrix_create(p->set->weight_type, 1, n, &p->row, p->err);
        if (status != GORGON_OK)
            return status;
    }
    gg_matrix_pack_row(&p->row, 0, row);
    gg_matrix_row(&p->row, 0, values);
    return GORGON_OK;
}

gg_dtype gg_packer_type(const gg_packer *p, gg_dtype stored_as, size_t n_in)
{
    return p->int8 && n_in % GG_BLOCK == 0 && !gg_dtype_is_quantized(stored_as) ? GG_Q8_0
                                                                                : stored_as;
}

gorgon_status gg_pack_rows(gg_packer *p, gg_matrix *w, size_t at, size_t n_out, gg_stored left,
                           gg_stored right)
{
    const gg_dtype type = p->set->weight_type;
    const size_t n_left = gg_dtype_row_bytes(type, left.n_in);
    const size_t n_right = right.rows ? gg_dtype_row_bytes(type, right.n_in) : 0;
    gorgon_status status = GORGON_OK;
    for (size_t o = 0; o < n_out && status == GORGON_OK; o++) {
        const uint8_t *l = left.rows + o * n_left;
        const uint8_t *r = right.rows ? right.rows + o * n_right : NULL;
        if (type == w->type) {
            memcpy(p->bytes, l, n_left);
            if (r)
                memcpy(p->bytes + n_left, r, n_right);
        } else {
            status = gg_packer_values(p, l, left.n_in, p->values);
            if (status == GORGON_OK && r)
                status = gg_packer_values(p, r, right.n_in, p->values + left.n_in);
            gg_quantize_row(w->type, p->values, w->n_in, p->bytes);
        }
        gg_matrix_pack_row(w, at + o, p->bytes);
    }
    return status;
}

gorgon_status gg_pack_part(gg_packer *p, gg_head_role role, size_t head, size_t block, size_t n_out,
                           gg_matrix *w)
{
    const gg_stored from = gg_stored_part(p->set, role, head, block), none = {NULL, 0};
    const gg_dtype type = gg_packer_type(p, p->set->weight_type, from.n_in);
    gorgon_status status = gg_matrix_create(type, n_out, from.n_in, w, p->err);
    return status == GORGON_OK ? gg_pack_rows(p, w, 0, n_out, from, none) : status;
}

void gg_packed_linear(gorgon_engine *engine, const gg_matrix *w, const float *x, size_t ldx,
                      size_t rows, float *y, size_t ldy)
{
    const size_t most = gorgon_engine_max_rows(engine);
    for (size_t r = 0; r < rows; r += most) {
        const size_t n = rows - r < most ? rows - r : most;
        gg_engine_linear(engine, w, x + r * ldx, ldx, n, y + r * ldy, ldy);
    }
}
