// SPDX-License-Identifier: Apache-2.0
// The same source with other flags.
#include "calls.hpp"

std::uint64_t native() { return digest_of_everything("native"); }
