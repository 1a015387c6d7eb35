"""A sweep at work: the driver's side of Ray Tune, MLflow and the live view."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.autotune import Speed, Tuning, cost_rows, known_speed, lengths_of
from sweeper.commands.autotune import settle
from sweeper.commands.preparation import Preparation, preparing
from sweeper.commands.report import ReportKeeper
from sweeper.data import LengthSample, model_fingerprint, tokenized
from sweeper.engines import reap_commands
from sweeper.errors import SweeperError, SweepFolderError
from sweeper.ray_tune.cluster import ray_for, ray_request
from sweeper.ray_tune.remote_driver import RecordCopy, remote_files
from sweeper.recommend import write_answer, write_results
from sweeper.redact import without_secrets
from sweeper.remote import DriverFiles
from sweeper.screen.interrupts import Interrupts
from sweeper.screen.notices import Notices
from sweeper.screen.progress import ProgressView
from sweeper.screen.screen import Screen
from sweeper.search import Ledger, make_stopper
from sweeper.space import (
    Config,
    Space,
    SweepFolder,
    cluster_address,
    environment,
    on_proxy,
    proxy_warnings,
    read_record,
    row_warnings,
    search_config,
)
from sweeper.sweep.mirror import Mirror
from sweeper.sweep.past_sweeps import HistoryWriter, freeze_past
from sweeper.sweep.recorder import Recorder
from sweeper.sweep.sharing import Sharing
from sweeper.sweep.stored import follows_room, with_noted_concurrency
from sweeper.training import reap

if TYPE_CHECKING:
    from ray.tune import Tuner

    from sweeper.ray_tune.free_resources import Places

__all__ = ["Session", "versions"]

_VERSIONED = ("sweeper", "torch", "deepspeed", "transformers", "peft", "ray", "optuna", "mlflow")
_TUNINGS = "tunings"
"""What the ledger keeps of autotuning, so that resuming goes on with the same."""
_TRACKING_PATIENCE_S, _INTERRUPTED_PATIENCE_S = 600.0, 5.0
"""How long the end of a sweep waits at most for an MLflow that makes progress, and how long an end that
is not the usual one does; the ledger has everything already."""


def versions() -> dict[str, str]:
    """Of this package and of those whose version changes what a trial computes."""
    return {name: importlib.metadata.version(name) for name in _VERSIONED}


class Session:
    """Lives from the first trial's start to the answer; ``search`` and then ``conclude``."""

    def __init__(
        self,
        space: Space,
        folder: SweepFolder,
        ledger: Ledger,
        screen: Screen,
        *,
        notify: str | None = None,
        began_s: float,
    ) -> None:
        """``notify``: an address that is told of the end; ``began_s``: the monotonic clock when the command
        began, from where the budget counts."""
        self._space, self._folder, self._ledger = space, folder, ledger
        self._engine = space.settings.engine
        self._typical = space.close(space.default_values())
        finished = [record for record in ledger.trials() if record.state.is_finished]
        self._view = ProgressView(space, screen, finished=finished)
        self._mirror = Mirror(space, folder, ledger, self._view.warn)
        self._history = HistoryWriter(space, ledger, self._view.warn)
        self._report = ReportKeeper(space, folder, ledger, self._view.warn)
        self._notices = Notices(notify, space, folder, ledger, self._view.warn)
        self._fingerprints: dict[str, str] = {}
        self._began_s = began_s

    def search(self, interrupts: Interrupts) -> None:
        """Run trials until the ledger has what was asked for.

        Raises:
            UserError: for data that cannot be used, and from the first trial that meets one.
            KeyboardInterrupt: somebody wants an end; running trials have written their states, unless
                it was wanted at once.
        """
        self._space = with_noted_concurrency(self._space, self._ledger)
        config, most = ray_request(self._space)
        self._folder.stop_file.unlink(missing_ok=True)
        with self._view, self._tracked():
            left = len(reap(self._folder.processes_dir))
            left += reap_commands(self._folder.root) if self._engine is not None else 0
            if left:
                self._view.say(f"ended {left} processes of an earlier driver")
            for warning in (*row_warnings(self._space), *proxy_warnings(self._space)):
                self._view.warn(f"warning: {warning}")
            with (
                self._preparing(config) as preparations,
                ray_for(
                    config,
                    places=most,
                    say=self._say,
                    folder=self._folder.root,
                    files=config.resources.files,
                    wanted_next="ray.tune",
                ),
            ):
                interrupts.ask_first(None)  # Ray has put a handler of its own in between
                _check(preparations)
                places = self._places()
                tunings = self._settled()
                speed = tunings[0].speed if tunings else known_speed(self._space)
                self._typical = self._space.close(self._space.default_values())
                sample = lengths_of(self._space)
                rows = cost_rows(self._space, sample, speed)
                if rows:
                    self._view.say("; ".join(f"{label}: {value}" for label, value in rows))
                with self._remote(preparations) as remote:
                    data_dirs = [one.folder() for one in preparations]
                    recorder = self._recorder(data_dirs, sample, tunings, speed, remote)
                    self._view.say("starting the workers")
                    _check(preparations)
                    interrupts.ask_first(lambda: self._ask_to_stop(recorder))
                    self._tuner(recorder, places).fit()
                    interrupts.ask_first(None)
                    if recorder.problem is not None:
                        raise _to_mend(recorder.problem, self._folder)
                    if recorder.stopping:
                        raise KeyboardInterrupt
                    recorder.conclude()

    def _remote(self, preparations: Sequence[Preparation]) -> AbstractContextManager[DriverFiles | None]:
        rows = [(one.config, one.folder()) for one in preparations]
        return remote_files(self._space, self._folder, self._ledger, rows, self._view.say, self._view.warn)

    @contextmanager
    def _preparing(self, config: Config) -> Iterator[list[Preparation]]:
        """The rows of the real thing, and those of the search's proxy where it has one."""
        if self._engine is not None:  # it reads its own
            yield []
            return
        wanted = [self._space.rows_config(config)]
        if self._space.settings.search.proxy.is_wanted:
            wanted.append(self._space.rows_config(on_proxy(self._space, config)))
        cache = self._folder.cache_dir.absolute()
        with ExitStack() as stack:
            yield [stack.enter_context(preparing(one, cache, self._view.preparing)) for one in wanted]

    def _ask_to_stop(self, recorder: Recorder) -> None:
        recorder.ask_to_stop()
        said = "stopping: running trials write their states; interrupt again to stop at once"
        self._view.say(said, warning=True)

    def conclude(self) -> list[str]:
        """Write the answer and close MLflow's runs; returns warnings."""
        self._history.write(self._ledger.trials())
        write_results(self._space, self._ledger.trials(), self._folder)
        if self._ledger.best() is not None:
            write_answer(self._space, self._ledger.trials(), self._folder, versions(), self._fingerprints)
        self._report.conclude("finished")
        self._mirror.conclude("finished")
        warnings = self._mirror.close(_TRACKING_PATIENCE_S)
        self._notices.conclude("finished", str(self._ledger.sweep_attributes().get("ended", "")))
        return [*warnings, *self._notices.close()]

    def _say(self, text: str, *, warning: bool = False) -> None:
        """What Ray's side tells; a wait that does not end is for a person to know."""
        self._view.say(text, warning=warning)
        if text.startswith("waiting for"):
            self._notices.waits(text)

    def _settled(self) -> tuple[Tuning, ...]:
        """What the file leaves to measuring, as the ledger has it, or measured now."""
        if not self._space.measured:
            return ()
        if noted := self._ledger.sweep_attributes().get(_TUNINGS):
            return tuple(read_record(Tuning, one) for one in noted)
        tunings = settle(self._space, self._folder, self._view.say)
        self._ledger.note_sweep(**{_TUNINGS: [asdict(one) for one in tunings]})
        return tunings

    def _recorder(
        self,
        data_dirs: Sequence[Path],
        sample: LengthSample | None,
        tunings: tuple[Tuning, ...],
        speed: Speed | None,
        remote: DriverFiles | None,
    ) -> Recorder:
        data_dir = data_dirs[0] if data_dirs else self._folder.cache_dir
        on_small = data_dirs[1] if len(data_dirs) > 1 else None
        if data_dirs:
            model = model_fingerprint(self._typical.model_path)
            self._fingerprints = {"data": data_dir.name, "model": model}
        if on_small is not None:
            self._fingerprints["proxy_data"] = on_small.name
        self._ledger.note_sweep(tags=self._tags())
        self._mirror.replay()
        searched = search_config(self._space, self._space.default_values())
        rows = partial(tokenized, searched, on_small or data_dir) if self._ledger.shares else None
        copies = [] if remote is None else [RecordCopy(remote.record, self._view.warn)]
        past = freeze_past(self._space, self._folder, self._ledger, self._view.say)
        self._history.write(self._ledger.trials())  # what an earlier driver could not tell any more
        return Recorder(
            self._space,
            self._ledger,
            self._folder,
            make_stopper(self._space, pauses=self._ledger.pauses, past=past),
            [self._view, self._mirror.listener, self._history, self._report, self._notices, *copies],
            data_dir=data_dir,
            speed=speed,
            sample=sample,
            tunings=tunings,
            past=past,
            began_s=self._began_s,
            sharing=Sharing(self._space, self._ledger, self._folder, rows),
            proxy_data_dir=on_small,
            remote=remote,
        )

    def _tags(self) -> dict[str, str]:
        """What every run of the sweep carries: what was computed with what, on what."""
        tags = {f"version.{name}": value for name, value in versions().items()}
        return tags | {f"fingerprint.{name}": value for name, value in self._fingerprints.items()}

    @contextmanager
    def _tracked(self) -> Iterator[None]:
        """MLflow learns of an end that is not the usual one."""
        try:
            yield
        except BaseException as error:
            state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            with suppress(Exception):  # the first error is the one to know
                self._mirror.conclude(state)
            with suppress(Exception):
                self._report.conclude(state)
            with suppress(Exception):
                self._notices.conclude(state, "" if state == "interrupted" else without_secrets(str(error)))
            self._mirror.close(_INTERRUPTED_PATIENCE_S)
            self._notices.close()
            raise

    def _places(self) -> Places:
        """Trials side by side: those asked for, or as many as a cluster has room for where the file leaves it
        to that, and a driver that goes on with its sweep as well."""
        from sweeper.ray_tune.free_resources import Places

        config, wanted = ray_request(self._space)
        if cluster_address(config.resources.ray_address) is None or not follows_room(self._ledger):
            return Places(config, wanted, self._view.say)
        places = Places(config, None, self._view.say)
        self._space = self._space.with_concurrency(places(), share_cores=False)
        return places

    def _tuner(self, recorder: Recorder, places: Places) -> Tuner:
        from ray import tune

        from sweeper.ray_tune.free_resources import RoomWatch
        from sweeper.ray_tune.reporting import silent_reporter
        from sweeper.ray_tune.searcher import LedgerCallback, LedgerScheduler, LedgerSearcher
        from sweeper.ray_tune.trainable import TrialRunner

        return tune.Tuner(
            tune.with_parameters(TrialRunner, variables=environment(self._typical.resources.env)),
            tune_config=tune.TuneConfig(
                search_alg=LedgerSearcher(recorder, places),
                scheduler=LedgerScheduler(recorder, RoomWatch(self._say)),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=_trial_name,
                trial_name_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name="ray",
                storage_path=str(self._folder.logs_dir.absolute()),
                verbose=0,
                progress_reporter=silent_reporter(),
                callbacks=[LedgerCallback(recorder)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )


def _check(preparations: Iterable[Preparation]) -> None:
    """Raises the DataError that one of them has met by now."""
    for one in preparations:
        one.check()


def _to_mend(problem: Exception, folder: SweepFolder) -> Exception:
    """A folder that takes nothing more is something to mend; anything else is told as it is."""
    if isinstance(problem, SweeperError) or not isinstance(problem, OSError):
        return problem
    return SweepFolderError.of(
        where=str(folder.root),
        value=problem.strerror or str(problem),
        rule="the sweep's folder cannot be written; what is in its ledger is kept",
        remedy=f"make room, then go on with: sweeper resume {folder.root}",
    )


def _trial_name(trial: object) -> str:
    return f"trial-{trial.trial_id}"  # type: ignore[attr-defined]
