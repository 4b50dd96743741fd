"""Kernels of your own: write what the books up to one moment say, and have it compiled and run over the day.

    @window_feature(rows=2)
    def best_bid_change(book_WLF, mid_W):
        return book_WLF[-1, 0, 0] - book_WLF[-2, 0, 0]

    best_bid_change(book_TLF)  # (T,) float64

numba is imported when a feature is first run, not before.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import types
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from bml.kernels import _arrays
from bml.kernels._bounds import place, reason, refuse_unchecked
from bml.kernels._fingerprint import fingerprint
from bml.types import ASK_PX, BID_PX, FIELDS, Float64, Floats

Number = bool | int | float
Fn = Callable[..., Any]

#: names that a call of a feature keeps for itself
RESERVED = ("book_TLF", "mid_T", "rows", "threads", "out")

_DTYPES = (np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.float16))


def window_feature(*, rows: int, names: Sequence[str] | None = None) -> Callable[[Fn], WindowFeature]:
    """Make a feature of a function that computes its value at one time from the books up to then.

        @window_feature(rows=3)
        def my_feature(book_WLF, mid_W, *, levels: int = 5) -> float: ...

    book_WLF   float64 (W, L, 4), fields bid_px bid_qty ask_px ask_qty, raw prices and quantities, NaN where a level
               is absent; row -1 is now, row -2 the one before. Read-only
    mid_W      float64 (W,), never NaN: the mean of the best prices
    others     numbers with defaults: what a call or a configuration may set
    returns    a number, NaN where it is not known; with ``names`` a tuple of as many floats

    The window is all the function is given, and reading outside of it is an error: what is dated t cannot depend on
    anything later. The function must be in the part of Python that numba compiles, and pure: it is called once a
    row, in any order. Helper functions it calls are decorated with ``numba.njit(boundscheck=True)``; of numpy it may
    use ufuncs, reductions and what else is sure to stay inside its arrays (:data:`bml.kernels._bounds.SAFE`).
    Raises TypeError or ValueError, in one line, for a function of another form.
    """
    rows = _arrays.integer("window_feature", "rows", rows, least=1)
    if names is not None and (isinstance(names, str) or not names or len(set(names)) != len(names)):
        raise ValueError(f"window_feature: names must be a list of different names, not {names!r}")
    return lambda fn: WindowFeature(fn, rows, None if names is None else tuple(names))


class WindowFeature:
    """A function of one window, run over all of them; made by :func:`window_feature`.

    ``rows`` is its look-back, ``names`` those of its values (None: it has one), ``defaults`` its parameters.
    """

    __bml_kind__ = "feature"  # what lets a configuration name it
    __name__: str

    def __init__(self, fn: Fn, rows: int, names: tuple[str, ...] | None) -> None:
        functools.update_wrapper(self, fn)
        self.fn, self.rows, self.names = fn, rows, names
        self.defaults = _defaults(fn)

    def __call__(
        self,
        book_TLF: Floats,
        mid_T: Float64 | None = None,
        *,
        rows: int | None = None,
        threads: int | None = None,
        out: Float64 | None = None,
        **params: Number,
    ) -> Float64:
        """The value at every row: (T,) float64, or (T, K) for a feature with names.

        book_TLF  float64, float32 or float16 (T, L, 4), raw; the narrow ones are read as float64 (a copy)
        mid_T     float64 (T,); default: the mean of the best prices
        rows      the look-back, if another than the feature's own
        NaN       the first rows - 1 rows, and every row whose window holds a NaN mid (a gap, or a book without
                  one of its sides): the function is not called there. All else is the function's own word
        threads   None: BML_NUM_THREADS, else 1. The values do not depend on it
        out       where the values go: float64, C order, the shape above
        raises    TypeError, ValueError: arrays, parameters, a function numba cannot compile or that returns
                  something else; IndexError: it reads outside of its window; ImportError: there is no numba
        cost      the function's own, once a row. The first call compiles, for a second or so; the code is kept on disk
                  beside the function's file or in NUMBA_CACHE_DIR, but a function typed at a prompt has no file and
                  is compiled anew in every process. Releases the GIL
        """
        book, mid, flat, look_back, values = self._taken(book_TLF, mid_T, rows, out, params)
        workers = min(_arrays.threads(self.__name__, threads), max(1, len(book)))
        edges = [len(book) * k // workers for k in range(workers + 1)]
        parts = [(book, mid, flat, look_back, edges[k], edges[k + 1], values) for k in range(workers)]
        drive = self._compiled
        try:
            if workers == 1:
                drive(*parts[0])
            else:  # threads of our own: numba's are one pool for the whole process, and do not survive a fork
                with ThreadPoolExecutor(workers) as pool:
                    list(pool.map(lambda part: drive(*part), parts))
        except IndexError as error:
            raise IndexError(f"{place(self.fn)}: reads outside of its window of {look_back} rows") from error
        except ValueError as error:
            raise ValueError(f"{place(self.fn)}: {error}") from error
        return self._shaped(flat) if out is None else out

    def spec(
        self, book_TLF: Floats, mid_T: Float64 | None = None, *, rows: int | None = None, **params: Number
    ) -> Float64:
        """The same by the plain Python function, slow and readable: what tests compare the compiled one with.

        Equal bit for bit, but for functions such as log, where numpy and numba may differ in the last place.
        """
        book, mid, flat, look_back, values = self._taken(book_TLF, mid_T, rows, None, params)
        with np.errstate(all="ignore"):  # as compiled code does
            self._loop(_positional(self.fn))(book, mid, flat, look_back, 0, len(book), values)
        return self._shaped(flat)

    @functools.cached_property
    def code(self) -> str:
        """16 hex characters that change when what is computed may have changed, helpers and constants included."""
        return fingerprint(self.fn, self.rows, self.names)

    def arguments(self, params: dict[str, Any]) -> tuple[Number, ...]:
        """The values of all parameters, in their order. Raises TypeError for a wrong name or type."""
        for name, value in params.items():
            if name not in self.defaults:
                close = difflib.get_close_matches(name, self.defaults, n=1)
                there = f"there are: {', '.join(self.defaults)}" if self.defaults else "it takes none"
                hint = f"did you mean {close[0]!r}?" if close else there
                raise TypeError(f"{self.__name__} has no parameter {name!r}; {hint}")
            kind = type(self.defaults[name])
            if not (type(value) is kind or (kind is float and type(value) is int)):
                raise TypeError(f"{self.__name__}: {name} must be {kind.__name__}, not {value!r}")
        # always of the same types: processes that compile at once then write the same file to the cache
        return tuple(type(default)(params.get(name, default)) for name, default in self.defaults.items())

    def __repr__(self) -> str:
        return f"<window_feature {self.__name__}, rows={self.rows}>"

    def _taken(
        self, book_TLF: Floats, mid_T: Float64 | None, rows: int | None, out: Float64 | None, params: dict[str, Any]
    ) -> tuple[Float64, Float64, Float64, int, tuple[Number, ...]]:
        where = self.__name__
        book = _arrays.taken(where, "book_TLF", book_TLF, *_DTYPES, ndim=3)
        if book.shape[1] < 1 or book.shape[2] != len(FIELDS):
            raise ValueError(f"{where}: book_TLF must have shape (T, L, {len(FIELDS)}), not {book.shape}")
        book = _frozen(_arrays.taken(where, "book_TLF", book.astype(np.float64, copy=False), np.float64, ndim=3))
        mid = 0.5 * (book[:, 0, BID_PX] + book[:, 0, ASK_PX]) if mid_T is None else mid_T
        mid = _frozen(_arrays.taken(where, "mid_T", mid, np.float64))
        _arrays.same_length(where, ("book_TLF", "mid_T"), book, mid)
        columns = 1 if self.names is None else len(self.names)
        shape = (len(book),) if self.names is None else (len(book), columns)
        flat = np.empty(shape) if out is None else _arrays.given(where, "out", out, np.float64, shape, (book, mid))
        look_back = self.rows if rows is None else _arrays.integer(where, "rows", rows, least=1)
        return book, mid, flat.reshape(len(book), columns), look_back, self.arguments(params)

    def _shaped(self, flat_TK: Float64) -> Float64:
        return flat_TK[:, 0] if self.names is None else flat_TK

    def _loop(self, feature: Fn) -> Fn:
        """The loop around ``feature``, as a function of its own with the feature's file and a name of its code."""
        loop = _each_number if self.names is None else _each_tuple
        name = f"{self.__name__}_{self.code}"  # so that the cache forgets it when a helper elsewhere changes
        origin = self.fn.__code__
        code = loop.__code__.replace(
            co_filename=origin.co_filename, co_firstlineno=origin.co_firstlineno, co_name=name, co_qualname=name
        )
        return types.FunctionType(code, {"__name__": __name__, "_feature": feature, "np": np})

    @functools.cached_property
    def _compiled(self) -> Fn:
        numba = _numba()
        refuse_unchecked(self.fn)
        types_ = numba.types
        book = types_.Array(types_.float64, 3, "C", readonly=True)
        mid = types_.Array(types_.float64, 1, "C", readonly=True)
        values = numba.typeof(self.arguments({}))
        # Without bounds checks a function could read the rows after its window, which lie behind it in memory.
        feature = numba.njit(nogil=True, error_model="numpy", boundscheck=True)(_positional(self.fn))
        drive = numba.njit(nogil=True, error_model="numpy")(self._loop(feature))
        with contextlib.suppress(RuntimeError):  # it has no file, so there is no place to keep it at: see __call__
            drive.enable_caching()
        try:
            drive.compile((book, mid, types_.float64[:, ::1], *[types_.int64] * 3, values))
        except Exception as error:
            raise self._explained(feature, (book, mid, *values.types), error) from error
        compiled: Fn = drive
        return compiled

    def _explained(self, feature: Any, signature: tuple[Any, ...], outer: Exception) -> Exception:
        """What is wrong with the function, now that the loop around it does not compile."""
        try:
            feature.compile(signature)
        except Exception as error:
            return TypeError(f"{place(self.fn, error)}: numba cannot compile it: {reason(error)}")
        found = feature.overloads[signature].signature.return_type
        kinds = _numba().types
        one = self.names is None
        if isinstance(found, (kinds.Number, kinds.Boolean) if one else kinds.UniTuple):
            return outer  # the function is all right
        wanted = "a number" if one else f"a tuple of {len(self.names or ())} floats"
        return TypeError(f"{place(self.fn)}: must return {wanted}, it returns {found}")


def _each_number(book_TLF, mid_T, out_TK, rows, start, stop, values):  # type: ignore[no-untyped-def]
    known = 0  # mids in a row that are known
    for t in range(max(0, start - rows + 1), stop):
        known = 0 if np.isnan(mid_T[t]) else known + 1
        if t >= start:
            out_TK[t, 0] = np.nan
            if known >= rows:
                out_TK[t, 0] = _feature(book_TLF[t - rows + 1 : t + 1], mid_T[t - rows + 1 : t + 1], *values)


def _each_tuple(book_TLF, mid_T, out_TK, rows, start, stop, values):  # type: ignore[no-untyped-def]
    known = 0
    for t in range(max(0, start - rows + 1), stop):
        known = 0 if np.isnan(mid_T[t]) else known + 1
        if t >= start:
            out_TK[t] = np.nan
            if known >= rows:
                found = _feature(book_TLF[t - rows + 1 : t + 1], mid_T[t - rows + 1 : t + 1], *values)
                if len(found) != out_TK.shape[1]:
                    raise ValueError("returns another number of values than it has names")
                for k in range(len(found)):
                    out_TK[t, k] = found[k]


def _feature(*_: object) -> Any:
    """Stands for the feature in the two loops, which never run as they are: see WindowFeature._loop."""
    raise NotImplementedError


def _defaults(fn: Fn) -> dict[str, Number]:
    """The parameters after the first two. Raises TypeError unless all are numbers with a default."""
    if not isinstance(fn, types.FunctionType):
        raise TypeError(f"window_feature: takes a plain Python function, not {type(fn).__name__}")
    first: list[str] = []
    others: dict[str, Number] = {}
    for parameter in inspect.signature(fn).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{place(fn)}: cannot take *{parameter.name}: name every parameter")
        if len(first) < 2 and parameter.default is parameter.empty and parameter.kind is not parameter.KEYWORD_ONLY:
            first.append(parameter.name)
        elif type(parameter.default) not in (bool, int, float):
            raise TypeError(f"{place(fn)}: parameter {parameter.name!r} needs a number as its default")
        elif parameter.name in RESERVED:
            raise TypeError(f"{place(fn)}: parameter {parameter.name!r} has a meaning of its own: take another name")
        else:
            others[parameter.name] = parameter.default
    if len(first) != 2:
        raise TypeError(f"{place(fn)}: must take (book_WLF, mid_W) first, not ({', '.join(first)})")
    return others


def _positional(fn: Fn) -> Fn:
    """``fn`` with its keyword-only parameters as plain ones, which is how the loops pass them."""
    code = fn.__code__
    code = code.replace(co_argcount=code.co_argcount + code.co_kwonlyargcount, co_kwonlyargcount=0)
    return types.FunctionType(code, fn.__globals__, fn.__name__, None, fn.__closure__)


def _numba() -> Any:
    try:
        import numba
    except ImportError as error:
        raise ImportError(f"window features need the package numba ({error}): run  pip install 'bml[numba]'") from error
    return numba


def _frozen(array: Float64) -> Float64:
    """A view the user's function cannot write through; numba sees one type."""
    view = array.view()
    view.flags.writeable = False
    return view
