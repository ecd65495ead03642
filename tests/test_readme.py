"""The README's Python runs as written, on a smaller budget."""

import pathlib
import re

import numpy as np

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
BUDGET = "total_timesteps=150_000"


def test_the_quickstart_and_the_sweep_run(capsys):
    quickstart, sweep = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[:2]
    assert BUDGET in quickstart
    assert quickstart.count("\n") <= 8
    namespace = {}
    exec(quickstart.replace(BUDGET, "total_timesteps=2_048"), namespace)
    exec(sweep, namespace)
    assert len(capsys.readouterr().out.splitlines()) >= 2
    assert namespace["returns"].shape == (3,)
    assert np.isfinite(namespace["returns"]).any()
    assert len(set(np.asarray(namespace["returns"]).tolist())) > 1


def test_every_linked_file_exists():
    root = pathlib.Path(__file__).parent.parent
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (root / link).exists()] == []
