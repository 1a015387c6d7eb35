"""Chat templates by name, and which one a configuration means.

A template is a jinja text over ``messages``, ``add_generation_prompt`` and the tokenizer's special
tokens, as ``tokenizer.apply_chat_template`` uses it. Those here only add text with each message.
"""

from __future__ import annotations

import datetime
import difflib
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sweeper.data.model.copies import here
from sweeper.data.problems import Unusable
from sweeper.errors import ModelError

if TYPE_CHECKING:
    from jinja2.nodes import Node
    from jinja2.parser import Parser

__all__ = ["AUTO", "PLAIN", "TEMPLATES", "environment", "meant_template", "read_template", "template_text"]

AUTO = "auto"
"""The model's own template; ``PLAIN`` where it has none."""
PLAIN = "plain"

_EXTENSION = ".jinja"

_PLAIN = (
    "{% for message in messages %}"
    "{{ message['role'] | capitalize ~ ':\\n' ~ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    # Without an end token the blank line is what ends an answer, also the last one.
    "{% if not loop.last or add_generation_prompt or not eos_token %}{{ '\\n\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\\n' }}{% endif %}"
)
_CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' ~ message['role'] ~ '\\n' ~ message['content'] ~ '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_LLAMA3 = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|start_header_id|>' ~ message['role'] ~ '<|end_header_id|>\\n\\n' }}"
    "{{ message['content'] | trim ~ '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
_ZEPHYR = (
    "{% for message in messages %}"
    "{{ '<|' ~ message['role'] ~ '|>\\n' ~ message['content'] ~ eos_token ~ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
_ALPACA = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '### Response:\\n' ~ message['content'] ~ eos_token ~ '\\n\\n' }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] ~ '\\n\\n' }}"
    "{% elif message['role'] == 'tool' %}{{ '### Input:\\n' ~ message['content'] ~ '\\n\\n' }}"
    "{% else %}{{ '### Instruction:\\n' ~ message['content'] ~ '\\n\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"
)
TEMPLATES = {PLAIN: _PLAIN, "chatml": _CHATML, "llama3": _LLAMA3, "zephyr": _ZEPHYR, "alpaca": _ALPACA}
"""Name -> jinja text."""


def meant_template(chat_template: str, own: str | None, begin: str) -> str | None:
    """The jinja text that ``chat_template`` means for a tokenizer with a template of its ``own``.

    Plain is ``User:``, ``Assistant:``, ``System:`` and so on, each on a line above what is said; the end
    token after each answer, a blank line between turns; the begin token, if the tokenizer has it, before all.
    """
    text = template_text(chat_template)
    if chat_template == PLAIN or not (text or own):
        return ("{{ bos_token }}" if begin else "") + _PLAIN
    return text or own


def template_text(chat_template: str) -> str | None:
    """The jinja text of a name or ``.jinja`` file; None for ``auto``.

    Raises: ModelError where it is neither, the file cannot be read, or is not jinja.
    """
    try:
        return read_template(chat_template)
    except Unusable as found:
        raise ModelError([found.problem("chat_template")]) from found


def read_template(chat_template: str) -> str | None:
    """The same, but raises: Unusable."""
    if chat_template == AUTO or chat_template in TEMPLATES:
        return TEMPLATES.get(chat_template)
    if chat_template.endswith(_EXTENSION):
        text = _read(here(chat_template))
        _check_syntax(chat_template, text)
        return text
    names = (AUTO, *TEMPLATES)
    near = difflib.get_close_matches(chat_template.lower(), names, n=1)
    other = f"use one of these, or a path to a {_EXTENSION} file"
    raise Unusable(
        f"there is no template of this name: {', '.join(names)}",
        f"did you mean {near[0]}?" if near else other,
        chat_template,
    )


def _read(chat_template: str) -> str:
    """Raises: Unusable."""
    try:
        path = Path(chat_template).expanduser()
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise OSError("it is not a file")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: the home of nobody known
        raise Unusable(
            f"the file cannot be read: {getattr(error, 'strerror', None) or error}",
            f"check the path; relative ones start at {Path.cwd()}",
            chat_template,
        ) from error


def _check_syntax(chat_template: str, text: str) -> None:
    """Raises: Unusable."""
    where = chat_template
    try:
        environment().from_string(text)
        return
    except TemplateSyntaxError as error:
        where, reason = f"{chat_template}:{error.lineno}", str(error.message)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; deep nesting
        reason = str(error)
    raise Unusable(f"the chat template is not jinja: {reason}", "mend the template", where=where)


class _Generation(Extension):
    """The tag by which some templates mark what an assistant says; here its body is all that matters."""

    tags = {"generation"}  # noqa: RUF012  # declared so by jinja

    def parse(self, parser: Parser) -> Node | list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@functools.cache
def environment() -> ImmutableSandboxedEnvironment:
    """What chat templates are compiled in: the tags, filters and functions that transformers has."""
    found = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    found.filters["tojson"] = _to_json
    found.globals.update(raise_exception=_refuse, strftime_now=_now)
    return found


def _to_json(value: object, indent: int | None = None, **_: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    raise ValueError(message)


def _now(form: str) -> str:
    return datetime.datetime.now().strftime(form)
