"""What the last bits depend on beside the config is noted, and told of when it has changed."""

import importlib.metadata
import os

import jax
import pytest

from jaxrl_po import load_state, resume, run
from jaxrl_po.host.machine import conditions, identity
from jaxrl_po.version import __version__
from tests.host.small import RUN, config, random_walk

ENV = random_walk()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "run"
    run(config(num_iterations=1), directory=directory, env=ENV, **RUN)
    return directory


@pytest.mark.parametrize("flag", ["jax_threefry_partitionable", "jax_default_matmul_precision"])
def test_flags_that_change_the_bits_are_told_of(flag, finished, capsys):
    value = False if flag == "jax_threefry_partitionable" else "highest"
    before = getattr(jax.config, flag)
    resume(finished, env=ENV)
    assert "other conditions" not in capsys.readouterr().out
    jax.config.update(flag, value)
    try:
        resume(finished, env=ENV)
    finally:
        jax.config.update(flag, before)
    shown = capsys.readouterr().out
    assert f"under other conditions ({flag} {before or 'None'} → {value})" in shown


@pytest.mark.parametrize(
    ("name", "value"), [("_cpu", lambda: "an older CPU"), ("VERSIONS", ("jax", "jaxlib"))]
)
def test_the_processor_is_noted(name, value, finished, capsys, monkeypatch):
    monkeypatch.setattr(conditions, name, value)
    resume(finished, env=ENV)
    assert ("device" in capsys.readouterr().out) == (name == "_cpu")


def test_a_checkout_that_is_not_installed_runs(monkeypatch):
    def version(name):
        if name == "jaxrl-po":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert conditions.conditions()["jaxrl-po"] == __version__
    assert identity.versions()["jaxrl-po"] == __version__


def test_xla_flags_are_told_of(finished, capsys, monkeypatch):
    before, now = os.environ["XLA_FLAGS"], "--xla_cpu_max_isa=AVX"
    monkeypatch.setenv("XLA_FLAGS", now)
    resume(finished, env=ENV)
    assert f"(XLA_FLAGS {before} → {now})" in capsys.readouterr().out
    monkeypatch.delenv("XLA_FLAGS")
    resume(finished, env=ENV)
    assert f"(XLA_FLAGS {before} → unset)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "value"), [("jax_enable_x64", True), ("jax_default_prng_impl", "rbg")]
)
def test_flags_that_change_the_state_are_refused_by_name(flag, value, finished):
    before = getattr(jax.config, flag)
    jax.config.update(flag, value)
    try:
        for attempt in (resume, load_state):
            with pytest.raises(ValueError, match=f"set {flag.upper()}={before}"):
                attempt(finished, env=ENV)
    finally:
        jax.config.update(flag, before)
