"""The page of samples: one HTML file, nothing from outside, every text escaped.

Its own style and script are allowed by their hashes and nothing else is, so that a text that got
out of its place could still run nothing. Texts are `dir="auto"`: right-to-left ones stand so.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib import resources
from string import Template

from textenv.evaluate.report import Report, Row, Sample, SampleText, shortened
from textenv.metrics import Interval

SHOWN = 100
# What is said of a side's text, by the verdict on the first.
_SAID: dict[tuple[int, str | None], str] = {
    (0, "better"): '<span class="won">✓ preferred</span>',
    (1, "worse"): '<span class="won">✓ preferred</span>',
    (0, "tie"): "<span>tie</span>",
    (1, "tie"): "<span>tie</span>",
}


def page(report: Report, *, samples: int = SHOWN) -> str:
    """Write a report as a page: the measures, and the texts side by side.

    Args:
        report: The report.
        samples: How many of its samples are shown, from the first.
    """
    files = resources.files("textenv.evaluate")
    shown = report.samples[:samples]
    columns = 1 if report.against is None else 2
    style = Template((files / "page.css").read_text("utf-8")).substitute(columns=columns)
    script = (files / "page.js").read_text("utf-8")
    names = f'<span class="first">{escape(report.policy)}</span>'
    if report.against is not None:
        names += f' against <span class="second">{escape(report.against)}</span>'
    title = "Samples" if len(shown) == len(report.samples) else (
        f"The first {len(shown):,} of {len(report.samples):,} samples"
    )  # fmt: skip
    return Template((files / "page.html").read_text("utf-8")).substitute(
        title=escape(f"{report.policy} · {report.env}"),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        env=escape(report.env),
        names=names,
        note="<br>".join(map(escape, report.notes())),
        head=_head(report),
        rows="\n".join(_row(row, columns) for row in report.rows),
        samples_title=title,
        choices=_choices(report),
        orders=_orders(report),
        samples="\n".join(_article(report, i, sample) for i, sample in enumerate(shown)),
    )


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


# The measures.


def _head(report: Report) -> str:
    names = [report.policy] if report.against is None else [report.policy, report.against]
    heads = [f'<th class="{kind}" title="{escape(name)}">{escape(shortened(name))}</th>'
             for name, kind in zip(names, ("first", "second"), strict=False)]  # fmt: skip
    difference = "" if report.against is None else "<th>difference</th>"
    return f"<tr><th>measure</th>{''.join(heads)}{difference}<th>n</th></tr>"


def _row(row: Row, columns: int) -> str:
    cells = [_cell(row.policy)]
    if columns > 1:
        cells += [_cell(row.against), _cell(row.difference, signed=True)]
    name = f"{escape(row.name)}<small>{escape(row.meaning)}</small>"
    return f"<tr><th>{name}</th>{''.join(cells)}<td>{row.number:,}</td></tr>"


def _cell(interval: Interval | None, *, signed: bool = False) -> str:
    if interval is None:
        return "<td></td>"
    mean, low, high = interval
    # Only where the whole interval lies on one side is there anything to point at.
    kind = "" if not signed else ' class="up"' if low > 0 else ' class="down"' if high < 0 else ""
    sign = "+" if signed else ""
    return f"<td{kind}>{mean:{sign}.3f} <small>[{low:.3f}, {high:.3f}]</small></td>"


# The samples.


def _choices(report: Report) -> str:
    kinds = [("all", "all")]
    if report.rater is not None:
        kinds += [("better", "wins"), ("worse", "losses"), ("tie", "ties")]
    elif report.against is not None:
        kinds += [("different", "different texts")]
    if any(text.flag for sample in report.samples for text in _both(sample)):
        kinds.append(("flagged", "flagged"))
    return _options(kinds)


def _orders(report: Report) -> str:
    orders = [("index up", "the order of drawing"), ("reward down", "reward, highest first"),
              ("reward up", "reward, lowest first")]  # fmt: skip
    if report.against is not None:
        orders += [("gain down", "difference of rewards, highest first"),
                   ("gain up", "difference of rewards, lowest first")]  # fmt: skip
    return _options(orders)


def _options(pairs: list[tuple[str, str]]) -> str:
    return "".join(f'<option value="{value}">{escape(words)}</option>' for value, words in pairs)


def _both(sample: Sample) -> list[SampleText]:
    return [sample.policy] if sample.against is None else [sample.policy, sample.against]


def _article(report: Report, index: int, sample: Sample) -> str:
    data = {"index": str(index), "kinds": " ".join(_kinds(sample))}
    rewards = [text.reward for text in _both(sample)]
    if rewards[0] is not None:
        data["reward"] = repr(rewards[0])
        if len(rewards) > 1 and rewards[1] is not None:
            data["gain"] = repr(rewards[0] - rewards[1])
    attributes = " ".join(f'data-{key}="{escape(value)}"' for key, value in data.items())
    names = [report.policy, report.against or ""]
    won = [_SAID.get((side, sample.verdict), "") for side in range(2)]
    texts = "".join(
        _text(text, names[side], ("first", "second")[side], won[side])
        for side, text in enumerate(_both(sample))
    )
    prompt = escape(sample.prompt)
    rights = "".join(
        f'<p class="right">right: <bdi>{escape(right)}</bdi></p>' for right in sample.references
    )
    return (
        f'<article {attributes}><div class="prompt"><span class="number">{index + 1}</span>'
        f'<p dir="auto">{prompt}</p></div><div class="pair">{texts}</div>{rights}</article>'
    )


def _kinds(sample: Sample) -> list[str]:
    kinds = [] if sample.verdict is None else [str(sample.verdict)]
    texts = _both(sample)
    if len(texts) > 1 and texts[0].text != texts[1].text:
        kinds.append("different")
    return kinds + ["flagged"] * any(text.flag for text in texts)


def _text(text: SampleText, name: str, kind: str, said: str) -> str:
    if text.text.strip():
        written = f'<p class="text" dir="auto">{escape(text.text)}</p>'
    else:
        written = '<p class="text empty">nothing</p>'
    reward = "failed" if text.reward is None else f"{text.reward:+.3f}"
    title = f'<span class="{kind}" title="{escape(name)}">{escape(shortened(name))}</span>'
    facts = [title, f"<span>reward <b>{reward}</b></span>"]
    facts += [f"<span>{escape(part)} {value:+.3f}</span>" for part, value in text.parts.items()]
    if said:
        facts.append(said)
    if text.flag:
        facts.append(f'<span class="flag">⚑ {escape(text.flag)}</span>')
    return f'<div>{written}<p class="facts">{"".join(facts)}</p></div>'
