"""Tables of two or three rows and columns with whole numbers in the cells."""

from __future__ import annotations

import random
from dataclasses import dataclass

from shared.laptop.problems.canvas import INKS, SIZE, Canvas, sheet
from shared.laptop.problems.kinds import Content, Form, Kind, near_numbers, total_of
from shared.laptop.problems.problem import Asked

ROW_NAMES = "PQRST"
COLUMN_NAMES = "UVWXY"


@dataclass(frozen=True, slots=True)
class Table:
    """Row names, column names, and the cells row by row."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[int, ...], ...]


def _sample(rng: random.Random) -> Table:
    rows, columns = rng.choice(((2, 2), (3, 2), (2, 3), (3, 3)))
    cells = tuple(tuple(rng.randint(1, 40) for _ in range(columns)) for _ in range(rows))
    return Table(tuple(rng.sample(ROW_NAMES, rows)), tuple(rng.sample(COLUMN_NAMES, columns)), cells)


def _facts(content: Table) -> tuple[str, ...]:
    size = f"table with {len(content.rows)} rows and {len(content.columns)} columns."
    lines = []
    for name, cells in zip(content.rows, content.cells, strict=True):
        said = ", ".join(f"{column}={cell}" for column, cell in zip(content.columns, cells, strict=True))
        lines.append(f"row {name}: {said}.")
    return (size, *lines)


def _paint(content: Content, rng: random.Random) -> Canvas:
    canvas = sheet(rng)
    text, line = rng.choice(INKS), canvas.ink(rng.choice(((120, 120, 120), (60, 60, 60), (150, 150, 190))))
    left = 3 if rng.random() < 0.5 else 1
    width = (SIZE - 2 * left - 1) // (len(content.columns) + 1)
    height = rng.choice((24, 25, 26))
    top = (SIZE - height * (len(content.rows) + 1)) // 2 + rng.randint(-2, 2)
    right, bottom = left + width * (len(content.columns) + 1), top + height * (len(content.rows) + 1)
    if rng.random() < 0.5:
        canvas.pen.rectangle((left, top, right, top + height), fill=canvas.ink((214, 226, 240)))
    for number in range(len(content.rows) + 2):
        canvas.pen.line((left, top + number * height, right, top + number * height), fill=line)
    for number in range(len(content.columns) + 2):
        canvas.pen.line((left + number * width, top, left + number * width, bottom), fill=line)
    for number, name in enumerate(content.columns):
        canvas.text(left + width * (number + 1.5), top + height / 2 + 1, name, text)
    for row, (name, cells) in enumerate(zip(content.rows, content.cells, strict=True)):
        y = top + height * (row + 1.5) + 1
        canvas.text(left + width / 2, y, name, text)
        for column, cell in enumerate(cells):
            canvas.text(left + width * (column + 1.5), y, str(cell), text)
    return canvas


def _cell(content: Content, rng: random.Random) -> Asked:
    row, column = rng.randrange(len(content.rows)), rng.randrange(len(content.columns))
    value = content.cells[row][column]
    others = sorted({str(cell) for cells in content.cells for cell in cells} - {str(value)})
    fields = {"r": content.rows[row], "c": content.columns[column]}
    options = tuple(rng.sample(others, min(3, len(others))))
    return Asked(fields, str(value), f"row {fields['r']}: {fields['c']}={value}.", options)


def _row_sum(content: Content, rng: random.Random) -> Asked:
    row = rng.randrange(len(content.rows))
    cells = content.cells[row]
    total, way = total_of(list(cells))
    said = " ".join(f"{name}={cell}." for name, cell in zip(content.columns, cells, strict=True))
    return Asked({"r": content.rows[row]}, str(total), f"{said} {way}", near_numbers(total, rng))


def _column_sum(content: Content, rng: random.Random) -> Asked:
    column = rng.randrange(len(content.columns))
    cells = [cells[column] for cells in content.cells]
    total, way = total_of(cells)
    said = " ".join(f"{name}={cell}." for name, cell in zip(content.rows, cells, strict=True))
    return Asked({"c": content.columns[column]}, str(total), f"{said} {way}", near_numbers(total, rng))


def _best_row(content: Content, rng: random.Random) -> Asked | None:
    column = rng.randrange(len(content.columns))
    cells = [cells[column] for cells in content.cells]
    if cells.count(max(cells)) > 1:
        return None
    said = ", ".join(map(str, cells))
    best = content.rows[cells.index(max(cells))]
    others = tuple(name for name in content.rows if name != best)
    thinking = f"The values are {said}. The largest is {max(cells)}. It is {best}."
    return Asked({"c": content.columns[column]}, best, thinking, others)


_WORDINGS = {
    "cell": (
        "What is in row {r}, column {c}?",
        "What is the value of {c} in row {r}?",
        "Read the cell of row {r} and column {c}.",
        "Which value stands in column {c} of row {r}?",
    ),
    "best-row": (
        "Which row has the largest value in column {c}?",
        "In which row is {c} the highest?",
        "Name the row with the largest cell of column {c}.",
        "Find the row where column {c} is the highest.",
    ),
    "row-sum": (
        "What is the sum of row {r}?",
        "How much are all values of row {r} together?",
        "Add all cells of row {r}.",
        "Find the total of row {r} of the table.",
    ),
    "column-sum": (
        "What is the sum of column {c}?",
        "How much are all values of column {c} together?",
        "Add all cells of column {c}.",
        "Find the total of column {c} of the table.",
    ),
}
_FORMS = (
    Form("cell", "easy", _WORDINGS["cell"], _cell),
    Form("best-row", "medium", _WORDINGS["best-row"], _best_row),
    Form("row-sum", "hard", _WORDINGS["row-sum"], _row_sum),
    Form("column-sum", "hard", _WORDINGS["column-sum"], _column_sum),
)
TABLE = Kind("table", "table", _sample, _facts, _paint, _FORMS)
