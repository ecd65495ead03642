"""The settings under test are those of the experiments, which are scripts and no package."""

import pathlib
import sys

import pytest

from jaxrl_po.host.machine import execution
from tests.conftest import AS_SHIPPED

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "experiments"))


@pytest.fixture(autouse=True)
def _compilation_as_shipped(monkeypatch):
    """Millions of steps take as long as users have them take, and learn by the same bits."""
    monkeypatch.setattr(execution, "CPU_OPTIONS", execution.CPU_OPTIONS | AS_SHIPPED)
