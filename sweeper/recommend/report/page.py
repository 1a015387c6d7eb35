"""The report of a sweep: which sections it has, and what each shows."""

from __future__ import annotations

from sweeper.recommend.report import cost_charts, value_charts
from sweeper.recommend.report.answer import answer_html, next_step
from sweeper.recommend.report.charts import Drawing, curves, progress
from sweeper.recommend.report.datasets import datasets
from sweeper.recommend.report.document import Section, document_html
from sweeper.recommend.report.html import escaped, items, paragraph, sentence
from sweeper.recommend.report.material import Material
from sweeper.recommend.report.parallel import parallel
from sweeper.recommend.report.trials import failures_html, trials_html
from sweeper.space import Choice, count_trials

__all__ = ["drawings", "report_html"]

_COMPARED = ("scheduler", "epochs", "gradient_accumulation_steps")


def report_html(material: Material, script: str) -> str:
    """The whole page; ``script`` is Vega with vega-embed, as ``vl_convert.javascript_bundle()`` gives it.

    Raises ImportError where Altair is missing.
    """
    said, command = next_step(material)
    stop = ": " if command else "."
    then = f"<footer><p>Next: {escaped(said)}{stop}<code>{escaped(command)}</code></p></footer>"
    answer = Section(key="answer", title="The answer", html=answer_html(material))
    return document_html(
        kind="report of a sweep",
        heading=material.space.name,
        subtitle=_subtitle(material),
        sections=[answer, *_sections(material)],
        data=datasets(material),
        script=script,
        footer=then,
    )


def drawings(material: Material) -> list[Drawing]:
    """All charts of the page, in their order."""
    return [one for section in _sections(material) for one in section.drawings]


def _sections(material: Material) -> list[Section]:
    """The evidence; a section with nothing to show is left out."""
    names = [one.name for one in material.space.dimensions]
    numbers = [one.name for one in material.space.dimensions if not isinstance(one.open_value, Choice)]
    matter = [name for name in value_charts.two_that_matter(material) if name != "lr"]
    lists = [name for name in names if name not in numbers]
    chosen = [name for name in _COMPARED if name in lists] + [name for name in lists if name not in _COMPARED]
    slices = [value_charts.against(material, name) for name in matter]
    said = [f"{sentence(one.says, names)}." for one in material.advice]
    found = [
        Section(key="advice", title="Advice", drawings=[], html=items(said) or _no_advice(material)),
        Section(key="curves", title="Loss curves", drawings=_some(curves(material))),
        Section(
            key="values",
            title="What the values did",
            drawings=_some(
                value_charts.against(material, "lr"),
                *(value_charts.compared(material, name) for name in chosen),
                parallel(material),
                value_charts.importance(material),
                *slices,
                value_charts.contour(material),
            ),
            html=_importance_note(material),
        ),
        Section(
            key="cost",
            title="What it cost",
            drawings=_some(
                cost_charts.pareto(material),
                *progress(material),
                cost_charts.timeline(material),
                cost_charts.tokens(material),
                cost_charts.memory(material),
            ),
        ),
        Section(key="failures", title="Failures", drawings=[], html=failures_html(material)),
        Section(
            key="data",
            title="The data",
            drawings=_some(cost_charts.lengths(material)),
            html=_data_html(material),
        ),
        Section(key="all", title="Every trial", drawings=[], html=trials_html(material)),
    ]
    return [one for one in found if one.drawings or one.html]


def _some(*found: Drawing | None) -> list[Drawing]:
    return [one for one in found if one is not None]


def _importance_note(material: Material) -> str:
    if material.importances or not material.judged:
        return ""
    return paragraph(
        f"what matters most is not told: it takes 8 complete trials and two searched values, and there are "
        f"{len(material.judged)} and {len(material.space.dimensions)}"
    )


def _no_advice(material: Material) -> str:
    if not material.complete:
        return ""
    count = len(material.complete)
    return paragraph(f"there is none that the evidence of {count} complete trials carries")


def _data_html(material: Material) -> str:
    shown = "".join(
        '<figure class="example">'
        f"<figcaption>{one.tokens:,} tokens, {one.loss_tokens:,} with loss</figcaption><pre>"
        + "".join(f"<mark>{escaped(text)}</mark>" if loss else escaped(text) for text, loss in one.parts)
        + "</pre></figure>"
        for one in material.examples
    )
    lead = paragraph("the first training rows; what carries loss is marked") if shown else ""
    return items(material.data_lines) + lead + shown


def _subtitle(material: Material) -> str:
    settings = material.space.settings
    data = ", ".join(one.path for one in settings.sources)
    asked = f"{len(material.asked)} of {count_trials(material.space)} trials"
    ended = f" ({material.ended})" if material.ended else ""
    return f"{material.state}, {asked}{ended}; {settings.model_path} on {data}"
