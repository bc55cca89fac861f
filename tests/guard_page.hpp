// SPDX-License-Identifier: Apache-2.0
//
// Arrays that end right before a page without access (or begin right behind one), so that any read
// or write past the end (before the begin) faults:
//
//     guarded<float> x(100);                       // x.data() + 100 is the first byte without access
//     guarded<float> y(100, guard::before);        // y.data() - 1 has no access
//
// Where there is no mmap, the memory comes from the heap and only a sanitizer sees such an access.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <span>

#if __has_include(<sys/mman.h>)
#include <sys/mman.h>
#include <unistd.h>
#define NOTCH_GUARD_PAGES 1
#else
#define NOTCH_GUARD_PAGES 0
#endif

enum class guard { after, before };

/// n zero-initialized elements of a plain type.
template <class T> class guarded {
public:
    explicit guarded(std::ptrdiff_t n, guard side = guard::after) : size_(static_cast<std::size_t>(n)) {
        const std::size_t bytes = size_ * sizeof(T);
#if NOTCH_GUARD_PAGES
        const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        const std::size_t inner = (bytes + page - 1) / page * page;
        mapped_ = inner + 2 * page;
        void* p = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) throw std::bad_alloc();
        base_ = static_cast<char*>(p);
        if (inner > 0 && mprotect(base_ + page, inner, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
        data_ = reinterpret_cast<T*>(base_ + page + (side == guard::after ? inner - bytes : 0));
#else
        (void)side;
        base_ = static_cast<char*>(std::calloc(bytes ? bytes : 1, 1));
        if (!base_) throw std::bad_alloc();
        data_ = reinterpret_cast<T*>(base_);
#endif
    }
    guarded(const guarded&) = delete;
    guarded& operator=(const guarded&) = delete;
    ~guarded() {
#if NOTCH_GUARD_PAGES
        munmap(base_, mapped_);
#else
        std::free(base_);
#endif
    }

    [[nodiscard]] T* data() const { return data_; }
    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] T& operator[](std::size_t i) const { return data_[i]; }
    [[nodiscard]] T* begin() const { return data_; }
    [[nodiscard]] T* end() const { return data_ + size_; }
    [[nodiscard]] std::span<T> span() const { return {data_, size_}; }

private:
    std::size_t size_ = 0, mapped_ = 0;
    char* base_ = nullptr;
    T* data_ = nullptr;
};
