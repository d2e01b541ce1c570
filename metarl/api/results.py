"""What a notebook shows of an evaluation and of videos. As text they are what the console shows."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metarl.report import evaluation, fewshot


class Text(str):
    """A string that is shown as it reads, line breaks and all."""

    def __repr__(self) -> str:
        return str(self)


class Evaluation:
    """How a learner did on held-out tasks.

    Args: report: what evaluation.json holds; kept_in: where it was written, None if nowhere.
    """

    def __init__(self, report: Mapping[str, Any], kept_in: Path | None = None) -> None:
        self.report, self.kept_in = dict(report), kept_in

    @property
    def is_fewshot(self) -> bool:
        return "dataset" in self.report

    @property
    def returns(self) -> np.ndarray:
        """[tasks, K + 1, episodes] after 0, 1, ..., K updates; of few-shot learning [tasks], the
        measure after all updates."""
        if self.is_fewshot:
            return np.asarray(self.report["by_task"], dtype=float)
        episodes = [task["episodes"] for task in self.report["tasks"]]
        return np.asarray(episodes, dtype=float)

    def table(self) -> Text:
        return Text(
            fewshot.table(self.report) if self.is_fewshot else evaluation.table(self.report)
        )

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.table())}</pre>"


class Videos(Sequence[Path]):
    """The files of videos, one of each task; a notebook plays them."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.folder = files[0].parent
        self._files = list(files)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: Any) -> Any:
        return self._files[index]

    def __repr__(self) -> str:
        return "\n".join(map(str, self._files))

    def _repr_html_(self) -> str:
        """The videos themselves, for the notebook may be shown elsewhere."""
        return "".join(
            f'<video controls loop title="{html.escape(file.name)}" '
            f'src="data:video/mp4;base64,{base64.b64encode(file.read_bytes()).decode()}"></video>'
            for file in self._files
        )
