// SPDX-License-Identifier: Apache-2.0
#include "ours.hpp"

#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

#include <notch/kernels/add.hpp>
#include <notch/kernels/conv.hpp>
#include <notch/kernels/depthwise.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/pool.hpp>
#include <notch/kernels/quantize.hpp>
#include <notch/simd/cpu.hpp>

#include "threads.hpp"

namespace bench {
namespace {

/// What all operations have: threads, context, workspace, results.
class ours : public work {
public:
    ours(const workload& w, std::string_view isa)
        : w_(w), threads_(w.p.threads), isa_(notch::isa_from_name(isa)), ctx_(make_context({})) {
        detail = kernel_name(w.p.op, isa);
    }
    output result() const override { return {codes_, values_}; }

protected:
    notch::context make_context(std::span<std::byte> memory) {
        return w_.p.threads > 1 ? notch::context(isa_, threads_, memory) : notch::context(isa_, {}, memory);
    }
    void use_workspace(notch::index_t bytes) {
        memory_.resize(static_cast<std::size_t>(bytes));
        ctx_ = make_context(memory_);
    }
    notch::quant_params x_params() const { return {w_.x_scale, w_.p.x_zero_point}; }
    notch::quant_params y_params() const { return {w_.y_scale, w_.p.y_zero_point}; }
    template <class Packed> auto make_epilogue(const Packed& packed) const {
        return notch::make_epilogue(packed, notch::stage::bias{w_.bias},
                                    notch::stage::requantize{x_params(), w_.w_scales, y_params()});
    }

    const workload& w_;
    spinning_threads threads_;
    notch::isa isa_;
    std::vector<std::byte> memory_;
    notch::context ctx_;
    std::vector<std::uint8_t> codes_;
    std::vector<float> values_;
};

notch::window window_of(const problem& p) { return notch::window::square(p.kernel, p.stride, p.pad); }

class gemm_work final : public ours {
public:
    gemm_work(const workload& w, std::string_view isa)
        : ours(w, isa), packed_(notch::pack({w.w.data(), w.p.n, w.p.k})), epilogue_(make_epilogue(packed_)) {
        codes_.resize(static_cast<std::size_t>(w.p.m * w.p.n));
    }
    void run() override {
        notch::gemm(notch::matrix_view<const std::uint8_t>(w_.x.data(), w_.p.m, w_.p.k), packed_, epilogue_,
                    notch::matrix_view<std::uint8_t>(codes_.data(), w_.p.m, w_.p.n), ctx_);
    }

private:
    notch::packed_weights packed_;
    notch::epilogue<std::uint8_t> epilogue_;
};

template <class Packed> class conv_work final : public ours {
public:
    static constexpr bool is_depthwise = std::is_same_v<Packed, notch::packed_depthwise>;
    static Packed pack(const workload& w) {
        if constexpr (is_depthwise)
            return notch::pack_depthwise(w.w, w.p.channels, window_of(w.p));
        else
            return notch::pack_conv2d(w.w, w.p.out, w.p.channels, window_of(w.p));
    }
    conv_work(const workload& w, std::string_view isa)
        : ours(w, isa), packed_(pack(w)), epilogue_(make_epilogue(packed_)) {
        codes_.resize(static_cast<std::size_t>(w.p.rows() * w.p.outputs()));
        if constexpr (is_depthwise)
            use_workspace(notch::depthwise_workspace_size(packed_, 1, w.p.h, w.p.w, ctx_));
        else
            use_workspace(notch::conv2d_workspace_size(packed_, 1, w.p.h, w.p.w, ctx_));
    }
    void run() override {
        const notch::nhwc_view<const std::uint8_t> x(w_.x.data(), 1, w_.p.h, w_.p.w, w_.p.channels);
        const notch::nhwc_view<std::uint8_t> y(codes_.data(), 1, w_.p.out_h(), w_.p.out_w(), w_.p.outputs());
        if constexpr (is_depthwise)
            notch::depthwise(x, packed_, epilogue_, y, ctx_);
        else
            notch::conv2d(x, packed_, epilogue_, y, ctx_);
    }

private:
    Packed packed_;
    notch::epilogue<std::uint8_t> epilogue_;
};

class pool_work final : public ours {
public:
    pool_work(const workload& w, std::string_view isa) : ours(w, isa) {
        codes_.resize(static_cast<std::size_t>(w.p.rows() * w.p.outputs()));
        use_workspace(notch::pool_workspace_size(window_of(w.p), ctx_));
    }
    void run() override {
        const notch::nhwc_view<const std::uint8_t> x(w_.x.data(), 1, w_.p.h, w_.p.w, w_.p.channels);
        const notch::nhwc_view<std::uint8_t> y(codes_.data(), 1, w_.p.out_h(), w_.p.out_w(), w_.p.channels);
        if (w_.p.op == operation::max_pool)
            notch::max_pool(x, window_of(w_.p), y, ctx_);
        else
            notch::average_pool(x, x_params(), window_of(w_.p), y_params(), y, ctx_);
    }
};

class elementwise_work final : public ours {
public:
    elementwise_work(const workload& w, std::string_view isa) : ours(w, isa) {
        const auto n = static_cast<std::size_t>(w.p.size);
        if (w.p.op == operation::dequantize || w.p.op == operation::fake_quantize) values_.resize(n);
        if (w.p.op == operation::value_range)
            values_.resize(n > 0 ? 2 : 0);
        else if (w.p.op != operation::dequantize)
            codes_.resize(n);
        if (w.p.op == operation::add) add_ = notch::make_add(x_params(), x_params(), y_params());
        if (w.p.op == operation::fake_quantize) mask_.resize(n);
        if (w.p.op != operation::requantize) return;
        // The epilogue is made for weights; those here are small enough for any scale.
        const long columns = problem::requantize_columns;
        const std::vector<std::int8_t> ones(static_cast<std::size_t>(columns) * 64, 1);
        const auto packed = notch::pack({ones.data(), columns, 64});
        epilogue_ = notch::make_epilogue(packed, notch::stage::requantize{x_params(), w.w_scales, y_params()});
    }
    void run() override {
        const notch::index_t n = w_.p.size, columns = problem::requantize_columns;
        switch (w_.p.op) {
        case operation::quantize: notch::quantize<notch::affine<8>>(w_.real, x_params(), codes_, ctx_); break;
        case operation::dequantize: notch::dequantize<std::uint8_t>(w_.x, x_params(), values_, ctx_); break;
        case operation::requantize:
            notch::requantize(notch::matrix_view<const std::int32_t>(w_.acc.data(), n / columns, columns), epilogue_,
                              notch::matrix_view<std::uint8_t>(codes_.data(), n / columns, columns), {}, ctx_);
            break;
        case operation::add: notch::add(w_.x, w_.other, add_, codes_, ctx_); break;
        case operation::value_range: {
            const notch::real_range r = notch::value_range(w_.real, ctx_);
            if (!values_.empty()) values_[0] = r.min, values_[1] = r.max;
            break;
        }
        default: fake_quantize(); break;
        }
    }

private:
    void fake_quantize() { // what notch/qat passes to the kernel for each run of equal parameters
        notch::quantize_args q;
        q.x = w_.real.data();
        q.n = w_.p.size;
        q.params = x_params();
        q.range = {0, 255};
        q.codes = codes_.data();
        q.values = values_.data();
        q.mask = mask_.data();
        notch::detail::kernels_for(notch::detail::quantize_tables, isa_).quantize(q);
    }
    std::vector<std::uint8_t> mask_;
    notch::add_params add_;
    notch::epilogue<std::uint8_t> epilogue_;
};

class packing_work final : public work {
public:
    explicit packing_work(const workload& w) : w_(w) {}
    void run() override {
        if (w_.p.op == operation::gemm)
            packed_ = notch::pack({w_.w.data(), w_.p.n, w_.p.k});
        else if (w_.p.op == operation::conv2d)
            packed_ = notch::pack_conv2d(w_.w, w_.p.out, w_.p.channels, window_of(w_.p));
        else
            depthwise_ = notch::pack_depthwise(w_.w, w_.p.channels, window_of(w_.p));
    }
    output result() const override { return {}; }

private:
    const workload& w_;
    notch::packed_weights packed_;
    notch::packed_depthwise depthwise_;
};

} // namespace

std::unique_ptr<work> prepare_notch(const workload& w, std::string_view isa) {
    switch (w.p.op) {
    case operation::gemm: return std::make_unique<gemm_work>(w, isa);
    case operation::conv2d: return std::make_unique<conv_work<notch::packed_weights>>(w, isa);
    case operation::depthwise: return std::make_unique<conv_work<notch::packed_depthwise>>(w, isa);
    case operation::max_pool:
    case operation::average_pool: return std::make_unique<pool_work>(w, isa);
    default: return std::make_unique<elementwise_work>(w, isa);
    }
}

std::unique_ptr<work> prepare_packing(const workload& w) {
    if (!w.p.has_weights()) return nullptr;
    return std::make_unique<packing_work>(w);
}

std::string kernel_name(operation op, std::string_view isa) {
    if (op == operation::gemm || op == operation::conv2d) return notch::gemm_kernels_of(notch::isa_from_name(isa)).name;
    return std::string(to_string(op)) + "__" + std::string(isa);
}

} // namespace bench
