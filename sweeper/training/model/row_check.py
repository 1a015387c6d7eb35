"""Whether rows that go through a model together are what each is alone, found out when the model is loaded.

No list of architectures can say it: convolutions, state spaces and linear attention carry state from row to
row, classes ask things of their attention that only they know, and new ones come with every release. So
three short rows of random tokens go through the untrained model, each alone as anybody would call it, and
together as training will. What agrees is trained in that way, and what agrees in no way is refused.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch

from sweeper.data import TokenizedData, TokenizedSplit
from sweeper.errors import ModelError
from sweeper.space import Config
from sweeper.training.model.attention import (
    attention_words,
    flat_attentions,
    layout_named,
    layout_of,
)
from sweeper.training.model.loss import completion_logits, device_batch
from sweeper.training.ranks.failures import is_out_of_memory

__all__ = ["RowCheck", "check_rows"]

_LENGTHS, _BEHIND = (18, 26, 22), 5
"""Tokens of the rows, and of what is put behind one to see whether it is noticed. The first row of a flat
sequence is right in any case; the later ones tell."""
_REACH = 4
"""While rows are compared, what looks back further than so many tokens (or blocks of as many) looks no
further: then short rows show what becomes of long ones."""
_REACHES = re.compile(
    r"^(?!.*pattern).*(sliding_window|window_size|attention_chunk_size|floor_scale|n_floor|index_topk"
    r"|index_block_size|local_attention|keep_window)"
)
_COPIED_PARAMETERS = 2**28
"""Up to so many, a copy in fp32 (1 GiB) is compared, with weights drawn anew."""
_NOISE = 3.0
"""Rows together may deviate by so many times what a row does that others follow in its own sequence."""


_ROUNDING = {
    # Over all classes exact rows deviate by less than 2e-6, and others by more than 0.08
    # (docs/architectures.md). Convolutions on a GPU round as coarsely as half precision.
    torch.float32: (1e-4, 0.02),
    torch.bfloat16: (0.05, 0.2),
    torch.float16: (0.05, 0.2),
}
"""Deviations of logits, relative to their size, that rounding explains: in any case, and at most where it was
measured as that (what is more is no rounding)."""


@dataclass(frozen=True, kw_only=True)
class RowCheck:
    """How rows go through a model in training, and how it was found out."""

    kind: str
    """The model's class."""
    attention: str = ""
    """By its name in transformers; empty where the model is refused."""
    deviation: float = math.inf
    """Of the logits of rows together from those of each alone, relative to their size."""
    allowed: float = 0.0
    others: tuple[str, ...] = ()
    """What was tried before, and was not exact."""
    longest_row: int | None = None
    """Tokens; of longer rows it could not be told."""
    longest_together: int | None = None
    """Tokens; a longer row changes the others of its micro-batch."""
    unrepeatable: str = ""
    """The operation that gives other bits each time on this device; empty where there is none."""
    refused: str = ""
    """Why it cannot be trained."""

    @property
    def is_padded(self) -> bool:
        return layout_named(self.attention) == "padded"

    def note(self) -> str:
        """For the log and the answer: one sentence without a full stop."""
        how = "padded to the longest of their micro-batch" if self.is_padded else "one after another"
        others = [one for one in self.others if self.is_padded or one.startswith(_HOW["varlen"])]
        why = f", since {'; '.join(others)}" if others else ""
        limit = f", up to {self.longest_row} tokens" if self.longest_row else ""
        found = f"deviation {self.deviation:.1e}, allowed {self.allowed:.1e}"
        by = f"; attention: {attention_words(self.attention)}"
        again = f"; no two runs are the same to the last bit ({self.unrepeatable})" * bool(self.unrepeatable)
        return f"rows go through {self.kind} {how}, each as it is alone{limit} ({found}){why}{by}{again}"

    def are_apart(self, config: Config, data: TokenizedData) -> bool:
        """Whether each row has to go through the model by itself, for its length.

        Raises: ModelError where the rows are too long, or too long for their neighbours.
        """
        longest = int(max(data.train.lengths.max(), data.eval.lengths.max()))
        training = config.training
        if self.longest_row is not None and longest > self.longest_row:
            raise ModelError.of(
                where="training.max_seq_len",
                value=training.max_seq_len,
                rule=f"a row has {longest} tokens, and only rows of up to {self.longest_row} are known to go "
                f"through {self.kind} as they are alone",
                remedy=f"write max_seq_len: {self.longest_row}",
            )
        apart = self.longest_together is not None and longest > self.longest_together
        if apart and (training.packing or training.per_device_batch_size > 1):
            raise ModelError.of(
                where="training.max_seq_len",
                value=training.max_seq_len,
                rule=f"a row has {longest} tokens, and one of more than {self.longest_together} changes the "
                f"rotary positions of all rows that go through {self.kind} with it",
                remedy=f"write max_seq_len: {self.longest_together}, or per_device_batch_size: 1 and "
                "packing: false",
            )
        return apart


Logits = list[torch.Tensor]
"""Of each row, [tokens - 1, vocabulary], fp32."""


def check_rows(model: Any, device: torch.device | str) -> RowCheck:
    """Compare rows together with rows alone. The model, which nothing has wrapped yet, is left as it was.

    A small one is compared as a copy in fp32, so that coarse rounding hides nothing, with new weights at
    a scale at which each layer matters: untrained gates and sinks may be near 0. A large one is
    compared as it is, and may be on the device while it lasts. One call for all rows (``varlen``) is tried
    first, in the precision that it will be trained in.
    """
    dtype, result = next(model.parameters()).dtype, RowCheck(kind=type(model).__name__)
    flat = flat_attentions(dtype, torch.device(device).type) if _takes_attention(model) else []
    one_call = [name for name in flat if layout_named(name) == "varlen"]
    if one_call:  # they know half precision only
        subject = _copy(model, dtype)
        with _placed(subject, device), _narrowed(subject):
            result = _compared(subject, one_call, result)
    if not result.attention:
        row_wise = [name for name in flat if name not in one_call]
        subject = _copy(model, torch.float32)
        with _placed(subject, device):
            result = _on_any_length(subject, row_wise, replace(result, refused=""))
    return result


def _on_any_length(subject: Any, row_wise: list[str], result: RowCheck) -> RowCheck:
    own = subject.config._attn_implementation
    with _narrowed(subject) as reaches:
        found = _compared(subject, [*row_wise, own], result)
    if found.refused and reaches:
        # Only what does not depend on how far the others of a sequence are away can be told of long rows.
        found = replace(_compared(subject, [own], result), longest_row=min(reaches))
    return replace(found, longest_together=_longest_together(subject.config))


def _compared(model: Any, attentions: list[str], result: RowCheck) -> RowCheck:
    """Tries each attention, until one is exact."""
    own = [(one, one._attn_implementation) for one in _configs(model)]  # parts may have different ones
    tolerated, most_noise = _ROUNDING[next(model.parameters()).dtype]
    try:
        rows = _Rows(model.config)
        alone = rows.alone(model)
        noise = _deviation(alone, rows.alone(model, followed=True))
    except Exception as error:
        return replace(result, refused=f"cannot be called with tokens alone ({_said(error)})")
    if not noise <= most_noise:
        sees = "says something else of a token when other tokens follow it"
        return replace(result, refused=f"{sees} (deviation {noise:.1e}): there is no next token to predict")
    allowed = max(tolerated, _NOISE * noise)
    others = list(result.others)
    for attention in attentions:
        layout = layout_named(attention)
        try:
            if attention != model.config._attn_implementation:
                model.set_attn_implementation(attention)
            deviation = _deviation(alone, rows.together(model))
            if deviation <= allowed:
                rows.together(model.train())  # whatever a class wants in training only is better said now
                is_cuda = model.device.type == "cuda"  # a CPU's operations repeat
                return replace(
                    result,
                    attention=attention,
                    deviation=deviation,
                    allowed=allowed,
                    others=tuple(dict.fromkeys(others)),
                    unrepeatable=rows.unrepeatable(model) if is_cuda else "",
                )
            others.append(f"{_HOW[layout]} they deviate by {deviation:.1e}")
        except Exception as error:
            others.append(f"{_HOW[layout]} they cannot be computed ({_said(error)})")
        finally:
            model.eval()
            for config, attention in own:
                config._attn_implementation_internal = attention
    told = tuple(dict.fromkeys(others))
    return replace(result, others=told, refused=f"keeps rows apart in no way: {'; '.join(told)}")


_HOW = {"row_wise": "one after another", "varlen": "by flash attention", "padded": "padded"}


class _Rows:
    """Short rows of random tokens."""

    def __init__(self, config: Any) -> None:
        settings = config.get_text_config()
        positions = getattr(settings, "max_position_embeddings", None)
        longest = positions - _BEHIND if positions and positions > _BEHIND else math.inf
        lengths = np.minimum(_LENGTHS, longest).astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        mask = np.ones(starts[-1], dtype=bool)
        mask[starts[:-1]] = False
        draw, tokens = np.random.RandomState(0), _plain_tokens(config, settings)
        ids = draw.choice(tokens, starts[-1]).astype(np.int32)
        self.split = TokenizedSplit(ids=ids, mask=mask, starts=starts, completion_tokens=lengths - 1)
        self.behind = torch.from_numpy(draw.choice(tokens, _BEHIND).astype(np.int64))
        """Put behind a row."""
        self.pad_id = getattr(settings, "pad_token_id", None) or 0

    @torch.no_grad()
    def alone(self, model: Any, *, followed: bool = False) -> Logits:
        """Each by itself, as the model is called anywhere; optionally with other tokens behind it."""
        found = []
        for row in range(self.split.rows):
            ids = torch.from_numpy(np.array(self.split.row(row)[0], dtype=np.int64))
            line = torch.cat([ids, self.behind]) if followed else ids
            logits = model(input_ids=line[None].to(model.device), use_cache=False).logits
            found.append(logits[0, : len(ids) - 1].float())
        return found

    def unrepeatable(self, model: Any) -> str:
        """What torch says of the first operation, on the way forth and back through all layers, that it can
        not repeat to the last bit; empty where it can repeat all. Weights get no gradients, which would take
        as much memory as they do."""
        embedded: list[torch.Tensor] = []
        try:
            hook = model.get_input_embeddings().register_forward_hook(lambda *said: embedded.append(said[-1]))
            try:
                with _only_what_repeats():
                    torch.autograd.grad(self._computed(model).sum(), embedded[:1])
            finally:
                hook.remove()
        except Exception as error:  # whatever stands against it, training is not to fail for it
            return _said(error).split(". ")[0]
        return ""

    @torch.no_grad()
    def together(self, model: Any) -> Logits:
        """As training computes them."""
        layout, logits = layout_of(model), self._computed(model)
        lengths = [int(length) - 1 for length in self.split.lengths]
        if layout == "padded":
            return [line[:length] for line, length in zip(logits, lengths, strict=True)]
        return list(torch.split(logits[0], lengths))

    def _computed(self, model: Any) -> torch.Tensor:
        layout, every = layout_of(model), range(self.split.rows)
        batch = device_batch(self.split, every, layout=layout, pad_id=self.pad_id, device=model.device)
        return completion_logits(model, batch)


def _plain_tokens(*settings: Any) -> np.ndarray[Any, Any]:
    """Tokens that mean nothing of their own: neither the end of a text nor the place of a picture."""
    special: set[Any] = set()
    for name, value in chain.from_iterable(vars(one).items() for one in settings):
        if name.endswith(("token_id", "token_index")):
            special.update(value if isinstance(value, list) else [value])
    size = settings[-1].vocab_size
    plain = [token for token in range(min(size, 4096)) if token not in special]
    return np.array(plain or range(size))


def _deviation(alone: Logits, other: Logits) -> float:
    """The largest of the rows: root of the mean square difference, by that of the logits around their mean
    (which means nothing to a softmax)."""
    found = 0.0
    for ours, theirs in zip(alone, other, strict=True):
        centred = ours - ours.mean(dim=-1, keepdim=True)
        difference = centred - (theirs - theirs.mean(dim=-1, keepdim=True)).to(ours.device)
        found = max(found, float(difference.norm() / centred.norm()), key=lambda x: (math.isnan(x), x))
    return found if math.isfinite(found) else math.inf


def _longest_together(config: Any) -> int | None:
    """Rotary positions that change for a whole batch when one row of it is longer."""
    settings = config.get_text_config()
    rotary = getattr(settings, "rope_parameters", None) or {}
    found = []
    for one in [rotary, *(part for part in rotary.values() if isinstance(part, dict))]:
        if one.get("rope_type") == "longrope":
            found.append(one.get("original_max_position_embeddings"))
        elif one.get("rope_type") == "dynamic":
            found.append(getattr(settings, "max_position_embeddings", None))
    return min((int(limit) for limit in found if limit), default=None)


# The model while it is looked at ---------------------------------------------------------------


def _copy(model: Any, dtype: torch.dtype) -> Any:
    """With weights drawn anew; the model itself where it is large."""
    if model.num_parameters() > _COPIED_PARAMETERS:
        return model
    try:
        subject = copy.deepcopy(model).float().eval()
    except Exception as error:  # weights that are no plain numbers
        if is_out_of_memory(error):
            raise
        return model
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for weight in subject.parameters():
            if weight.ndim > 1:
                weight.normal_(std=weight.shape[-1] ** -0.5)
            weight.data = weight.data.to(dtype)
    return subject


@contextmanager
def _only_what_repeats() -> Iterator[None]:
    """While it lasts, an operation that gives other bits each time raises a RuntimeError."""
    before = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)


@contextmanager
def _placed(model: Any, device: torch.device | str) -> Iterator[None]:
    """On the device, ready to answer; random generators are left as they were."""
    home, was_training = model.device, model.training
    model.to(device).eval()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        model.to(home).train(was_training)


@contextmanager
def _narrowed(model: Any) -> Iterator[list[int]]:
    """Windows and their like, in the configuration and wherever modules keep them; yields what they were."""
    changed: list[tuple[Any, str, int]] = []
    configs = _configs(model)
    known = [item for part in configs for item in vars(part).items() if _REACHES.match(item[0])]
    for part in chain(configs, model.modules()):
        for name, value in list(vars(part).items()):
            # A module may keep index_block_size as block_size.
            reaches = _REACHES.match(name) or any(one.endswith(name) and value == v for one, v in known)
            if type(value) is int and value > _REACH and reaches:
                changed.append((part, name, value))
                setattr(part, name, _REACH)
    try:
        yield [value for _, _, value in changed]
    finally:
        for part, name, value in changed:
            setattr(part, name, value)


def _takes_attention(model: Any) -> bool:
    return bool(getattr(model, "_supports_attention_backend", False))


def _configs(model: Any) -> list[Any]:
    """Of the model and of its parts, each once."""
    found = {id(part.config): part.config for part in model.modules() if hasattr(part, "config")}
    return list(found.values())


def _said(error: Exception) -> str:
    if is_out_of_memory(error):
        raise error
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])[:200]
