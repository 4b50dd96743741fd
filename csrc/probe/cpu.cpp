// bml.kernels._cpu: which of the builds of the kernels this processor and its system can run. Plain baseline
// code.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

namespace {

#if defined(__x86_64__)
// The levels of the x86-64 psABI, feature by feature: a level's name alone is not known to all compilers.
bool has_v2() {
    return __builtin_cpu_supports("cmpxchg16b") && __builtin_cpu_supports("popcnt") &&
           __builtin_cpu_supports("sse3") && __builtin_cpu_supports("ssse3") &&
           __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("sse4.2");
}

bool has_v3() {  // the AVX answers include that the system saves the wide registers
    return has_v2() && __builtin_cpu_supports("avx") && __builtin_cpu_supports("avx2") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
           __builtin_cpu_supports("f16c") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("lzcnt") && __builtin_cpu_supports("movbe");
}

bool has_v4() {
    return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}

PyObject* runs() {
    __builtin_cpu_init();
    if (has_v4()) return Py_BuildValue("(sss)", "v4", "v3", "v2");
    if (has_v3()) return Py_BuildValue("(ss)", "v3", "v2");
    if (has_v2()) return Py_BuildValue("(s)", "v2");
    return PyTuple_New(0);
}
#else
PyObject* runs() { return Py_BuildValue("(s)", "base"); }
#endif

PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    "_cpu",
    "RUNS: names of the builds of the kernels that this processor can run, the fastest first.",
    0,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__cpu() {
    PyObject* made = PyModule_Create(&module);
    if (made == nullptr) return nullptr;
    PyObject* names = runs();
    if (names == nullptr || PyModule_AddObjectRef(made, "RUNS", names) < 0) {
        Py_XDECREF(names);
        Py_DECREF(made);
        return nullptr;
    }
    Py_DECREF(names);
    return made;
}
