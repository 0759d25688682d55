"""Build the extensions; everything else is in pyproject.toml.

MEMOIR_FAST_EXT=0 builds none (pure Python). MEMOIR_FAST_CUDA=1 asks for the CUDA extension, 0 leaves it out; unset, it
is tried where nvcc is found, and a toolkit that cannot build it does not stop the install. MEMOIR_FAST_SANITIZE=1 builds
the C++ extension with AddressSanitizer and UBSan.
"""

import os
import shutil
import subprocess

import pybind11
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

CPU, SUBJECTS = "csrc/cpu", ("tophash", "products", "scatter", "hamming", "pairs", "candidates")
HEADERS = [
    f"{CPU}/kernels.h",
    f"{CPU}/kernels.inl",
    f"{CPU}/pairs.h",
    f"{CPU}/pool.h",
    f"{CPU}/bindings/bindings.h",
    f"{CPU}/kernels/elements.inl",
]
HEADERS += [f"{CPU}/kernels/{subject}.inl" for subject in (*SUBJECTS, "pairs_likeness", "pairs_window", "pairs_sides", "pairs_senses")]
SOURCES = [f"{CPU}/level_scalar.cpp", f"{CPU}/level_avx2.cpp", f"{CPU}/level_avx512.cpp", f"{CPU}/pool.cpp"]
SOURCES += [f"{CPU}/bindings/{part}.cpp" for part in ("module", "levels", *SUBJECTS)]
CUDA_SOURCES = ["csrc/cuda/bindings.cpp", "csrc/cuda/masked_scatter.cu"]
CUDA_ARCHITECTURES = ["80", "90", "100"]


def wanted_cuda():
    """Whether to build the CUDA extension: by request, or because nvcc is here; never because a GPU is."""
    asked = os.environ.get("MEMOIR_FAST_CUDA")
    if asked == "1" and not shutil.which("nvcc"):
        raise SystemExit("MEMOIR_FAST_CUDA=1, but nvcc is not on PATH: install the CUDA toolkit or unset it")
    return asked != "0" and shutil.which("nvcc") is not None


def cuda_libraries():
    """The toolkit's library folder, as nvcc names it (the nvcc on PATH may be a wrapper)."""
    dry = subprocess.run(["nvcc", "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True).stderr
    tops = [line.split("TOP=", 1)[1].strip() for line in dry.splitlines() if "TOP=" in line]
    return [os.path.join(top, "lib64") for top in tops]


class BuildExt(build_ext):
    """build_ext that compiles .cu sources with nvcc."""

    def build_extension(self, ext):
        for source in [s for s in ext.sources if s.endswith(".cu")]:
            ext.sources.remove(source)
            ext.extra_objects.append(self.compile_cuda(source))
        super().build_extension(ext)

    def compile_cuda(self, source):
        os.makedirs(self.build_temp, exist_ok=True)
        target = os.path.join(self.build_temp, os.path.basename(source) + ".o")
        codes = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in CUDA_ARCHITECTURES]
        command = ["nvcc", "-O3", "-std=c++17", "-Xcompiler=-fPIC", "--threads=0", *codes, "-c", source, "-o", target]
        try:
            subprocess.check_call(command)
        except subprocess.CalledProcessError as error:  # setuptools forgives this one to an optional extension
            raise CompileError(f"nvcc could not compile {source}") from error
        return target


def extensions():
    if os.environ.get("MEMOIR_FAST_EXT") == "0":
        return []
    flags, link = ["-std=c++17", "-O3", "-fopenmp-simd", "-fvisibility=hidden", "-Wall"], []
    if os.environ.get("MEMOIR_FAST_SANITIZE") == "1":
        flags += ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
        link = ["-fsanitize=address,undefined"]
    shared = {"include_dirs": [pybind11.get_include()], "extra_compile_args": flags, "extra_link_args": link}
    found = [Extension("memoir_fast.ops._C", list(SOURCES), depends=HEADERS, libraries=["dl"], **shared)]
    if wanted_cuda():
        libraries = ["cudart_static", "dl", "rt", "pthread"]
        optional = os.environ.get("MEMOIR_FAST_CUDA") != "1"
        found.append(Extension("memoir_fast.ops._cuda", list(CUDA_SOURCES), depends=["csrc/cuda/masked_scatter.h"], optional=optional,
                               library_dirs=cuda_libraries(), libraries=libraries, **shared))  # fmt: skip
    return found


setup(
    packages=[*find_packages(include=["memoir_fast", "memoir_fast.*"]), *find_packages("kernels")],
    package_dir={"memoir_fast_kernels": "kernels/memoir_fast_kernels"},
    package_data={
        "memoir_fast": ["py.typed", "data/*.jsonl", "data/*.safetensors", "data/README.md"],
        "memoir_fast.ops": ["*.pyi"],
        "memoir_fast.compat": ["hparams/*.yaml"],
        "memoir_fast.serving.editing": ["templates/*"],
        "memoir_fast_kernels": ["py.typed"],
    },
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildExt},
)
