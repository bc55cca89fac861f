// SPDX-License-Identifier: Apache-2.0
//
// notch/notch.hpp: everything that needs no other package: the vocabulary, the reference, the
// kernels, the inference layers and the post-training methods on plain spans. Observers and what is made
// of their statistics need xsimd (notch/observe, notch/qat, notch/ptq), the training layers also Eigen
// (notch/layers/train.hpp), as do GPTQ, AdaRound and AWQ; files need nlohmann-json (notch/io).
#pragma once

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/core/parallel.hpp>
#include <notch/core/shape.hpp>
#include <notch/core/types.hpp>
#include <notch/core/view.hpp>
#include <notch/core/workspace.hpp>
#include <notch/kernels/add.hpp>
#include <notch/kernels/concat.hpp>
#include <notch/kernels/conv.hpp>
#include <notch/kernels/conv1d.hpp>
#include <notch/kernels/conv_transposed.hpp>
#include <notch/kernels/depthwise.hpp>
#include <notch/kernels/embedding.hpp>
#include <notch/kernels/epilogue.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/gemm_batched.hpp>
#include <notch/kernels/gemm_dynamic.hpp>
#include <notch/kernels/lookup.hpp>
#include <notch/kernels/lowbit.hpp>
#include <notch/kernels/lowbit_conv.hpp>
#include <notch/kernels/multiply.hpp>
#include <notch/kernels/norm.hpp>
#include <notch/kernels/pack.hpp>
#include <notch/kernels/pack_groups.hpp>
#include <notch/kernels/pack_lowbit.hpp>
#include <notch/kernels/pool.hpp>
#include <notch/kernels/quantize.hpp>
#include <notch/kernels/softmax.hpp>
#include <notch/kernels/stages.hpp>
#include <notch/kernels/table.hpp>
#include <notch/kernels/weight_only.hpp>
#include <notch/layers/frozen.hpp>
#include <notch/ptq/bias_correction.hpp>
#include <notch/ptq/equalize.hpp>
#include <notch/ptq/hadamard.hpp>
#include <notch/ptq/hqq.hpp>
#include <notch/ptq/smooth_quant.hpp>
#include <notch/ptq/weight_shape.hpp>
#include <notch/ref/add.hpp>
#include <notch/ref/concat.hpp>
#include <notch/ref/conv.hpp>
#include <notch/ref/embedding.hpp>
#include <notch/ref/functions.hpp>
#include <notch/ref/gemm.hpp>
#include <notch/ref/gemm_dynamic.hpp>
#include <notch/ref/lookup.hpp>
#include <notch/ref/lowbit.hpp>
#include <notch/ref/multiply.hpp>
#include <notch/ref/norm.hpp>
#include <notch/ref/pool.hpp>
#include <notch/ref/quantize.hpp>
#include <notch/ref/softmax.hpp>
#include <notch/ref/weight_only.hpp>
#include <notch/scheme/block_format.hpp>
#include <notch/scheme/e8m0.hpp>
#include <notch/scheme/fixed_point.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/half.hpp>
#include <notch/scheme/minifloat.hpp>
#include <notch/scheme/nf4.hpp>
#include <notch/scheme/packed_codes.hpp>
#include <notch/scheme/packed_int4.hpp>
#include <notch/scheme/packed_lowbit.hpp>
#include <notch/scheme/philox.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/reciprocal_sqrt.hpp>
#include <notch/scheme/requantize.hpp>
#include <notch/scheme/rounding.hpp>
#include <notch/simd/cpu.hpp>
