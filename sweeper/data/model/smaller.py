"""The smaller model that a search looks at first: whether it is there, how large, and how it reads text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweeper.data.model.model_folder import json_object, model_folder, survey_model
from sweeper.data.model.sizes import model_sizes
from sweeper.data.problems import Problems
from sweeper.space import ProxyModel, Settings

__all__ = ["survey_smaller"]

_PLACE = "search.proxy.model_path"
_TEXT_TO_TOKENS = ("normalizer", "pre_tokenizer", "model", "added_tokens")
"""Of a tokenizer.json; the rest is how texts are cut, padded and written back."""


def survey_smaller(settings: Settings, problems: Problems) -> ProxyModel | None:
    """What is known of ``search.proxy.model_path``; None where there is none. What is missing or wrong is
    added to ``problems``."""
    path = settings.search.proxy.model_path
    if path is None:
        return None
    before = len(problems)
    survey = survey_model(path, problems, trust_remote_code=settings.trust_remote_code, place=_PLACE)
    if len(problems) > before:
        return ProxyModel()
    return ProxyModel(
        hidden_size=survey.hidden_size,
        layers=survey.layers,
        vocab_size=survey.vocab_size,
        max_position_embeddings=survey.max_position_embeddings,
        model_type=survey.model_type,
        sizes=model_sizes(path),
        same_tokens=_same_tokens(settings.model_path, path),
    )


def _same_tokens(*models: str) -> bool | None:
    one, other = (Path(model_folder(model)) / "tokenizer.json" for model in models)
    try:
        if one.read_bytes() == other.read_bytes():
            return True
    except OSError:  # hub ids, .gguf files, older tokenizers
        return None
    return _reading(json_object(one)) == _reading(json_object(other))


def _reading(tokenizer: dict[str, Any] | None) -> list[Any]:
    return [(tokenizer or {}).get(name) for name in _TEXT_TO_TOKENS]
