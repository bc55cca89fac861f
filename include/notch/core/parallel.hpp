// SPDX-License-Identifier: Apache-2.0
//
// notch/core/parallel.hpp: threads belong to the caller. A kernel splits its work into n
// independent tasks and hands them to the executor; results do not depend on the executor, on the
// number of threads or on the order of the tasks.
#pragma once

#include <concepts>
#include <memory>
#include <type_traits>

#include <notch/core/config.hpp>
#include <notch/core/types.hpp>

NOTCH_NAMESPACE_BEGIN

/// What a kernel hands to an executor: call it with every index 0..n-1, in any order, on any
/// thread; it never throws.
struct task_ref {
    void (*call)(void* context, index_t index) = nullptr;
    void* context = nullptr;
    NOTCH_INLINE void operator()(index_t index) const { call(context, index); }
};

/// An executor runs all tasks and returns when they are done, and says how many run at once:
///
///     struct my_pool {
///         notch::index_t concurrency() const;                 // >= 1
///         void run(notch::index_t n, notch::task_ref task);   // task(0) ... task(n-1)
///     };
///
/// run returns after the last task. n may be more than concurrency(); tasks may run in any order and on
/// any thread, one after the other too. concurrency() may change from one call of a kernel to the next: a call
/// asks it once before it touches its workspace. Where a query of a workspace's size takes a context, its answer is
/// for the concurrency at that time; a call that finds more refuses the workspace as too small.
template <class E>
concept executor = requires(E& e, index_t n, task_ref task) {
    { e.concurrency() } -> std::convertible_to<index_t>;
    e.run(n, task);
};

/// A non-owning, type-erased reference to an executor; default-constructed it is serial.
/// The executor must outlive it. Two pointers: cheap to copy.
class executor_ref {
public:
    NOTCH_INLINE constexpr executor_ref() noexcept {}
    template <class E>
        requires(executor<E> && !std::same_as<std::remove_cv_t<E>, executor_ref>)
    NOTCH_INLINE executor_ref(E& e)
    noexcept
        : object_(const_cast<void*>(static_cast<const void*>(std::addressof(e)))),
          run_([](void* object, index_t n, task_ref task) { static_cast<E*>(object)->run(n, task); }),
          concurrency_([](void* object) -> index_t { return static_cast<E*>(object)->concurrency(); }) {}

    [[nodiscard]] NOTCH_INLINE index_t concurrency() const {
        const index_t n = concurrency_ ? concurrency_(object_) : 1;
        return n > 1 ? n : 1;
    }
    NOTCH_INLINE void run(index_t n, task_ref task) const {
        if (run_ && n > 1) {
            run_(object_, n, task);
        } else {
            for (index_t i = 0; i < n; ++i) task(i);
        }
    }

private:
    void* object_ = nullptr;
    void (*run_)(void*, index_t, task_ref) = nullptr;
    index_t (*concurrency_)(void*) = nullptr;
};

NOTCH_NAMESPACE_END
