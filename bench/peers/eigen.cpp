// SPDX-License-Identifier: Apache-2.0
//
// Eigen's float product, compiled for the instruction set that the plugin's name says.
#include <Eigen/Core>

#include "simple.hpp"

namespace {

std::unique_ptr<bench::work> prepare(const bench::workload& w) {
    if (w.p.op != bench::operation::gemm || w.p.threads != 1) return nullptr;
    auto o = std::make_unique<bench::simple_work>();
    auto f = std::make_shared<bench::float_inputs>(w);
    o->values.resize(bench::result_count(w.p));
    using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    using vector = Eigen::Map<const Eigen::VectorXf>;
    o->body = [f, y = o->values.data(), m = w.p.m, n = w.p.n, k = w.p.k] {
        const Eigen::Map<const matrix> weights(f->w.data(), n, k);
        const vector bias(f->bias.data(), n);
        if (m == 1) {
            Eigen::Map<Eigen::VectorXf> out(y, n);
            out = bias;
            out.noalias() += weights * vector(f->x.data(), k);
        } else {
            Eigen::Map<matrix> out(y, m, n);
            out.rowwise() = bias.transpose();
            out.noalias() += Eigen::Map<const matrix>(f->x.data(), m, k) * weights.transpose();
        }
    };
    return o;
}

} // namespace

void bench::notch_bench_offer(std::string_view, offer& o) {
    o.version = std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
                std::to_string(EIGEN_MINOR_VERSION);
    o.peers.push_back({"eigen-f32", "f32", prepare});
}
