// The AVX2 kernels once more, compiled with the int8 dot product of 256 bits (flags in
// core/CMakeLists.txt), for CPUs that have it without AVX-512.
#define GG_AVXVNNI
#include "kernels/avx2.c"
