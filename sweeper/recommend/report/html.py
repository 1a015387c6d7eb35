"""Text as HTML. Whatever came from a user's file, data or errors goes through here."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

from sweeper.redact import without_secrets

__all__ = ["code", "escaped", "items", "paragraph", "sentence", "struck", "table"]


@lru_cache(maxsize=4096)
def struck(text: str) -> str:
    """Without secrets. The same text comes thousands of times, as in every row of a trial's curve."""
    return without_secrets(text)


def escaped(text: object) -> str:
    """Safe in text and in attributes; secrets are struck out."""
    return html.escape(struck(str(text)), quote=True)


def sentence(text: str, names: Collection[str] = ()) -> str:
    """With a capital, unless it begins with one of these names, or with one such as ``eval/loss``."""
    first = text.partition(" ")[0].strip(",")
    return text if first in names or not first.isalpha() else text[0].upper() + text[1:]


def paragraph(text: str, kind: str = "") -> str:
    """A sentence with its full stop; empty where there is no text."""
    if not text:
        return ""
    said = sentence(text)
    stop = "" if said.endswith((".", "!", "?", ":")) else "."
    return f"<p{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}>{escaped(said)}{stop}</p>"


def items(texts: Iterable[str]) -> str:
    inside = "".join(f"<li>{escaped(one)}</li>" for one in texts)
    return f"<ul>{inside}</ul>" if inside else ""


def code(text: str, label: str) -> str:
    """A command with a button that copies it."""
    return (
        f'<div class="command"><code>{escaped(text)}</code>'
        f'<button type="button" data-copy="{escaped(text)}" aria-label="{escaped(label)}">Copy</button></div>'
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """Cells are HTML already."""
    titles = "".join(f'<th scope="col">{escaped(one)}</th>' for one in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(caption)}"><table>'
        f"<caption>{escaped(caption)}</caption><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"
    )
