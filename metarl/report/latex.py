"""Tables for a paper, as LaTeX. They need the package booktabs."""

from collections.abc import Iterable, Sequence


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, num_words: int
) -> str:
    """A whole table. Args: head: plain text; rows: cells as `escaped` or `estimate` make them;
    num_words: how many columns, the first ones, are of words."""
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{escaped(caption)}}}",
        f"  \\begin{{tabular}}{{{'l' * num_words}{'r' * (len(head) - num_words)}}}",
        "    \\toprule",
        _line(map(escaped, head)),
        "    \\midrule",
        *map(_line, rows),
        "    \\bottomrule",
        "  \\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def estimate(value: str, interval: str) -> str:
    """A cell of "-56.9" or "25 %" and its interval "[-65.6, -48.1]", which may be ""."""
    number = value.removesuffix(" %")
    shown = escaped(value)  # "diverged"
    if _is_number(number):
        shown = f"${number}$" if number == value else f"${number}\\,\\%$"
    return f"{shown} {{\\scriptsize ${interval}$}}" if interval else shown


def escaped(text: str) -> str:
    """Plain text, whose signs mean nothing to LaTeX."""
    return "".join(_SIGNS.get(sign, sign) for sign in text)


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdigit()


def _line(cells: Iterable[str]) -> str:
    return f"    {' & '.join(cells)} \\\\"


_SIGNS = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "²": "$^2$",
}
