"""Threads: the same bits for any number, no thread without need, several callers, forks, torch beside us, exit."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import kernel_cases as cases
import numpy as np
import pytest

import bml
from bml.kernels import _isa
from bml.kernels._table import KERNELS, Call

UNITS, SUM = 40, 40 * 39 // 2
START = """
import multiprocessing, os, signal, sys, threading
from pathlib import Path
from bml.kernels import _isa
core = _isa.load(_isa.best())
def right(threads=3):
    return core._pool_sum(40, 2000, threads) == 780
def in_child(work):
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a deadlock ends the child
        os._exit(0 if work() else 1)
    return os.waitpid(child, 0)[1] == 0
"""


def python(code: str) -> str:
    """What a fresh interpreter prints; it must end well and soon."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", START + code], cwd=Path(bml.__file__).parents[1], capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("cpu", _isa.runnable())
@pytest.mark.parametrize(("name", "which"), [(k.name, e) for k in KERNELS for e in k.examples])
def test_the_number_of_threads_changes_no_bit(name: str, which: str, cpu: str) -> None:
    (kernel,) = [k for k in KERNELS if k.name == name]
    call = kernel.examples[which](np.random.default_rng(5), 700, 40)
    results = [
        cases.outcome(kernel, Call(call.args, call.kwargs | {"threads": n}), f"compiled {cpu}") for n in (1, 2, 3)
    ]
    cases.assert_same(results[1], results[0])
    cases.assert_same(results[2], results[0])


def test_the_variable_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for kernel in KERNELS:
        call = next(iter(kernel.examples.values()))(np.random.default_rng(5), 4, 3)
        monkeypatch.setenv("BML_NUM_THREADS", "none")
        with pytest.raises(ValueError, match=f"^{kernel.name}: BML_NUM_THREADS must be a number"):
            kernel.run(call)
        monkeypatch.setenv("BML_NUM_THREADS", "2")
        kernel.run(call)


def test_threads_start_when_needed_and_stay() -> None:
    code = """
sizes = [core._pool_size()]
for threads, units in ((1, 40), (8, 1), (8, 0), (2, 2), (4, 40), (3, 40), (9, 3)):
    core._pool_sum(units, 0, threads)
    sizes.append(core._pool_size())
print(*sizes)
"""
    assert python(code) == "0 0 0 0 1 3 3 3"


def test_threads_leave_signals_to_python() -> None:
    code = """
import time
assert right()
def blocked():
    tasks = [task for task in Path('/proc/self/task').iterdir() if task.name != str(os.getpid())]
    lines = [line for task in tasks for line in (task / 'status').read_text().splitlines()]
    return [int(line.split()[1], 16) for line in lines if line.startswith('SigBlk')]
bit = lambda number: 1 << (number - 1)
wanted = lambda mask: bool(mask & bit(signal.SIGINT)) and not mask & bit(signal.SIGSEGV)
until = time.monotonic() + 5  # a thread that is only starting blocks everything
while sum(map(wanted, blocked())) != 2 and time.monotonic() < until:
    time.sleep(0.01)
print(sum(map(wanted, blocked())))
"""
    assert python(code) == "2"


def test_several_python_threads_at_once() -> None:
    core = _isa.load(_isa.best())
    right: list[bool] = []
    callers = [
        threading.Thread(target=lambda n=n: right.extend(core._pool_sum(UNITS, 500, n) == SUM for _ in range(200)))
        for n in (1, 2, 3, 4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert right == [True] * 800


def test_the_lock_of_python_is_not_held() -> None:
    core = _isa.load(_isa.best())
    counted, stop = [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            counted[0] += 1
            time.sleep(0.001)

    other = threading.Thread(target=count)
    other.start()
    try:
        before = counted[0]
        core._pool_sum(UNITS, 5_000_000, 2)
        assert counted[0] > before + 3
    finally:
        stop.set()
        other.join()


def test_a_forked_child_starts_its_own() -> None:
    code = """
assert right(4)
fresh = lambda: core._pool_size() == 0 and right() and core._pool_size() == 2
print([in_child(fresh) for _ in range(3)], in_child(lambda: right() and in_child(fresh)), right(4))
"""
    assert python(code) == "[True, True, True] True True"


def test_forks_while_the_threads_work() -> None:
    code = """
stop = threading.Event()
def work():
    while not stop.is_set():
        assert right()
other = threading.Thread(target=work)
other.start()
print(all(in_child(right) for _ in range(30)))
stop.set()
other.join()
"""
    assert python(code) == "True"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_processes_of_multiprocessing(method: str, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(START + f"""
def one(_):
    return right()
if __name__ == '__main__':
    assert right()
    with multiprocessing.get_context({method!r}).Pool(2) as processes:
        print(processes.map(one, range(6)), right())
""")  # fmt: skip
    env = os.environ | {"PYTHONPATH": str(Path(bml.__file__).parents[1])}
    done = subprocess.run([sys.executable, tmp_path / "main.py"], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, f"{[True] * 6} True"), done.stderr


@pytest.mark.parametrize("first", ["torch", "bml"])
def test_beside_the_threads_of_torch(first: str) -> None:
    pytest.importorskip("torch")
    code = f"""
assert {first == "torch"} or right()
import torch
torch.set_num_threads(2)
x = torch.ones(600, 600)
sums = []
for _ in range(3):
    sums.append(float((x @ x).sum()))
    assert right()
print(set(sums), in_child(right), right(), float((x @ x).sum()))
"""
    assert python(code) == "{216000000.0} True True 216000000.0"


def test_exit_does_not_wait_for_a_call() -> None:
    began = time.monotonic()
    code = """
right()
threading.Thread(target=core._pool_sum, args=(10**6, 10**5, 2), daemon=True).start()
print('end')
"""
    assert python(code) == "end"
    assert time.monotonic() - began < 30
