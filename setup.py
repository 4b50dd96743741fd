"""The compiled modules and nothing else; everything else is in pyproject.toml.

BML_DEBUG=1                       assertions on, -O0 -g, Cython bounds checks
BML_SANITIZE=address,undefined    build under these sanitizers (implies debug symbols)
BML_BUILD_JOBS=N                  compile N files at a time (default: all cores)
"""

import os
from glob import glob

from Cython.Build import cythonize
from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import Extension, setup

debug = os.environ.get("BML_DEBUG") == "1"
sanitize = os.environ.get("BML_SANITIZE", "")

compile_args = ["-O0", "-g", "-UNDEBUG"] if debug else ["-O3", "-g0"]
compile_args += ["-ffp-contract=off"]  # no fused multiply-add: the same bits on every machine and backend
link_args = []
if sanitize:
    compile_args += [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", "-O1", "-g"]
    link_args += [f"-fsanitize={sanitize}"]
warnings = ["-Wall", "-Wextra", "-Wconversion", "-Werror"] if os.environ.get("BML_WERROR") == "1" else []

kernels = Pybind11Extension(
    "bml.kernels._core",
    sorted(glob("csrc/bind/*.cpp")),
    include_dirs=["csrc/include"],
    depends=sorted(glob("csrc/include/bml/*.hpp")) + sorted(glob("csrc/bind/*.hpp")),
    cxx_std=20,
    extra_compile_args=compile_args + warnings,
    extra_link_args=link_args,
)
cython = cythonize(
    [
        Extension(path[:-4].replace("/", "."), [path], extra_compile_args=compile_args, extra_link_args=link_args)
        for path in sorted(glob("bml/**/*.pyx", recursive=True))
    ],
    compiler_directives={"language_level": "3", "boundscheck": debug, "wraparound": False, "cdivision": True},
    build_dir="build",
)

ParallelCompile("BML_BUILD_JOBS", default=0).install()
setup(ext_modules=[kernels, *cython], cmdclass={"build_ext": build_ext})
