"""What must not be shown: one redactor for documents, tracking parameters and messages.

A string is secret when the key it stands under, or the environment variable it came from, speaks of a
password, token, secret, credential or dsn (or of a key, if it came from the environment). In any other string,
user and password of a URI are cut out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

HIDDEN = "***"

_WORDS = frozenset({"dsn", "password", "passwd", "passphrase", "pwd", "pw", "token", "secret", "credential", "auth"})
_USERINFO = re.compile(r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/?#'\"]*@")
_PASSWORD = re.compile(r"(?i)\b(password|passwd|pwd|sslpassword)(\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&;'\"]+)")
_SPLIT = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")


def is_secret_name(name: str, *, from_environment: bool = False) -> bool:
    """Whether a key or variable of this name holds a secret: ``BML_DSN``, ``api_token``, ``dbPassword``."""
    words = {word.lower() for word in _SPLIT.split(name)}
    words |= {word.removesuffix("s") for word in words}
    return bool(words & _WORDS) or (from_environment and bool(words & {"key", "apikey"}))


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


def redact_text(text: str) -> str:
    """``text`` without user and password of URIs and without ``password=...`` of connection strings."""
    text = _USERINFO.sub(rf"\g<scheme>{HIDDEN}@", text)
    return _PASSWORD.sub(rf"\1\2{HIDDEN}", text)
