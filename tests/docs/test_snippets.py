"""Every Python block of the site runs: a page's blocks in one namespace, on small budgets."""

import contextlib
import importlib.util
import re
import warnings

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

from docs.figures import learn
from docs.hooks import ROOT

PAGES = sorted((ROOT / "docs").rglob("*.md"))
BLOCK = re.compile(
    r"(?:<!-- needs: (?P<needs>\w+) -->\n)?^```python\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE
)
BUDGET = re.compile(r"total_timesteps=([\d_]+)")
SMALL = 2_048
# What takes seconds on a page, and as much of it as is run here.
LESS = {
    "learn/advantages.md": ("T, N, middle = 1_000, 4_000, 10", "T, N, middle = 1_000, 100, 10"),
    "learn/clip.md": ("jnp.logspace(-4, -1, 13)", "jnp.logspace(-4, -1, 2)"),
}
# Blocks that need what the tests are not installed with: page -> module.
NOT_RUN = {
    "guide/host_environments.md": {"envpool"},
    "guide/suites.md": {"brax", "pgx"},
}


def name_of(page):
    return page.relative_to(ROOT / "docs").as_posix()


def blocks_of(page):
    """The Python blocks of a page: what each needs, and its code on a small budget."""
    text = page.read_text(encoding="utf-8")
    if name_of(page) in LESS:
        much, little = LESS[name_of(page)]
        assert much in text, page
        text = text.replace(much, little)
    for match in BLOCK.finditer(text):
        code = BUDGET.sub(lambda m: f"total_timesteps={min(int(m[1]), SMALL)}", match["code"])
        yield match["needs"], code


@contextlib.contextmanager
def others_code():
    """Suites warn of themselves, and broadcast ranks."""
    with warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
        warnings.simplefilter("ignore")
        yield


def another_number_each(names):
    """Three ranges of the clip, vmapped, are three runs."""
    returns = np.asarray(names["returns"]).tolist()
    return len(returns) == 3 and len(set(returns)) > 1 and np.isfinite(returns).any()


SHOWN = {"guide/sweeps.md": another_number_each}  # what the names of a page must show

WITH_CODE = [page for page in PAGES if any(blocks_of(page))]


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").symlink_to(ROOT / "tests")  # as in a checkout
    namespace = {"__name__": "__main__"}
    for needs, code in blocks_of(page):
        if needs is None:
            exec(compile(code, name_of(page), "exec"), namespace)
        elif importlib.util.find_spec(needs):
            with others_code():
                exec(compile(code, name_of(page), "exec"), namespace)
    assert SHOWN.get(name_of(page), bool)(namespace)
    if page.parent.name == "learn" and page.stem in learn.PAGES:
        plt.close(learn.PAGES[page.stem](namespace))  # what the figure is drawn from is there


def test_what_is_not_run_is_listed():
    marked = {name_of(page): {needs for needs, _ in blocks_of(page)} - {None} for page in PAGES}
    assert {page: needs for page, needs in marked.items() if needs} == NOT_RUN


def test_no_block_hides_from_the_tests():
    """A fence of another form, or indented, would not be found."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert len(re.findall(r"`{3,} *(?:python|py)\b", text)) == len(list(blocks_of(page))), page
