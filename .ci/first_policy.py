"""Reads a policy by the installed library's NumPy reader, as a file of its own: no JAX, no library.

python first_policy.py run/policy
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np

found = importlib.util.find_spec("jaxrl_po")  # is looked for, and not imported
assert found is not None
assert found.submodule_search_locations is not None
(folder,) = found.submodule_search_locations
assert Path(folder).is_relative_to(sys.prefix), f"{folder} is not of this environment"
sys.path.insert(0, str(Path(folder) / "host/policies"))

import numpy_policy  # noqa: E402

policy = numpy_policy.load(sys.argv[1])
actions = policy(np.zeros((8, 4)), np.random.default_rng(0))
assert actions.shape == (8,)
assert set(actions.tolist()) <= {0, 1}
assert not {"jax", "jaxrl_po", "safetensors"} & set(sys.modules)
print(f"{policy}, read by NumPy {np.__version__} alone")
