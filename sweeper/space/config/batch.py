"""global_batch_size = per_device_batch_size x gradient_accumulation_steps x dp."""

from __future__ import annotations

from dataclasses import dataclass

from sweeper.space.config import rules

__all__ = ["Batch", "BatchContradiction", "complete_batch", "optimizer_steps"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Four numbers that agree."""

    global_batch: int
    """Rows for one optimizer step."""
    per_device: int
    """Rows in one forward pass of one rank."""
    accumulation: int
    """Forward passes for one optimizer step."""
    dp: int


class BatchContradiction(ValueError):
    """No whole number makes the product; ``rule`` and ``remedy`` say which and what would."""

    def __init__(self, rule: str, remedy: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.remedy = remedy


def complete_batch(
    *, global_batch: int | None, per_device: int | None, accumulation: int | None, dp: int, usual: int
) -> Batch:
    """Lets what is None follow from what is given, and from the usual global batch where that is free.

    Raises:
        BatchContradiction: the given numbers do not agree, or do not divide.
    """
    if global_batch is None:
        return _free_global(per_device=per_device, accumulation=accumulation, dp=dp, usual=usual)
    if per_device is None and accumulation is None:
        return _free_split(global_batch, dp)
    known = per_device if per_device is not None else accumulation
    if known is None:
        raise AssertionError("one of the two is given")
    other = accumulation if per_device is not None else None
    if other is not None:
        _check_product(global_batch, known, other, dp)
    names = ("per_device_batch_size", "gradient_accumulation_steps")
    name = names[0] if per_device is not None else names[1]
    follows = other if other is not None else _divide(global_batch, known, dp, name)
    split = (known, follows) if per_device is not None else (follows, known)
    return Batch(global_batch=global_batch, per_device=split[0], accumulation=split[1], dp=dp)


def optimizer_steps(*, rows: int, epochs: float, global_batch: int) -> int:
    """Whole global batches in all epochs together; the rows of an unfinished last one are left out."""
    return int(rows * epochs + 1e-6) // global_batch


def _free_global(*, per_device: int | None, accumulation: int | None, dp: int, usual: int) -> Batch:
    if per_device is None:
        per_device = rules.per_device_batch_size(usual, dp=dp, accumulation_steps=accumulation or 1)
    if accumulation is None:
        accumulation = rules.accumulation(usual, dp=dp, per_device=per_device)
    product = per_device * accumulation * dp
    return Batch(global_batch=product, per_device=per_device, accumulation=accumulation, dp=dp)


def _free_split(global_batch: int, dp: int) -> Batch:
    if global_batch % dp:
        raise _indivisible(global_batch, dp, f"dp ({dp})")
    each = global_batch // dp
    largest = rules.LARGEST_PER_DEVICE_BATCH
    per_device = next(rows for rows in range(min(largest, each), 0, -1) if each % rows == 0)
    return Batch(global_batch=global_batch, per_device=per_device, accumulation=each // per_device, dp=dp)


def _divide(global_batch: int, known: int, dp: int, name: str) -> int:
    if global_batch % (known * dp):
        factors = f"{name} ({known})" + (f" x dp ({dp})" if dp != 1 else "")
        raise _indivisible(global_batch, known * dp, factors)
    return global_batch // (known * dp)


def _indivisible(global_batch: int, divisor: int, factors: str) -> BatchContradiction:
    below, above = global_batch // divisor * divisor, (global_batch // divisor + 1) * divisor
    possible = f"{below} or {above}" if below else f"{above}"
    rule = f"global_batch_size ({global_batch}) is not a multiple of {factors}"
    return BatchContradiction(rule, f"the nearest global_batch_size is {possible}")


def _check_product(global_batch: int, per_device: int, accumulation: int, dp: int) -> None:
    product = per_device * accumulation * dp
    if product != global_batch:
        rule = (
            f"global_batch_size ({global_batch}) is not per_device_batch_size ({per_device}) x "
            f"gradient_accumulation_steps ({accumulation}) x dp ({dp}) = {product}"
        )
        raise BatchContradiction(rule, f"write global_batch_size: {product}, or leave one of the three out")
