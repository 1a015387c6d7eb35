"""Chat templates by name, and which one a configuration means.

A template is a jinja text over ``messages``, ``add_generation_prompt`` and the tokenizer's special
tokens, as ``tokenizer.apply_chat_template`` uses it. Those here only add text with each message.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from sweeper.data.problems import Problems
from sweeper.errors import ModelError

__all__ = ["AUTO", "PLAIN", "TEMPLATES", "check_template", "plain_template", "template_text"]

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


def plain_template(*, begins: bool) -> str:
    """``User:``, ``Assistant:``, ``System:`` and so on, each on a line above what is said; the end token
    after each answer, a blank line between turns; the begin token before all where ``begins``."""
    return ("{{ bos_token }}" if begins else "") + _PLAIN


def template_text(chat_template: str) -> str | None:
    """The jinja text of a name or ``.jinja`` file; None for ``auto``.

    Raises: ModelError where it is neither, or the file cannot be read.
    """
    problems = Problems()
    check_template(chat_template, problems)
    if len(problems):
        raise ModelError(problems.told())
    if chat_template == AUTO:
        return None
    return TEMPLATES.get(chat_template) or _path(chat_template).read_text(encoding="utf-8")


def check_template(chat_template: str, problems: Problems) -> None:
    """Adds to ``problems`` what keeps the template from being used; of a file's jinja only the syntax."""
    if chat_template == AUTO or chat_template in TEMPLATES:
        return
    if not chat_template.endswith(_EXTENSION):
        names = (AUTO, *TEMPLATES)
        near = difflib.get_close_matches(chat_template.lower(), names, n=1)
        problems.add(
            where="chat_template",
            value=chat_template,
            rule=f"there is no template of this name: {', '.join(names)}",
            remedy=f"did you mean {near[0]}?"
            if near
            else f"use one of these, or a path to a {_EXTENSION} file",
        )
        return
    try:
        path = _path(chat_template)
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise OSError("it is not a file")
        text = path.read_bytes().decode("utf-8")
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: the home of nobody known
        problems.add(
            where="chat_template",
            value=chat_template,
            rule=f"the file cannot be read: {getattr(error, 'strerror', None) or error}",
            remedy=f"check the path; relative ones start at {Path.cwd()}",
        )
        return
    _check_syntax(chat_template, text, problems)


def _check_syntax(chat_template: str, text: str, problems: Problems) -> None:
    from jinja2 import Environment, TemplateSyntaxError

    where, reason = chat_template, ""
    try:
        Environment(extensions=["jinja2.ext.loopcontrols"]).parse(text)
    except TemplateSyntaxError as error:
        if "unknown tag" in str(error.message):  # transformers has tags of its own
            return
        where, reason = f"{chat_template}:{error.lineno}", str(error.message)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; deep nesting
        reason = str(error)
    if reason:
        problems.add(
            where=where,
            value="",
            rule=f"the chat template is not jinja: {reason}",
            remedy="mend the template",
        )


def _path(chat_template: str) -> Path:
    return Path(chat_template).expanduser()
