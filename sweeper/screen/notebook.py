"""The live view in a notebook: one output of its cell, drawn anew every second and left as it ended."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rich.console import Console, RenderableType

__all__ = ["NotebookView"]

_EVERY_S, _WIDTH = 1.0, 110
_FRAME = "<pre style='line-height:normal;font-family:monospace'>{code}</pre>"


class NotebookView:
    """As ``rich.live.Live`` has it, which needs ipywidgets in a notebook. A notebook that shows nothing any
    more never stops a sweep."""

    def __init__(self, draw: Callable[[], RenderableType]) -> None:
        self._draw = draw
        self._over = threading.Event()
        self._output: Any = None
        self._thread = threading.Thread(target=self._follow, name="notebook", daemon=True)

    def start(self) -> None:
        from IPython.display import display

        self._output = display(self._html(), display_id=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self._update()

    def _follow(self) -> None:
        while not self._over.wait(_EVERY_S):
            self._update()

    def _update(self) -> None:
        with suppress(Exception):
            self._output.update(self._html())

    def _html(self) -> Any:
        from IPython.display import HTML

        console = Console(
            file=io.StringIO(), record=True, width=_WIDTH, force_jupyter=False, force_terminal=True
        )
        console.print(self._draw())
        return HTML(console.export_html(inline_styles=True, code_format=_FRAME))
