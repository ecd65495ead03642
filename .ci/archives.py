"""Says what is wrong with the archives of a release: what is missing, what should not be there.

python .ci/archives.py dist/*.whl dist/*.tar.gz
python .ci/archives.py --version     # of the source tree
"""

import re
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
WANTED = "py.typed", "host/tuned.json", "host/policies/numpy_policy.py", "version.py"
SOURCES = "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "tests/conftest.py"


def version() -> str:
    """The version that the source tree says."""
    (found,) = re.findall(r'__version__ = "(.*)"', (ROOT / "jaxrl_po/version.py").read_text())
    return str(found)


def faults_of_wheel(names: list[str], metadata: str) -> list[str]:
    """Of the library a wheel has every file, and nothing else beside its description."""
    folder = f"jaxrl_po-{version()}.dist-info/"
    files = [
        p for p in (ROOT / "jaxrl_po").rglob("*") if p.is_file() and "__pycache__" not in p.parts
    ]
    sources = {path.relative_to(ROOT).as_posix() for path in files}
    wanted = sources | {f"jaxrl_po/{name}" for name in WANTED} | {f"{folder}licenses/LICENSE"}
    strangers = [name for name in names if name not in sources and not name.startswith(folder)]
    return [
        *(f"missing: {name}" for name in sorted(wanted - set(names))),
        *(f"does not belong there: {name}" for name in strangers),
        *(
            f"not said: {line}"
            for line in ("Typing :: Typed", "Apache-2.0")
            if line not in metadata
        ),
    ]


def faults_of_sdist(names: list[str]) -> list[str]:
    """An sdist has the sources and tests, and nothing that was built."""
    folder = f"jaxrl_po-{version()}/"
    built = re.compile(r"__pycache__|\.(?:jax|mypy|ruff|pytest)_cache|MUJOCO_LOG|/build/|/\.git/")
    return [
        *(f"missing: {name}" for name in SOURCES if folder + name not in names),
        *(f"does not belong there: {name}" for name in names if built.search(name)),
    ]


def main() -> int:
    """Look into the archives; 1 where one has a fault."""
    if sys.argv[1:] == ["--version"]:
        print(version())
        return 0
    faults = []
    for path in map(Path, sys.argv[1:]):
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                names = wheel.namelist()
                (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
                found = faults_of_wheel(names, wheel.read(metadata).decode())
        else:
            with tarfile.open(path) as sdist:
                names = sdist.getnames()
            found = faults_of_sdist(names)
        print(f"{path.name}: {len(names)} files, {path.stat().st_size / 1e6:.2f} MB")
        faults += [f"{path.name}: {fault}" for fault in found]
    print("\n".join(faults), end="\n" if faults else "")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
