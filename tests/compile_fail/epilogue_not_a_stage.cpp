// EXPECT: notch::make_epilogue: an argument is not a stage
#include <notch/kernels/gemm.hpp>

auto make(const notch::packed_weights& w) { return notch::make_epilogue(w, notch::stage::accumulators{}, 42); }
