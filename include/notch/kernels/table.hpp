// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/table.hpp: the kernels of each instruction set, and the context of a call.
#pragma once

#include <cstddef>
#include <span>

#include <notch/core/parallel.hpp>
#include <notch/kernels/arch/avx2.hpp>
#include <notch/kernels/arch/avx512vnni.hpp>
#include <notch/kernels/arch/scalar.hpp>
#include <notch/kernels/args.hpp>
#include <notch/simd/cpu.hpp>

NOTCH_KEYED_BEGIN

/// The kernels of an instruction set; an error if this CPU cannot run it.
[[nodiscard]] inline const kernel_table& kernels(isa i) {
    if (!is_available(i))
        fail(errc::unsupported, detail::cat("kernels: this CPU cannot run '", to_string(i), "'"));
#if NOTCH_HAS_AVX512VNNI
    if (i == isa::avx512vnni) return arch::avx512vnni::table;
#endif
#if NOTCH_HAS_AVX2
    if (i == isa::avx2) return arch::avx2::table;
#endif
    return arch::scalar::table;
}

/// The kernels of default_isa().
[[nodiscard]] inline const kernel_table& kernels() { return kernels(default_isa()); }

NOTCH_KEYED_END

NOTCH_NAMESPACE_BEGIN

/// How a call runs: which kernels, whose threads, whose scratch memory. Everything is the
/// caller's; the default is the best kernels of the CPU, one thread, no scratch memory.
/// Results never depend on it. One context serves one call at a time (the workspace is shared).
struct context {
    const kernel_table* kernels;
    executor_ref executor;
    std::span<std::byte> workspace; ///< at least what <operation>_workspace_size says

    NOTCH_INLINE context() : kernels(&::notch::kernels()) {}
    NOTCH_INLINE explicit context(isa i, executor_ref e = {}, std::span<std::byte> w = {})
        : kernels(&::notch::kernels(i)), executor(e), workspace(w) {}
    NOTCH_INLINE explicit context(executor_ref e, std::span<std::byte> w = {})
        : kernels(&::notch::kernels()), executor(e), workspace(w) {}
    NOTCH_INLINE explicit context(std::span<std::byte> w) : kernels(&::notch::kernels()), workspace(w) {}
};

NOTCH_NAMESPACE_END
