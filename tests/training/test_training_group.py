"""Ranks in processes of their own: two share the work, and a fresh one repeats a warm one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sweeper.errors import TrialDivergedError, TrialFailedError, UserError
from sweeper.space import Evaluation
from sweeper.training.ranks.group import WorkerGroup

pytestmark = pytest.mark.usefixtures("ray_here")


def run_fresh(config, job, run_in):
    group = WorkerGroup(config, None)
    try:
        return run_in(group, job)
    finally:
        group.shut_down()


@pytest.fixture
def pair(group_of, quick_config):
    """Two warm ranks."""
    return group_of(quick_config(dp=2))


def test_dp_2_learns_what_dp_1_learns_at_the_same_global_batch(pair, run, run_in, quick_config, job_of):
    one = run(quick_config(per_device_batch_size=8))
    config = quick_config(per_device_batch_size=4, dp=2, zero_stage=2)
    two = run_in(pair, job_of(config))
    assert two.prepared.total_tokens == one.prepared.total_tokens
    assert two.losses == pytest.approx(one.losses, abs=1e-3)


def test_a_fresh_process_repeats_a_warm_one_to_the_last_bit(run, run_in, quick_config, job_of):
    config = quick_config()
    run(quick_config(lr=1e-2, epochs=0.5))
    assert run_fresh(config, job_of(config), run_in).losses == run(config).losses


def test_dp_2_answers_what_dp_1_answers(pair, run_in, rank, simple_rows, job_of, own_modules):
    """The same model to the last letter, in step with ZeRO-3, with a metric that each process has to find."""
    (own_modules / "letters.py").write_text(
        "import zlib\ndef checksum(p, g, r):\n    return zlib.crc32('|'.join(g).encode())\n"
    )
    evaluation = Evaluation(metrics=("exact_match", "letters:checksum"), max_new_tokens=12)
    job = job_of(simple_rows(evaluation), evaluate_untrained=True)
    one = run_in(rank, job)
    rank.stop()
    job = job_of(
        simple_rows(evaluation, per_device_batch_size=4, dp=2, zero_stage=3), evaluate_untrained=True
    )
    two = run_in(pair, job)
    for run in (one, two):
        assert [run.evaluations[i].metrics["eval/exact_match"] for i in (0, -1)] == [0, 1]
    for i in (0, -1):
        assert len({run.evaluations[i].metrics["eval/checksum"] for run in (one, two)}) == 1


def test_a_metric_that_fails_in_a_rank_arrives_as_something_to_mend(pair, simple_rows, job_of, own_modules):
    (own_modules / "faulty.py").write_text("def score(p, g, r):\n    return 1 / 0\n")
    evaluation = Evaluation(metrics=("faulty:score",), max_new_tokens=1)
    pair.prepare(job_of(simple_rows(evaluation, dp=2, per_device_batch_size=4), evaluate_untrained=True))
    with pytest.raises(UserError, match="faulty:score: raised ZeroDivisionError: division by zero"):
        pair.advance()


def test_ranks_of_one_machine_listen_to_nobody_else():
    program = """
import psutil
from sweeper.training.ranks.worker import RankWorker
rank = RankWorker(0, 1, 1, "cpu")
rank.join("127.0.0.1", rank.listen("127.0.0.1"))
found = psutil.Process().net_connections("inet")
print({one.laddr.ip for one in found if one.status == "LISTEN"})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "{'127.0.0.1'}"


def test_an_error_in_a_rank_arrives_as_what_it_was(quick_config, job_of):
    config = quick_config(lr=10, scheduler="constant", max_grad_norm=0, epochs=3)
    group = WorkerGroup(config, None)
    try:
        with pytest.raises(TrialFailedError, match="no trial is prepared"):
            group.advance()
        group.prepare(job_of(config))
        with pytest.raises(TrialDivergedError):
            for _ in range(3):
                group.advance()
    finally:
        group.shut_down()
