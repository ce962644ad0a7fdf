// The scalar kernels once more, compiled with the fma instruction (flags in core/CMakeLists.txt):
// about ten times the speed of fma in software, for CPUs that have it.
#define GG_SCALAR_TABLE gg_kernels_scalar_fma
#include "kernels/scalar.c"
