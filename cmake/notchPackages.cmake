# SPDX-License-Identifier: Apache-2.0
#
# The optional parts of notch. notch::notch needs no other package; each of these targets adds one
# and exists only if that package is found:
#
#   notch::eigen   Eigen 3.3 or later       <notch/eigen/...>, <notch/layers/...>
#   notch::xsimd   xsimd 8 or later         <notch/simd/elementwise.hpp>, <notch/observe/...>, <notch/qat/...>
#   notch::io      nlohmann_json 3          <notch/io/...>, calibration caches with notch::xsimd
#   notch::flatbuffers   flatbuffers 2 or later   <notch/io/tflite.hpp>
#   notch::npz     libzip, with notch::io   <notch/io/npz.hpp>
#
# Used by notch's own CMakeLists.txt (with GLOBAL) and by the installed notchConfig.cmake.

function(notch_package name package target minimum)
    if(TARGET notch::${name})
        return()
    endif()
    if(NOT TARGET ${target})
        find_package(${package} QUIET CONFIG)
        if(NOT TARGET ${target})
            return()
        endif()
        # Seen from add_subdirectory, an imported target is visible above only if it is global.
        get_target_property(alias ${target} ALIASED_TARGET)
        if("GLOBAL" IN_LIST ARGN AND NOT alias)
            set_target_properties(${target} PROPERTIES IMPORTED_GLOBAL TRUE)
        endif()
    endif()
    if(${package}_VERSION AND ${package}_VERSION VERSION_LESS minimum)
        message(STATUS "notch: ${package} ${${package}_VERSION} is older than ${minimum}: no notch::${name}")
        return()
    endif()
    add_library(notch::${name} INTERFACE IMPORTED ${ARGN})
    target_link_libraries(notch::${name} INTERFACE notch::notch)
    get_target_property(links ${target} INTERFACE_LINK_LIBRARIES)
    if("xtl" IN_LIST links AND NOT TARGET xtl)
        # Debian's xsimd names a library xtl that is not installed, and that its headers do not need.
        target_include_directories(notch::${name} INTERFACE
                                   "$<TARGET_PROPERTY:${target},INTERFACE_INCLUDE_DIRECTORIES>")
    else()
        target_link_libraries(notch::${name} INTERFACE ${target})
    endif()
endfunction()

# libzip is looked for by hand: the CMake package of some distributions insists on programs that lie in packages of
# their own.
function(notch_npz)
    if(TARGET notch::npz OR NOT TARGET notch::io)
        return()
    endif()
    find_path(NOTCH_LIBZIP_INCLUDE_DIR zip.h DOC "Where zip.h of libzip is")
    find_library(NOTCH_LIBZIP_LIBRARY zip DOC "libzip")
    mark_as_advanced(NOTCH_LIBZIP_INCLUDE_DIR NOTCH_LIBZIP_LIBRARY)
    if(NOT NOTCH_LIBZIP_INCLUDE_DIR OR NOT NOTCH_LIBZIP_LIBRARY)
        return()
    endif()
    add_library(notch::npz INTERFACE IMPORTED ${ARGN})
    target_include_directories(notch::npz INTERFACE "${NOTCH_LIBZIP_INCLUDE_DIR}")
    target_link_libraries(notch::npz INTERFACE notch::io "${NOTCH_LIBZIP_LIBRARY}")
endfunction()

function(notch_packages)
    notch_package(eigen Eigen3 Eigen3::Eigen 3.3 ${ARGN})
    notch_package(xsimd xsimd xsimd 8 ${ARGN})
    notch_package(io nlohmann_json nlohmann_json::nlohmann_json 3 ${ARGN})
    notch_package(flatbuffers flatbuffers flatbuffers::flatbuffers 2 ${ARGN})
    notch_package(flatbuffers FlatBuffers flatbuffers::flatbuffers 2 ${ARGN}) # its name before version 23
    notch_npz(${ARGN})
endfunction()
