// SPDX-License-Identifier: Apache-2.0
//
// notch/core/error.hpp: the one error policy.
// Every public function checks its arguments and reports through fail(). With exceptions that
// throws notch::error; with -fno-exceptions it prints the message to stderr and aborts. A message
// names the function, the argument, what was found and what was expected:
//     "gemm: x has 5 columns, the packed weights expect 7"
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <type_traits>

#include <notch/core/config.hpp>
#include <notch/core/types.hpp>

#if NOTCH_EXCEPTIONS
#include <stdexcept>
#endif

NOTCH_NAMESPACE_BEGIN

/// What kind of thing went wrong.
enum class errc {
    invalid_argument, ///< a value outside its documented domain (scale <= 0, NaN, null pointer)
    shape_mismatch,   ///< extents of two arguments do not fit each other
    overflow,         ///< an accumulator or a size could overflow
    unsupported,      ///< this CPU, build or format version lacks what was asked for
    io,               ///< the operating system refused to read or write
    corrupt,          ///< a file is truncated, damaged or hostile
};

#if NOTCH_EXCEPTIONS
/// Thrown by every public function of notch for bad input.
class error : public std::runtime_error {
public:
    NOTCH_INLINE error(errc code, const std::string& message) : std::runtime_error(message), code_(code) {}
    [[nodiscard]] NOTCH_INLINE errc code() const noexcept { return code_; }

private:
    errc code_;
};
#endif

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN

/// Reports an error; never returns.
[[noreturn]] NOTCH_NOINLINE inline void fail(errc code, const std::string& message) {
#if NOTCH_EXCEPTIONS
    throw error(code, message);
#else
    (void)code;
    std::fprintf(stderr, "notch: %s\n", message.c_str());
    std::abort();
#endif
}

namespace detail {

/// The name of an argument in a message: text, [index] if it is not negative, then the rest. Its parts are joined
/// only when there is something to say: checks run in hot calls, some of them for each channel.
struct name_of {
    std::string_view text;
    index_t index = -1;
    std::string_view rest{};

    name_of(const char* t) : text(t) {}
    name_of(std::string_view t) : text(t) {}
    name_of(const std::string& t) : text(t) {}
    name_of(std::string_view t, index_t i) : text(t), index(i) {}
    name_of(std::string_view t, std::string_view r) : text(t), rest(r) {}
};

/// Text or a number in a message; refers to what it is made from.
class message_part {
public:
    template <class T>
        requires std::is_convertible_v<const T&, std::string_view> message_part(const T& text)
    noexcept : kind_(kind::text) {
        const std::string_view v = text;
        text_ = v.data();
        size_ = v.size();
    }
    message_part(const name_of& name) noexcept : kind_(kind::name), name_(&name) {}
    template <class T>
        requires std::is_floating_point_v<T> message_part(T value)
    noexcept : kind_(kind::real), real_(static_cast<double>(value)) {}
    template <class T>
        requires std::is_integral_v<T> message_part(T value)
    noexcept : kind_(std::is_signed_v<T> ? kind::integer : kind::natural), integer_(static_cast<long long>(value)) {}

    void append_to(std::string& out) const {
        switch (kind_) {
        case kind::text: out.append(text_, size_); return;
        case kind::name:
            out.append(name_->text);
            if (name_->index >= 0) {
                out.append("[");
                message_part(name_->index).append_to(out);
                out.append("]");
            }
            out.append(name_->rest);
            return;
        case kind::real: append_printed(out, "%.9g", real_); return;
        case kind::integer: append_printed(out, "%lld", integer_); return;
        case kind::natural: append_printed(out, "%llu", static_cast<unsigned long long>(integer_)); return;
        }
    }

private:
    // Not std::to_string: from libstdc++ 13 on it calls a function template of its own, a weak symbol
    // with the instructions of whichever translation unit made it.
    template <class T> static void append_printed(std::string& out, const char* format, T value) {
        char text[48];
        std::snprintf(text, sizeof text, format, value);
        out.append(text);
    }
    enum class kind { text, name, real, integer, natural } kind_;
    union {
        const char* text_;
        const name_of* name_;
        double real_;
        long long integer_;
    };
    std::size_t size_ = 0;
};

NOTCH_NOINLINE inline std::string join(const message_part* parts, std::size_t n) {
    std::string out;
    for (std::size_t i = 0; i < n; ++i) parts[i].append_to(out);
    return out;
}
/// Joins text and numbers into a message. One function for all: there are hundreds of messages to compile.
template <class... Parts> std::string cat(const Parts&... parts) {
    const message_part list[] = {message_part(parts)...};
    return join(list, sizeof...(parts));
}

/// A scale must be finite and > 0.
inline void check_scale(std::string_view where, const name_of& name, float scale) {
    if (!(scale > 0.0f) || !std::isfinite(scale))
        fail(errc::invalid_argument, cat(where, ": ", name, " is ", scale, ", a scale must be finite and > 0"));
}

/// A size must be >= 0.
inline void check_extent(std::string_view where, const name_of& name, index_t extent) {
    if (extent < 0) fail(errc::invalid_argument, cat(where, ": ", name, " is ", extent, ", must be >= 0"));
}

/// Two extents must agree.
inline void check_equal(std::string_view where, const name_of& what, index_t found, index_t expected) {
    if (found != expected) fail(errc::shape_mismatch, cat(where, ": ", what, " is ", found, ", expected ", expected));
}

/// A product of extents, refused when it does not fit index_t. Extents are already >= 0.
inline index_t checked_product(std::string_view where, index_t a, index_t b) {
    index_t product = 0;
    if (__builtin_mul_overflow(a, b, &product))
        fail(errc::overflow, cat(where, ": ", a, " x ", b, " elements overflow the address space"));
    return product;
}

} // namespace detail

NOTCH_KEYED_END
