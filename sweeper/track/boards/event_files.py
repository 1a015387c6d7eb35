"""Event files for TensorBoard, written by TensorBoard's own writer: it needs neither torch nor TensorFlow."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeper.track.boards.writer import Board, BoardTrial

__all__ = ["TensorBoard"]


class TensorBoard(Board):
    """A folder of event files for each trial, which TensorBoard calls a run."""

    def __init__(self, folder: Path) -> None:
        """Imports tensorboard."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._folder, self._make = folder, EventFileWriter
        self._writers: dict[int, Any] = {}

    def trial_started(self, trial: BoardTrial) -> None:
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        name = re.sub(r"[^\w.+-]+", "-", trial.name)
        self._writers[trial.number] = self._make(str(self._folder / name))
        if trial.from_tokens >= 0:
            # TensorBoard forgets what a killed driver may have written from there on.
            self._add(trial.number, step=trial.from_tokens + 1, session_log={"status": "START"})
            return
        self._add(trial.number, summary=hparams_pb(dict(trial.searched), start_time_secs=trial.at_s))
        self._add(trial.number, summary=_text("config", f"```yaml\n{trial.config_yaml}\n```"))

    def log(self, number: int, tokens: int, values: Mapping[str, float], time_s: float) -> None:
        scalars = [{"tag": tag, "simple_value": value} for tag, value in values.items()]
        self._add(number, step=tokens, time_s=time_s, summary={"value": scalars})

    def trial_finished(
        self, number: int, state: str, reason: str | None, metrics: Mapping[str, float]
    ) -> None:
        if metrics:
            self.log(number, 0, metrics, time.time())
        self._add(number, summary=_text("state", f"{state}: {reason}" if reason else state))
        self._add(number, summary=_session_end(is_good=state in ("COMPLETE", "PRUNED")))
        self._writers.pop(number).close()

    def flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _add(self, number: int, *, step: int = 0, time_s: float | None = None, **content: Any) -> None:
        from tensorboard.compat.proto import event_pb2

        moment_s = time.time() if time_s is None else time_s
        self._writers[number].add_event(event_pb2.Event(wall_time=moment_s, step=step, **content))


def _session_end(*, is_good: bool) -> Any:
    """As the hparams dashboard reads it; TensorBoard's own function for it needs TensorFlow."""
    from tensorboard.compat.proto import summary_pb2
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    status = api_pb2.STATUS_SUCCESS if is_good else api_pb2.STATUS_FAILURE
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    value = summary_pb2.Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end)),
        tensor=metadata.NULL_TENSOR,
    )
    return summary_pb2.Summary(value=[value])


def _text(tag: str, text: str) -> Any:
    """As the text dashboard reads it."""
    from tensorboard.plugins.text.summary_v2 import text_pb

    summary = text_pb(f"{tag}/text_summary", [text])
    summary.value[0].metadata.display_name = tag
    return summary
