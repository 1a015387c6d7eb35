"""The driver's side: its folder has shells of what lies at the address, and what it decides goes there."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from sweeper.data import BUILTIN, model_folder
from sweeper.errors import SweepFolderError
from sweeper.remote.items import Shells, commit, is_whole, push, push_part
from sweeper.remote.place import CONTENT, COPIES, Files
from sweeper.remote.record import SweepRecord, address_of
from sweeper.remote.storage import RemoteFilesError, RemoteFolder
from sweeper.remote.trial import is_followed
from sweeper.space import Config, SweepFolder

__all__ = ["DriverFiles"]

_LOOK_EVERY_S = 2.0
_BLOCK_BYTES = 2**22


class DriverFiles:
    """Of one sweep, for as long as a driver is at work on it. Each method raises RemoteFilesError."""

    def __init__(self, address: str, folder: SweepFolder, sweep: str, *, ledger: Path | None = None) -> None:
        """``address`` is the field's; ``sweep`` is the sweep's id; ``ledger``: see ``SweepRecord``."""
        self._base, self._folder = RemoteFolder(address), folder
        self._root = folder.root.absolute()
        self._files = Files(
            address=address_of(address, folder),
            sweep=sweep,
            folder=self._root,
            driver=uuid.uuid4().hex,
        )
        self._remote = self._files.open()
        self._shells = Shells(self._remote, self._root)
        self.record = SweepRecord(self._files.address, folder, ledger)
        self._at_work: set[int] = set()
        self._is_over = threading.Event()

    def begin(self, configs: Iterable[Config], folders: Iterable[Path]) -> None:
        """From now on this is the sweep's driver. What trials share is sent there, where it is not there yet:
        the rows in ``folders``, and what the configurations name on this disk."""
        self.record.begin(self._files.driver, self._files.sweep)
        self.withdraw(self._folder.stop_file)
        for folder in folders:
            push(self._remote, folder, folder.absolute().relative_to(self._root).as_posix())
        copies = {path: self._copied(Path(file)) for path, file in _on_this_disk(configs).items()}
        self._files = Files(**{**vars(self._files), "copies": copies})
        self._shells.refresh("trials")
        threading.Thread(target=self._listen, name="files", daemon=True).start()

    def of_job(self) -> Files:
        """What a trial has to know."""
        return self._files

    # What they tell each other ---------------------------------------------------------------

    def tell(self, signal: Path) -> None:
        """A file in the driver's folder, by which trials hear something."""
        self._remote.write(self._name(signal), b"")

    def withdraw(self, *signals: Path) -> None:
        self._remote.remove(map(self._name, signals))

    def watch(self, number: int) -> None:
        """A trial is about to begin: its states, and those that trials at work have left, are known when this
        returns, and what it says is looked after."""
        if is_followed(self._files):
            raise SweepFolderError.of(
                where=str(self._root),
                value="",
                rule="a driver on another machine has taken the sweep over",
                remedy="leave it to that one; what was measured here until then is kept",
            )
        self._at_work.add(number)
        for one in sorted(self._at_work):
            self._shells.refresh(self._name(self._folder.trial_dir(one)))

    def forget(self, number: int) -> None:
        """A trial has come to a stop; its states and its model are known when this returns."""
        self._at_work.discard(number)
        self._shells.refresh(self._name(self._folder.trial_dir(number)))
        self.withdraw(self._folder.trial_progress(number), self._folder.trial_pause(number))

    def end(self) -> None:
        """Models that are kept, and all that was printed, lie in the folder when this returns."""
        self._is_over.set()
        self.record.save()
        self._shells.refresh("trials")
        for model in sorted(self._folder.trials_dir.glob("*/model")):
            self._shells.fill(self._name(model))
        self._bring_told(self._remote.sizes("trials"))

    # -----------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while not self._is_over.wait(_LOOK_EVERY_S):
            for number in list(self._at_work):
                with suppress(RemoteFilesError, OSError):
                    trial = self._folder.trial_dir(number)
                    self._bring_told(self._remote.sizes(self._name(trial), deep=False))
                    progress = self._folder.trial_progress(number)
                    self._remote.get(self._name(progress), progress)

    def _bring_told(self, names: Mapping[str, int]) -> None:
        """The logs of trials that have grown."""
        for name, size in names.items():
            here = self._root / name
            is_log = name.count("/") == 2 and here.match("log*.txt")
            if is_log and not (here.is_file() and here.stat().st_size == size):
                with suppress(FileNotFoundError):
                    self._remote.get(name, here)

    def _copied(self, path: Path) -> str:
        """The address of a file or a folder of this disk, found by its content, which is sent once."""
        remote = RemoteFolder(f"{self._base.address}/{COPIES}/{_digest(path)}")
        if not is_whole(remote, CONTENT):
            item = f"{CONTENT}/{path.name}"
            if path.is_dir():
                part = {f"{path.name}/{name}": size for name, size in push_part(remote, path, item).items()}
            else:
                remote.put(path, item)
                part = {path.name: path.stat().st_size}
            commit(remote, CONTENT, [part])
        return remote.address

    def _name(self, path: Path) -> str:
        return path.absolute().relative_to(self._root).as_posix()


def _on_this_disk(configs: Iterable[Config]) -> dict[str, str]:
    """What no other node has: path as it is written -> path in full. Ids of a hub and packaged files are
    none."""
    written: dict[str, str] = {}
    for config in configs:
        model, template, tasks = config.model_path, config.chat_template, config.evaluation.lm_eval_tasks
        written |= {model: model_folder(model)} if model != BUILTIN else {}
        written |= {template: template} if template.endswith(".jinja") else {}
        written |= {tasks: tasks} if tasks else {}
    there = {one: Path(path).expanduser().absolute() for one, path in written.items()}
    return {one: str(path) for one, path in there.items() if path.exists()}


def _digest(path: Path) -> str:
    """Of the names below a path, its own among them, and of all that is in the files."""
    digest = hashlib.sha256(f"{path.name}\0".encode())
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            name = file.relative_to(path).as_posix()
            digest.update(f"{name}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as stream:
                while block := stream.read(_BLOCK_BYTES):
                    digest.update(block)
    return digest.hexdigest()[:32]
