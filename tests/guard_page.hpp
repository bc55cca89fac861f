// SPDX-License-Identifier: Apache-2.0
//
// Memory between two pages that nobody may touch: a read or a write past either end of it faults.
// Where there is no mmap it is plain heap memory.
#pragma once

#include <cstddef>
#include <cstring>
#include <new>
#include <type_traits>

#if defined(__unix__) || defined(__APPLE__)
#define NOTCH_TEST_GUARD_PAGES 1
#include <sys/mman.h>
#include <unistd.h>
#else
#define NOTCH_TEST_GUARD_PAGES 0
#endif

/// n elements of a plain type that end (or begin, with at_front) exactly at a guard page. The other end is
/// within a page of one. The elements are zero.
template <class T> class guarded {
    static_assert(std::is_trivially_copyable_v<T>);

public:
    explicit guarded(std::size_t n, bool at_front = false) : size_(n) {
        const std::size_t bytes = n * sizeof(T);
#if NOTCH_TEST_GUARD_PAGES
        const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        const std::size_t inner = (bytes + page - 1) / page * page + (bytes == 0 ? page : 0);
        mapped_ = inner + 2 * page;
        void* p = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) throw std::bad_alloc();
        base_ = static_cast<unsigned char*>(p);
        if (mprotect(base_, page, PROT_NONE) != 0 || mprotect(base_ + page + inner, page, PROT_NONE) != 0) {
            munmap(base_, mapped_);
            throw std::bad_alloc();
        }
        data_ = reinterpret_cast<T*>(at_front ? base_ + page : base_ + page + inner - bytes);
#else
        (void)at_front;
        base_ = static_cast<unsigned char*>(::operator new(bytes + 1));
        std::memset(base_, 0, bytes + 1);
        data_ = reinterpret_cast<T*>(base_);
#endif
    }
    /// A copy of other, at a guard page.
    template <class Container>
        requires(!std::is_integral_v<Container>)
    explicit guarded(const Container& other, bool at_front = false) : guarded(other.size(), at_front) {
        if (size_ > 0) std::memcpy(static_cast<void*>(data_), other.data(), size_ * sizeof(T));
    }
    guarded(const guarded&) = delete;
    guarded& operator=(const guarded&) = delete;
    ~guarded() {
#if NOTCH_TEST_GUARD_PAGES
        munmap(base_, mapped_);
#else
        ::operator delete(base_);
#endif
    }

    [[nodiscard]] T* data() { return data_; }
    [[nodiscard]] const T* data() const { return data_; }
    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] T* begin() { return data_; }
    [[nodiscard]] T* end() { return data_ + size_; }
    [[nodiscard]] const T* begin() const { return data_; }
    [[nodiscard]] const T* end() const { return data_ + size_; }
    T& operator[](std::size_t i) { return data_[i]; }
    const T& operator[](std::size_t i) const { return data_[i]; }

private:
    unsigned char* base_ = nullptr;
    T* data_ = nullptr;
    std::size_t size_ = 0, mapped_ = 0;
};
