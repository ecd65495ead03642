"""Draws the picture of the imports in docs/architecture.md from the code itself.

    python docs/draw_imports.py            # rewrite the picture
    python docs/draw_imports.py --check    # status 1 if the picture is not that of the code

What it draws are the rooms of the page's own table, in the table's order. An arrow that a longer
way implies is left out; so are imports for type checkers alone.
"""

import argparse
import ast
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator

PAGE = pathlib.Path(__file__).parent / "architecture.md"
PACKAGE = PAGE.parent.parent / "jaxrl_po"
BEGIN, END = "<!-- imports: begin -->\n", "<!-- imports: end -->\n"
ROOM = re.compile(r"^\| `([\w/]+?)(/|\.py)` \|", re.MULTILINE)
HOUSES = {"host": "host: files, time, processes", "rlhf": "rlhf: language models"}

Arrow = tuple[str, str]  # a room, and one that it imports


def modules_of(package: pathlib.Path) -> dict[str, pathlib.Path]:
    """Full names of a package's modules, and their files."""
    files = {
        path.relative_to(package.parent).with_suffix(""): path for path in package.rglob("*.py")
    }
    names = {".".join(name.parts).removesuffix(".__init__"): path for name, path in files.items()}
    return dict(sorted(names.items()))


def imports(path: pathlib.Path, modules: Iterable[str]) -> Iterator[str]:
    """Full names of the modules that a file imports, anywhere in it but for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_checkers = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_checkers:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path}:{node.lineno}: imports are absolute")
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in modules else str(node.module)


def room_of(module: str, rooms: Iterable[str]) -> str:
    """The room that a module is in: its folder, or itself."""
    parts = module.split(".")[1:] or ["__init__"]
    for depth in (2, 1):
        if "/".join(parts[:depth]) in rooms:
            return "/".join(parts[:depth])
    raise ValueError(f"{module} is in no room")


def arrows(package: pathlib.Path, rooms: Iterable[str]) -> set[Arrow]:
    """Which room imports which, without what a longer way implies."""
    modules = modules_of(package)
    direct = {
        (room_of(module, rooms), room_of(other, rooms))
        for module, path in modules.items()
        for other in imports(path, modules)
        if other in modules
    }
    direct = {(upper, lower) for upper, lower in direct if upper != lower}
    ways, longer = set(direct), set[Arrow]()
    while not longer >= (found := {(a, c) for a, b in direct for d, c in ways if b == d}):
        longer |= found
        ways |= found
    return direct - longer


def picture(page: str, package: pathlib.Path = PACKAGE) -> str:
    """The rooms of a page's table as a Mermaid graph, from the doors down to the ground."""
    rooms = {name: name + ending for name, ending in ROOM.findall(page)}
    drawn = arrows(package, rooms)
    boxes: dict[str, list[str]] = {house: [] for house in ("", *HOUSES)}
    for name in rooms:
        if any(name in arrow for arrow in drawn):
            house = name.split("/")[0]
            boxes[house if house in HOUSES else ""].append(f'{_key(name)}["{rooms[name]}"]')
    lines = ["```mermaid", "graph TD"]
    for house, title in HOUSES.items():
        if boxes[house]:
            inner = (f"    {box}" for box in boxes[house])
            lines += [f'  subgraph in_{house}["{title}"]', *inner, "  end"]
    lines += [f"  {box}" for box in boxes[""]]
    order = {name: number for number, name in enumerate(rooms)}
    for upper, lower in sorted(drawn, key=lambda arrow: (order[arrow[0]], order[arrow[1]])):
        lines.append(f"  {_key(upper)} --> {_key(lower)}")
    return "\n".join([*lines, "```", ""])


def redrawn(page: str) -> str:
    """The page with the picture of the code as it is."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE.name} must hold the lines {BEGIN.strip()} and {END.strip()}")
    return before + begin + picture(page) + end + after


def _key(room: str) -> str:
    return room.strip("_").replace("/", "_")


def main() -> None:
    """Rewrite the picture, or compare it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    drawn = redrawn(page)
    if check and drawn != page:
        sys.exit(f"{PAGE.name} is stale: python docs/draw_imports.py")
    PAGE.write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
