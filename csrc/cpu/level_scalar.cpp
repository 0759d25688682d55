// The kernels for any CPU.
#define MEMOIR_LEVEL scalar
#include "kernels.inl"
