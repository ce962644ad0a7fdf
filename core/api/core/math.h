// Elementary functions in double precision, written out so that their results do not depend on
// the C library's dispatch by CPU. For tables and trainers' schedules, not for inner loops.
#ifndef GG_CORE_MATH_H
#define GG_CORE_MATH_H

double gg_exp(double x);
double gg_log(double x);                                // x > 0, finite
void gg_sincos(double x, double *sine, double *cosine); // |x| <= 2^20
double gg_sqrt(double x);                               // correctly rounded; 0 for x <= 0

#endif
