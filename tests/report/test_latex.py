"""Tables for a paper: words stay words, numbers are mathematics."""

from metarl.report.latex import escaped, estimate, table


def test_signs_of_latex_are_plain_text() -> None:
    assert escaped("50 % of a_b & c² – {d}") == r"50 \% of a\_b \& c$^2$ -- \{d\}"


def test_numbers_are_set_as_such_with_their_intervals() -> None:
    assert estimate("-56.9", "[-65.6, -48.1]") == r"$-56.9$ {\scriptsize $[-65.6, -48.1]$}"
    assert estimate("25 %", "") == r"$25\,\%$"
    assert estimate("diverged", "") == "diverged"


def test_a_table_is_whole() -> None:
    lines = table("of a_b", ["who", "x"], [["me", "$1$"]], num_words=1).splitlines()
    assert r"  \caption{of a\_b}" in lines and r"  \begin{tabular}{lr}" in lines
    assert r"    who & x \\" in lines and r"    me & $1$ \\" in lines
    assert lines[-1] == r"\end{table}"
