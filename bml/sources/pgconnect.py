"""What a connection string comes to (libpq's environment and files included), and whether it is safe to use.

The password goes to libpq alone: nothing here puts it into a message, an attribute that is shown or a repr.
"""

from __future__ import annotations

import errno
import ipaddress
import os
from dataclasses import dataclass, field
from itertools import zip_longest

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bml import __version__
from bml.types import ConfigError

_UNKNOWN = "bml-resolves-only"  # no such value: libpq resolves every option, then stops before it opens a socket
_VERIFIED, _ENCRYPTED = "verify-full", frozenset({"require", "verify-ca", "verify-full"})
_REQUIRE_AUTH_SINCE = 160000  # libpq
#: a peer that vanished is noticed within a minute, also while it computes and nothing is sent
_ALIVE = {
    "keepalives": "1", "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}  # fmt: skip
_LOST_ERRNO = (
    errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT, errno.EHOSTUNREACH,
    errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET,
)  # fmt: skip
#: what libpq and psycopg say, and a server that is not ready or full
_LOST_WORDS = (
    *map(os.strerror, _LOST_ERRNO), "server closed the connection", "connection is closed", "the connection is lost",
    "timeout expired", "could not receive data", "could not send data", "failed to resolve host",
    "could not translate host name", "Is the server running", "SSL SYSCALL error", "unexpected eof",
    "the database system is", "too many clients", "too many connections", "connection slots are reserved",
    "terminating connection",
)  # fmt: skip
_LOST_STATES = ("08", "57P", "53300")  # connection exceptions, the server stops or starts, too many connections


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where a connection string leads. ``hosts`` are what is dialled: a name, an address or a socket's folder."""

    hosts: tuple[str, ...]
    port: str
    database: str
    sslmode: str
    given: frozenset[str]
    has_password: bool
    secrets: tuple[str, ...] = field(repr=False)

    @property
    def remote(self) -> tuple[str, ...]:
        """The hosts that are another machine."""
        return tuple(host for host in self.hosts if not is_local(host))


def parse(dsn: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Host, hostaddr, port and dbname as ``dsn`` itself gives them, and the secrets in it.

    Raises ConfigError, without its text, if it cannot be read.
    """
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.Error:
        raise ConfigError(
            "dsn: not a PostgreSQL connection string (its text is not shown); "
            "expected e.g. postgresql://user:password@host:5432/database"
        ) from None
    shown = {key: str(parts[key]) for key in ("host", "hostaddr", "port", "dbname") if parts.get(key)}
    return shown, tuple(str(parts[key]) for key in ("password", "sslpassword") if parts.get(key))


def resolve(dsn: str) -> Target:
    """``dsn`` with libpq's environment, service file and password file, as libpq itself resolves them; no network.

    Raises ConfigError for a service that is not defined or a value libpq does not know.
    """
    pgconn = pq.PGconn.connect_start(make_conninfo(dsn, target_session_attrs=_UNKNOWN).encode())
    try:
        options = {one.keyword.decode(): one for one in pgconn.info if one.val}
        secrets = {one.val for one in options.values() if one.val and one.dispchar == b"*"} | {pgconn.password}
        told = pgconn.get_error_message()
    finally:
        pgconn.finish()
    values = {key: (one.val or b"").decode("utf-8", "replace") for key, one in options.items()}
    hidden = tuple(sorted((one.decode("utf-8", "replace") for one in secrets if one), key=len, reverse=True))
    if _UNKNOWN not in told:
        raise ConfigError(f"dsn: {redacted(told, hidden)}")
    names, addresses = (values.get(key, "").split(",") for key in ("host", "hostaddr"))
    return Target(
        hosts=tuple(address or name for name, address in zip_longest(names, addresses, fillvalue="")),
        port=values.get("port", ""),
        database=values.get("dbname", ""),
        sslmode=values.get("sslmode", "prefer"),
        given=frozenset(values),
        has_password=bool(hidden),
        secrets=hidden,
    )


def redacted(text: object, secrets: tuple[str, ...]) -> str:
    """``text`` on one line and without ``secrets``."""
    line = " ".join(str(text).split())
    for secret in secrets:
        line = line.replace(secret, "***").replace(" ".join(secret.split()) or secret, "***")
    return line


def is_local(host: str) -> bool:
    """Whether ``host`` is a unix socket or this machine's loopback: no network lies between."""
    if not host or host[0] in "/@" or host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def secured(target: Target, *, insecure: bool) -> dict[str, str]:
    """The options to connect with, beside the connection string.

    Another machine is believed only by its certificate (verify-full), and a password is never sent in clear text
    outside TLS, unless ``insecure``. Raises ConfigError where the connection string asks for less.
    """
    options = {"application_name": f"bml/{__version__}", "client_encoding": "UTF8", "gssencmode": "disable"}
    options |= {key: value for key, value in _ALIVE.items() if key not in target.given}
    if insecure:
        return options
    sslmode = target.sslmode
    if target.remote:
        if sslmode not in ("prefer", _VERIFIED):  # prefer is libpq's default
            raise ConfigError(
                f"dsn: sslmode={sslmode} does not make sure that {target.remote[0]} is the right server: use "
                "sslmode=verify-full with sslrootcert (or PGSSLROOTCERT), or say insecure: true"
            )
        options["sslmode"] = sslmode = _VERIFIED
    if sslmode not in _ENCRYPTED and "require_auth" not in target.given:
        if pq.version() >= _REQUIRE_AUTH_SINCE:
            options["require_auth"] = "!password"
        elif target.has_password and any(host and host[0] not in "/@" for host in target.hosts):
            raise ConfigError(
                f"libpq {pq.version() // 10000} cannot refuse to send a password in clear text: install "
                "psycopg[binary] with libpq 16 or newer, use sslmode=require, or say insecure: true"
            )
    return options


def is_lost_state(sqlstate: str) -> bool:
    """Whether an SQLSTATE says that the connection or the server goes away, or is full for now."""
    return sqlstate.startswith(_LOST_STATES)


def is_lost(error: psycopg.Error) -> bool:
    """Whether trying again later may help: nobody answered, or the connection or the server went away."""
    if error.sqlstate is not None:
        return is_lost_state(error.sqlstate)
    return isinstance(error, psycopg.errors.ConnectionTimeout) or any(word in str(error) for word in _LOST_WORDS)


def advice(error: psycopg.Error) -> str:
    """What to do about a connection that failed for its security, or ""."""
    told = str(error)
    if "requested a cleartext password" in told:
        return (
            "; the password would cross an unencrypted connection: give the server TLS and use sslmode=verify-full "
            "(on this machine sslmode=require), or say insecure: true"
        )
    if "root certificate file" in told or "certificate verify failed" in told:
        return "; set PGSSLROOTCERT (or sslrootcert) to the certificate of the authority that signed the server's"
    if "does not support SSL" in told:
        return "; switch TLS on at the server, or say insecure: true on a network you trust"
    if "does not match host name" in told:
        return "; connect by a name the certificate is for"
    return ""
