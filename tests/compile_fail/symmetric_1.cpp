// EXPECT: notch::symmetric<Bits>: Bits must be 2..8
#include <notch/scheme/range.hpp>

constexpr int top = notch::symmetric<1>::qmax;
