"""A model of the Llama family as the layers of a DeepSpeed pipeline.

What travels from layer to layer, and between stages from rank to rank, is (hidden states [1, T, width],
position_ids int64 [1, T], predicting int64 [K]); the first layer takes token ids [1, T] instead of
hidden states, and the last gives logits [1, K, vocabulary]. Everything else that attention wants
follows from the positions: a row begins where they are 0.

The layers hold the modules of the model itself, so its weights are trained in place.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from deepspeed.pipe import LayerSpec, TiedLayerSpec

from sweeper.errors import ModelError
from sweeper.space import STAGED, Config
from sweeper.training.model.attention import Layout, attention_arguments

__all__ = ["Decoder", "stage_layers"]

Travelling = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
_TIED, _EMBEDDING, _EMBEDDING_WEIGHT = "embedding", "embed_tokens", "embed_tokens.weight"


class Pointwise(torch.nn.Module):
    """A module that takes each token by itself: the embedding, or the norm after the last decoder layer."""

    def __init__(self, name: str, module: torch.nn.Module) -> None:
        """``name`` is the attribute that holds it, as in the names of a checkpoint's weights."""
        super().__init__()
        self.name = name
        self.add_module(name, module)

    def forward(self, travelling: Travelling) -> Travelling:
        hidden, positions, predicting = travelling
        return self.get_submodule(self.name)(hidden), positions, predicting


class Surroundings(torch.nn.Module):
    """What every decoder layer is given beside the hidden states; one for all layers of a rank."""

    def __init__(self, rotary: torch.nn.Module, layout: Layout) -> None:
        super().__init__()
        self.rotary, self._layout = rotary, layout
        self._positions: torch.Tensor | None = None
        self._arguments: dict[str, Any] = {}

    def of(self, hidden: torch.Tensor, positions: torch.Tensor) -> dict[str, Any]:
        """Keyword arguments of a decoder layer; worked out once for the layers that a micro-batch
        passes in turn, because finding the rows waits for the device."""
        if positions is not self._positions:
            starts = torch.nonzero(positions[0] == 0).flatten().tolist()
            ends = [*starts[1:], positions.shape[1]]
            lengths = [end - start for start, end in zip(starts, ends, strict=True)]
            self._arguments = {
                "position_ids": positions,
                "position_embeddings": self.rotary(hidden, position_ids=positions),
                **attention_arguments(lengths, self._layout, hidden.device),
            }
            self._positions = positions
        return self._arguments


class Decoder(torch.nn.Module):
    """One decoder layer."""

    def __init__(self, layer: torch.nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.layer, self.surroundings = layer, surroundings

    def forward(self, travelling: Travelling) -> Travelling:
        hidden, positions, predicting = travelling
        arguments = self.surroundings.of(hidden, positions)
        return self.layer(hidden, use_cache=False, **arguments), positions, predicting


class Head(torch.nn.Module):
    """Logits, fp32, only where there is something to predict."""

    def __init__(self, lm_head: torch.nn.Module) -> None:
        super().__init__()
        self.lm_head = lm_head

    def forward(self, travelling: Travelling) -> torch.Tensor:
        hidden, _, predicting = travelling
        logits: torch.Tensor = self.lm_head(hidden[:, predicting])
        return logits.float()


def _tied_head(embedding: Pointwise, travelling: Travelling) -> torch.Tensor:
    """What Head gives, by the weights of the embedding."""
    hidden, _, predicting = travelling
    weight = embedding.get_parameter(_EMBEDDING_WEIGHT)
    return F.linear(hidden[:, predicting], weight).float()


def stage_layers(model: Any, config: Config, layout: Layout) -> list[LayerSpec]:
    """The layers in order, for PipelineModule to share out.

    Args:
        model: of transformers, with or without adapters of peft.

    Raises: ModelError where the model cannot be staged.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    _require_stages(causal, config)
    _require_learners(causal, config)
    body, head = causal.model, causal.lm_head
    surroundings = Surroundings(body.rotary_emb, layout)
    layers = [
        LayerSpec(Pointwise, _EMBEDDING, body.embed_tokens),
        *(LayerSpec(Decoder, layer, surroundings) for layer in body.layers),
        LayerSpec(Pointwise, "norm", body.norm),
        LayerSpec(Head, head),
    ]
    if head.weight is body.embed_tokens.weight:
        _require_plain(body.embed_tokens, head, config)
        # Both ends hold the weight, and DeepSpeed sums its gradient over the two.
        for end, forward in ((0, None), (-1, _tied_head)):
            layers[end] = TiedLayerSpec(
                _TIED,
                Pointwise,
                _EMBEDDING,
                body.embed_tokens,
                forward_fn=forward,
                tied_weight_attr=_EMBEDDING_WEIGHT,
            )
    return layers


def _require_stages(causal: Any, config: Config) -> None:
    kind, layers, pp = causal.config.model_type, causal.config.num_hidden_layers, config.parallel.pp
    if kind not in STAGED:
        raise ModelError.of(
            where="parallel.pp",
            value=pp,
            rule=f"{config.model_path} is of the architecture {kind}; those that can be cut into "
            f"pipeline stages are {', '.join(STAGED)}",
            remedy="write pp: 1, and share a large model out with zero_stage: 3 and dp",
        )
    if pp > layers:
        raise ModelError.of(
            where="parallel.pp",
            value=pp,
            rule=f"{config.model_path} has {layers} layers, and each pipeline stage needs one",
            remedy=f"write pp: {layers} or less",
        )


def _require_learners(causal: Any, config: Config) -> None:
    """A stage without anything to train would leave the others waiting."""
    if all(any(weight.requires_grad for weight in layer.parameters()) for layer in causal.model.layers):
        return
    raise ModelError.of(
        where="training.lora.targets",
        value=config.training.lora and config.training.lora.targets,
        rule="puts no adapter into the decoder layers, and each pipeline stage needs something to train",
        remedy="write all-linear, or pp: 1",
    )


def _require_plain(embedding: torch.nn.Module, head: torch.nn.Module, config: Config) -> None:
    """Adapters on one end of a tied weight would have to be known at the other."""
    if isinstance(embedding, torch.nn.Embedding) and isinstance(head, torch.nn.Linear):
        return
    raise ModelError.of(
        where="training.lora.targets",
        value=config.training.lora and config.training.lora.targets,
        rule="embedding and output head share one weight here, and lie on different pipeline stages: "
        "neither can have an adapter",
        remedy="write all-linear, which leaves both out, or pp: 1",
    )
