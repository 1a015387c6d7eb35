"""A webhook: what is posted and when, and that a server that is away stops nothing."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import pytest
from webhook import Hook

from sweeper.errors import UserError
from sweeper.redact import host_only
from sweeper.screen import notices
from sweeper.screen.notices import Notices, require_webhook
from sweeper.search import TrialState
from sweeper.space import SweepFolder

sys.path.insert(0, str(Path(__file__).parents[1] / "recommend"))
from report_support import record, space_of, sweep_of, written


@pytest.fixture
def hook(monkeypatch):
    monkeypatch.setattr(notices, "_WAITS_S", (0.0, 0.0))
    made = Hook()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    root = tmp_path_factory.mktemp("notices")
    space = space_of(root)
    folder = SweepFolder(root / "demo")
    return space, folder, written(folder, space, sweep_of(space, 6))


def notices_to(url, sweep, warned=None, **more):
    space, folder, ledger = sweep
    return Notices(url, space, folder, ledger, (warned if warned is not None else []).append, **more)


def test_the_end_of_a_sweep_is_posted_with_what_to_do_next(hook, sweep):
    told = notices_to(f"http://me:p%40ss@{hook.address}/hook", sweep)
    told.conclude("finished", "all 6 trials")
    assert told.close() == []
    (tree,) = hook.taken
    assert (tree["event"], tree["state"], tree["needs_person"]) == ("finished", "finished", False)
    assert (tree["trials"], tree["complete"], tree["failed"]) == (6, 6, 0)
    assert tree["best"]["trial"] == sweep[2].best().number and tree["next"].startswith("sweeper report ")
    secret = base64.b64decode(hook.headers[0]["Authorization"].removeprefix("Basic ")).decode()
    assert secret == "me:p@ss" and hook.headers[0]["Content-Type"] == "application/json"


def test_a_server_that_fails_for_a_moment_is_asked_again(hook, sweep):
    hook.answers = [500, 503]
    warned: list[str] = []
    told = notices_to(f"http://{hook.address}/", sweep, warned)
    told.conclude("failed", "the disk is full")
    assert told.close() == [] and not warned
    assert hook.taken[0]["message"] == "the disk is full" and hook.taken[0]["needs_person"]


def test_one_that_is_away_is_told_of_once_and_without_its_secrets(hook, sweep):
    hook.answers = [404] * 9
    warned: list[str] = []
    told = notices_to(f"http://me:hush-hush@{hook.address}/T0/secret-path?token=x", sweep, warned)
    failed = record(3, dict(sweep[2].trials()[3].values), 2.0, TrialState.FAIL, reason="its processes died")
    told.trial_finished(failed)
    told.trial_finished(failed)
    told.conclude("finished")
    said = "".join([*warned, *told.close()])
    assert said.count("did not arrive") == 1 and "404" in said and f"http://{hook.address}/***" in said
    assert not hook.taken and not any(secret in said for secret in ("hush", "secret-path", "token=x", "me:"))


def test_failures_are_told_ever_more_rarely_and_diverged_trials_not_at_all(hook, sweep):
    told = notices_to(f"http://{hook.address}/", sweep)
    values = dict(sweep[2].trials()[3].values)
    for number in range(5):
        told.trial_finished(record(number, values, 2.0, TrialState.FAIL, reason=f"lost {number}"))
    told.trial_finished(record(9, values, float("nan"), TrialState.FAIL, reason="diverged"))
    told.close()
    assert [one["message"] for one in hook.taken] == [
        "trial 0 failed: lost 0",
        "trial 1 failed: lost 1",
        "trial 3 failed: lost 3",
    ]
    assert all(one["needs_person"] and one["state"] == "running" for one in hook.taken)


def test_a_wait_is_told_once_it_has_lasted_and_again_when_it_is_another(hook, sweep):
    now = [0.0]
    told = notices_to(f"http://{hook.address}/", sweep, clock=lambda: now[0])
    for at in (0, 60, 120, 180, 240, 300, 360, 1000, 1060):
        now[0] = float(at)
        told.waits("waiting for 2 CPUs; 1 free")
    told.close()
    assert [one["message"] for one in hook.taken] == ["waiting for 2 CPUs; 1 free, for 5 minutes"]


def test_without_an_address_nothing_is_posted(sweep):
    told = notices_to(None, sweep)
    told.conclude("finished")
    assert told.close() == []


@pytest.mark.parametrize("url", ["hook", "ftp://a/b", "http://", "http://[", "https:///x"])
def test_what_is_no_address_is_refused_before_anything_starts(url):
    with pytest.raises(UserError, match="no address that JSON can be posted to"):
        require_webhook(url)


def test_of_a_webhook_only_the_host_is_shown():
    assert host_only("https://hooks.example.org/services/T0/B0/secret") == "https://hooks.example.org/***"
    assert host_only("https://u:p@h:1/x?token=a#c") == "https://h:1/***"
    assert host_only("secret") == host_only("https://u:pa/ss@h/x") == "***"
