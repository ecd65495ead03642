"""A pass in slices: what one over all rows gives, from no more than a slice at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.fast import slices


@pytest.mark.parametrize(("num_blocks", "most"), [(1, 12), (1, 13), (1, 24), (2, 12), (3, 40)])
def test_slices_are_shares_of_each_block(num_blocks, most, monkeypatch):
    rows = {"seen": jnp.arange(48.0).reshape(12, 4), "flag": jnp.arange(12)}
    monkeypatch.setattr(slices, "SLICE", most)
    sizes = []

    def function(some):
        seen, flag = some["seen"], some["flag"]
        sizes.append(seen.size + flag.size)
        # Blocks are neighbours, in a slice too: what is common to one of them stays within it.
        common = seen.reshape(num_blocks, -1).min(axis=1) >= 48 // num_blocks * jnp.arange(
            num_blocks
        )
        return {"sum": seen.sum(axis=1) + flag, "in order": jnp.full(len(flag), common.all())}

    found = jax.jit(lambda rows: slices.in_slices(function, rows, num_blocks))(rows)
    np.testing.assert_array_equal(found["sum"], rows["seen"].sum(axis=1) + rows["flag"])
    assert found["in order"].all()
    assert max(sizes) <= most
    assert 60 % max(sizes) == 0


def test_a_pass_that_fits_is_the_function_itself():
    rows = jnp.arange(6)
    assert slices.in_slices(lambda some: some is rows, rows) is True
