// EXPECT: notch::minifloat: at most 16 bits in all
#include <notch/scheme/minifloat.hpp>

constexpr int bits = notch::minifloat<5, 0, notch::minifloat_specials::none>::bits;
