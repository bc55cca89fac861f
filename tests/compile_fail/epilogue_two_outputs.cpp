// EXPECT: notch::make_epilogue needs exactly one of stage::requantize
#include <notch/kernels/gemm.hpp>

auto make(const notch::packed_weights& w) {
    return notch::make_epilogue(w, notch::stage::accumulators{}, notch::stage::dequantize{});
}
