"""What mkdocs does to the pages of the site: quote code, tell fields, draw formulas, follow links.

A page says, on a line of its own,

    {{ code jaxrl_po/ops/losses.py clipped_surrogate_loss }}    a function as the file has it
    {{ fields jaxrl_po.PPOConfig }}                              a config's fields, as `--help` does

Links to a file of the repository lead to a page that shows it, links to a table of
experiments/results to that table. Formulas become MathML, so that pages need no script for them.
"""

import ast
import dataclasses
import html
import importlib
import inspect
import posixpath
import re
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxrl_po.config import ANY, Config, Range, Settings, data_fields
from jaxrl_po.host.cli.flags import field_comments

ROOT = Path(__file__).resolve().parents[1]
RESULTS = "experiments/results"
DIRECTIVE = re.compile(r"^\{\{ (code|fields) (\S+)(?: (\w+))? \}\}$", re.MULTILINE)
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)")
LINKED = re.compile(r"(?<!!)\[((?:[^][]|\[[^]]*\])*)" + LINK.pattern)
FORMULA = re.compile(r'<(div|span) class="arithmatex">\\[\[(](.*?)\\[\])]</\1>', flags=re.DOTALL)
SHOWN = ".py", ".sh", ".toml", ".json", ".ipynb"  # files that get a page


def on_files(files: Any, config: Any) -> Any:
    """Add the tables of experiments/results, and a page for each file that some page links to."""
    from mkdocs.structure.files import File

    for path in sorted((ROOT / RESULTS).iterdir()):
        part = path.stem.endswith("_discussion")  # of a table, which has it whole
        if path.suffix in (".md", ".png", ".gif") and not part:
            there = str(ROOT / "experiments")
            files.append(
                File(f"results/{path.name}", there, config.site_dir, config.use_directory_urls)
            )
    for source in sorted(linked_sources()):
        files.append(File.generated(config, f"source/{source}.md", content=source_page(source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Expand what a page quotes, and lead its links to where the site has their files."""
    if page.file.src_uri.startswith("source/"):
        return markdown
    return with_site_links(DIRECTIVE.sub(expanded, markdown), page.file.src_uri)


def on_page_content(content: str, **_: Any) -> str:
    """Formulas in LaTeX as MathML."""
    from latex2mathml.converter import convert

    def drawn(match: re.Match[str]) -> str:
        display = "block" if match[1] == "div" else "inline"
        formula: str = convert(html.unescape(match[2]).strip(), display=display)
        return formula

    return FORMULA.sub(drawn, content)


def expanded(match: re.Match[str]) -> str:
    """What a directive stands for."""
    kind, target, name = match.groups()
    if kind == "fields":
        return fields_tables(target)
    return f'```python title="{target}"\n{definition(target, name)}\n```'


def definition(path: str, name: str) -> str:
    """The source of a function or class of a file of the repository, nested ones included."""
    text = (ROOT / path).read_text(encoding="utf-8")
    found = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name
    ]
    if len(found) != 1:
        raise ValueError(f"{path} defines {name!r} {len(found)} times")
    (node,) = found
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return textwrap.dedent("\n".join(text.splitlines()[first - 1 : node.end_lineno]))


def fields_tables(target: str) -> str:
    """The fields of a config class: first those of its own, then, folded, those of all methods."""
    module, _, name = target.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    rows = list(fields_of(cls))
    common = [row for row in rows if row.owner in Config.__mro__]
    tables = [_table([row for row in rows if row not in common])]
    if common:
        folded = textwrap.indent(_table(common), "    ")
        tables.append(f'??? note "Fields that every method has"\n\n{folded}')
    return "\n\n".join(tables)


class FieldRow(typing.NamedTuple):
    """A field of a config, in words."""

    name: str
    owner: type  # the class that says what it means
    kind: str
    default: str
    allowed: str
    meaning: str


def fields_of(cls: type[Settings]) -> Iterator[FieldRow]:
    """Each field of a config class in words, those of the most derived class first."""
    comments, data = field_comments(cls), data_fields(cls)
    hints, default = typing.get_type_hints(cls), cls()
    order = list(cls.__mro__)
    fields = dataclasses.fields(cls)
    owners = {
        f.name: next(c for c in order if f.name in inspect.get_annotations(c)) for f in fields
    }
    for field in sorted(fields, key=lambda f: order.index(owners[f.name])):
        allowed = field.metadata.get("allowed", ANY)
        yield FieldRow(
            field.name,
            owners[field.name],
            _kind(hints[field.name]) + (" (data)" if field.name in data else ""),
            _default(getattr(default, field.name)),
            _allowed(allowed),
            comments[field.name],
        )


def _table(rows: list[FieldRow]) -> str:
    lines = ["| field | type | default | allowed | meaning |", "|---|---|---|---|---|"]
    for row in rows:
        cells = f"`{row.name}`", row.kind, row.default, row.allowed, row.meaning
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _kind(hint: Any) -> str:
    if typing.get_origin(hint) is None:
        return str(hint.__name__)
    return str(hint).replace("typing.", "").replace("collections.abc.", "")


def _default(value: Any) -> str:
    return f"`{type(value).__name__}(…)`" if isinstance(value, Settings) else f"`{value!r}`"


def _allowed(allowed: Any) -> str:
    if isinstance(allowed, Range):
        return "" if allowed == ANY else str(allowed)
    return ", ".join(f"`{name}`" for name in allowed)


def repository_path(src_uri: str) -> str:
    """Where the repository keeps the page that the site has at `src_uri`."""
    name = src_uri.removeprefix("results/")
    is_table = src_uri.startswith("results/") and (ROOT / RESULTS / name).is_file()
    return f"{RESULTS}/{name}" if is_table else f"docs/{src_uri}"


def site_path(path: str) -> str | None:
    """Where the site has a file of the repository; None where it does not show it."""
    if path.startswith(f"{RESULTS}/"):
        return "results/" + path.removeprefix(f"{RESULTS}/")
    if path.endswith(SHOWN):
        return f"source/{path}.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else None


def with_site_links(markdown: str, src_uri: str) -> str:
    """A page whose links lead to files of the site; to what it does not show there is none."""
    folder = posixpath.dirname(repository_path(src_uri))

    def target(link: str) -> str | None:
        there = site_path(posixpath.normpath(posixpath.join(folder, link)))
        return there and posixpath.relpath(there, posixpath.dirname(src_uri) or ".")

    def rewritten(match: re.Match[str]) -> str:
        there = target(match[2])
        return match[1] if there is None else f"[{match[1]}]({there}{match[3] or ''})"

    markdown = LINKED.sub(rewritten, markdown)
    return re.sub(r"!\[([^]]*)" + LINK.pattern, lambda m: f"![{m[1]}]({target(m[2])})", markdown)


def linked_sources() -> set[str]:
    """Files of the repository that pages link to and the site shows."""
    found = set()
    for page in [*(ROOT / "docs").rglob("*.md"), *(ROOT / RESULTS).glob("*.md")]:
        folder = page.parent.relative_to(ROOT).as_posix()
        for link, _ in LINK.findall(page.read_text(encoding="utf-8")):
            path = posixpath.normpath(posixpath.join(folder, link))
            if path.endswith(SHOWN) and not path.startswith(f"{RESULTS}/"):
                found.add(path)
    return found


def source_page(path: str) -> str:
    """A page that shows a file."""
    language = {".py": "python", ".sh": "bash", ".toml": "toml"}.get(Path(path).suffix, "json")
    text = (ROOT / path).read_text(encoding="utf-8").rstrip()
    front = "---\nsearch:\n  exclude: true\nhide: [toc]\n---\n"
    return f'{front}# {path}\n\n``````{language} linenums="1"\n{text}\n``````\n'
