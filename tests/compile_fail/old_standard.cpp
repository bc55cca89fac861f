// EXPECT: notch needs C++20: compile with -std=c++20 or later
#undef __cplusplus
#define __cplusplus 201703L
#include <notch/core/config.hpp>
