// EXPECT: notch::affine<Bits>: Bits must be 1..8
#include <notch/scheme/range.hpp>

constexpr int top = notch::affine<9>::qmax;
