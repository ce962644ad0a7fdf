// Rows of floats to the types that gorgon writes itself.
#include <string.h>

#include "core/kernels.h"
#include "weight_types.h"

// Nearest integer, halves away from zero (ggml's roundf); beyond +-127 and NaN are clamped.
static int8_t round_q8(float v)
{
    const float magnitude = v < 0 ? -v : v;
    if (!(magnitude < 127.5f))
        return (int8_t)(v > 0 ? 127 : v < 0 ? -127 : 0);
    int n = (int)magnitude;
    if (magnitude - (float)n >= 0.5f)
        n++;
    return (int8_t)(v < 0 ? -n : n);
}

static void quantize_q8_0(const float *x, uint8_t *unit)
{
    float amax = 0;
    for (size_t i = 0; i < GG_BLOCK; i++) {
        const float magnitude = x[i] < 0 ? -x[i] : x[i];
        amax = magnitude > amax ? magnitude : amax;
    }
    const float d = amax / 127.0f;
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    const uint16_t half = gg_f32_to_f16(d);
    memcpy(unit, &half, sizeof half);
    for (size_t i = 0; i < GG_BLOCK; i++)
        unit[2 + i] = (uint8_t)round_q8(x[i] * inverse);
}

void gg_quantize_row(gg_dtype type, const float *x, size_t n_in, void *dst)
{
    uint8_t *out = dst;
    if (type == GG_F32) {
        memcpy(out, x, n_in * sizeof *x);
    } else if (type == GG_F16) {
        for (size_t i = 0; i < n_in; i++) {
            const uint16_t half = gg_f32_to_f16(x[i]);
            memcpy(out + 2 * i, &half, sizeof half);
        }
    } else if (type == GG_Q8_0) {
        for (size_t i = 0; i < n_in / GG_BLOCK; i++)
            quantize_q8_0(x + i * GG_BLOCK, out + i * 34);
    }
}
