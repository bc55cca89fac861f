// SPDX-License-Identifier: Apache-2.0
//
// notch/core/buffer.hpp: owning storage, aligned to 64 bytes whatever the compiler flags.
// (An alignment that depends on flags, as in some libraries, breaks programs whose translation
// units are built differently.)
#pragma once

#include <cstring>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include <notch/core/config.hpp>
#include <notch/core/error.hpp>
#include <notch/core/types.hpp>

NOTCH_NAMESPACE_BEGIN

/// The alignment of every buffer: one cache line, one zmm register.
inline constexpr std::size_t buffer_alignment = 64;

/// A zero-initialized array of trivially copyable T with value semantics. Not thread-safe to
/// modify; reading from several threads is. A contiguous range, so it converts to std::span.
template <class T> class buffer {
    static_assert(std::is_trivially_copyable_v<T>, "notch::buffer holds plain data only: T must be trivially copyable");

public:
    NOTCH_INLINE buffer() noexcept {}
    /// n elements, all bits zero. n < 0 is an error.
    NOTCH_INLINE explicit buffer(index_t n) : size_(n) {
        detail::check_extent("buffer", "size", n);
        if (n > 0) {
            const index_t bytes = detail::checked_product("buffer", n, sizeof(T));
            data_ =
                static_cast<T*>(::operator new (static_cast<std::size_t>(bytes), std::align_val_t{buffer_alignment}));
            std::memset(static_cast<void*>(data_), 0, static_cast<std::size_t>(bytes));
        }
    }
    NOTCH_INLINE buffer(const buffer& other) : buffer(other.size_) {
        if (size_ > 0) std::memcpy(static_cast<void*>(data_), other.data_, bytes());
    }
    NOTCH_INLINE buffer(buffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    NOTCH_INLINE buffer& operator=(const buffer& other) {
        if (this != &other) {
            if (size_ == other.size_) {
                if (size_ > 0) std::memcpy(static_cast<void*>(data_), other.data_, bytes());
            } else {
                buffer copy(other);
                swap(copy);
            }
        }
        return *this;
    }
    /// Leaves other empty, as the constructor does: what was moved from is recognized by that.
    NOTCH_INLINE buffer& operator=(buffer&& other) noexcept {
        buffer taken(std::move(other));
        swap(taken);
        return *this;
    }
    NOTCH_INLINE ~buffer() {
        if (data_) ::operator delete (data_, std::align_val_t{buffer_alignment});
    }

    /// Makes the size n; keeps the memory (and its contents) when the size is already n.
    NOTCH_INLINE void resize_discard(index_t n) {
        if (n != size_) *this = buffer(n);
    }

    NOTCH_INLINE T* data() noexcept { return data_; }
    NOTCH_INLINE const T* data() const noexcept { return data_; }
    NOTCH_INLINE index_t size() const noexcept { return size_; }
    NOTCH_INLINE bool empty() const noexcept { return size_ == 0; }
    NOTCH_INLINE T* begin() noexcept { return data_; }
    NOTCH_INLINE T* end() noexcept { return data_ + size_; }
    NOTCH_INLINE const T* begin() const noexcept { return data_; }
    NOTCH_INLINE const T* end() const noexcept { return data_ + size_; }
    NOTCH_INLINE T& operator[](index_t i) noexcept { return data_[i]; }
    NOTCH_INLINE const T& operator[](index_t i) const noexcept { return data_[i]; }
    NOTCH_INLINE std::span<T> span() noexcept { return {data_, static_cast<std::size_t>(size_)}; }
    NOTCH_INLINE std::span<const T> span() const noexcept { return {data_, static_cast<std::size_t>(size_)}; }

    NOTCH_INLINE void swap(buffer& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
    }

private:
    NOTCH_INLINE std::size_t bytes() const noexcept { return static_cast<std::size_t>(size_) * sizeof(T); }
    T* data_ = nullptr;
    index_t size_ = 0;
};

NOTCH_NAMESPACE_END
