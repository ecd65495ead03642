"""Small programs are compiled without optimisation, unless a test is about their bits."""

import pytest

from jaxrl_po.host.machine import execution


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation():
    options = {**execution.CPU_OPTIONS, "xla_backend_optimization_level": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "CPU_OPTIONS", options)
        yield
