"""Strikes passwords and tokens out of everything that is said or written.

What is secret: passwords inside addresses, and the values of environment variables whose names say so
(``HF_TOKEN``, ``OPENAI_API_KEY``, ``PGPASSWORD``).

Output that goes past Python (libraries in C, children, the last words of a crash) is cleaned by a
process of its own between the writer and its log: nothing is lost when the writer is killed at any
moment, as the filter reads the pipe to its end. It runs this file as a program, which is why only the
standard library is imported here.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote

__all__ = [
    "STRUCK",
    "LogRedirect",
    "Redactor",
    "host_only",
    "is_secret_name",
    "is_struck",
    "masked",
    "secrets_in",
    "without_secrets",
]

STRUCK = "***"
"""Stands where a secret was."""

# Greedy up to the last "@", as a password may hold one; bounded, as megabytes of text may be asked about.
_USER_INFO = re.compile(
    r"(?<![\w+.-])(?P<scheme>[A-Za-z][\w+.-]{0,40}://)(?P<user>[^:/?#@]{0,256}):(?P<password>.{0,2048})@"
)
_TOKEN_INFO = re.compile(r"(?P<scheme>https?://)(?P<token>[^:/?#@]{1,2048})@")
_QUERY_SECRET = re.compile(
    r"(?P<key>[?&;](?:password|passwd|pwd|sslpassword|token)=)(?P<secret>[^&;#]+)", re.I
)
_SECRET_NAME = re.compile(
    r"(.*_)?(TOKEN|API_?KEY|SECRET|SECRET_KEY|ACCESS_KEY|PASSWORD|PASSWD)|PGPASSWORD", re.I
)
_SHORTEST_SECRET = 6
"""A shorter secret is only struck out where it stands in an address: elsewhere it would hit plain words."""
_LONGEST_LINE_BYTES = 2**20
_DRAIN_S = 5.0

_starters: list[subprocess.Popen[bytes]] = []
"""Parents of filters, which end as soon as they have begun."""


def masked(uri: str) -> str:
    """An address with its password struck out: fit for a screen, a log or a file."""
    if "://" in uri and "@" in uri:
        uri = _USER_INFO.sub(rf"\g<scheme>\g<user>:{STRUCK}@", uri)
        uri = _TOKEN_INFO.sub(rf"\g<scheme>{STRUCK}@", uri)
    return _QUERY_SECRET.sub(rf"\g<key>{STRUCK}", uri)


def host_only(url: str) -> str:
    """An address whose path may be as secret as a password, such as a webhook's: its scheme and host."""
    scheme, is_address, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest)[0]
    if not is_address or "@" in rest[len(authority) :]:  # a password may hold a slash
        return STRUCK
    return f"{scheme}://{authority.rpartition('@')[2]}/{STRUCK}"


def is_secret_name(name: str) -> bool:
    """Whether the value of an environment variable of this name is a secret."""
    return _SECRET_NAME.fullmatch(name) is not None


def secrets_in(uri: str) -> list[str]:
    """The passwords of an address, as they are written in it."""
    user_info = _USER_INFO.search(uri) or _TOKEN_INFO.search(uri)
    found = [] if user_info is None else [user_info.groups()[-1]]
    return found + [match["secret"] for match in _QUERY_SECRET.finditer(uri)]


def is_struck(uri: str) -> bool:
    """Whether the password of an address was struck out, so that it opens nothing."""
    return STRUCK in secrets_in(uri)


class Redactor:
    """Strikes the secrets of addresses and of an environment out of any text. Immutable."""

    def __init__(self, *uris: str, environment: Mapping[str, str] | None = None) -> None:
        variables = environment or {}
        addresses = [*uris, *(value for value in variables.values() if "://" in value)]
        found = [secret for uri in addresses for secret in secrets_in(uri)]
        found += [value for name, value in variables.items() if is_secret_name(name)]
        self._masked = {uri: masked(uri) for uri in addresses if secrets_in(uri)}
        forms = {form for secret in found for form in _forms(secret)} - {"", STRUCK}
        # Longest first, so that no secret is left behind as the rest of another.
        self._secrets = sorted(forms, key=lambda form: (-len(form), form))

    @property
    def has_secret(self) -> bool:
        return bool(self._secrets)

    @property
    def longest(self) -> int:
        """Characters of the longest secret."""
        return len(self._secrets[0]) if self._secrets else 0

    def __call__(self, text: str) -> str:
        """The text without the secrets."""
        for uri, shown in self._masked.items():
            text = text.replace(uri, shown)
        for secret in self._secrets:
            text = text.replace(f":{secret}@", f":{STRUCK}@")
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, STRUCK)
        return text


def without_secrets(text: str) -> str:
    """The text without the secrets of this process's environment."""
    return Redactor(environment=os.environ)(text)


def _forms(secret: str) -> set[str]:
    """A secret as given, percent-encoded and decoded, and each as it stands inside JSON or a repr."""
    forms = {secret, unquote(secret), quote(secret, safe=""), quote(unquote(secret), safe="")}
    return forms | {json.dumps(form)[1:-1] for form in forms} | {repr(form)[1:-1] for form in forms}


class LogRedirect:
    """Sends descriptors of this process into a log, through the filter where there is a secret to strike.

    Descriptors stay redirected until they are pointed elsewhere; the filter ends when nobody holds the
    pipe any more, and never before it has written what was in it.
    """

    def __init__(self, log_file: Path, *uris: str, descriptors: tuple[int, ...] = (1, 2)) -> None:
        """``uris`` are addresses whose passwords are no part of the environment."""
        self._written: int | None = None
        log_file.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            target = log
            if Redactor(*uris, environment=os.environ).has_secret:
                target = self._filter_into(log, uris)
            for descriptor in descriptors:
                os.dup2(target, descriptor)
            if target != log:
                os.close(target)
        finally:
            os.close(log)

    def _filter_into(self, log: int, uris: tuple[str, ...]) -> int:
        """Starts the filter; returns the end of the pipe to write to."""
        source, target = os.pipe()
        self._written, alive = os.pipe()
        environment = os.environ | {f"SWEEPER_ADDRESS_{number}": uri for number, uri in enumerate(uris)}
        command = [sys.executable, "-I", "-S", __file__, str(alive)]
        try:
            starter = subprocess.Popen(
                command,
                stdin=source,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=(alive,),
                start_new_session=True,  # what ends a whole group of processes does not end the filter
            )
        except BaseException:
            os.close(target)
            raise
        finally:
            os.close(source)
            os.close(alive)
        # Nobody waits for it, as that would take a twentieth of a second of each trial; it is reaped later.
        _starters[:] = [one for one in (*_starters, starter) if one.poll() is None]
        return target

    def wait(self) -> None:
        """Until everything is in the log, some seconds at most. The descriptors point elsewhere by now."""
        if self._written is not None:
            select.select([self._written], [], [], _DRAIN_S)
            os.close(self._written)
            self._written = None

    def __del__(self) -> None:
        if self._written is not None:
            os.close(self._written)


def _detach() -> None:
    """Out of reach of what ends the writer: Ray kills the children of an actor that ends, and a machine
    that goes down asks everybody to go."""
    if os.fork():
        os._exit(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _filter() -> None:
    """Standard input to standard output, line by line; a line that has not ended waits for its end."""
    redact, rest = Redactor(environment=os.environ), b""
    while chunk := os.read(0, 2**16):
        rest += chunk
        end = max(rest.rfind(b"\n"), rest.rfind(b"\r")) + 1
        if not end and len(rest) > _LONGEST_LINE_BYTES:
            rest = _clean(redact, rest)
            end = len(rest) - 4 * redact.longest  # a secret may have begun there, in UTF-8
        _write(_clean(redact, rest[:end]))
        rest = rest[end:]
    _write(_clean(redact, rest))


def _clean(redact: Redactor, data: bytes) -> bytes:
    return redact(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    _detach()
    _filter()
