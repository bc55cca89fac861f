// EXPECT: notch::per_group<Size, Axis>: Size must be at least 1
#include <notch/scheme/granularity.hpp>

constexpr int size = notch::per_group<0>::size;
