"""global_batch_size = per_device_batch_size x gradient_accumulation_steps x dp."""

from __future__ import annotations

from typing import NamedTuple

from sweeper.space.config import rules

__all__ = ["BatchContradiction", "BatchSizes", "complete_batch", "optimizer_steps"]


class BatchSizes(NamedTuple):
    """Three numbers that agree with dp."""

    global_batch: int
    """Rows for one optimizer step."""
    per_device: int
    """Rows in one forward pass of one rank."""
    accumulation: int
    """Forward passes for one optimizer step."""


class BatchContradiction(ValueError):
    """No whole number makes the product; ``rule`` and ``remedy`` say which and what would."""

    def __init__(self, rule: str, remedy: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.remedy = remedy


def complete_batch(
    *, global_batch: int | None, per_device: int | None, accumulation: int | None, dp: int, usual: int
) -> BatchSizes:
    """Lets what is None follow from what is given, and from the usual global batch where that is free.

    Raises:
        BatchContradiction: the given numbers do not agree, or do not divide.
    """
    if global_batch is None:
        if per_device is None:
            per_device = rules.per_device_batch_size(usual, dp=dp, accumulation_steps=accumulation or 1)
        if accumulation is None:
            accumulation = rules.accumulation(usual, dp=dp, per_device=per_device)
        global_batch = per_device * accumulation * dp
    elif per_device is not None and accumulation is not None:
        _check_product(global_batch, per_device, accumulation, dp)
    elif accumulation is not None:
        per_device = _divide(global_batch, accumulation, dp, "gradient_accumulation_steps")
    else:
        if per_device is None:
            per_device = _largest_per_device(global_batch, dp)
        accumulation = _divide(global_batch, per_device, dp, "per_device_batch_size")
    return BatchSizes(global_batch=global_batch, per_device=per_device, accumulation=accumulation)


def optimizer_steps(*, rows: int, epochs: float, global_batch: int) -> int:
    """Whole global batches in all epochs together; the rows of an unfinished last one are left out."""
    return int(rows * epochs + 1e-6) // global_batch


def _largest_per_device(global_batch: int, dp: int) -> int:
    if global_batch % dp:
        raise _indivisible(global_batch, dp, f"dp ({dp})")
    each = global_batch // dp
    return next(rows for rows in range(min(rules.LARGEST_PER_DEVICE_BATCH, each), 0, -1) if each % rows == 0)


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
