"""Text in columns as Go's text/tabwriter sets it, which kubectl describes things with."""

from __future__ import annotations

from collections.abc import Sequence

PADDING = 2


def tabbed(lines: Sequence[str]) -> list[str]:
    """Lines whose cells end in a tab, aligned: adjacent lines with a cell in the same place share that column's width.

    What follows the last tab of a line belongs to no column. Blanks at the end go.
    """
    rows = [line.split("\t") for line in lines]
    widths: list[list[int]] = [[0] * (len(row) - 1) for row in rows]
    for column in range(max((len(row) - 1 for row in rows), default=0)):
        begin = 0
        while begin < len(rows):
            end = begin
            while end < len(rows) and len(rows[end]) - 1 > column:
                end += 1
            width = max((len(row[column]) for row in rows[begin:end]), default=0) + PADDING
            for at in range(begin, end):
                widths[at][column] = width
            begin = max(end, begin + 1)
    return [
        "".join(cell.ljust(width) for cell, width in zip(row, [*sizes, 0], strict=True)).rstrip()
        for row, sizes in zip(rows, widths, strict=True)
    ]
