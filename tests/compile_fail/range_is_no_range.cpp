// EXPECT: range_type
#include <notch/scheme/range.hpp>

struct eight {};
notch::quant_params p = notch::params_from_range<eight>({0.0f, 1.0f});
