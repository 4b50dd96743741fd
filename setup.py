"""The compiled modules and nothing else; everything else is in pyproject.toml.

BML_ISAS=v4                       of the kernels' builds (v2,v3,v4: x86-64 levels; default: all) only these
BML_DEBUG=1                       assertions on, -O0 -g, Cython bounds checks
BML_SANITIZE=address,undefined    build under these sanitizers (implies debug symbols)
BML_BUILD_JOBS=N                  compile N files at a time (default: all cores)
"""

import os
import sysconfig
from glob import glob

from Cython.Build import cythonize
from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import Extension, setup

debug = os.environ.get("BML_DEBUG") == "1"
sanitize = os.environ.get("BML_SANITIZE", "")

compile_args = ["-O0", "-g", "-UNDEBUG"] if debug else ["-O3", "-g0"]
compile_args += ["-ffp-contract=off"]  # no fused multiply-add: the same bits on every machine and backend
compile_args += ["-pthread", "-Wno-psabi"]  # vectors never pass between object files
link_args = ["-pthread"]
if sanitize:
    compile_args += [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", "-O1", "-g"]
    link_args += [f"-fsanitize={sanitize}"]
warnings = ["-Wall", "-Wextra", "-Wconversion", "-Werror"] if os.environ.get("BML_WERROR") == "1" else []

# One module an instruction set, all of the same source: an inline function compiled twice never meets itself.
if sysconfig.get_platform().endswith("x86_64"):
    isas = {f"v{n}": [f"-march=x86-64-v{n}"] for n in (2, 3, 4)}
    isas["v4"] += ["-mprefer-vector-width=512"]
else:
    isas = {"base": []}
wanted = os.environ.get("BML_ISAS", ",".join(isas)).split(",")
if unknown := set(wanted) - set(isas):
    raise SystemExit(f"BML_ISAS: no build for {', '.join(sorted(unknown))} here: there are {', '.join(isas)}")


def compiled(name: str, sources: list[str], flags: list[str]) -> Pybind11Extension:
    return Pybind11Extension(
        f"bml.kernels.{name}",
        sources,
        include_dirs=["csrc/include"],
        depends=glob("csrc/include/bml/*.hpp") + glob("csrc/bind/*.hpp"),
        define_macros=[("BML_MODULE", name)],
        cxx_std=20,
        extra_compile_args=compile_args + warnings + flags,
        extra_link_args=link_args,
    )


class BuildExt(build_ext):
    """Objects of one source compiled for several modules lie apart."""

    def build_extension(self, ext: Extension) -> None:
        shared = self.build_temp
        self.build_temp = os.path.join(shared, ext.name)
        try:
            super().build_extension(ext)
        finally:
            self.build_temp = shared


kernels = [compiled("_cpu", ["csrc/probe/cpu.cpp"], [])]
kernels += [compiled(f"_core_{isa}", sorted(glob("csrc/bind/*.cpp")), isas[isa]) for isa in wanted]
cython = cythonize(
    [
        Extension(
            path[:-4].replace("/", "."),
            [path],
            language="c++",
            include_dirs=["csrc/include"],
            depends=glob("csrc/include/bml/*.hpp"),
            extra_compile_args=["-std=c++20", *compile_args],
            extra_link_args=link_args,
        )
        for path in sorted(glob("bml/**/*.pyx", recursive=True))
    ],
    compiler_directives={"language_level": "3", "boundscheck": debug, "wraparound": False, "cdivision": True},
    build_dir="build",
)

ParallelCompile("BML_BUILD_JOBS", default=0).install()
setup(ext_modules=[*kernels, *cython], cmdclass={"build_ext": BuildExt})
