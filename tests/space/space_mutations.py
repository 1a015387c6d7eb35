"""Good space files, broken at random and repeatably: by typing, copying and transfer, and worse."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

_SEARCH_SPACES = Path(__file__).parents[2] / "search_spaces"
_PLACES = re.compile(r"^(model_path|data_path):.*$", re.MULTILINE)
_HERE = {"model_path": "model_path: model", "data_path": "data_path: rows.jsonl"}

_LARGE = """\
name: everything
model_path: model
data_path:
  - {path: rows.jsonl, weight: 2, format: question_answer}
  - other_rows.jsonl
data_format: auto
chat_template: chatml
eval_data: 0.1
max_bad_rows: 3
checkpoint_path: out/everything
training:
  lr: {log_uniform: [1.0e-6, 1.0e-3]}
  scheduler: [constant, linear, cosine, exponential, wsd]
  final_lr_ratio: {choice: [0.01, 0.05], when: {scheduler: exponential}}
  warmup_ratio: {uniform: [0.0, 0.1]}
  epochs: {int: [1, 3]}
  gradient_accumulation_steps: &few [1, 2, 4]
  per_device_batch_size: auto
  max_seq_len: 4096
  packing: true
  seed: *few
  lora: {rank: {choice: [8, 32]}, alpha: 16, dropout: 0.05, targets: "q_proj,v_proj"}
deepspeed: {zero_stage: 2, offload: none, gradient_checkpointing: true, precision: bf16}
parallel: {dp: 1, pp: 1, tp: 1}
objective: {metric: eval/exact_match, mode: max, evaluations: 4}
evaluation: {metrics: [exact_match, "scores:score"], rows: 8, max_new_tokens: 32}
search: {sampler: tpe, stopper: asha, trials: 24, time_budget: 1h30m, seed: 7}
resources: {max_concurrent: 2, cpus_per_rank: 1}
tracking: {mlflow_uri: "sqlite:///mlflow.db", experiment: 'one # of "many"'}
checkpoints: {keep_last: 1, keep_best: false, model: none}
"""

_CLOSED = """\
name: closed
model_path: model
data_path: [rows.jsonl]
training: {lr: 0.0001, scheduler: linear, epochs: 2, global_batch_size: 16, per_device_batch_size: 4}
deepspeed:
  zero_stage: 1
  precision: fp32
  config: {zero_optimization: {reduce_bucket_size: 500000}, steps_per_print: 2000}
provenance:
  sweep: everything
  trial: 7
  value: 1.25
  versions: {torch: 2.13.0, deepspeed: 0.19.8}
"""

_HOSTILE = (
    *("", "~", "null", "true", "yes", "off", "-1", "0", "-0.0", ".nan", ".inf", "-.inf", "1e999", "1e-999"),
    *("9" * 18, "9" * 19, "9" * 400, "9" * 9_999, "0x" + "f" * 99, "0o777", "1_0", "1:30", "2026-01-31"),
    *("[]", "{}", "[[]]", "[1, [2]]", "{a: {b: {c: 1}}}", "[auto]", "auto", "[~]", "{choice: []}"),
    *(
        "{uniform: [1, 0]}",
        "{log_uniform: [0, 1]}",
        "{log_uniform: [1e-300, 1e300]}",
        "{int: [1, 3], step: 0}",
    ),
    *(
        "{int: [0, 999999999999999999]}",
        "{uniform: [-1e308, 1e308]}",
        "{choice: [1], when: {lr: 1}}",
        "{int: 3}",
    ),
    *(
        '"\\0"',
        '"\\ud800"',
        '"\\U0010FFFF"',
        '"\\UFFFFFFFF"',
        '"\\e[2J"',
        '"a\\nb"',
        "|\n  a\n  b",
        ">-\n  a",
    ),
    *(
        "../../etc/passwd",
        "/dev/zero",
        "/dev/stdin",
        "~",
        "~root",
        "~nobody-of-this-name/a",
        "/",
        ".",
        "..",
        "//",
    ),
    *(
        "*",
        "**",
        "**x",
        "[",
        "a[b",
        "*.jsonl",
        "x" * 300,
        "x" * 9_999 + ".jsonl",
        "a/" * 3_000,
        "%s%n",
        "${HOME}",
    ),
    *(
        "$(reboot)",
        "{{ lr }}",
        "!!python/object:os.system x",
        "!!binary aGk=",
        "!!set {a}",
        "!x y",
        "&a",
        "*a",
    ),
    *(
        "&b [*b]",
        "<<",
        "? a",
        "- a",
        "@",
        "`a`",
        "'",
        '"',
        "#",
        "%",
        "\ufeff",
        "\u202e",
        "\x85",
        "\u2028",
        "١",
        "é",
    ),
)
_SNIPPETS = (
    *(
        ": ",
        "- ",
        "? ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "&a ",
        "*a",
        "!!int ",
        "| ",
        "> ",
        "\t",
        "'",
        '"',
        "#",
        "%YAML 1.1\n",
    ),
    *(
        "---\n",
        "...\n",
        "<<: *a\n",
        "\r",
        "\r\n",
        "\0",
        "\x1b[31m",
        "\u2029",
        "\ufeff",
        "\\",
        "@",
        "\n\n",
        "  ",
    ),
)
_ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "utf-7", "cp037", "cp500", "utf-8-sig")
_KEY = re.compile(r"(?<![\w.])([a-z_]{2,})(?=:)")
_VALUE = re.compile(r"(?<=: )[^\s,{}\[\]#][^,{}\[\]#\n]*|\[[^\[\]\n]*\]|\{[^{}\n]*\}")


def good_files() -> dict[str, str]:
    """What is broken: the project's own space files, naming ``rows.jsonl`` and ``model``, and two more.

    Batches are no larger than the rows that are here.
    """
    files = {file.stem: file.read_text(encoding="utf-8") for file in sorted(_SEARCH_SPACES.glob("*.yaml"))}
    assert files
    files = {name: text.replace("[64, 128, 256]", "[32, 64, 128]") for name, text in files.items()}
    return {name: _PLACES.sub(_of_this_folder, text) for name, text in files.items()} | {
        "large": _LARGE,
        "closed": _CLOSED,
    }


def mutations(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """So many broken files and what was done to each; the same ones for the same seed."""
    files = good_files()
    for number in range(count):
        rng = random.Random(f"{seed}:{number}")
        name = rng.choice(sorted(files))
        content, done = files[name].encode(), []
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
            kind = rng.choices(list(_MUTATIONS), list(_WEIGHTS))[0]
            content = _MUTATIONS[kind](content, rng)
            done.append(kind)
        yield f"{number}: {name}, {', '.join(done)}", content


def _of_this_folder(match: re.Match[str]) -> str:
    return _HERE[match[1]]


def _flipped(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content or b"x")
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _overwritten(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content or b"x")
    for _ in range(rng.choice((1, 3))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def _cut_off(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _cut_out(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start + rng.randrange(1, 40) :]


def _inserted(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    return content[:place] + rng.choice(_SNIPPETS).encode() + content[place:]


def _line_lost(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    del lines[rng.randrange(len(lines))]
    return b"\n".join(lines)


def _line_twice(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return b"\n".join(lines)


def _lines_swapped(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def _indented(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    index = rng.randrange(len(lines))
    lines[index] = rng.choice((b" ", b"   ", b"\t", b"        ")) + lines[index]
    if rng.random() < 0.3:
        lines = [line.lstrip() for line in lines]
    return b"\n".join(lines)


def _replaced(pattern: re.Pattern[str], new: Callable[[str, random.Random], str]) -> _Mutation:
    def replace(content: bytes, rng: random.Random) -> bytes:
        text = content.decode("utf-8", errors="surrogateescape")
        found = list(pattern.finditer(text))
        if not found:
            return content + b"\nx"
        one = rng.choice(found)
        text = text[: one.start()] + new(one[0], rng) + text[one.end() :]
        return text.encode("utf-8", errors="surrogateescape")

    return replace


def _misspelt(word: str, rng: random.Random) -> str:
    place = rng.randrange(len(word))
    return rng.choice(
        (
            word[:place] + word[place + 1 :],
            word[:place] + word[place] + word[place:],
            word[:place] + rng.choice("abcxyz_- ") + word[place + 1 :],
            word.upper(),
            word.replace("_", "-"),
            f"{word}.{word}",
            f"{word} ",
        )
    )


def _hostile(_: str, rng: random.Random) -> str:
    return rng.choice(_HOSTILE)


def _nested(value: str, rng: random.Random) -> str:
    depth = rng.choice((1, 2, 5, 31, 32, 33, 500, 40_000))
    opened, closed = rng.choice((("[", "]"), ("{a: ", "}"), ("{? ", "}"), ("[{b: ", "}]")))
    return opened * depth + value + closed * rng.choice((depth, depth - 1, 0))


def _huge(value: str, rng: random.Random) -> str:
    digits = rng.choice((17, 18, 19, 309, 4_301, 100_000))
    return rng.choice(("", "-", "0.", "1e")) + rng.choice("19") * digits


def _bombed(content: bytes, rng: random.Random) -> bytes:
    width, levels = rng.choice((2, 9, 40)), rng.choice((3, 8, 20))
    lines = [f"z0: &z0 [{', '.join('x' * width)}]"]
    lines += [f"z{n}: &z{n} [{', '.join([f'*z{n - 1}'] * width)}]" for n in range(1, levels)]
    return content + b"\n" + "\n".join(lines).encode()


def _encoded(content: bytes, rng: random.Random) -> bytes:
    return content.decode("utf-8", errors="replace").encode(rng.choice(_ENCODINGS), errors="replace")


def _swollen(content: bytes, rng: random.Random) -> bytes:
    size = rng.choice((50_000, 119_000, 10_000_000))
    unit = rng.choice((content or b"x", b"x", b"\n", b"a: 1\n", b"- ", b"[", b"\0", b"# a\n", b"'"))
    return rng.choice((b"", content)) + unit * (size // len(unit))


def _spliced(content: bytes, rng: random.Random) -> bytes:
    other = rng.choice(list(good_files().values())).encode()
    return content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other)) :]


_Mutation = Callable[[bytes, random.Random], bytes]
_WEIGHED: dict[str, tuple[_Mutation, int]] = {
    "bits flipped": (_flipped, 8),
    "bytes overwritten": (_overwritten, 6),
    "cut off": (_cut_off, 6),
    "a part lost": (_cut_out, 6),
    "something inserted": (_inserted, 8),
    "a line lost": (_line_lost, 5),
    "a line twice": (_line_twice, 5),
    "lines swapped": (_lines_swapped, 5),
    "lines indented": (_indented, 6),
    "a value replaced": (_replaced(_VALUE, _hostile), 24),
    "a key misspelt": (_replaced(_KEY, _misspelt), 10),
    "a value nested": (_replaced(_VALUE, _nested), 5),
    "a huge number": (_replaced(_VALUE, _huge), 4),
    "aliases of aliases": (_bombed, 2),
    "another encoding": (_encoded, 2),
    "swollen": (_swollen, 2),
    "two files in one": (_spliced, 4),
}
_MUTATIONS = {name: mutation for name, (mutation, _) in _WEIGHED.items()}
_WEIGHTS = [weight for _, weight in _WEIGHED.values()]
