// Dense float products of the trainers: on BLIS, large ones on the kernels' own dense product where
// the CPU level has one. One call runs over the whole team; every output element is one chain over
// k, so the result does not depend on the number of threads.
#ifndef GG_TRAINERS_BLIS_H
#define GG_TRAINERS_BLIS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/kernels.h"
#include "core/team.h"
#include "gorgon/status.h"

// A row-major operand: element (i, j) at data[i * ld + j].
typedef struct gg_operand {
    const float *data;
    size_t rows, cols; // as stored
    size_t ld;         // >= cols
    bool transposed;   // use the transpose
} gg_operand;

// c[m][n] = op(a)[m][k] * op(b)[k][n], added to what c holds when accumulate is true. c is
// row-major with leading dimension ldc >= n and must not overlap a or b. Shapes are checked before
// BLIS sees them. Errors: GORGON_ERROR_ARGUMENT (a shape or leading dimension does not fit),
// MEMORY.
gorgon_status gg_gemm(gg_team *team, const gg_kernels *kernels, const gg_operand *a,
                      const gg_operand *b, bool accumulate, float *c, size_t m, size_t n,
                      size_t ldc, gorgon_error *err);

// BLIS' name of the architecture whose kernels it uses, e.g. "skx".
const char *gg_blis_architecture(void);

#endif
