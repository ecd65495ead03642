"""The file of a checkpoint: what goes in comes out, for every type, and other readers read it."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxrl_po.host.runs import checkpoint

TYPES = [np.dtype(name) for name in checkpoint.TYPES if name != "bfloat16"]


def test_arrays_of_every_type_and_shape_come_back(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {str(kind): rng.integers(0, 2, (3, 2)).astype(kind) for kind in TYPES}
    arrays |= {
        "bfloat16": np.array([1.5, -0.0], jnp.bfloat16),
        "scalar": np.float32(2.5).reshape(()),
        "none": np.zeros((0, 4)),
        "strided": np.arange(8, dtype=np.int32)[::3],
    }
    path = checkpoint.save(tmp_path, 7, arrays, {"note": [1, None]})
    saved = checkpoint.load(path)
    assert (saved.iteration, saved.notes) == (7, {"note": [1, None]})
    assert saved.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        found = saved.arrays[name]
        assert (found.dtype, found.shape) == (array.dtype, array.shape), name
        assert found.tobytes() == array.tobytes(), name
    del arrays["bfloat16"]  # which `load_file` has no type for
    others = safetensors.numpy.load_file(checkpoint.save(tmp_path, 8, arrays, {}))
    assert all((others[name] == array).all() for name, array in arrays.items())


def test_what_has_no_type_in_a_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=re.escape("a/b is complex64, of which no file")):
        checkpoint.save(tmp_path, 0, {"a/b": np.zeros(2, np.complex64)}, {})
    assert list(tmp_path.iterdir()) == []
