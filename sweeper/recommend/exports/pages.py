"""The page of the docs about exports, made from the tables."""

from __future__ import annotations

from sweeper.recommend.exports.consumer import Consumer
from sweeper.recommend.exports.export import CONSUMERS

__all__ = ["exports_page"]

_HEAD = """\
# Exports and imports

    sweeper best DIR --format FORMAT [--gpus N] [--output FILE]
    sweeper init --from FILE [--format FORMAT] [-o space.yaml]

The first writes the answer of a sweep as the file of another trainer, the second makes a space file of such a
file. Both are pure functions of what they read. With `--gpus N` micro-batch and accumulation are worked out
again at the same global batch. What the other side cannot say is named on screen, and in comments of the
file, with the nearest that it has; keys of theirs that mean nothing here become comments of the space file.

Learning rates are the same at every step after warm-up, unless a comment names the scheduler. In warm-up
over W steps transformers has s / W of the peak at step s, and its first step learns nothing; ours has
(s + 1) / (W + 1). Held-out rows are drawn by each trainer itself: losses on them cannot be compared with
those of the sweep.

`sweeper.recommend.exports` has one table for each trainer. This page is made from them:
`python -m sweeper.recommend.exports.pages > docs/exports.md`. Each format is tried with its real trainer by
`tests/benchmarks/exports.py`.
"""


def exports_page() -> str:
    return "\n".join([_HEAD, *(_section(one) for one in CONSUMERS.values())])


def _section(consumer: Consumer) -> str:
    dashes = "--" if consumer.form == "command" else ""
    rows = [(key.ours, f"`{dashes}{key.theirs}`") for key in consumer.keys] + [
        (ours, theirs) for ours, theirs in consumer.special.items()
    ]
    lines = [
        f"## {consumer.title}",
        "",
        f"`--format {consumer.name}`, {consumer.title} {consumer.version}: `{consumer.command}`. "
        + ("Import: yes." if consumer.read else "Import: no."),
        "",
        "| ours | theirs |",
        "|---|---|",
        *(f"| `{ours}` | {theirs} |" for ours, theirs in rows),
        "",
        *(f"- {one}" for one in consumer.remarks),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    import sys

    sys.stdout.write(exports_page())
