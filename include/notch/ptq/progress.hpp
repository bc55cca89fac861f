// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/progress.hpp: methods that take long call progress(done, total) as they go: any function of two index_t,
// by default this one.
#pragma once

#include <notch/core/config.hpp>
#include <notch/core/types.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

struct no_progress {
    void operator()(index_t, index_t) const noexcept {}
};

} // namespace detail
NOTCH_KEYED_END
