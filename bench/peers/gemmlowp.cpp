// SPDX-License-Identifier: Apache-2.0
//
// gemmlowp: u8 x u8 with offsets, fixed-point requantization for each channel. It packs both sides in
// each call; there is no way to keep packed weights.
#include <public/gemmlowp.h>
#include <public/output_stages.h>

#include <cmath>
#include <tuple>

#include "simple.hpp"

namespace {

struct state {
    gemmlowp::GemmContext context;
    std::vector<std::uint8_t> weights;
    std::vector<std::int32_t> mantissas, exponents;
};

std::unique_ptr<bench::work> prepare(const bench::workload& w) {
    const auto& p = w.p;
    if (p.op != bench::operation::gemm) return nullptr;
    auto o = std::make_unique<bench::simple_work>();
    auto s = std::make_shared<state>();
    s->context.set_max_num_threads(p.threads);
    for (std::int8_t v : w.w) s->weights.push_back(static_cast<std::uint8_t>(v + 128));
    for (long c = 0; c < p.n; ++c) {
        int exponent = 0;
        auto mantissa = std::llround(std::frexp(static_cast<double>(w.multiplier(c)), &exponent) * 2147483648.0);
        if (mantissa == 1LL << 31) mantissa /= 2, ++exponent;
        s->mantissas.push_back(static_cast<std::int32_t>(mantissa));
        s->exponents.push_back(exponent);
    }
    o->codes.resize(bench::result_count(p));
    o->body = [s, &w, y = o->codes.data()] {
        using namespace gemmlowp;
        const int m = static_cast<int>(w.p.m), n = static_cast<int>(w.p.n), k = static_cast<int>(w.p.k);
        using column = VectorMap<const std::int32_t, VectorShape::Col>;
        OutputStageBiasAddition<column> bias{column(w.bias.data(), n)};
        OutputStageScaleInt32ByFixedPointAndExponentPC<VectorShape::Col> scale;
        scale.result_fixedpoint_multiplier = column(s->mantissas.data(), n);
        scale.result_exponent = column(s->exponents.data(), n);
        scale.result_offset_after_shift = w.p.y_zero_point;
        const auto pipeline = std::make_tuple(bias, scale, OutputStageSaturatingCastToUint8());
        // y transposed = w * x transposed: the weights on the left, as its convolutions do
        const MatrixMap<const std::uint8_t, MapOrder::RowMajor> lhs(s->weights.data(), n, k);
        const MatrixMap<const std::uint8_t, MapOrder::ColMajor> rhs(w.x.data(), k, m);
        MatrixMap<std::uint8_t, MapOrder::ColMajor> result(y, n, m);
        using offset = VectorDup<const std::int32_t, VectorShape::Col>;
        using offset_of_columns = VectorDup<const std::int32_t, VectorShape::Row>;
        GemmWithOutputPipelinePC<std::uint8_t, std::uint8_t, L8R8WithLhsNonzeroBitDepthParams>(
            &s->context, lhs, rhs, &result, offset(-128, n), offset_of_columns(-w.p.x_zero_point, m), pipeline);
    };
    return o;
}

} // namespace

void bench::notch_bench_offer(std::string_view, offer& o) {
    o.version = "of the system";
    o.peers.push_back({"gemmlowp", "u8u8u8", prepare});
}
