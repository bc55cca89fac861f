// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/definitions.hpp: all kernels, for the one file that compiles them in a program whose other files only
// declare them.
//
// By default each translation unit that calls a kernel compiles it, for every instruction set: seconds for each file,
// and slow kernels in a build without optimization. A program of many files may instead define NOTCH_SEPARATE_KERNELS
// for all of them, and add one file that says nothing but
//
//     #include <notch/kernels/definitions.hpp>
//
// That file may be optimized differently (-O2 beside the -O0 of the rest). Compiled for another instruction set or
// without exceptions it has another key (core/unit_key.hpp), and the linker names what is missing. Include it in no
// header, and before any other header of notch.
//
// A program that calls few families, or whose compilers work in parallel, may have some files instead, each with those
// headers of kernels/ whose families it defines, every family in one file:
//
//     #define NOTCH_DEFINE_KERNELS
//     #include <notch/kernels/conv_tile.hpp> // of gemm.hpp too, which it includes
#pragma once

#if defined(NOTCH_SEPARATE_KERNELS) && defined(NOTCH_KERNELS)
#error "notch: include <notch/kernels/definitions.hpp> before any other header of notch"
#endif
#ifndef NOTCH_DEFINE_KERNELS
#define NOTCH_DEFINE_KERNELS
#endif

#include <notch/kernels/add.hpp>
#include <notch/kernels/aggregate.hpp>
#include <notch/kernels/conv_tile.hpp>
#include <notch/kernels/depthwise.hpp>
#include <notch/kernels/embedding.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/gemm_batched.hpp>
#include <notch/kernels/lookup.hpp>
#include <notch/kernels/lowbit.hpp>
#include <notch/kernels/multiply.hpp>
#include <notch/kernels/norm.hpp>
#include <notch/kernels/pool.hpp>
#include <notch/kernels/quantize.hpp>
#include <notch/kernels/recurrent.hpp>
#include <notch/kernels/softmax.hpp>
#include <notch/kernels/weight_only.hpp>
