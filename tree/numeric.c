// See numeric.h.
#include "numeric.h"

#include "core/math.h"

double gg_num_sigmoid(double x)
{
    if (x > 40.0)
        return 1.0;
    if (!(x > -40.0))
        return 0.0;
    return 1.0 / (1.0 + gg_exp(-x));
}

float gg_num_clamp(float x, float low, float high)
{
    if (!(x > low))
        return low;
    return x < high ? x : high;
}
