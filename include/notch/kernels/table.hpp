// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/table.hpp: how a kernel is chosen at run time, and the context of a call.
//
// Each family of kernels (gemm, depthwise, quantize, ...) has a plain struct of function pointers,
// and one constant of it for each instruction set, made by kernels/arch/for_each.inl. A family's
// header looks the constant of the context's instruction set up in an array of isa_count entries.
#pragma once

#include <cstddef>
#include <span>

#include <notch/core/parallel.hpp>
#include <notch/kernels/args.hpp>
#include <notch/simd/cpu.hpp>

// Where the kernels are compiled: in each translation unit that calls them, which needs no set-up; or, where all of
// a program is compiled with NOTCH_SEPARATE_KERNELS, in the one that includes kernels/definitions.hpp (which defines
// NOTCH_DEFINE_KERNELS). NOTCH_KERNELS(type, name, value) declares the constants that lead to them:
//     NOTCH_KERNELS(gemm_kernels, gemm_tables[isa_count], NOTCH_KERNEL_TABLES_TILES(gemm_table));
#if defined(NOTCH_DEFINE_KERNELS)
#define NOTCH_KERNEL_BODIES 1
#define NOTCH_KERNELS(type, name, ...)                                                                                 \
    extern const type* const name;                                                                                     \
    constexpr const type* name = __VA_ARGS__
#elif !defined(NOTCH_SEPARATE_KERNELS)
#define NOTCH_KERNEL_BODIES 1
#define NOTCH_KERNELS(type, name, ...) inline constexpr const type* name = __VA_ARGS__
#else
#define NOTCH_KERNEL_BODIES 0
#define NOTCH_KERNELS(type, name, ...) extern const type* const name
#endif

#if NOTCH_KERNEL_BODIES
#include <notch/kernels/arch/amx.hpp>
#include <notch/kernels/arch/avx2.hpp>
#include <notch/kernels/arch/avx512bw.hpp>
#include <notch/kernels/arch/avx512vnni.hpp>
#include <notch/kernels/arch/avxvnni.hpp>
#include <notch/kernels/arch/neon.hpp>
#include <notch/kernels/arch/neondot.hpp>
#include <notch/kernels/arch/neoni8mm.hpp>
#include <notch/kernels/arch/scalar.hpp>
#endif

// The values of NOTCH_ARCH_LEVEL while for_each.inl includes a body.
#define NOTCH_ARCH_SCALAR 0
#define NOTCH_ARCH_AVX2 1
#define NOTCH_ARCH_AVXVNNI 2
#define NOTCH_ARCH_AVX512BW 3
#define NOTCH_ARCH_AVX512VNNI 4
#define NOTCH_ARCH_NEON 5
#define NOTCH_ARCH_NEONDOT 6
#define NOTCH_ARCH_NEONI8MM 7

// The tables of a family in the order of the enum isa, one for each instruction set of this
// architecture: those without dot products of bytes, which the others share; all of them but AMX, which
// shares those of AVX-512 VNNI (_DOT); all of them (_TILES). Instruction sets of other architectures have none.
// _TABLE_VBMI is the one of NOTCH_BODY_VBMI.
#if NOTCH_X86_KERNELS
#define NOTCH_KERNEL_TABLES(name)                                                                                      \
    {                                                                                                                  \
        &arch::scalar::name, &arch::avx2::name, &arch::avx512bw::name, &arch::avx2::name, &arch::avx512bw::name,       \
            &arch::avx512bw::name                                                                                      \
    }
#define NOTCH_KERNEL_TABLES_DOT(name)                                                                                  \
    {                                                                                                                  \
        &arch::scalar::name, &arch::avx2::name, &arch::avx512bw::name, &arch::avxvnni::name, &arch::avx512vnni::name,  \
            &arch::avx512vnni::name                                                                                    \
    }
#define NOTCH_KERNEL_TABLES_TILES(name)                                                                                \
    {                                                                                                                  \
        &arch::scalar::name, &arch::avx2::name, &arch::avx512bw::name, &arch::avxvnni::name, &arch::avx512vnni::name,  \
            &arch::amx::name                                                                                           \
    }
#define NOTCH_KERNEL_TABLE_VBMI(name) &arch::avx512vbmi::name
#elif NOTCH_NEON_KERNELS
#define NOTCH_KERNEL_TABLES(name)                                                                                      \
    {                                                                                                                  \
        &arch::scalar::name, nullptr, nullptr, nullptr, nullptr, nullptr, &arch::neon::name, &arch::neon::name,        \
            &arch::neon::name                                                                                          \
    }
#define NOTCH_KERNEL_TABLES_DOT(name)                                                                                  \
    {                                                                                                                  \
        &arch::scalar::name, nullptr, nullptr, nullptr, nullptr, nullptr, &arch::neon::name, &arch::neondot::name,     \
            &arch::neoni8mm::name                                                                                      \
    }
#define NOTCH_KERNEL_TABLES_TILES(name) NOTCH_KERNEL_TABLES_DOT(name)
#define NOTCH_KERNEL_TABLE_VBMI(name) nullptr
#else
#define NOTCH_KERNEL_TABLES(name)                                                                                      \
    { &arch::scalar::name }
#define NOTCH_KERNEL_TABLES_DOT(name)                                                                                  \
    { &arch::scalar::name }
#define NOTCH_KERNEL_TABLES_TILES(name)                                                                                \
    { &arch::scalar::name }
#define NOTCH_KERNEL_TABLE_VBMI(name) nullptr
#endif

#define NOTCH_BODY <notch/kernels/body/store.inl>
#define NOTCH_BODY_DOT // the common part of all bodies
#include <notch/kernels/arch/for_each.inl>

NOTCH_NAMESPACE_BEGIN

/// An instruction set that this CPU can run, the best one (or NOTCH_ISA) by default. It converts from and to isa; to
/// make or assign one that this CPU cannot run is an error.
class runnable_isa {
public:
    NOTCH_INLINE runnable_isa() : value_(default_isa()) {}
    NOTCH_INLINE runnable_isa(isa i) : value_(require_available(i)) {}
    NOTCH_INLINE operator isa() const noexcept { return value_; }

private:
    isa value_;
};

/// How a call runs: which instruction set, whose threads, whose scratch memory. Everything is the
/// caller's; the default is the best kernels of the CPU, one thread, no scratch memory.
/// Results never depend on it. One context serves one call at a time (the workspace is shared).
/// An instruction set that this CPU cannot run is an error.
struct context {
    runnable_isa target;
    executor_ref executor;
    std::span<std::byte> workspace; ///< at least what <operation>_workspace_size says

    NOTCH_INLINE context() {}
    NOTCH_INLINE explicit context(isa i, executor_ref e = {}, std::span<std::byte> w = {})
        : target(i), executor(e), workspace(w) {}
    NOTCH_INLINE explicit context(executor_ref e, std::span<std::byte> w = {}) : executor(e), workspace(w) {}
    NOTCH_INLINE explicit context(std::span<std::byte> w) : workspace(w) {}
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// The kernels of an instruction set that is known to be available.
template <class Kernels>
[[nodiscard]] constexpr const Kernels& kernels_for(const Kernels* const (&tables)[isa_count], isa i) noexcept {
    const Kernels* k = tables[static_cast<int>(i)];
    return k ? *k : *tables[0];
}

/// Whether an instruction set takes the kernels of NOTCH_BODY_VBMI on this CPU.
[[nodiscard]] inline bool has_vbmi([[maybe_unused]] isa i) noexcept {
#if NOTCH_X86_KERNELS
    return (i == isa::avx512vnni || i == isa::amx) && cpu().avx512vbmi;
#else
    return false;
#endif
}

} // namespace detail
NOTCH_KEYED_END
