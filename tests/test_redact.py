"""Secrets are struck out of text, and out of logs to the last line of a process that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from waiting import eventually

from sweeper.redact import Redactor, is_struck, masked

TOKEN = "hf_DistinctiveToken0123456789"


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "OPENAI_API_KEY",
        "WANDB_API_KEY",
        "PGPASSWORD",
        "MLFLOW_TRACKING_PASSWORD",
        "AWS_SECRET_ACCESS_KEY",
        "CLIENT_SECRET",
        "db_password",
    ],
)
def test_variables_with_such_names_are_secret(name):
    redact = Redactor(environment={name: TOKEN, "HOME": "/home/somebody"})
    assert redact(f"a {TOKEN} in /home/somebody") == "a *** in /home/somebody"


@pytest.mark.parametrize("name", ["HOME", "TOKENIZERS_PARALLELISM", "MAX_TOKENS", "PASSWORD_FILE", "HF_HOME"])
def test_variables_with_other_names_are_not(name):
    assert not Redactor(environment={name: TOKEN}).has_secret


def test_passwords_of_addresses_in_the_environment_are_secret_encoded_and_decoded():
    redact = Redactor(environment={"DATABASE_URL": "postgresql://me:s%40cre%2Ftive@db/x"})
    assert redact("at postgresql://me:s%40cre%2Ftive@db/x") == "at postgresql://me:***@db/x"
    assert redact("s@cre/tive s%40cre%2Ftive") == "*** ***"


def test_a_secret_is_found_inside_json_and_a_repr():
    redact = Redactor(environment={"A_TOKEN": 'quo"ted\\secret'})
    assert redact(r'{"a": "quo\"ted\\secret"}') == '{"a": "***"}'
    assert redact(repr('quo"ted\\secret')) == "'***'"


def test_a_short_secret_strikes_out_no_plain_words():
    redact = Redactor(environment={"A_TOKEN": "on", "URL": "http://me:abc@host"})
    assert redact("on and abc, http://me:abc@host") == "on and abc, http://me:***@host"


def test_what_was_struck_out_is_known_as_that():
    assert is_struck(masked("postgresql://me:secret@db/x"))
    assert is_struck("https://***@host")
    assert not is_struck("postgresql://me:secret@db/x")
    assert not is_struck("postgresql://db/***")


CRASH = """
import os, signal, subprocess, sys
from pathlib import Path
from sweeper.redact import LogRedirect
signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background is started without it
token = os.environ["HF_TOKEN"]
LogRedirect(Path(sys.argv[1]), "postgresql://me:Distinct%40Password@db/x")
os.write(1, b"x" * 70000 + token[:9].encode())
os.write(1, token[9:].encode() + b"\\r")
subprocess.run(["sh", "-c", "echo child $HF_TOKEN Distinct@Password; printf 'bytes \\\\377\\\\n'"])
os.write(2, f"the last words: {token} and".encode())
os.kill(0 if sys.argv[2] == "group" else os.getpid(), getattr(signal, sys.argv[3]))
"""


@pytest.mark.parametrize(("whom", "how"), [("self", "SIGKILL"), ("group", "SIGKILL"), ("group", "SIGINT")])
def test_a_killed_process_leaves_its_last_words_in_the_log_without_secrets(tmp_path, whom, how):
    log = tmp_path / "logs" / "log.txt"
    command = [sys.executable, "-c", CRASH, str(log), whom, how]
    environment = os.environ | {"HF_TOKEN": TOKEN}
    done = subprocess.run(command, env=environment, start_new_session=True, capture_output=True)
    assert done.returncode == -getattr(signal, how)
    assert eventually(lambda: b"the last words: *** and" in log.read_bytes())
    text = log.read_bytes()
    assert b"child *** ***\n" in text
    assert b"bytes \xff\n" in text
    assert b"x" * 70000 + b"***\r" in text
    assert TOKEN.encode() not in text and b"Distinct" not in text


def test_without_a_secret_no_process_stands_between(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from sweeper.redact import LogRedirect\n"
        "LogRedirect(Path(sys.argv[1])); print(os.path.samestat(os.fstat(1), os.stat(sys.argv[1])))"
    )
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "log")], env=environment, check=True)
    assert (tmp_path / "log").read_text() == "True\n"
