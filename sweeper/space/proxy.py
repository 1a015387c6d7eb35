"""The small run that a search looks at first (``search.proxy``), and what it is to the real one.

Values of trials always mean the real run. A trial on the proxy trains with its learning rate moved to where
the rule of thumb puts it for the small run, so that what was best there is, as it stands, what the rule makes
of it for the real one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from sweeper.space.config import rules
from sweeper.space.config.config import Config
from sweeper.space.config.search import Proxy

if TYPE_CHECKING:
    from sweeper.space.config.facts import Facts
    from sweeper.space.config.values import Scalar
    from sweeper.space.space import Space

__all__ = [
    "full_runs",
    "on_proxy",
    "proxied",
    "proxy_lr_factor",
    "proxy_warnings",
    "proxy_words",
    "real_config",
    "search_config",
    "shares_of_proxy",
    "without_proxy",
]


def search_config(space: Space, values: Mapping[str, Scalar]) -> Config:
    """What a trial that the search asks for trains with: on the proxy, where there is one."""
    config = space.close(values)
    return on_proxy(space, config) if space.settings.search.proxy.is_wanted else config


def real_config(space: Space, values: Mapping[str, Scalar]) -> Config:
    """What a trial of these values trains with on the real thing."""
    return without_proxy(space.close(values))


def on_proxy(space: Space, config: Config) -> Config:
    """The small run of a configuration: its rows or its model, and its learning rate moved to them."""
    proxy, training = space.settings.search.proxy, config.training
    moved = min(training.lr * proxy_lr_factor(space), rules.MOST_LR)
    changes: dict[str, object] = {"training": training.model_copy(update={"lr": moved})}
    if proxy.model_path is not None:
        changes["model_path"] = proxy.model_path
    if proxy.rows is not None:
        weighed = (one.model_copy(update={"weight": one.weight * proxy.rows}) for one in config.sources)
        changes["data_path"] = tuple(weighed)
    return without_proxy(config.model_copy(update=changes))


def without_proxy(config: Config) -> Config:
    """One training has no search, and asks for no other model to be there."""
    if not config.search.proxy.is_wanted:
        return config
    return config.model_copy(update={"search": config.search.model_copy(update={"proxy": Proxy()})})


def proxied(space: Space) -> Space:
    """The space of the small run, without a proxy of its own; the space itself where there is none."""
    proxy, settings = space.settings.search.proxy, space.settings
    if not proxy.is_wanted:
        return space
    own = on_proxy(space, space.close(space.default_values()))
    changes = {"model_path": own.model_path, "data_path": own.data_path}
    nothing = {f"search.proxy.{name}": None for name in Proxy.model_fields}
    search = settings.search.model_copy(update={"proxy": Proxy()})
    return replace(
        space,
        settings=settings.model_copy(update={**changes, "search": search}),
        facts=space.facts.on_proxy(proxy.rows),
        closed={**space.closed, **changes, **nothing},
    )


def proxy_lr_factor(space: Space) -> float:
    """What a learning rate of the real run is multiplied with on the proxy: the ratio of the rules of thumb
    for both widths and, where there are fewer rows, for the shorter training. The batch is the same."""
    facts, proxy = space.facts, space.settings.search.proxy
    if proxy.rows is not None:
        return rules.lr_at_horizon(proxy.rows)
    small = facts.on_proxy(None)
    if facts.hidden_size is None or small.hidden_size is None:
        return 1.0
    return _rule(space, small) / _rule(space, facts)


def shares_of_proxy(space: Space) -> tuple[float, float | None]:
    """What a trial on the proxy trains of the real one's tokens, and what it computes of it (by parameters);
    None where the models' sizes are not known."""
    rows, small = space.settings.search.proxy.rows, space.facts.proxy_model
    if rows is not None:
        return rows, rows
    if small is None:
        return 1.0, 1.0
    if small.sizes is None or space.facts.sizes is None:
        return 1.0, None
    return 1.0, small.sizes.parameters / space.facts.sizes.parameters


def full_runs(space: Space, trials: int, runs: int) -> tuple[float, float]:
    """How many runs of full size so many trials of a search and all of its runs come to, in training tokens
    and in time."""
    tokens, work = shares_of_proxy(space)
    return trials * tokens + runs - trials, trials * (1.0 if work is None else work) + runs - trials


def proxy_words(space: Space) -> str:
    """What the small run is: ``20 % of the rows``; empty where there is none."""
    proxy = space.settings.search.proxy
    if proxy.rows is not None:
        return f"{100 * proxy.rows:.3g} % of the rows"
    return "" if proxy.model_path is None else f"the smaller model {proxy.model_path}"


def proxy_warnings(space: Space) -> list[str]:
    """What makes a smaller model worth less as a proxy."""
    facts, model = space.facts, space.facts.proxy_model
    if model is None or space.settings.search.proxy.model_path is None:
        return []
    name, found = f"search.proxy.model_path ({space.settings.search.proxy.model_path})", []
    if facts.vocab_size and model.vocab_size and facts.vocab_size != model.vocab_size:
        found.append(
            f"{name} has a vocabulary of {model.vocab_size:,}, the model one of {facts.vocab_size:,}: take a "
            "model with the same tokenizer, or write search.proxy.rows"
        )
    elif model.same_tokens is False:
        found.append(
            f"{name} has another tokenizer than the model, and so other rows and lengths: take a model with "
            "the same one, or write search.proxy.rows"
        )
    if facts.hidden_size is None or model.hidden_size is None:
        found.append(
            f"the width of {name} or of the model is not known here, so that learning rates are taken over "
            "as they are: give both as folders to have them moved by the rule"
        )
    return found


def _rule(space: Space, facts: Facts) -> float:
    lora = space.closed.get("training.lora") is not False
    return rules.lr(facts.hidden_size, lora=lora, model_type=facts.model_type)
