// EXPECT: notch: -ffast-math breaks NaN handling and rounding
#define __FAST_MATH__ 1
#include <notch/core/config.hpp>
