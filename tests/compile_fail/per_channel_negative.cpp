// EXPECT: notch::per_channel<Axis>: Axis counts from 0
#include <notch/scheme/granularity.hpp>

constexpr int axis = notch::per_channel<-1>::axis;
