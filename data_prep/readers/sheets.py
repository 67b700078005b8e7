"""Cells of an annotation workbook, with errors that name file, sheet, row and column.

Rows and columns are counted as a spreadsheet shows them: from 1, and by letters.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import python_calamine

from spotjax.errors import UserError


class Row(NamedTuple):
    """One sheet row; cells are asked for by 0-based column."""

    file: Path
    sheet: str
    number: int
    """Row number as the spreadsheet shows it, from 1."""
    cells: tuple[object, ...]

    @property
    def where(self) -> str:
        """`file, sheet S, row N`."""
        return f"{self.file}, sheet {self.sheet}, row {self.number}"

    def text(self, column: int, meaning: str) -> str:
        """The cell as text; a whole number loses its `.0`.  Raises UserError if it is empty."""
        text = self.optional_text(column)
        if not text:
            raise UserError(
                f"{self.where}, column {_letter(column)}: {meaning} is empty: fill it in"
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
                f"{self.where}, column {_letter(column)}: {meaning} should be a number, got "
                f"{text!r}: correct it in your copy of the workbook"
            )
        return value


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

    def rows(self, position: int, columns: int, expected: str) -> Iterator[Row]:
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
                yield Row(self.file, name, number, tuple(cells))


def _letter(column: int) -> str:
    return chr(ord("A") + column) if column < 26 else str(column + 1)
