// exp, log, sin and cos from range reduction and polynomials; relative error below 1e-15.
#include "core/math.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

static const double LN2_HIGH = 0x1.62e42feep-1;       // 33 bits of ln 2
static const double LN2_LOW = 0x1.a39ef35793c76p-33;  // the rest
static const double PI_2_HIGH = 0x1.921fb544p+0;      // 33 bits of pi/2
static const double PI_2_MIDDLE = 0x1.0b4611a6p-34;   // the next 33
static const double PI_2_LOW = 0x1.3198a2e037073p-69; // the rest

static double scale_by_power(double x, int exponent)
{
    uint64_t bits = (uint64_t)(1023 + exponent) << 52;
    double factor;
    memcpy(&factor, &bits, sizeof factor);
    return x * factor;
}

static double nearest(double x)
{
    const double shift = 0x1.8p52;
    return (x + shift) - shift;
}

double gg_exp(double x)
{
    if (x > 709.0)
        x = 709.0;
    if (x < -708.0)
        return 0.0;
    double k = nearest(x * 0x1.71547652b82fep+0);
    double r = (x - k * LN2_HIGH) - k * LN2_LOW;
    double sum = 1.0;
    for (int i = 14; i >= 1; i--)
        sum = 1.0 + sum * r / (double)i;
    return scale_by_power(sum, (int)k);
}

double gg_log(double x)
{
    int exponent = 0;
    if (x < 0x1p-1022) { // subnormal
        x *= 0x1p54;
        exponent = -54;
    }
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    exponent += (int)(bits >> 52) - 1023;
    bits = (bits & 0x000fffffffffffffu) | 0x3ff0000000000000u;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 0x1.6a09e667f3bcdp+0) { // sqrt(2): keep m in [0.707, 1.414]
        m *= 0.5;
        exponent++;
    }
    // log m = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.172
    double s = (m - 1.0) / (m + 1.0);
    double s2 = s * s;
    double sum = 0.0;
    for (int i = 21; i >= 3; i -= 2)
        sum = s2 * (1.0 / (double)i + sum);
    double k = (double)exponent;
    return k * LN2_HIGH + (2.0 * s + (2.0 * s * sum + k * LN2_LOW));
}

void gg_sincos(double x, double *sine, double *cosine)
{
    double k = nearest(x * 0x1.45f306dc9c883p-1);
    double r = ((x - k * PI_2_HIGH) - k * PI_2_MIDDLE) - k * PI_2_LOW;
    double r2 = r * r;
    double s = 1.0, c = 1.0;
    for (int i = 16; i >= 2; i -= 2) {
        s = 1.0 - s * r2 / (double)(i * (i + 1));
        c = 1.0 - c * r2 / (double)((i - 1) * i);
    }
    s *= r;
    switch ((int64_t)k & 3) {
    case 0:
        *sine = s;
        *cosine = c;
        break;
    case 1:
        *sine = c;
        *cosine = -s;
        break;
    case 2:
        *sine = -s;
        *cosine = -c;
        break;
    default:
        *sine = -c;
        *cosine = s;
        break;
    }
}

double gg_sqrt(double x)
{
    if (!(x > 0.0))
        return 0.0;
    return sqrt(x); // one instruction, exact by IEEE 754
}
