"""Features of the user's own: compiled equals plain Python, nothing beyond the window is seen, errors are clear."""

from __future__ import annotations

import math
import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numpy import take_along_axis

import bml
from bml import kernels
from bml.kernels.jit import WindowFeature, window_feature
from bml.types import Float64

ROOT = Path(bml.__file__).parents[1]
SCALE = 3.0
NONE = None


@numba.njit(boundscheck=True)
def scaled(x: float) -> float:
    return SCALE * x


@numba.njit
def unchecked(x: Any, k: int) -> float:
    value: float = x[k]
    return value


def plain_python(x: float) -> float:
    return x


@window_feature(rows=2)
def change(book_WLF: Float64, mid_W: Float64, *, level: int = 0, scale: float = 1.0) -> float:
    return scale * scaled(book_WLF[-1, level, 1] - book_WLF[-2, level, 1]) / mid_W[-1]


@window_feature(rows=3, names=("first", "rows"))
def pair(book_WLF: Float64, mid_W: Float64) -> tuple[float, float]:
    return book_WLF[0, 0, 0], float(len(mid_W))


def books(n: int = 40, levels: int = 3, seed: int = 0) -> Float64:
    return np.random.default_rng(seed).random((n, levels, 4))


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run([sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True)


def test_compiled_equals_plain_python_bit_for_bit() -> None:
    book = books()
    book[7, 0] = np.nan
    book[20, 2] = np.nan
    for params in ({}, {"level": 2}, {"scale": -0.3, "level": 1}):
        np.testing.assert_array_equal(change(book, **params), change.spec(book, **params))
    np.testing.assert_array_equal(pair(book), pair.spec(book))
    expected = np.full(40, np.nan)
    mid = 0.5 * (book[:, 0, 0] + book[:, 0, 2])
    expected[1:] = SCALE * np.diff(book[:, 0, 1]) / mid[1:]
    np.testing.assert_array_equal(change(book), expected)


def test_nan_before_enough_rows_and_where_a_mid_of_the_window_is_unknown() -> None:
    book = books()
    mid = np.ones(40)
    mid[[10, 25]] = np.nan
    unknown = [0, 1, 10, 11, 12, 25, 26, 27]
    assert np.flatnonzero(np.isnan(pair(book, mid)[:, 0])).tolist() == unknown
    assert np.flatnonzero(np.isnan(pair(book, mid)[:, 1])).tolist() == unknown
    assert np.flatnonzero(np.isnan(pair(book, mid, rows=1)[:, 0])).tolist() == [10, 25]
    assert np.isnan(pair(book, mid, rows=41)).all()
    assert pair(book, mid, rows=9)[9].tolist() == [book[1, 0, 0], 9.0]


@pytest.mark.parametrize("threads", [1, 2, 3, 64])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 41])
def test_threads_change_nothing(n: int, threads: int) -> None:
    book = books(n)
    mid = np.where(np.arange(n) % 9 == 4, np.nan, 1.0)
    np.testing.assert_array_equal(pair(book, mid, threads=threads), pair.spec(book, mid))
    assert change(book, threads=threads).shape == (n,)


def test_number_of_threads_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BML_NUM_THREADS", "2")
    np.testing.assert_array_equal(change(books()), change.spec(books()))
    monkeypatch.setenv("BML_NUM_THREADS", "many")
    with pytest.raises(ValueError, match="BML_NUM_THREADS must be a number from 1 to 1024, not 'many'"):
        change(books())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_narrow_books_are_read_as_float64(dtype: str) -> None:
    narrow = books().astype(dtype)
    np.testing.assert_array_equal(change(narrow), change(narrow.astype(np.float64)))


def test_out_is_used() -> None:
    one, two = np.empty(40), np.empty((40, 2))
    assert change(books(), out=one) is one
    assert pair(books(), out=two) is two
    np.testing.assert_array_equal(one, change(books()))
    np.testing.assert_array_equal(two, pair(books()))
    for wrong in (np.empty(39), np.empty(40, np.float32), np.empty(80)[::2]):
        with pytest.raises((ValueError, TypeError), match="change: out must"):
            change(books(), out=wrong)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((books()[:, :, :3],), "change: book_TLF must have shape"),
        ((books()[:, :0],), "change: book_TLF must have shape"),
        ((books()[0],), "change: book_TLF must be 3-D"),
        ((books(), np.ones(39)), "change: mid_T has length 39"),
        ((books(), np.ones(40, np.float32)), "change: mid_T must be float64"),
        ((books().astype(int),), "change: book_TLF must be float64 or float32 or float16, not int64"),
    ],
)
def test_wrong_arrays_are_refused(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(words)):
        change(*arguments)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"levle": 1}, "change has no parameter 'levle'; did you mean 'level'?"),
        ({"level": 1.5}, "change: level must be int, not 1.5"),
        ({"level": True}, "change: level must be int, not True"),
        ({"scale": "big"}, "change: scale must be float, not 'big'"),
        ({"rows": 0}, "change: rows must be at least 1"),
        ({"threads": 0}, "change: threads must be a number from 1 to 1024"),
    ],
)
def test_wrong_parameters_are_refused(params: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(words)):
        change(books(), **params)


def attribute(book_WLF: Any, mid_W: Any) -> Any:
    return book_WLF.median_price


def unknown_name(book_WLF: Any, mid_W: Any) -> Any:
    return nowhere  # type: ignore[name-defined]  # noqa: F821


def changes_its_input(book_WLF: Any, mid_W: Any) -> Any:
    book_WLF[0, 0, 0] = 1.0
    return 1.0


def nothing(book_WLF: Any, mid_W: Any) -> Any:
    return None


def an_array(book_WLF: Any, mid_W: Any) -> Any:
    return mid_W


def calls_python(book_WLF: Any, mid_W: Any) -> Any:
    return plain_python(mid_W[0])


def calls_unchecked(book_WLF: Any, mid_W: Any) -> Any:
    return unchecked(mid_W, 1)


def text(book_WLF: Any, mid_W: Any) -> Any:
    return mid_W[0] + "a"


def strided(book_WLF: Any, mid_W: Any) -> Any:
    return np.lib.stride_tricks.as_strided(mid_W, (9,), (8,))[8]


def along(book_WLF: Any, mid_W: Any) -> Any:
    return take_along_axis(mid_W, np.array([8]), 0)[0]


def flat(book_WLF: Any, mid_W: Any) -> Any:
    return mid_W.flat[8]


def by_address(book_WLF: Any, mid_W: Any) -> Any:
    return numba.carray(mid_W.ctypes, (9,))[8]


def random(book_WLF: Any, mid_W: Any) -> Any:
    return np.random.rand()  # noqa: NPY002


def with_file(book_WLF: Any, mid_W: Any) -> Any:
    with open("x"):
        return 1.0


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (attribute, "numba cannot compile it: Unknown attribute 'median_price'"),
        (unknown_name, "numba cannot compile it: name 'nowhere' is not defined"),
        (changes_its_input, r"numba cannot compile it: Cannot modify readonly array.* may not change its input"),
        (nothing, "must return a number, it returns none"),
        (an_array, "must return a number, it returns .*array"),
        (calls_python, "numba cannot compile it: Untyped global name 'plain_python'"),
        (calls_unchecked, r"unchecked could read beyond its window: decorate it with numba.njit\(boundscheck"),
        (strided, "numpy.lib could read beyond its window: use a loop or an index, which are checked"),
        (along, "take_along_axis could read beyond its window"),
        (flat, r"\.flat could read beyond its window"),
        (by_address, "numba could read beyond its window"),
        (random, "numpy.random could read beyond its window"),
        (text, r"numba cannot compile it: it knows no add\(float64, "),
        (with_file, "numba cannot compile it: Unsupported context manager"),
    ],
)
def test_a_function_that_does_not_compile_is_told_in_one_line(fn: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words) as caught:
        window_feature(rows=1)(fn)(books())
    told = str(caught.value)
    assert "\n" not in told
    line = fn.__code__.co_firstlineno
    assert re.match(rf"window_feature {fn.__name__} \(test_window_feature.py:({line}|{line + 1})\): ", told), told


def test_other_numbers_of_values_than_names_are_told() -> None:
    with pytest.raises(TypeError, match=r"nothing .* must return a tuple of 2 floats, it returns none"):
        window_feature(rows=1, names=("a", "b"))(nothing)(books())
    with pytest.raises(ValueError, match="returns another number of values than it has names"):
        window_feature(rows=1, names=("a", "b", "c"))(pair.fn)(books())
    with pytest.raises(TypeError, match="must return a number, it returns"):
        window_feature(rows=1)(pair.fn)(books())


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def f(book_WLF): return 1.0", r"must take \(book_WLF, mid_W\) first, not \(book_WLF\)"),
        ("def f(a, b, c): return 1.0", "parameter 'c' needs a number as its default"),
        ("def f(a, b, c='x'): return 1.0", "parameter 'c' needs a number as its default"),
        ("def f(a, b, *, c): return 1.0", "parameter 'c' needs a number as its default"),
        ("def f(a, b, *c): return 1.0", r"cannot take \*c"),
        ("def f(a, b, rows=1): return 1.0", "parameter 'rows' has a meaning of its own"),
        ("f = 3", "takes a plain Python function, not int"),
    ],
)
def test_a_function_of_another_form_is_refused_at_once(source: str, words: str) -> None:
    space: dict[str, Any] = {}
    exec(source, space)
    with pytest.raises(TypeError, match=words):
        window_feature(rows=1)(space["f"])
    with pytest.raises(ValueError, match="rows must be at least 1"):
        window_feature(rows=0)
    with pytest.raises(ValueError, match="a list of different names"):
        window_feature(rows=1, names=["a", "a"])


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_the_row_after_the_window_cannot_be_read(ahead: int) -> None:
    @window_feature(rows=2)
    def peek(book_WLF: Float64, mid_W: Float64, *, at: int = 0) -> float:
        value: float = book_WLF[1 + at, 0, 0]
        return value

    if ahead == 0:
        np.testing.assert_array_equal(peek(books())[1:], books()[1:, 0, 0])
        return
    for threads in (1, 3):
        with pytest.raises(IndexError, match=r"peek .*: reads outside of its window of 2 rows"):
            peek(books(), at=ahead, threads=threads)
    with pytest.raises(IndexError):
        peek.spec(books(), at=ahead)
    np.testing.assert_array_equal(peek(books(), at=-1)[1:], books()[:-1, 0, 0])
    with pytest.raises(IndexError):
        peek(books(), at=-4)


def by_take(book_WLF: Any, mid_W: Any) -> Any:
    return np.take(mid_W, 2)


def by_list(book_WLF: Any, mid_W: Any) -> Any:
    return mid_W[np.array([2])][0]


def by_mask(book_WLF: Any, mid_W: Any) -> Any:
    return mid_W[np.array([False, False, True])][0]


def by_ravel(book_WLF: Any, mid_W: Any) -> Any:
    return book_WLF.ravel()[24]


def by_other_type(book_WLF: Any, mid_W: Any) -> Any:
    return mid_W.view(np.int64)[2]


def backwards(book_WLF: Any, mid_W: Any) -> Any:
    return mid_W[::-1][2]


@pytest.mark.parametrize("fn", [by_take, by_list, by_mask, by_ravel, by_other_type, backwards])
def test_every_way_to_index_is_checked(fn: Any) -> None:
    with pytest.raises(IndexError, match="reads outside of its window of 2 rows"):
        window_feature(rows=2)(fn)(books())


def test_numpy_that_stays_inside_is_allowed() -> None:
    @window_feature(rows=4)
    def usual(book_WLF: Float64, mid_W: Float64) -> float:
        spread_W = np.log(book_WLF[:, 0, 2] / book_WLF[:, 0, 0])
        return float(
            math.sqrt(np.std(spread_W))
            + np.linalg.norm(mid_W)
            + np.sort(mid_W)[1]
            + (NONE is None) * np.float64(len(mid_W))
        )

    np.testing.assert_allclose(usual(books()), usual.spec(books()), rtol=1e-12)


def test_what_the_function_raises_is_passed_on() -> None:
    @window_feature(rows=1)
    def picky(book_WLF: Float64, mid_W: Float64, *, levels: int = 1) -> float:
        if levels < 1:
            raise ValueError("levels must be at least 1")
        return 1.0

    assert picky(books(2)).tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match=r"window_feature picky \(.*\): levels must be at least 1"):
        picky(books(2), levels=0)


MODULE = """
import numba
from numpy import nan
from other import SCALE, helper
from bml import window_feature

@window_feature(rows=1)
def f(book_WLF, mid_W, *, levels: int = 1):
    '''Says something.'''
    return helper(SCALE * mid_W[-1])  # a comment
"""
OTHER = "import numba\nSCALE = 2.0\n@numba.njit(boundscheck=True)\ndef helper(x): return x + 1.0\n"
RUN = (
    "import numpy as np, mine; r = mine.f(np.ones((2, 1, 4))); "
    "print(r[0], mine.f.code, sum(mine.f._compiled.stats.cache_hits.values()))"
)


def outcome(folder: Path, module: str, other: str, **environment: str) -> list[str]:
    for name, text in (("mine", module), ("other", other)):
        (folder / f"{name}.py").write_text(text)
    done = python(RUN, PYTHONPATH=f"{ROOT}:{folder}", PYTHONDONTWRITEBYTECODE="1", **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_compiled_code_is_kept_and_forgotten_when_anything_it_depends_on_changes(tmp_path: Path) -> None:
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    value, code, hits = outcome(tmp_path, MODULE, OTHER, **cache)
    assert (value, hits) == ("3.0", "0")
    assert outcome(tmp_path, MODULE, OTHER, **cache) == ["3.0", code, "1"]  # another process
    words = MODULE.replace("something", "else").replace("a comment", "nothing")
    assert outcome(tmp_path, words, OTHER, **cache)[:2] == ["3.0", code]
    constant = outcome(tmp_path, MODULE, OTHER.replace("2.0", "4.0"), **cache)  # of a module beside
    assert constant[0] == "5.0"
    helper = outcome(tmp_path, MODULE, OTHER.replace("x + 1.0", "x + 7.0"), **cache)
    assert helper[0] == "9.0"
    body = outcome(tmp_path, MODULE.replace("SCALE *", "10 * SCALE *"), OTHER, **cache)
    assert body[0] == "21.0"
    default = outcome(tmp_path, MODULE.replace("= 1)", "= 2)"), OTHER, **cache)
    assert len({code, constant[1], helper[1], body[1], default[1]}) == 5


def test_a_function_without_a_file_is_compiled_all_the_same() -> None:
    code = """
import numpy as np
from bml import window_feature

@window_feature(rows=1)
def f(book_WLF, mid_W, *, scale: float = 2.0):
    return scale * mid_W[-1]

@window_feature(rows=1)
def g(book_WLF, mid_W, *, scale: float = 3.0):
    return scale * mid_W[-1]

print(f(np.ones((2, 1, 4))).tolist(), f.code != g.code, f)
"""
    assert python(code).stdout.strip() == "[2.0, 2.0] True <window_feature f, rows=1>"


def test_it_is_reached_without_loading_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BML_KERNELS", raising=False)  # as it is by default, whatever these tests run on
    code = (
        "import sys, bml, bml.kernels; from bml.book import features; bml.window_feature; "
        "assert bml.window_feature is bml.kernels.window_feature; print('numba' in sys.modules)"
    )
    assert python(code).stdout.strip() == "False"
    assert python("import sys, bml; print('numpy' in sys.modules)").stdout.strip() == "False"
    assert "window_feature" in kernels.__all__
    for module in (bml, kernels):
        with pytest.raises(AttributeError, match="has no attribute 'nowhere'"):
            _ = module.nowhere


def test_without_numba_the_error_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BML_KERNELS", raising=False)  # as it is by default, whatever these tests run on
    done = python(
        "import sys; sys.modules['numba'] = None; import numpy as np\n"
        "from bml.book.features import microprice_bps; microprice_bps(np.ones((2, 1, 4)))"
    )
    assert "ImportError: window features need the package numba" in done.stderr.splitlines()[-1]
    assert "pip install 'bml[numba]'" in done.stderr.splitlines()[-1]


def _in_child(feature: WindowFeature, out: multiprocessing.Queue[float]) -> None:  # type: ignore[type-arg]
    out.put(float(np.nansum(feature(books(), threads=2))))


def test_it_works_after_a_fork_of_a_process_that_used_threads() -> None:
    expected = float(np.nansum(change(books(), threads=2)))
    context = multiprocessing.get_context("fork")
    out = context.Queue()
    child = context.Process(target=_in_child, args=(change, out))
    child.start()
    assert out.get(timeout=60) == expected
    child.join(timeout=60)
    assert child.exitcode == 0
    assert math.isfinite(expected)
