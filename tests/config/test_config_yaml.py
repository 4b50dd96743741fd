"""Scalars, places, environment variables, overrides: the text side of the configuration."""

from __future__ import annotations

import math

import pytest

from bml.config.environment import expand
from bml.config.faults import Fault
from bml.config.override import apply
from bml.config.tree import Item, Parse, scalar


def parse(text: str) -> tuple[Item, list[Fault]]:
    one = Parse("f.yaml")
    root = one.text(text)
    assert root is not None
    return root, one.faults


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1.", 1.0), (".5", 0.5), ("-2.5E+3", -2500.0), ("12", 12), ("-0", 0), ("0x1F", 31),
        ("0o17", 15), ("true", True), ("False", False), ("null", None), ("~", None), (".inf", math.inf),
        ("-.Inf", -math.inf), ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("y", "y"), ("010", "010"),
        ("12:30:45", "12:30:45"), ("1_000", "1_000"), ("2024-01-01", "2024-01-01"), ("0b1", "0b1"), ("1e", "1e"),
        ("NaN", "NaN"), ("+", "+"), ("1000SHIB", "1000SHIB"),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    found = scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_quoted_scalars_stay_text() -> None:
    root, faults = parse("a: '1'\nb: \"true\"\nc: |\n  12\nd: 12\n")
    assert faults == []
    assert root.data() == {"a": "1", "b": "true", "c": "12\n", "d": 12}


def test_nan_is_refused_with_its_place() -> None:
    _, faults = parse("a:\n  b: .nan\n")
    assert [str(fault) for fault in faults] == ["f.yaml:2:6: a.b: .nan is not a value a parameter can have"]


def test_duplicate_key_names_both_lines() -> None:
    root, faults = parse("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\na: 4\n")
    assert [str(f) for f in faults] == [
        "f.yaml:5:3: b.c: duplicate key: first given at line 3",
        "f.yaml:6:1: a: duplicate key: first given at line 1",
    ]
    assert root.data() == {"a": 1, "b": {"c": 1, "d": 2}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: !!python/object:os.system {}", "f.yaml:1:4: a: the tag"),
        ("a: !!float 1", "the tag"),
        ("a: &x [*x]", "alias that contains itself"),
        ("? [1, 2]\n: 3", "a key must be a word"),
        ("[" * 90 + "]" * 90, "too deep"),
    ],
)
def test_refused_constructs(text: str, told: str) -> None:
    _, faults = parse(text)
    assert len(faults) == 1
    assert told in str(faults[0])


@pytest.mark.parametrize("text", ["a: [1, 2\nb: 3\n", "a: 1\n---\nb: 2\n", "a: 'x\n", "\ta: 1", "a: b: c"])
def test_broken_yaml_has_a_place(text: str) -> None:
    one = Parse("f.yaml")
    assert one.text(text) is None
    assert len(one.faults) == 1
    assert str(one.faults[0]).startswith("f.yaml:")
    assert one.faults[0].where.line >= 1


def test_multiplying_aliases_stop() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    _, faults = parse("\n".join(lines))
    assert len(faults) == 1
    assert "too large" in str(faults[0])


def test_aliases_and_positions() -> None:
    root, faults = parse("a: &x {k: 1}\nb: *x\nc: [1, {d: 2}]\n")
    assert faults == []
    assert root.data()["b"] == {"k": 1}
    inner = root.find(("c", 1, "d"))
    assert inner is not None
    assert (inner.at.line, inner.at.column, inner.key_at.column) == (3, 12, 9)
    assert root.find(("c", 2)) is None
    assert root.find(("c", "d")) is None
    assert root.find(("a", "k", "z")) is None


def expanded(text: str, **environ: str) -> tuple[object, list[str]]:
    root, faults = parse(text)
    expand(root, environ, faults)
    return root.data(), [str(fault) for fault in faults]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: ${X}", 5), ("a: '${X}'", "5"), ("a: p${X}s", "p5s"), ("a: ${X}${X}", 55), ("a: ${NONE:-7}", 7),
        ("a: ${EMPTY:-d}", "d"), ("a: ${NONE:-}", None), ("a: '${NONE:-}'", ""), ("a: $${X}", "${X}"),
        ("a: $X", "$X"), ("a: $$", "$"), ("a: ${INJECT}", "{b: 1}\nc: 2"), ("a: [x, {b: '${X}'}]", ["x", {"b": "5"}]),
        ("a: ${YES}", "yes"), ("a: ${NESTED}", "${X}"),
    ],
)  # fmt: skip
def test_variables(text: str, value: object) -> None:
    found, faults = expanded(text, X="5", EMPTY="", INJECT="{b: 1}\nc: 2", YES="yes", NESTED="${X}")
    assert faults == []
    assert found == {"a": value}


def test_unset_and_broken_variables_are_faults() -> None:
    _, faults = expanded("a:\n  - ${GONE}\n  - '${1X}'\n")
    assert faults == [
        "f.yaml:2:5: a[0]: environment variable GONE is not set (a default is written ${GONE:-default})",
        "f.yaml:3:5: a[1]: '${' without a name and '}'; write $${ for the characters",
    ]


def overridden(override: str) -> tuple[object, list[str]]:
    root, faults = parse("a: {b: 1, l: [{c: 1}, {c: 2}], n: }\ns: x\n")
    apply(root, override, faults)
    return root.data(), [str(fault) for fault in faults]


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("a.b=2.5", "b", 2.5), ("a.b='2'", "b", "2"), ("a.b={x: [1]}", "b", {"x": [1]}), ("a.b=", "b", None),
        ("a.new.deep=1", "new", {"deep": 1}), ("a.l[1].c=9", "l", [{"c": 1}, {"c": 9}]),
        ("a.l.0.c=9", "l", [{"c": 9}, {"c": 2}]), ("a.l[0]=3", "l", [3, {"c": 2}]), ("a.n.x=1", "n", {"x": 1}),
        ("a.b=x=y", "b", "x=y"),
    ],
)  # fmt: skip
def test_overrides(override: str, key: str, value: object) -> None:
    found, faults = overridden(override)
    assert faults == []
    assert isinstance(found, dict)
    assert found["a"][key] == value


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("a.b", "--set a.b: expected KEY=VALUE"),
        ("=1", "expected KEY=VALUE"),
        ("a..b=1", "expected KEY=VALUE"),
        ("a.l[2].c=1", "--set a.l[2].c: there is no position 2 in a list of 2"),
        ("s.x=1", "--set s.x: 'x': not a mapping"),
        ("a.b=[1", "--set a.b: not valid YAML"),
    ],
)
def test_wrong_overrides_name_the_flag(override: str, told: str) -> None:
    before, _ = parse("a: {b: 1, l: [{c: 1}, {c: 2}], n: }\ns: x\n")
    found, faults = overridden(override)
    assert len(faults) == 1
    assert told in faults[0]
    assert found == before.data()
