"""The console blocks of the README: run them again, and compare or rewrite what they show.

    python experiments/readme.py           # runs every block and rewrites it
    python experiments/readme.py --check   # fails, with a diff, where one is stale
    python experiments/readme.py --file docs/index.md    # those of the site; docs/guide/runs.md too

A ```console block is lines `$ command`, each with its output. Blocks run in the README's order in
one new folder. Seconds, speeds and shares of time differ from run to run: they are masked.
"""

import argparse
import difflib
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

FIGURES = {  # what the blocks draw, and where the README shows it from
    "runs/cartpole/learning_curve.png": "experiments/results/cartpole_run.png",
    "cartpole.gif": "experiments/results/cartpole_run.gif",
}
ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```)", flags=re.DOTALL | re.MULTILINE)
TIMING = re.compile(r"\d[\d,]*(?:\.\d+)?(?= (?:s|ms|min|steps/s)\b|%)")


def commands(block: str) -> list[str]:
    """The commands of a console block."""
    return [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]


def mask(text: str) -> str:
    """The text without what differs from run to run."""
    return TIMING.sub("…", text).strip()


def run(command: str, folder: pathlib.Path) -> str:
    """What a command prints in a folder, to both streams."""
    words = shlex.split(command)
    if words[0] == "python":
        words[0] = sys.executable
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{command}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout.strip()


def again(block: str, folder: pathlib.Path) -> str:
    """A block with the output that its commands have now."""
    shown = [f"$ {command}\n{run(command, folder)}".strip() for command in commands(block)]
    return "\n\n".join(shown) + "\n"


def refresh(readme: str, folder: pathlib.Path) -> str:
    """The README with all its blocks run again; where only masked figures differ, as it was."""

    def replace(match: re.Match[str]) -> str:
        new = again(match[0], folder)
        return match[0] if mask(new) == mask(match[0]) else new

    return BLOCK.sub(replace, readme)


def main() -> int:
    """Rewrite the README, or say where it is stale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, and change nothing")
    parser.add_argument("--file", type=pathlib.Path, default=README)
    arguments = parser.parse_args()
    old = arguments.file.read_text()
    with tempfile.TemporaryDirectory() as folder:
        new = refresh(old, pathlib.Path(folder))
        if not arguments.check:
            arguments.file.write_text(new)
            for drawn, kept in FIGURES.items():
                if arguments.file.samefile(README) and (pathlib.Path(folder) / drawn).exists():
                    shutil.copy(pathlib.Path(folder) / drawn, ROOT / kept)
            return 0
    difference = difflib.unified_diff(
        old.splitlines(), new.splitlines(), str(arguments.file), "as run now", lineterm="", n=1
    )
    print("\n".join(difference))
    return int(old != new)


if __name__ == "__main__":
    sys.exit(main())
