// SPDX-License-Identifier: Apache-2.0
//
// notch/simd/cpu.hpp: which instruction sets this CPU and operating system can run, detected once
// (x86: CPUID for the instructions, XGETBV for the registers that the system saves; AArch64: what
// the system reports, by getauxval or sysctlbyname), and the override
//     NOTCH_ISA=scalar|avx2|avx512bw|avxvnni|avx512vnni|amx|neon|neondot|neoni8mm
// that a user sets in the environment. Thread-safe.
//
// Linux lets a process use the tiles of AMX only if it asks for them. This is done once, and only if NOTCH_ISA
// names amx, which has not run on such a CPU yet. If the answer is no, `amx` is not available. Permission, once
// given, holds for the process.
#pragma once

#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include <notch/core/config.hpp>
#include <notch/core/error.hpp>
#include <notch/simd/target.hpp>

#if NOTCH_X86_64 && defined(__GNUC__)
#include <cpuid.h>
#endif
#if NOTCH_NEON_KERNELS && defined(__linux__)
#include <sys/auxv.h>
#elif NOTCH_NEON_KERNELS && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

NOTCH_KEYED_BEGIN
namespace detail {

struct cpu_features {
    bool avx2 = false;
    bool avx512bw = false;
    bool avxvnni = false;
    bool avx512vnni = false;
    bool avx512vbmi = false;      ///< with avx512vnni: table lookups only, no instruction set of its own
    bool avx512vpopcntdq = false; ///< no instruction set of its own: kernels/lowbit.hpp asks
    bool amx = false;             ///< the CPU and its saved registers; amx_permitted() asks the system
    bool neon = false;
    bool neondot = false;
    bool neoni8mm = false;
};

#if NOTCH_NEON_KERNELS && defined(__APPLE__)
inline bool has_arm_feature(const char* name) noexcept {
    int value = 0;
    std::size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
#endif

inline cpu_features detect_cpu() noexcept {
    cpu_features f;
#if NOTCH_NEON_KERNELS
    // NEON belongs to the baseline. Without a way to ask, a unit compiled for more may use it.
#if defined(__ARM_FEATURE_DOTPROD)
    bool dot = true;
#else
    bool dot = false;
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8)
    bool i8mm = true;
#else
    bool i8mm = false;
#endif
#if defined(__linux__)
    // HWCAP_ASIMDDP and HWCAP2_I8MM of the kernel's uapi/asm/hwcap.h, which old C libraries lack. The
    // regions of both are Armv8.2, hence CRC32, atomics and RDM as well (bits 7, 8 and 12).
    const unsigned long caps = getauxval(AT_HWCAP), armv82 = 1ul << 7 | 1ul << 8 | 1ul << 12;
    dot = (caps & armv82) == armv82 && (caps >> 20 & 1) != 0;
    i8mm = (getauxval(AT_HWCAP2) >> 13 & 1) != 0;
#elif defined(__APPLE__)
    dot = has_arm_feature("hw.optional.arm.FEAT_DotProd");
    i8mm = has_arm_feature("hw.optional.arm.FEAT_I8MM");
#endif
    f.neon = true;
    f.neondot = dot;
    f.neoni8mm = dot && i8mm;
#endif
#if NOTCH_X86_64 && defined(__GNUC__)
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return f;
    const bool osxsave = (c >> 27 & 1) != 0, avx = (c >> 28 & 1) != 0;
    const bool fma = (c >> 12 & 1) != 0, f16c = (c >> 29 & 1) != 0, popcnt = (c >> 23 & 1) != 0;
    if (!osxsave || !avx) return f;
    unsigned lo = 0, hi = 0;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    const bool os_ymm = (lo & 0x06u) == 0x06u, os_zmm = (lo & 0xe6u) == 0xe6u;
    unsigned a7 = 0, b7 = 0, c7 = 0, d7 = 0;
    if (!__get_cpuid_count(7, 0, &a7, &b7, &c7, &d7)) return f;
    const bool bmi = (b7 >> 3 & 1) != 0, avx2 = (b7 >> 5 & 1) != 0, bmi2 = (b7 >> 8 & 1) != 0;
    unsigned ax = 0, bx = 0, cx = 0, dx = 0;
    const bool lzcnt = __get_cpuid(0x80000001u, &ax, &bx, &cx, &dx) && (cx >> 5 & 1) != 0;
    f.avx2 = os_ymm && avx2 && fma && f16c && bmi && bmi2 && lzcnt && popcnt;
    const bool f512 = (b7 >> 16 & 1) != 0, dq = (b7 >> 17 & 1) != 0, bw = (b7 >> 30 & 1) != 0, vl = (b7 >> 31 & 1) != 0,
               vnni = (c7 >> 11 & 1) != 0;
    f.avx512bw = f.avx2 && os_zmm && f512 && dq && bw && vl;
    f.avx512vnni = f.avx512bw && vnni;
    f.avx512vbmi = f.avx512vnni && (c7 >> 1 & 1) != 0;
    f.avx512vpopcntdq = f.avx512bw && (c7 >> 14 & 1) != 0;
#if defined(NOTCH_AMX_EMULATED)
    f.amx = f.avx512vnni;
#else
    // TILECFG and TILEDATA among the saved registers; a palette of 8 tiles of 16 rows of 64 bytes.
    const bool os_tiles = (lo >> 17 & 3u) == 3u, tile = (d7 >> 24 & 1) != 0, int8 = (d7 >> 25 & 1) != 0;
    unsigned at = 0, bt = 0, ct = 0, dt = 0;
    f.amx = f.avx512vnni && os_tiles && tile && int8 && __get_cpuid_count(0x1d, 1, &at, &bt, &ct, &dt) &&
            bt >> 16 >= 8 && (bt & 0xffffu) == 64 && (ct & 0xffffu) == 16;
#endif
#if defined(NOTCH_AVXVNNI_AS_EVEX)
    f.avxvnni = f.avx512vnni;
#else
    unsigned a71 = 0, b71 = 0, c71 = 0, d71 = 0;
    f.avxvnni = f.avx2 && a7 >= 1 && __get_cpuid_count(7, 1, &a71, &b71, &c71, &d71) && (a71 >> 4 & 1) != 0;
#endif
#endif
    return f;
}

inline const cpu_features& cpu() noexcept {
    static const cpu_features features = detect_cpu();
    return features;
}

/// Asks the system for the tiles of AMX, if the CPU has them and NOTCH_ISA names them. The first call decides.
inline bool amx_permitted() noexcept {
    static const bool granted = [] {
        if (!cpu().amx) return false;
#if defined(NOTCH_AMX_EMULATED)
        return true;
#elif NOTCH_X86_64 && defined(__GNUC__) && defined(__linux__)
        // These kernels have not run on such a CPU yet: they are for who asks for them by name.
        const char* name = std::getenv("NOTCH_ISA");
        if (!name || std::string_view(name) != "amx") return false;
        // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), see x86/xstate.rst of the kernel's documentation.
        // Not by syscall(2), which is declared only under some feature macros.
        long result = 158; // __NR_arch_prctl
        __asm__ volatile("syscall" : "+a"(result) : "D"(0x1023l), "S"(18l) : "rcx", "r11", "memory");
        return result == 0;
#else
        return false; // no way to know
#endif
    }();
    return granted;
}

} // namespace detail

/// Whether this CPU and operating system can run the kernels of an instruction set. For `amx` NOTCH_ISA must
/// name it; the first call asks the system for permission.
[[nodiscard]] inline bool is_available(isa i) noexcept {
    switch (i) {
    case isa::scalar: return true;
    case isa::avx2: return detail::cpu().avx2;
    case isa::avx512bw: return detail::cpu().avx512bw;
    case isa::avxvnni: return detail::cpu().avxvnni;
    case isa::avx512vnni: return detail::cpu().avx512vnni;
    case isa::amx: return detail::amx_permitted();
    case isa::neon: return detail::cpu().neon;
    case isa::neondot: return detail::cpu().neondot;
    case isa::neoni8mm: return detail::cpu().neoni8mm;
    }
    return false;
}

/// The instruction set itself; an error if this CPU cannot run it or it is none.
[[nodiscard]] inline isa require_available(isa i) {
    if (static_cast<int>(i) < 0 || static_cast<int>(i) >= isa_count)
        fail(errc::invalid_argument, detail::cat("isa ", static_cast<int>(i), " is not one of the enumeration"));
    if (!is_available(i)) fail(errc::unsupported, detail::cat("this CPU cannot run '", to_string(i), "'"));
    return i;
}

/// All instruction sets that can run here, the best last.
[[nodiscard]] inline std::span<const isa> available_isas() noexcept {
    struct list {
        isa items[isa_count];
        std::size_t count = 0;
    };
    static const list available = [] {
        list l{};
        for (int i = 0; i < isa_count; ++i)
            if (is_available(static_cast<isa>(i))) l.items[l.count++] = static_cast<isa>(i);
        return l;
    }();
    return {available.items, available.count};
}

/// The instruction set of a name; an error that lists the choices if the name is unknown or this
/// CPU lacks it.
[[nodiscard]] inline isa isa_from_name(std::string_view name) {
    for (int i = 0; i < isa_count; ++i)
        if (name == to_string(static_cast<isa>(i)) && is_available(static_cast<isa>(i))) return static_cast<isa>(i);
    std::string choices;
    for (isa i : available_isas()) choices += (choices.empty() ? "" : ", ") + std::string(to_string(i));
    for (int i = 0; i < isa_count; ++i) {
        if (name != to_string(static_cast<isa>(i))) continue;
        fail(errc::unsupported, detail::cat("NOTCH_ISA: this CPU cannot run '", name, "'; it can run: ", choices));
    }
    fail(errc::invalid_argument,
         detail::cat("NOTCH_ISA: unknown instruction set '", name, "'; this CPU can run: ", choices));
}

/// The instruction set that kernels use by default: NOTCH_ISA if set, else the best of this CPU.
/// Decided at the first call; an unusable NOTCH_ISA is an error at every call.
[[nodiscard]] inline isa default_isa() {
    static const isa chosen = [] {
        const char* name = std::getenv("NOTCH_ISA");
        return name && *name ? isa_from_name(name) : available_isas().back();
    }();
    return chosen;
}

NOTCH_KEYED_END
