"""Makes the pages of the documentation site, which `make docs` then builds: those of docs/, one for
each learner and each module with environments, and one for each module of the code.

    python docs/pages.py      # into build/docs/, with the mkdocs.yml that builds them

Nothing is written twice: a learner's page is made of the docstring of its class, of its file in
configs/ and of what results/ has of it; the environments' come from docs/environments.md. Links
between files of the repository become links between pages; files that are no pages are copied.
"""

import inspect
import json
import posixpath
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_object

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from metarl import zoo  # noqa: E402
from metarl.cli.configs import CONFIGS, choices, comments, composed, leaves, shown  # noqa: E402
from metarl.cli.moved import present_name  # noqa: E402
from metarl.files import write_text  # noqa: E402
from metarl.report.markdown import table  # noqa: E402

OUT = ROOT / "build/docs"
GUIDES = {
    "Start": ["index", "start", "installation", "command_line", "run_folder"],
    "Guides": [
        *(
            "python_api",
            "gymnasium",
            "own_environment",
            "meta_world",
            "own_learner",
            "own_model",
            "own_fewshot",
            "many_runs",
            "loggers",
            "numbers",
            "deploy",
        ),
        *("learners", "task_inference", "pearl", "tuning", "estimators"),
    ],
}
"""Pages of docs/ in the order of their tab. Others come after these, or in a tab of their own."""

APART = {
    "docs/fewshot_results.md": "results/few_shot.md",
    "results/README.md": "results/index.md",
    "README.md": "index.md",
    "CONTRIBUTING.md": "code/contributing.md",
    "CHANGELOG.md": "code/changelog.md",
    "docs/architecture.md": "code/architecture.md",
    "docs/environments.md": "environments/index.md",
    "docs/learners.md": "guides/learners.md",
}
"""Pages that don't lie where their file does; README.md has no page, links to it lead to the
start."""

KINDS = {
    "learners": ("algo", "train", "python scripts/train.py algo="),
    "few_shot": ("learner", "fewshot", "python scripts/fewshot.py learner="),
}
"""A folder of learners' pages: the group of their configs, the command, and how it is called."""

LINK = re.compile(r'(?P<before>\]\(|\b(?:src|href)=")(?P<target>[^)"\s]+)(?P<after>[)"])')


class Site:
    """The pages by their place in the site, as Markdown, and the files that they need."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.files: set[str] = set()
        self.sources = _sources()
        for source, place in self.sources.items():
            if source == "docs/environments.md":
                self._environments(source)
            elif source != "README.md":
                self.pages[place] = self.linked((ROOT / source).read_text("utf-8"), source, place)
        for folder, (group, command, _) in KINDS.items():
            self._learners(folder, group, command)
        for module, file in modules().items():
            self.pages[_api(module)] = f"# {module}\n\n::: {module}\n"
            self.sources[file] = _api(module)

    def linked(self, text: str, source: str, place: str) -> str:
        """The text of a file as a page: links to files of the repository lead to pages, or to
        copies of the files.

        Raises: ValueError for a link to nothing.
        """

        def replaced(found: re.Match[str]) -> str:
            target, _, anchor = found["target"].partition("#")
            if "://" in target or target.startswith("mailto:"):
                return found.group()
            # Sections of a file may be on pages of their own.
            file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
            file = file if target else source
            new = self._place(file, anchor)
            if new is None:
                raise ValueError(f"{source} links to {found['target']}, which isn't there")
            to, kept = new
            if to == place and not target:
                return found.group()
            relative = posixpath.relpath(to, posixpath.dirname(place) or ".")
            end = f"#{kept}" if kept else ""
            return f"{found['before']}{relative}{end}{found['after']}"

        return outside_code(text, lambda part: LINK.sub(replaced, with_room(part)))

    def _place(self, file: str, anchor: str) -> tuple[str, str] | None:
        """Where a file of the repository is in the site, with the anchor there."""
        if file == "docs/environments.md" and (page := _environment_page(anchor)) in _families():
            return page, ""
        if file in self.sources:
            return self.sources[file], anchor
        path = ROOT / file
        if path.is_dir() and (path / "__init__.py").is_file():
            file, path = f"{file}/__init__.py", path / "__init__.py"
        if path.suffix == ".py" and file.startswith(("metarl/", "envs/")) and path.is_file():
            return _api(_module(file)), ""
        if path.is_dir():
            if (path / "README.md").is_file():
                return self._place(f"{file}/README.md", anchor)
            return self._listing(file), ""
        if not path.is_file():
            return None
        self.files.add(file)
        return f"files/{file}", ""

    def _listing(self, folder: str) -> str:
        """A page with the files of a folder, which repositories show by themselves."""
        place = f"files/{folder}/index.md"
        names = sorted(file.name for file in (ROOT / folder).iterdir() if file.is_file())
        self.files |= {f"{folder}/{name}" for name in names}
        lines = "\n".join(f"- [{name}]({name})" for name in names)
        self.pages[place] = f"# {folder}\n\n{lines}\n"
        return place

    def _environments(self, source: str) -> None:
        """A page for each module, and one with what is said of all."""
        head, *sections = re.split(
            r"^## (?=[a-z_]+$)", (ROOT / source).read_text("utf-8"), flags=re.M
        )
        names = [section.partition("\n")[0] for section in sections]
        listed = "\n".join(f"- [{name}]({name}.md)" for name in names)
        place = self.sources[source]
        self.pages[place] = f"{self.linked(head, source, place)}\n## Each of them\n\n{listed}\n"
        for name, section in zip(names, sections, strict=True):
            place = f"environments/{name}.md"
            self.pages[place] = self.linked(f"# {section}", source, place)

    def _learners(self, folder: str, group: str, command: str) -> None:
        rows = []
        for name in choices(group, [CONFIGS], command):
            config, chosen = composed(command, [f"{group}={name}"], [CONFIGS])
            of = get_object(config[group]["_target_"])
            self.pages[f"{folder}/{name}.md"] = self._learner(folder, name, config, chosen, of)
            rows.append((f"[{name}]({name}.md)", _first_sentence(CONFIGS / group / f"{name}.yaml")))
        kind = "Few-shot learners" if folder == "few_shot" else "Learners"
        words = "Each page is made of the learner's class, its configuration and its results."
        head = f"# {kind}\n\n{words}\n\n"
        self.pages[f"{folder}/index.md"] = head + table(("learner", "what it is"), rows) + "\n"

    def _learner(
        self, folder: str, name: str, config: Mapping[str, Any], chosen: Any, of: Any
    ) -> str:
        group, command, called = KINDS[folder]
        module = inspect.getmodule(of)
        assert module is not None
        said = comments(command, chosen, [CONFIGS])
        settings = [
            (f"`{key}`", f"`{shown(value)}`", _cell(said.get(key, "")))
            for key, value in leaves({group: config[group]}).items()
            if not key.rpartition(".")[2].startswith("_") and key != f"{group}.name"
        ]
        api = posixpath.relpath(_api(module.__name__), folder)
        parts = [
            f"# {name}",
            _head_comment(CONFIGS / group / f"{name}.yaml"),
            f"```\n{called}{name}\n```",
            f"## What it computes\n\n[`{of.__name__}`]({api}) of `{module.__name__}`:",
            docstring(of),
            docstring(module),
        ]
        if settings:
            parts.append("## Settings\n\n" + table(("setting", "default", "what it is"), settings))
        if experiments := list(_experiments(group, name)):
            script = called.split(" algo=")[0].split(" learner=")[0]
            lines = "\n".join(f"{script} experiment={experiment}" for experiment in experiments)
            parts.append(f"## Published settings\n\n```\n{lines}\n```")
        if rows := list(self._results(folder, group, name, config)):
            head = ("problem", "run", "before", "after")
            words = "On held-out tasks, with 95 % intervals; all about them in "
            link = posixpath.relpath("results/index.md", folder)
            parts.append(f"## Results\n\n{words}[results]({link}).\n\n{table(head, rows)}")
        if names := [known for known in zoo.names() if known.partition("/")[2] == name]:
            lines = "\n".join(f"python scripts/evaluate.py checkpoint=zoo:{n}" for n in names)
            if folder == "few_shot":
                lines = "\n".join(f'metarl.load("{n}")' for n in names)
            parts.append(f"## Trained, and shipped with metarl\n\n```\n{lines}\n```")
        return "\n\n".join(filter(None, parts)) + "\n"

    def _results(
        self, folder: str, group: str, name: str, config: Mapping[str, Any]
    ) -> Iterator[tuple[str, str, str, str]]:
        """A row for each evaluation of results/ that is this learner's."""
        for run in sorted((ROOT / "results").iterdir()):
            if not (run / "config.yaml").is_file() or not _is_of(run, group, name, config):
                continue
            for file in sorted(run.glob("evaluation*.json")):
                report = json.loads(file.read_text("utf-8"))
                rows = report.get("returns") or report.get("updates")
                if not rows:
                    continue
                self.files.add(file.relative_to(ROOT).as_posix())
                end = file.stem.removeprefix("evaluation").strip("_") or "its own"
                where = posixpath.relpath(f"files/results/{run.name}/{file.name}", folder)
                problem = report.get("env") or report.get("dataset")
                yield problem, f"[{run.name}, {end}]({where})", _number(rows[0]), _number(rows[-1])


def _number(row: Mapping[str, Any]) -> str:
    if "iqm" in row:
        return f"{row['iqm']:.1f} [{row['ci_low']:.1f}, {row['ci_high']:.1f}]"
    return "–" if row["mean"] is None else f"{row['mean']:.3f} ± {row['half_width']:.3f}"


def _is_of(run: Path, group: str, name: str, config: Mapping[str, Any]) -> bool:
    """Whether a run of results/ is one of the learner `name`, as its config says."""
    plain = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    own = plain.get(group) or {}
    target = str(own.get("_target_"))
    if present_name(target) != config[group]["_target_"]:
        return False
    chosen = plain.get("composed", {}).get("choices", {}).get(group) or own.get("name")
    if chosen is None:  # Older runs don't say which config of their class they chose.
        ends = [known for known in choices(group, [CONFIGS]) if run.name.endswith(f"_{known}")]
        chosen = max(ends, key=len, default=target.split(".")[-2])
    return bool(chosen == name)


def _experiments(group: str, name: str) -> Iterator[str]:
    for file in sorted((CONFIGS / "experiment").glob("*.yaml")):
        defaults = yaml.safe_load(file.read_text("utf-8")).get("defaults", [])
        if any(
            isinstance(entry, dict) and entry.get(f"override /{group}") == name
            for entry in defaults
        ):
            yield file.stem


def _head_comment(file: Path) -> str:
    """What a config says of itself above its first key."""
    lines = []
    for line in file.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(line for line in lines if not line.startswith("@"))


def _first_sentence(file: Path) -> str:
    text = _head_comment(file)
    found = re.match(r".+?[.:](?= [A-Z]|$)", text)
    return _cell(found.group() if found else text)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def docstring(of: Any) -> str:
    """A docstring as Markdown, with the arguments that stand in lines of their own as a list."""
    lines: list[str] = []
    is_list = False
    for line in (inspect.getdoc(of) or "").splitlines():
        if heading := re.match(r"(Args|Returns|Raises|Sources?):", line):
            is_list = heading.group() == line  # Else it is a sentence that begins in this line.
            line = f"\n**{heading.group()}**{line[heading.end() :]}"
        elif is_list and re.match(r"  \S", line):
            line = f"\n- {line.strip()}"
        elif is_list and line.startswith("    "):
            line = f"  {line.strip()}"  # The rest of an argument.
        elif not is_list and re.match(r"  ? ?\S", line):
            line = line.strip()
        lines.append(line)
    return "\n".join(lines).strip()


def outside_code(text: str, change: Any) -> str:
    """The text with `change` done to all but its blocks of code."""
    parts = re.split(r"(^```.*?^```[^\n]*$)", text, flags=re.M | re.S)
    return "".join(part if n % 2 else change(part) for n, part in enumerate(parts))


def with_room(text: str) -> str:
    """Lists and tables with an empty line before them, which MkDocs needs and others don't."""
    lines: list[str] = []
    for line in text.split("\n"):
        starts = re.match(r"(- |\d+\. |\|)", line)
        if starts and lines and lines[-1].strip():
            same = re.match(r"(- |\d+\. |\||\s)", lines[-1])
            if not same:
                lines.append("")
        lines.append(line)
    return "\n".join(lines)


def modules() -> dict[str, str]:
    """Every module of metarl and envs with its file."""
    files = [file for top in ("metarl", "envs") for file in sorted((ROOT / top).rglob("*.py"))]
    named = {_module(file.relative_to(ROOT).as_posix()): file for file in files}
    return {name: file.relative_to(ROOT).as_posix() for name, file in sorted(named.items())}


def _module(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _api(module: str) -> str:
    """The page of a module; a package's is the index of its folder."""
    place = module.replace(".", "/")
    is_package = (ROOT / place / "__init__.py").is_file()
    return f"api/{place}/index.md" if is_package else f"api/{place}.md"


def _families() -> set[str]:
    text = (ROOT / "docs/environments.md").read_text("utf-8")
    return {f"environments/{name}.md" for name in re.findall(r"^## ([a-z_]+)$", text, re.M)}


def _environment_page(anchor: str) -> str:
    return f"environments/{anchor}.md"


def _sources() -> dict[str, str]:
    """The files that are pages, with their places in the site."""
    own = {
        file.relative_to(ROOT).as_posix(): f"guides/{file.name}"
        for file in sorted((ROOT / "docs").glob("*.md"))
    }
    for name in GUIDES["Start"]:
        own[f"docs/{name}.md"] = f"{name}.md"
    return own | APART


def nav(pages: Mapping[str, str]) -> list[Any]:
    """The tabs and what is in them; every page but listings of files has its place."""
    of = lambda folder: sorted(p for p in pages if p.startswith(f"{folder}/"))
    first = lambda found: sorted(found, key=lambda page: not page.endswith("/index.md"))
    listed = [f"guides/{name}.md" for name in GUIDES["Guides"]]
    guides = [*listed, *(page for page in of("guides") if page not in listed)]
    return [
        {"Start": [f"{name}.md" for name in GUIDES["Start"]]},
        {"Guides": guides},
        {"Learners": [*first(of("learners")), {"Few-shot": first(of("few_shot"))}]},
        {"Environments": first(of("environments"))},
        {"Results": first(of("results"))},
        {"Code": [*of("code"), *_tree(of("api"), "api")]},
    ]


def _tree(places: list[str], above: str) -> list[Any]:
    """Pages of a folder, and of the folders in it by their names."""
    found: list[Any] = []
    inside: dict[str, list[str]] = {}
    for place in places:
        name, _, rest = place.removeprefix(f"{above}/").partition("/")
        if rest:
            inside.setdefault(name, []).append(place)
        else:
            found.append(place)
    found.sort(key=lambda place: not place.endswith("/index.md"))
    return found + [{name: _tree(own, f"{above}/{name}")} for name, own in inside.items()]


def write(out: Path = OUT) -> None:
    """Writes all pages, the files that they need, and mkdocs.yml."""
    site = Site()
    shutil.rmtree(out, ignore_errors=True)
    content = out / "pages"
    for place, text in site.pages.items():
        (content / place).parent.mkdir(parents=True, exist_ok=True)
        write_text(content / place, text)
    for file in sorted(site.files):
        (content / "files" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, content / "files" / file)
    shutil.copyfile(ROOT / "docs/site.css", content / "site.css")
    config = yaml.safe_load((ROOT / "docs/mkdocs.yml").read_text("utf-8"))
    config["plugins"]["mkdocstrings"]["handlers"]["python"]["paths"] = [str(ROOT)]
    config |= {"docs_dir": "pages", "site_dir": str(out.parent / "site"), "nav": nav(site.pages)}
    write_text(out / "mkdocs.yml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    print(f"{len(site.pages)} pages in {content}", file=sys.stderr)


if __name__ == "__main__":
    write()
