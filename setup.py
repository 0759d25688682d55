"""Build the C++ extension; everything else is in pyproject.toml.

MEMOIR_FAST_EXT=0 builds none (pure Python); MEMOIR_FAST_SANITIZE=1 builds it with AddressSanitizer and UBSan.
"""

import os

import pybind11
from setuptools import Extension, setup

HEADERS = ["csrc/kernels.h", "csrc/kernels.inl"]
SOURCES = ["csrc/bindings.cpp", "csrc/level_scalar.cpp", "csrc/level_avx2.cpp", "csrc/level_avx512.cpp"]


def extensions():
    if os.environ.get("MEMOIR_FAST_EXT") == "0":
        return []
    flags = ["-std=c++17", "-O3", "-fopenmp-simd", "-fvisibility=hidden", "-Wall"]
    link = []
    if os.environ.get("MEMOIR_FAST_SANITIZE") == "1":
        flags += ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
        link = ["-fsanitize=address,undefined"]
    return [
        Extension("memoir_fast._C", SOURCES, [pybind11.get_include()], extra_compile_args=flags, extra_link_args=link,
                  depends=HEADERS)
    ]  # fmt: skip


setup(
    packages=["memoir_fast"],
    package_data={"memoir_fast": ["data/*.jsonl"]},
    ext_modules=extensions(),
)
