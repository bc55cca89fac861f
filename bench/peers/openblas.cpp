// SPDX-License-Identifier: Apache-2.0
//
// OpenBLAS: sgemm, and sgemv for one row. OPENBLAS_CORETYPE holds it to an instruction set.
#include <cblas.h>

#include <algorithm>

#include "simple.hpp"

namespace {

std::unique_ptr<bench::work> prepare(const bench::workload& w) {
    if (w.p.op != bench::operation::gemm) return nullptr;
    auto o = std::make_unique<bench::simple_work>();
    auto f = std::make_shared<bench::float_inputs>(w);
    o->values.resize(bench::result_count(w.p));
    const auto m = static_cast<blasint>(w.p.m), n = static_cast<blasint>(w.p.n), k = static_cast<blasint>(w.p.k);
    o->body = [f, y = o->values.data(), m, n, k, threads = w.p.threads] {
        openblas_set_num_threads(threads);
        for (blasint i = 0; i < m; ++i)
            std::copy(f->bias.begin(), f->bias.end(), y + static_cast<std::ptrdiff_t>(i) * n);
        if (m == 1)
            cblas_sgemv(CblasRowMajor, CblasNoTrans, n, k, 1, f->w.data(), k, f->x.data(), 1, 1, y, 1);
        else
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, f->x.data(), k, f->w.data(), k, 1, y, n);
    };
    o->detail = openblas_get_corename();
    return o;
}

} // namespace

void bench::notch_bench_offer(std::string_view, offer& o) {
    o.version = openblas_get_config();
    o.peers.push_back({"openblas-f32", "f32", prepare});
}
