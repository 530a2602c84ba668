"""A run as a picture: one row of bars per figure, as SVG without any library."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from simulate.buyers import Rush
from simulate.report import Result

_WIDTH, _LABELS, _NUMBERS = 720, 110, 90
_BAR, _GAP, _HEADING, _MARGIN = 18, 6, 34, 16
_GOOD, _BAD = "#2f6f9f", "#c0392b"


@dataclass(frozen=True, slots=True)
class _Figure:
    title: str
    value: Callable[[Result], float | None]
    unit: str = ""
    digits: int = 0
    #: Anything above nothing is wrong.
    wrong: bool = False


_FIGURES = (
    _Figure("requests/s", lambda result: result.requests_per_second),
    _Figure("p99, arrival to answer", lambda result: result.p99_ms, " ms"),
    _Figure("granted", lambda result: result.granted),
    _Figure("oversold (must be 0)", lambda result: result.oversold, wrong=True),
    _Figure("retries", lambda result: result.retries),
    _Figure("fairness (1: first come, first served)", lambda result: result.fairness, digits=2),
)


def plot(rush: Rush, results: Sequence[Result]) -> str:
    """An SVG document that shows the figures of each strategy beside each other."""
    block = _HEADING + len(results) * (_BAR + _GAP)
    height = 2 * _MARGIN + _HEADING + len(_FIGURES) * block
    title = f"{rush.buyers:,} buyers, {rush.units:,} units"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        '<rect width="100%" height="100%" fill="white"/>',
        _text(_MARGIN, _MARGIN + 14, title, bold=True),
    ]
    for number, figure in enumerate(_FIGURES):
        lines += _bars(figure, results, _MARGIN + _HEADING + number * block)
    return "\n".join([*lines, "</svg>", ""])


def _bars(figure: _Figure, results: Sequence[Result], top: int) -> list[str]:
    values = [figure.value(result) for result in results]
    most = max((value for value in values if value is not None), default=0.0)
    room = _WIDTH - 2 * _MARGIN - _LABELS - _NUMBERS
    lines = [_text(_MARGIN, top + 16, figure.title, bold=True)]
    for row, (result, value) in enumerate(zip(results, values, strict=True)):
        y = top + _HEADING - 8 + row * (_BAR + _GAP)
        width = 0.0 if not value or not most else room * value / most
        shown = "-" if value is None else f"{value:,.{figure.digits}f}{figure.unit}"
        colour = _BAD if figure.wrong else _GOOD
        lines += [
            _text(_MARGIN, y + 14, result.strategy),
            f'<rect x="{_MARGIN + _LABELS}" y="{y}" width="{width:.1f}" height="{_BAR}" '
            f'fill="{colour}"/>',
            _text(_MARGIN + _LABELS + width + 6, y + 14, shown),
        ]
    return lines


def _text(x: float, y: float, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{weight}>{escape(text)}</text>'
