"""What must not be shown: one redactor for documents, tracking parameters and messages.

A string is secret when the key it stands under, or the environment variable it came from, speaks of a
password, token, secret, credential or dsn (or of a key, if it came from the environment). In any other string,
user and password of a URI are cut out, and so is every value a secret variable brought into this process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

HIDDEN = "***"
#: a shorter value is found in too much that is no secret, and protects nothing
MIN_CHARACTERS = 4

_WORDS = frozenset({"dsn", "password", "passwd", "passphrase", "pwd", "pw", "token", "secret", "credential", "auth"})
_ENDINGS = ("password", "passwd", "passphrase", "secret", "token")  # PGPASSWORD, apitoken
#: up to the last @ of the word: whoever writes "/", "?", "#" or "@" into a password does not always escape it
_USERINFO = re.compile(r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]*://)(?:[^\s/?#:]*:\S*|[^\s/?#]*)@")
_PASSWORD = re.compile(r"(?i)\b(password|passwd|pwd|sslpassword)(\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&;'\"]+)")
_WITH_PASSWORD = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/?#:@]*:[^\s/?#@]+@")
_SPLIT = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")

#: values of secret variables this process has read, longest first, in every spelling they may be met in
_values: list[str] = []


def is_secret_name(name: str, *, from_environment: bool = False) -> bool:
    """Whether a key or variable of this name holds a secret: ``BML_DSN``, ``api_token``, ``dbPassword``."""
    words = {word.lower() for word in _SPLIT.split(name)}
    words |= {word.removesuffix("s") for word in words}
    if words & _WORDS or any(word.endswith(_ENDINGS) for word in words):
        return True
    return from_environment and bool(words & {"key", "apikey"})


def holds_password(text: str) -> bool:
    """Whether ``text`` is or contains a URI with a password, or a connection string with one."""
    return bool(_WITH_PASSWORD.search(text) or _PASSWORD.search(text))


def remember(value: str) -> None:
    """Hide ``value`` from now on wherever it turns up in this process; too short ones are not worth it."""
    if len(value.strip()) < MIN_CHARACTERS:
        return
    spellings = {value, value.strip(), " ".join(value.split()), quote(value), quote(value, safe="")}
    spellings |= {json.dumps(value)[1:-1], repr(value)[1:-1]}
    _values[:] = sorted(spellings.union(_values), key=lambda one: (-len(one), one))


def forget_values() -> None:
    """Forget what :func:`remember` was told."""
    _values.clear()


def redact(value: Any, keys: Iterable[str] = (), *, from_environment: bool = False) -> Any:
    """``value`` with every secret string replaced; ``keys`` are the keys it stands under.

    Numbers are kept unless they came from the environment: they are settings, not passwords.
    """
    if isinstance(value, dict):
        return {k: redact(inner, (*keys, str(k)), from_environment=from_environment) for k, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(inner, keys, from_environment=from_environment) for inner in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) or from_environment:
        hidden = any(is_secret_name(key, from_environment=from_environment) for key in keys)
        return HIDDEN if hidden and value != "" else redact_text(value) if isinstance(value, str) else value
    return value


def redact_values(value: Any) -> Any:
    """``value`` (text, or dicts, lists and tuples of text) with :func:`redact_text` over every text and key.

    Containers are copied, tuples stay tuples; anything else is handed back as it is.
    """
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return {redact_values(key): redact_values(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [redact_values(inner) for inner in value]
    if isinstance(value, tuple):
        return tuple(redact_values(inner) for inner in value)
    return value


def redact_text(text: str) -> str:
    """``text`` without values of secret variables, user and password of URIs, and ``password=...``."""
    for one in _values:
        if one in text:
            text = text.replace(one, HIDDEN)
    text = _USERINFO.sub(rf"\g<scheme>{HIDDEN}@", text)
    return _PASSWORD.sub(rf"\1\2{HIDDEN}", text)
