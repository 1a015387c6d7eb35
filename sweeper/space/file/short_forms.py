"""Short forms of sections, written out before anything looks at the tree."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from sweeper.space.config.search import Cost
from sweeper.space.file.document import Located

__all__ = ["written_out"]

_OBJECTIVES = ("metric", "also")


def written_out(root: Located) -> Located:
    """``objective: [a, b]`` as ``{metric: a, also: b}``, ``alpha: {ratio: a}`` as ``alpha_ratio: a``; what is
    no such form stays as it is."""
    return _with_alpha_ratio(_with_objectives(root))


def _with_alpha_ratio(root: Located) -> Located:
    lora = _at(_at(root, "training"), "lora")
    alpha = _at(lora, "alpha")
    ratio = _at(alpha, "ratio")
    if ratio is None or lora is None or alpha is None or len(alpha.value) != 1:  # type: ignore[arg-type]
        return root
    assert isinstance(lora.value, dict) and isinstance(root.value, dict)
    if "alpha_ratio" in lora.value:
        return root
    kept = {
        "alpha_ratio" if key == "alpha" else key: ratio if key == "alpha" else child
        for key, child in lora.value.items()
    }
    training = root.value["training"]
    assert isinstance(training.value, dict)
    changed = replace(training, value={**training.value, "lora": replace(lora, value=kept)})
    return replace(root, value={**root.value, "training": changed})


def _at(node: Located | None, key: str) -> Located | None:
    return node.value.get(key) if node is not None and isinstance(node.value, dict) else None


def _with_objectives(root: Located) -> Located:
    children = root.value
    if not isinstance(children, dict) or "objective" not in children:
        return root
    node = children["objective"]
    if not isinstance(node.value, list) or not 1 <= len(node.value) <= len(_OBJECTIVES):
        return root
    if node.value[0].value in get_args(Cost):
        return root
    section: dict[str, Located] = dict(zip(_OBJECTIVES, node.value, strict=False))
    return replace(root, value={**children, "objective": replace(node, value=section)})
