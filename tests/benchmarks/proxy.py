"""A search on a proxy against one on the real thing, at equal training tokens.

    python tests/benchmarks/proxy.py --seeds 3
    python tests/benchmarks/proxy.py --narrower
    python tests/benchmarks/proxy.py --model DIR --proxy-model SMALLER_DIR --data rows.jsonl

For each seed two sweeps of search_spaces/quickstart.yaml (or of that model and data): one with
``search.proxy``, whose trials on the proxy, on the real thing and the default's are all counted, and one
without, which gets as many tokens: of its trials those count that had ended when all of them together had
trained on as many; what it comes to after all of its own is told as well. A token of a smaller model counts
by its share of the parameters. Prints a line for each seed as it ends: the held-out loss reached, tokens, and
how the proxy's order held. ``--narrower`` first pretrains a model of half the packaged one's width, with its
tokenizer and in its way, to be the proxy.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sweeper.commands import SweepResult, Verbosity, run_sweep
from sweeper.quickstart import MODEL_DIR
from sweeper.recommend import default_record, transfer_tree
from sweeper.recommend.ranking import tokens_seen
from sweeper.search import TrialRecord, TrialState
from sweeper.space import shares_of_proxy

sys.path.append(str(Path(__file__).parents[1] / "quickstart"))
from quickstart_maker.pretrain import Recipe, token_stream

QUICKSTART = Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml"


def main() -> None:
    os.environ["SWEEPER_HISTORY"] = "off"  # no sweep begins with what another one found
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rows", type=float, default=0.2, help="the proxy's share of the rows")
    parser.add_argument("--trials", type=int, default=12, help="on the proxy")
    parser.add_argument("--top", type=int, default=3)
    parser.add_argument("--model", help="instead of the packaged one")
    parser.add_argument("--proxy-model", help="a smaller one, instead of a share of the rows")
    parser.add_argument("--narrower", action="store_true")
    parser.add_argument("--data")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    own = [f"model_path={options.model}"] if options.model else []
    own += [f"data_path={options.data}"] if options.data else []
    own += options.overrides
    scratch = tempfile.TemporaryDirectory()
    smaller = _narrower(Path(scratch.name) / "narrower") if options.narrower else options.proxy_model
    small = f"model_path={smaller}" if smaller else f"rows={options.rows}"
    proxy = [f"search.proxy.{small}", f"search.proxy.top={options.top}", f"search.trials={options.trials}"]
    gains = [
        _compared(seed, own, proxy) for seed in range(options.first_seed, options.first_seed + options.seeds)
    ]
    better = sum(one > 0 for one in gains)
    median = statistics.median(gains)
    print(f"the proxy reached less loss with {better} of {len(gains)} seeds; in the median {median:+.1%}")


def _compared(seed: int, own: Sequence[str], proxy: Sequence[str]) -> float:
    """By which fraction of the full search's loss the one with a proxy reached less."""
    small = _sweep(seed, [*own, *proxy])
    tree, default = transfer_tree(small.space, small.trials), default_record(small.trials)
    assert tree is not None and small.best is not None and default is not None
    work = (shares_of_proxy(small.space)[1] or 1.0) if tree.get("model_path") else 1.0
    tokens = tree["real_tokens"] + work * tree["tokens"]
    full = _sweep(seed, [*own, f"search.trials={_enough(small, tokens)}"])
    best, spent = _best_within(full.trials, tokens)
    reached, other, last = (one.value or 0.0 for one in (small.best, best, full.best or best))
    print(
        f"seed {seed}: proxy {reached:.4f} with {tokens:,.0f} tokens, {work * tree['tokens']:,.0f} of them "
        f"for {tree['trials']} trials on it; full {other:.4f} with {spent:,.0f}, {last:.4f} with "
        f"{sum(map(tokens_seen, full.trials)):,.0f}; default {default.value or 0.0:.4f}; "
        f"{tree['same_order']} of {tree['compared']} pairs in order, "
        f"Kendall's tau {tree['kendall_tau']:.2f}, "
        f"the proxy's best has place {tree['place_of_best']} of {len(tree['pairs'])}",
        flush=True,
    )
    return (other - reached) / other


def _narrower(folder: Path) -> Path:
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, get_cosine_schedule_with_warmup

    shutil.copytree(MODEL_DIR, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config, recipe = AutoConfig.from_pretrained(MODEL_DIR), Recipe(steps=400)  # a third of the packaged one's
    config.hidden_size, config.intermediate_size, config.head_dim = 64, 208, 16
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_config(config).float()
    shape = (recipe.steps, recipe.batch_sequences, recipe.sequence_tokens)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR).backend_tokenizer
    stream = token_stream(tokenizer, seed=recipe.seed + 1, tokens=math.prod(shape))
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.peak_lr, weight_decay=recipe.weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, recipe.warmup_steps, recipe.steps)
    for batch in torch.from_numpy(stream).view(shape):
        logits = model(input_ids=batch, use_cache=False).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


def _sweep(seed: int, overrides: Sequence[str]) -> SweepResult:
    with tempfile.TemporaryDirectory() as folder:
        seeds = [f"search.seed={seed}", f"training.seed={seed}"]
        out = Path(folder) / "sweep"
        return run_sweep(QUICKSTART, overrides=[*seeds, *overrides], out=out, verbosity=Verbosity.QUIET)


def _enough(small: SweepResult, tokens: float) -> int:
    """So many full trials have surely trained on as many tokens: paused ones train on less."""
    real = [tokens_seen(one) for one in small.trials if one.real_of is not None]
    return 2 + round(1.2 * tokens / statistics.fmean(real))


def _best_within(trials: Sequence[TrialRecord], tokens: float) -> tuple[TrialRecord, int]:
    """The best of the trials that had ended when all together had trained on so many tokens, or the first
    one, and those spent until the last of these ended."""
    ended = sorted(
        (one for one in trials if one.state is TrialState.COMPLETE), key=lambda one: one.ended_s or 0.0
    )
    within = [one for one in ended if _spent(trials, one) <= tokens] or ended[:1]
    return min(within, key=lambda one: one.value or 0.0), _spent(trials, within[-1])


def _spent(trials: Sequence[TrialRecord], until: TrialRecord) -> int:
    moment = until.ended_s or 0.0
    return sum(
        max((one.tokens for one in trial.evaluations if (one.time_s or 0.0) <= moment), default=0)
        for trial in trials
    )


if __name__ == "__main__":
    main()
