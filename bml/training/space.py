"""What tuning may vary, as configurations write it.

A search space maps a name to what it may be; names are arguments of ``train`` or ``params.<model parameter>``:

    {learning_rate: [1.0e-4, 3.0e-3, log], params.hidden: [32, 160], params.block: [2, 4, 8]}

Two numbers are a range (of whole numbers if both are), "log" puts it on a log scale; else it is a list of choices.
YAML reads 1e-4 as text and 1.0e-4 as a number, so text that looks like a number is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bml.types import ConfigError

if TYPE_CHECKING:
    from optuna import Trial

Space = dict[str, list[Any]]
TUNABLE = ("batch_size", "learning_rate", "weight_decay", "clip", "half_life_days")


def split(chosen: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of ``train``, parameters of the model."""
    own = {name.removeprefix("params."): value for name, value in chosen.items() if name.startswith("params.")}
    return {name: value for name, value in chosen.items() if not name.startswith("params.")}, own


def suggest(trial: Trial, name: str, options: list[Any]) -> Any:
    span = _span(options)
    if span is None:
        return trial.suggest_categorical(name, options)
    low, high, log = span
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log)
    return trial.suggest_float(name, float(low), float(high), log=log)


def _span(options: list[Any]) -> tuple[float, float, bool] | None:
    """(low, high, log) of a range, None for choices."""
    log = len(options) == 3 and options[2] == "log"
    ends = options[:2]
    if (log or len(options) == 2) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in ends):
        return ends[0], ends[1], log
    return None


def check(space: Space) -> None:
    """Raises ConfigError naming the first entry that cannot be searched."""
    for name, options in space.items():
        if not name.startswith("params.") and name not in TUNABLE:
            known = ", ".join((*TUNABLE, "params.<model parameter>"))
            raise ConfigError(f"search space: {name!r} cannot be tuned; there are: {known}")
        if text := [value for value in options if isinstance(value, str) and _reads_as_number(value)]:
            raise ConfigError(f"search space: {name}: {text[0]!r} is text; write a number such as 1.0e-4")
        span = _span(options)
        if not options or (span and (span[0] >= span[1] or (span[2] and span[0] <= 0))):
            raise ConfigError(f"search space: {name}: expected [low, high], [low, high, log] with low < high "
                              f"(and low > 0 for log), or choices, got {options}")  # fmt: skip


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
