// EXPECT: notch: -ffast-math breaks NaN handling and rounding
#define __RECIPROCAL_MATH__ 1
#include <notch/core/config.hpp>
