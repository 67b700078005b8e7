"""Cells of an annotation workbook or CSV, with errors that name file, row and column.

Rows and columns of a workbook are counted as a spreadsheet shows them: from 1, and by letters; a
CSV's columns go by name.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import python_calamine

from spotjax.errors import UserError


class Line(NamedTuple):
    """One row of a sheet; cells are asked for by 0-based column."""

    where: str
    """`file, sheet S, row N` or `file, line N`."""
    cells: tuple[object, ...]
    names: tuple[str, ...] = ()
    """Names of the columns, if the sheet has them."""

    def text(self, column: int, meaning: str) -> str:
        """The cell as text; a whole number loses its `.0`.  Raises UserError if it is empty."""
        text = self.optional_text(column)
        if not text:
            raise UserError(
                f"{self.where}, column {self._label(column)}: {meaning} is empty: fill it in"
            )
        return text

    def optional_text(self, column: int) -> str:
        """The cell as text, empty if there is nothing in it."""
        value = self.cells[column] if column < len(self.cells) else ""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return str(value).strip()

    def number_at(self, column: int, meaning: str) -> float:
        """The cell as a number.  Raises UserError for an empty cell or letters."""
        text = self.text(column, meaning)
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not abs(value) < 1e9:
            raise UserError(
                f"{self.where}, column {self._label(column)}: {meaning} should be a number, got "
                f"{text!r}: correct it in your copy"
            )
        return value

    def _label(self, column: int) -> str:
        if self.names:
            return self.names[column]
        return chr(ord("A") + column) if column < 26 else str(column + 1)


def columns_of(header: Line, wanted: tuple[str, ...], expected: str) -> dict[str, int]:
    """0-based column of every wanted (lower-case) name in `header`.

    Raises UserError naming the first that is missing and what was `expected`.
    """
    names = [str(cell).strip().lower() for cell in header.cells]
    if missing := [name for name in wanted if name not in names]:
        raise UserError(
            f"{header.where}: the header has no column {missing[0]}: expected {expected}"
        )
    return {name: names.index(name) for name in wanted}


class Workbook:
    """An opened .xlsx or .xls file."""

    def __init__(self, file: Path) -> None:
        """Open `file`.  Raises UserError if it is missing or not a workbook."""
        self.file = file
        if not file.is_file():
            raise UserError(f"{file}: no such file: put the annotation workbook there")
        try:
            self._book = python_calamine.CalamineWorkbook.from_path(file)
        except (python_calamine.CalamineError, OSError) as error:
            raise UserError(
                f"{file}: cannot be read as a workbook ({error}): save it again as .xlsx"
            ) from None

    @property
    def sheets(self) -> list[str]:
        """Names of the sheets in their order."""
        return list(self._book.sheet_names)

    def rows(self, position: int, columns: int, expected: str) -> Iterator[Line]:
        """Rows of the sheet at `position` (from 0), empty ones left out.

        `expected` says which sheets the workbook should have.  Raises UserError if there is no
        such sheet or a row has fewer than `columns` cells.
        """
        if position >= len(self.sheets):
            raise UserError(
                f"{self.file}: sheet {position + 1} is missing (found {', '.join(self.sheets)}): "
                f"expected {expected}"
            )
        name = self.sheets[position]
        try:
            table = self._book.get_sheet_by_index(position).to_python(skip_empty_area=False)
        except python_calamine.CalamineError as error:
            raise UserError(f"{self.file}, sheet {name}: cannot be read ({error})") from None
        width = max((len(cells) for cells in table), default=0)
        if width < columns:
            raise UserError(
                f"{self.file}, sheet {name}: has {width} columns, needs {columns}: expected "
                f"{expected}"
            )
        for number, cells in enumerate(table, start=1):
            if any(cell != "" for cell in cells):
                yield Line(f"{self.file}, sheet {name}, row {number}", tuple(cells))


def csv_lines(file: Path) -> Iterator[Line]:
    """The lines of a CSV (comma, semicolon or tab), the header first, empty ones left out.

    Every later line carries the header's names.  Raises UserError if the file is missing, is not
    text, or a line has more cells than the header.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{file}: no such file: put the annotation there") from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: is not UTF-8 text: save it as CSV UTF-8") from None
    if "\0" in text:
        raise UserError(f"{file}: is no text file: save it as CSV in UTF-8")
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    names: tuple[str, ...] = ()
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            where = f"{file}, line {reader.line_num}"
            if names and len(cells) > len(names):
                raise UserError(
                    f"{where}: has {len(cells)} cells, the header {len(names)}: quote a cell that "
                    f"holds a {delimiter!r}"
                )
            yield Line(where, tuple(cells), names)
            names = names or tuple(cell.strip().lower() for cell in cells)
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: {error}: correct the line") from None
