"""The examples in docstrings of public functions run, and print what they say."""

import ast
import doctest
import importlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl_po
from jaxrl_po import envs, ops
from jaxrl_po.host.sweeps import ranges

# The most used, which have one.
WANTED = {
    jaxrl_po: "make_train make_step evaluate run resume sweep save_policy load_policy "
    "rollout_policy stop_at_return tuned config_from_dict",
    ops: "gae normalize_advantage importance_ratio policy_gradient_loss surrogate_loss "
    "clipped_surrogate_loss value_loss explained_variance fisher_vector_product "
    "conjugate_gradient trust_region_scale backtracking_line_search update_statistics normalize "
    "discounted_returns",
    envs: "Discrete MultiDiscrete Box to_bounds make_environment stack_frames",
    ranges: "linear log",
}
EXAMPLES = [(module, name) for module, names in WANTED.items() for name in names.split()]


def examples_of(thing):
    """What stands behind >>> in a docstring; the names that pages import are there already."""
    known = {"jax": jax, "jnp": jnp, "np": np, **vars(importlib.import_module(thing.__module__))}
    finder = doctest.DocTestFinder(recurse=False)
    return finder.find(thing, thing.__name__, globs=known)


@pytest.mark.parametrize(
    ("module", "name"), EXAMPLES, ids=lambda part: getattr(part, "__name__", part)
)
def test_an_example_prints_what_it_says(module, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = examples_of(getattr(module, name))
    assert example.examples
    printed = []
    failed, tried = doctest.DocTestRunner().run(example, out=printed.append)
    assert (failed, tried > 0) == (0, True), "".join(printed)


def test_no_example_is_left_out():
    kinds = ast.FunctionDef, ast.ClassDef
    found = {
        node.name
        for path in pathlib.Path(jaxrl_po.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, kinds) and ">>> " in (ast.get_docstring(node) or "")
    }
    assert found == {name for _, name in EXAMPLES}
