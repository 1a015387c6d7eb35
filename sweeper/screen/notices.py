"""A webhook: JSON is posted to an address when a sweep ends, or needs a person. Nothing more."""

from __future__ import annotations

import base64
import json
import queue
import threading
import time
import urllib.request
from collections.abc import Callable
from importlib.metadata import version
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from sweeper.errors import UserError, first_line
from sweeper.redact import host_only
from sweeper.search import Ledger, TrialRecord, TrialState, is_diverged
from sweeper.space import Space, SweepFolder
from sweeper.sweep.listener import Listener

__all__ = ["Notices", "require_webhook"]

_TIMEOUT_S, _WAITS_S = 5.0, (1.0, 4.0)
"""Of one attempt, and before each further one."""
_PATIENCE_S = 20.0
"""How long the end of a sweep waits for notices that are under way."""
_WAITED_S, _QUIET_S = 300.0, 150.0
"""A wait for resources is told after so long; it is over where nothing was said of it for so long."""


def require_webhook(url: str | None) -> None:
    """Raises UserError where it is no address to post to."""
    if url is None:
        return
    try:
        parts = urlsplit(url)
        is_sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_sound = False
    if not is_sound:
        raise UserError.of(
            where="--notify",
            value=host_only(url),
            rule="is no address that JSON can be posted to",
            remedy="give one such as https://example.org/hook, or none",
        )


class Notices(Listener):
    """Posts from a thread of its own. It never waits but in ``close``, never stops a sweep, and says once
    where a notice did not arrive. Without an address it does nothing.

    A notice is ``{"event", "message", "needs_person", "sweep", "folder", "state", "metric", "trials",
    "complete", "failed", "best": {"trial", "value"}, "next", "at_s", "version"}``. ``event`` is finished,
    interrupted or failed at the end of a sweep, and before it trial_failed or waiting; ``next`` is the
    command to go on with, or null.
    """

    def __init__(
        self,
        url: str | None,
        space: Space,
        folder: SweepFolder,
        ledger: Ledger,
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._space, self._folder, self._ledger = url, space, folder, ledger
        self._warn, self._clock = warn, clock
        self._failed = 0
        self._waits_since_s, self._last_said_s, self._is_told = 0.0, -_QUIET_S, False
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._has_warned = self._is_closing = False
        self._left: list[str] = []
        """Warnings that nobody was told of any more."""
        self._thread = threading.Thread(target=self._post_all, name="notices", daemon=True)
        if url is not None:
            self._thread.start()

    def trial_finished(self, record: TrialRecord) -> None:
        """One that failed for no fault of its values, in spite of its retries; told at the first, second,
        fourth, eighth and so on."""
        if record.state is not TrialState.FAIL or is_diverged(record, self._space.settings.objective.metric):
            return
        self._failed += 1
        if self._failed & (self._failed - 1) == 0:
            self._tell("trial_failed", f"trial {record.number} failed: {record.reason}", needs_person=True)

    def waits(self, text: str) -> None:
        """To be told each time that somebody says what is waited for."""
        now = self._clock()
        if now - self._last_said_s >= _QUIET_S:
            self._waits_since_s, self._is_told = now, False
        self._last_said_s = now
        if not self._is_told and now - self._waits_since_s >= _WAITED_S:
            self._is_told = True
            self._tell(
                "waiting", f"{text}, for {(now - self._waits_since_s) / 60:.0f} minutes", needs_person=True
            )

    def conclude(self, state: str, message: str = "") -> None:
        """The end; ``state`` is finished, interrupted or failed."""
        needs_person = state == "failed" or self._ledger_best() is None
        self._tell(state, message or f"the sweep is {state}", needs_person=needs_person)

    def close(self) -> list[str]:
        """Waits until everything has been posted or given up, some seconds at most; returns warnings."""
        if self._url is None:
            return []
        self._is_closing = True
        self._waiting.put(None)
        self._thread.join(_PATIENCE_S)
        return list(self._left)

    def _ledger_best(self) -> TrialRecord | None:
        try:
            return self._ledger.best()
        except Exception:  # a ledger that is away is told of by whoever met it
            return None

    def _tell(self, event: str, message: str, *, needs_person: bool) -> None:
        if self._url is None:
            return
        is_over = event in ("finished", "interrupted", "failed")
        best = self._ledger_best()
        tree = {
            "event": event,
            "message": message,
            "needs_person": needs_person,
            "sweep": self._space.name,
            "folder": str(self._folder.root.absolute()),
            "state": event if is_over else "running",
            "metric": self._space.settings.objective.metric,
            **self._counts(),
            "best": None if best is None else {"trial": best.number, "value": best.final_value},
            "next": self._next(event),
            "at_s": time.time(),
            "version": version("sweeper"),
        }
        self._waiting.put(tree)

    def _counts(self) -> dict[str, int | None]:
        try:
            states = [one.state for one in self._ledger.trials()]
        except Exception:  # as above
            return {"trials": None, "complete": None, "failed": None}
        return {
            "trials": len(states),
            "complete": states.count(TrialState.COMPLETE),
            "failed": states.count(TrialState.FAIL),
        }

    def _next(self, event: str) -> str | None:
        commands = {"finished": "report", "interrupted": "resume", "failed": "resume"}
        return f"sweeper {commands[event]} {self._folder.root}" if event in commands else None

    def _post_all(self) -> None:
        while (tree := self._waiting.get()) is not None:
            problem = self._posted(json.dumps(tree).encode())
            if problem and not self._has_warned:
                self._has_warned = True
                where = host_only(self._url or "")
                said = f"a notice did not arrive at {where}: {problem}"
                if self._is_closing:
                    self._left.append(said)
                else:
                    self._warn(f"{said}; the sweep goes on without")

    def _posted(self, body: bytes) -> str:
        """Why it did not arrive; empty where it did."""
        problem = ""
        for wait_s in (0.0, *_WAITS_S):
            time.sleep(wait_s)
            problem = _post(self._url or "", body)
            if not problem:
                return ""
        return problem


def _post(url: str, body: bytes) -> str:
    """One attempt; says what went wrong, without the address."""
    try:
        request = urllib.request.Request(_bare(url), data=body, method="POST", headers=_headers(url))
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
            return ""
    except Exception as error:  # whatever a server, a proxy or a name service does
        return first_line(error).replace(url, host_only(url))


def _bare(url: str) -> str:
    """Without the name and password, which urllib would take for a part of the host."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _headers(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    headers = {"Content-Type": "application/json", "User-Agent": f"sweeper/{version('sweeper')}"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return headers
