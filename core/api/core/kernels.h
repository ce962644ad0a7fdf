// The kernel table: one per CPU level, all bit-identical. The scalar table is the specification;
// docs/numerics.md states the order of every operation.
#ifndef GG_CORE_KERNELS_H
#define GG_CORE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gorgon/status.h"

enum {
    GG_BLOCK = 32,   // weights and activations per quantisation block
    GG_TILE = 16,    // outputs side by side in a packed weight tile
    GG_PAGE = 64,    // positions per KV page and per attention block
    GG_K_LANES = 16, // positions side by side in a transposed K tile
};

// Element types, numbered as GGUF numbers them.
typedef enum gg_dtype {
    GG_F32 = 0,
    GG_F16 = 1,
    GG_Q4_0 = 2,
    GG_Q4_1 = 3,
    GG_Q5_0 = 6,
    GG_Q5_1 = 7,
    GG_Q8_0 = 8,
    GG_Q2_K = 10,
    GG_Q3_K = 11,
    GG_Q4_K = 12,
    GG_Q5_K = 13,
    GG_Q6_K = 14,
    GG_IQ4_NL = 20,
    GG_I32 = 26,
    GG_BF16 = 30,
} gg_dtype;

// A weight matrix packed for the kernels: ceil(n_out / 16) tiles, one after another, each holding
// 16 outputs x n_in inputs (missing outputs are zero). A tile holds, for increasing k, the units of
// its type: what GGUF stores for 1 input (F32, F16, BF16), 32 (Q4_0 to Q8_0, IQ4_NL) or 256 (Q2_K
// to Q6_K) of one output. Of a unit first come the 2-byte fields, in the order of the file, then
// the rest as 4-byte words, each as [16 outputs]. So a word of quantised values is one group of
// four inputs, 16 outputs side by side.
typedef struct gg_matrix {
    gg_dtype type;
    size_t n_out, n_in; // n_in is a whole number of units
    size_t tile_bytes;  // bytes of one tile, a multiple of 64
    uint8_t *tiles;     // [ceil(n_out / 16)][tile_bytes], 64-byte aligned, owned
} gg_matrix;

// Bytes of one row of n_in values as GGUF stores it, 0 if the type is unknown or n_in does not fit.
size_t gg_dtype_row_bytes(gg_dtype type, size_t n_in);
const char *gg_dtype_name(gg_dtype type); // "Q4_1", ... or NULL when the type is unknown
bool gg_dtype_is_quantized(gg_dtype type);

// The geometry alone, w->tiles NULL; then gg_matrix_bytes(w) bytes, 64-byte aligned, may be placed
// behind it, which stay the caller's. Error: GORGON_ERROR_MEMORY (overflow), _UNSUPPORTED.
gorgon_status gg_matrix_shape(gg_dtype type, size_t n_out, size_t n_in, gg_matrix *w,
                              gorgon_error *err);
size_t gg_matrix_tiles(const gg_matrix *w); // ceil(n_out / 16)
size_t gg_matrix_bytes(const gg_matrix *w);
void gg_matrix_place(gg_matrix *w, uint8_t *memory);
// Both, with memory of its own. Every row has to be packed: memory is not cleared, and first
// touched by the thread that packs.
gorgon_status gg_matrix_create(gg_dtype type, size_t n_out, size_t n_in, gg_matrix *w,
                               gorgon_error *err);
// Packs row `out` (GGUF's row layout, gg_dtype_row_bytes(type, n_in) bytes at src). Rows may be
// packed from several threads at once if no two share a tile.
void gg_matrix_pack_row(gg_matrix *w, size_t out, const void *src);
// The values of output row `out` as floats, y[n_in]; the same numbers the float products use.
void gg_matrix_row(const gg_matrix *w, size_t out, float *y);
// Copies output row `from` of src to output row `to` of w (same type and n_in).
void gg_matrix_copy_row(gg_matrix *w, size_t to, const gg_matrix *src, size_t from);
void gg_matrix_clear(gg_matrix *w); // of gg_matrix_create: frees tiles, zeroes the struct

// Quantises n_in floats (GGUF row layout out) to F32, F16, Q8_0, Q4_0 or Q4_K, whose units n_in has
// to fit; docs/formats.md says how.
void gg_quantize_row(gg_dtype type, const float *x, size_t n_in, void *dst);
// The values of a row in GGUF's layout, of any weight type; n_in is a whole number of units.
void gg_dequantize_row(gg_dtype type, const void *src, size_t n_in, float *y);
float gg_f16_to_f32(uint16_t h);
uint16_t gg_f32_to_f16(float f); // nearest even, as VCVTPS2PH; overflow gives infinity

// Quantised activations of up to `max_rows` rows: views into a workspace.
typedef struct gg_qrows {
    size_t n_in;   // multiple of 32
    int8_t *q;     // [rows][n_in], -127..127
    float *d;      // [rows][n_in / 32], scale
    float *s;      // [rows][n_in / 32], d * (float)sum
    int32_t *sum;  // [rows][n_in / 32], sum of q over the block
    int32_t *half; // [rows][n_in / 32], sum of q over its first 16
} gg_qrows;

enum {
    GG_ATTEND_ROWS = 8,     // rows of one call of attend
    GG_ATTEND_QUERIES = 64, // rows times query heads per KV head
};

// Attention of rows of one sequence over one KV head, which `group` query heads share.
// Positions 0 .. n_committed-1 are in pages; n_committed .. n_committed+n_chain-1 are rows of the
// same pass, listed by slot in increasing position (ancestors first, the row itself last).
typedef struct gg_attend {
    size_t n_rows;  // 1 to GG_ATTEND_ROWS; n_rows * group at most GG_ATTEND_QUERIES
    size_t stride;  // from a row to the next, in q and in out
    const float *q; // [n_rows][group][head_dim], rotated and scaled by 1/sqrt(head_dim)
    size_t group, head_dim;
    size_t window;                 // a row sees so many positions, itself the last; 0: all
    const uint16_t *const *page_k; // per block of 64 positions: [4][head_dim][16] f16
    const uint16_t *const *page_v; // per block of 64 positions: [64][head_dim] f16
    size_t n_committed;
    const uint16_t *slot_k; // rows of the pass: [ceil(slots / 16)][head_dim][16] f16
    const uint16_t *slot_v; // rows of the pass: [slots][slot_v_stride] f16, this head's part
    size_t slot_v_stride;
    const uint32_t *chain[GG_ATTEND_ROWS]; // [n_chain] slots
    size_t n_chain[GG_ATTEND_ROWS];
    float *out;     // [n_rows][group][head_dim]
    float *scratch; // at least gg_attend_scratch(group, head_dim) floats, 64-byte aligned
} gg_attend;
size_t gg_attend_scratch(size_t group, size_t head_dim);
// The first position that a row sees. Pages of blocks that end before it are not read.
static inline size_t gg_attend_first(const gg_attend *a, size_t row)
{
    const size_t n = a->n_committed + a->n_chain[row];
    return a->window > 0 && n > a->window ? n - a->window : 0;
}

// c[m][n] (+)= a[m][k] . b[k][n] in floats, one thread: a part of a trainer's product.
typedef struct gg_dense {
    size_t m, n, k;
    const float *a, *b; // element (i, l) of a at a[i * a_row + l * a_col], one of the two is 1; b
    size_t a_row, a_col, b_row, b_col;
    float *c; // element (i, j) at c[i * c_row + j]
    size_t c_row;
    bool accumulate;
    void *scratch; // dense_scratch() bytes, 64-byte aligned
} gg_dense;

// Constants of one update of AdamW (arXiv 1711.05101).
typedef struct gg_adamw_constants {
    float beta1, beta2, keep1, keep2; // keep = 1 - beta
    float clip;                       // factor on the gradient
    float rate1;                      // learning rate / bias correction of the first moment
    float root2;                      // 1 / bias correction of the second moment
    float epsilon;
    float decay; // learning rate * weight decay
} gg_adamw_constants;

// In order of preference. A CPU may lack one of the middle: AVX-512 came without AVX-VNNI.
typedef enum gg_level {
    GG_LEVEL_SCALAR,
    GG_LEVEL_AVX2,    // AVX2, FMA, F16C
    GG_LEVEL_AVXVNNI, // and AVX-VNNI
    GG_LEVEL_AVX512,  // AVX-512 F, BW, VL, DQ, VNNI
    GG_LEVEL_AMX,     // and tiles (AMX-TILE, AMX-INT8, AMX-BF16)
    GG_LEVEL_COUNT
} gg_level;

typedef struct gg_kernels {
    gg_level level;
    const char *name; // "scalar", "avx2", "avxvnni", "avx512", "amx"

    // Row r of x (x + r * ldx, n_in floats) to row r of out, for `rows` rows.
    void (*quantize)(const float *x, size_t ldx, size_t rows, const gg_qrows *out);
    // y[r * ldy + o] = w[o] . a[r] for the outputs of tiles [tile0, tile1), quantised w.
    // Outputs at and beyond n_out are not written.
    void (*matmul_q)(const gg_matrix *w, size_t tile0, size_t tile1, const gg_qrows *a, size_t rows,
                     float *y, size_t ldy);
    // The same with float activations x[r * ldx + k], any w type: one fma chain over k per output.
    void (*matmul_f)(const gg_matrix *w, size_t tile0, size_t tile1, const float *x, size_t ldx,
                     size_t rows, float *y, size_t ldy);
    // y = x * (1 / sqrt(mean(x^2) + eps)) * weight, n floats. y may be x.
    void (*rms_norm)(const float *x, const float *weight, float eps, size_t n, float *y);
    // Rotates neighbouring pairs (2j, 2j+1) of each head in place; cos, sin: [head_dim / 2].
    void (*rope)(float *x, size_t n_heads, size_t head_dim, const float *cos, const float *sin);
    void (*scale)(float *x, size_t n, float factor);
    void (*add)(float *x, const float *y, size_t n);                          // x += y
    void (*silu_mul)(const float *gate, const float *up, size_t n, float *y); // silu(gate) * up
    void (*gelu_mul)(const float *gate, const float *up, size_t n, float *y); // gelu(gate) * up
    // y = x + silu(z + bias): a Medusa residual block after its product. y may be x.
    void (*silu_residual)(const float *x, const float *z, const float *bias, size_t n, float *y);
    void (*to_f16)(const float *x, size_t n, uint16_t *y);
    void (*from_f16)(const uint16_t *x, size_t n, float *y);
    void (*attend)(const gg_attend *args);
    // Index of the largest value, the lowest index on ties; n > 0. NaN never wins.
    size_t (*argmax)(const float *x, size_t n);
    // out[i] = max of x[64 i .. 64 i + 63] (the tail block may be shorter).
    void (*block_max)(const float *x, size_t n, float *out);
    // log(sum(exp(x))) in nats: max first, then 16 partial sums by index, fixed join.
    float (*log_sum_exp)(const float *x, size_t n);
    // y = exp(x - max) elementwise with gg's own exp; returns the sum (16 partials, fixed join).
    // y may be x.
    float (*exp_shift)(const float *x, size_t n, float max, float *y);
    // `steps` rounds of the level's int8 multiply-add instructions on registers, nothing around
    // them: the limit of every product. Returns how many multiply-adds that were; *seed feeds the
    // operands and receives the result, so that the work cannot be dropped.
    size_t (*multiply_adds)(size_t steps, uint32_t *seed);
    size_t (*float_multiply_adds)(size_t steps, uint32_t *seed); // of f32: the limit of attention
    // For trainers, n elements, nothing fused: with g = gradient * clip
    //   m = beta1 * m + keep1 * g,  v = beta2 * v + keep2 * (g * g),
    //   p -= rate1 * m / (sqrt(v * root2) + epsilon) + decay * p.
    void (*adamw)(const gg_adamw_constants *constants, const float *gradient, size_t n, float *p,
                  float *m, float *v);
    // For trainers, on levels that do it faster than plain f32 would; else NULL. Not bit-identical
    // to anything: an output differs from the exact one by at most 2^-16 sum |a| |b|, and from
    // nothing else than a's row, b's column and k does it depend.
    void (*dense)(const gg_dense *product);
    size_t (*dense_scratch)(void);
} gg_kernels;

// The best level this CPU and operating system support (cpuid, XCR0, and for AMX the permission to
// use tiles, which this asks for on behalf of the process; threads started later have it too).
gg_level gg_cpu_level(void);
// The table of a level, NULL when this build or CPU lacks it; asks for permission likewise.
const gg_kernels *gg_kernels_get(gg_level level);
// Such a name to a level; error names the accepted words.
gorgon_status gg_level_parse(const char *word, gg_level *out, gorgon_error *err);

// The k largest of x[n], descending, ties by lower index; returns how many (min(k, n)).
// `scratch` holds ceil(n / 64) floats.
size_t gg_top_k(const gg_kernels *kernels, const float *x, size_t n, size_t k, uint32_t *ids,
                float *values, float *scratch);

#endif
