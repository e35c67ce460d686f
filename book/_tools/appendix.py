"""Write the appendix's pages: discrepancies, claims, measurements.

Each page begins with the sources' own words; entries follow from the YAML
files, the records and the studies' docstrings, so that nothing is said twice.
"""

import inspect
import os
import re
from collections.abc import Iterator
from html import escape
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import ipynb
import pandas as pd
import yaml
from check_claims import CLAIMS
from check_register import PARTS, entries
from paths import Book

from hagvig_lib.measure import experiments, records, studies

FOLDER = "appendix"
COLUMNS = "measurements.yml"  # inside book/: what columns of records mean


def write(book: Book) -> None:
    """Complete the staged pages that the book has."""
    pages = {
        "discrepancies": _register,
        "claims": _claims,
        "measurements": _measurements,
    }
    for name, sections in pages.items():
        page = book.staged / FOLDER / f"{name}.md"
        if page.exists():
            parts = [page.read_text(), *sections(book)]
            page.write_text("\n".join(parts))


def _register(book: Book) -> Iterator[str]:
    def order(entry: dict) -> tuple[str, int]:
        return entry["id"][0], int(entry["id"][1:])

    register = sorted(entries(book), key=order)
    yield "| Name | Difference | Part |\n|---|---|---|"
    for entry in register:
        name, part = entry["id"], PARTS[entry["part"]]
        yield f"| {{ref}}`{name} <{name}>` | {entry['title']} | {part} |"
    for part, heading in PARTS.items():
        group = [entry for entry in register if entry["part"] == part]
        if group:
            yield f"\n## {heading}\n"
        for entry in group:
            yield _difference(entry)


def _difference(entry: dict) -> str:
    places = (f"[{_place(link)}]({link})" for link in entry["where"])
    effect, test = entry["effect"], entry["test"]
    heading = f"({entry['id']})=\n### {entry['id']} · {entry['title']}\n\n"
    return heading + _definitions(
        {
            "The paper": entry["paper"] or "Says nothing about it.",
            "The released code": f"{entry['code']} ({', '.join(places)})",
            "Here": entry["ours"],
            "To get theirs": entry["switch"] or "Not executable.",
            "Measured": effect
            and f"**{effect['value']}**, {effect['what']} ({effect['date']})",
            "Test of both": test and f"`{test}`",
        }
    )


def _claims(book: Book) -> Iterator[str]:
    titles = {book.name(c.with_suffix("")): _title(c) for c in book.chapters()}
    for paper in entries(book, CLAIMS):
        yield f"## {paper['paper']}\n"
        yield f"{paper['sentences']} sentences, [abstract]({paper['link']}).\n"
        for row in sorted(paper["rows"], key=lambda row: row["sentence"]):
            values = row.get("values") or {}
            measured = (row.get("measured") or "").format(**values)
            measured = re.sub(r"\(([A-Z]\d+)\)", r"({ref}`\1 <\1>`)", measured)
            record = row.get("record")
            chapters = (
                f"[{titles[name]}](../{name}.ipynb)"
                for name in row.get("chapters") or []
            )
            yield f"### Sentence {row['sentence']}: {row['status']}\n"
            yield _definitions(
                {
                    "It says": f"{row['claim'].format(**values)}"
                    f" (“{row['words']}”)",
                    "We find": measured,
                    "Chapters": ", ".join(chapters),
                    "Record": record and records.load(record).note(),
                    "Test": row.get("check") and f"`{row['check']}`",
                    "What would check it": row.get("command"),
                }
            )


def _measurements(book: Book) -> Iterator[str]:
    legends = yaml.safe_load((book.source / COLUMNS).read_text())
    folder = os.path.relpath(records.FOLDER, book.staged / FOLDER)
    stored = {path.stem for path in records.FOLDER.glob("*.json")}
    known = experiments.names()
    for name in sorted(stored.union(known)):
        record = records.load(name)
        study = _study(name) if name in known else None
        yield f"## {name}\n"
        if study:
            asked = inspect.cleandoc(study.__doc__ or "")
            question, _, rules = asked.partition("\n")
            yield f"**{question}**\n{rules}\n"
        yield f"{record.note()}\n"
        if study and record.meta:
            legend = legends[name]
            yield _definitions({f"`{c}`": text for c, text in legend.items()})
            yield (
                f'<div class="scroll" role="region" tabindex="0"'
                f' aria-label="Summary of {name}">\n'
                f"{_table(_summary(record.rows, study, list(legend)))}\n"
                "</div>\n"
            )
        if record.meta:
            yield (
                f"All rows: {{download}}`{name}.json <{folder}/{name}.json>`,"
                f" in the package `hagvig_lib/measure/records/{name}.json`.\n"
            )


def _study(name: str) -> ModuleType:
    return import_module(f"{studies.__name__}.{name}")


def _summary(
    rows: pd.DataFrame, study: ModuleType, columns: list[str]
) -> pd.DataFrame:
    """One row per configuration, seeds aside: mean and deviation."""
    # A stale record may lack a column that its study has today.
    columns = [column for column in columns if column in rows]
    keys = [key for key in columns if key in study.RUNS[0]]
    groups: Any = rows.groupby(keys, sort=False, dropna=False)
    results = columns[len(keys) :]
    means, deviations = groups[results].mean(), groups[results].std()
    table = means.combine(deviations, lambda m, d: m.combine(d, _mean))
    table.insert(0, "runs", groups.size())
    return table.reset_index()


def _mean(mean: float, deviation: float) -> str:
    if pd.isna(mean):
        return "–"
    return f"{mean:.3g}" + (
        "" if pd.isna(deviation) else f" ± {deviation:.2g}"
    )


def _definitions(texts: dict[str, str | None]) -> str:
    """A definition list of the texts that are not empty."""
    return "".join(
        f"{term}\n: {' '.join(text.split())}\n\n"
        for term, text in texts.items()
        if text
    )


def _place(link: str) -> str:
    path, _, lines = link.partition("#")
    numbers = lines.replace("L", "").replace("-", "–")
    return Path(path).name + (f", {numbers}" if numbers else "")


def _title(chapter: Path) -> str:
    first = ipynb.source(ipynb.read(chapter)["cells"][0])
    return first.partition("\n")[0].lstrip("# ")


def _table(rows: pd.DataFrame) -> str:
    lines = [rows.columns, *rows.itertuples(index=False)]
    cells = [[escape(str(value)) for value in line] for line in lines]
    head, *body = cells
    return (
        '<table class="dataframe"><thead><tr>'
        + "".join(f'<th scope="col">{name}</th>' for name in head)
        + "</tr></thead><tbody>\n"
        + "\n".join(
            "<tr>" + "".join(f"<td>{text}</td>" for text in line) + "</tr>"
            for line in body
        )
        + "\n</tbody></table>"
    )
