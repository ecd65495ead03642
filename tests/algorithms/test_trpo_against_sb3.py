"""The policy step of TRPO against a recorded one of sb3-contrib, from the same weights and batch.

experiments/record_sb3_trpo_step.py made the records. Differences that remain: sb3-contrib
differentiates KL(new‖old) where the paper has KL(old‖new) (the two have the same Hessian at the old
parameters, so the direction is the same), starts CG from noise of 1e-4, and accepts on its own KL.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import TRPOConfig
from jaxrl_po.algorithms import make_algorithm
from jaxrl_po.envs import Box, Discrete
from jaxrl_po.networks import make_network
from jaxrl_po.types import Batch

DATA = pathlib.Path(__file__).parent / "data"
COSINE, LENGTH = 0.9999, 0.002
SPACES = {"discrete": Discrete(2), "box": Box(-np.full(1, 2.0), np.full(1, 2.0))}


def to_params(record, prefix):
    """A policy's parameters from those of a record."""

    def layer(name):
        return {key: record[f"{prefix}_{name}_{key}"] for key in ("kernel", "bias")}

    head = {"Dense_0": layer("head")}
    if f"{prefix}_log_std" in record:
        head["log_std"] = record[f"{prefix}_log_std"]
    torso = {"Dense_0": layer("torso_0"), "Dense_1": layer("torso_1")}
    return {"torso": {"params": torso}, "head": {"params": head}}


def difference(new, old):
    """The step from old to new as one vector."""
    leaves = jax.tree.map(lambda n, o: np.ravel(np.asarray(n) - np.asarray(o)), new, old)
    return np.concatenate(jax.tree.leaves(leaves))


@pytest.fixture(scope="module", params=SPACES)
def steps(request, jit):
    """Our step, as a function of changes to the record's settings, and sb3-contrib's."""
    with np.load(DATA / f"sb3_trpo_{request.param}.npz") as file:
        record = dict(file)
    space = SPACES[request.param]
    before = to_params(record, "before")
    settings = json.loads(str(record["settings"]))
    size, width = before["torso"]["params"]["Dense_0"]["kernel"].shape
    config = TRPOConfig(
        num_envs=1,
        num_steps=len(record["advantage"]),
        hidden_sizes=(width, width),
        critic_epochs=1,
    )
    network = make_network(config, (size,), space)
    params = network.init(jax.random.key(0))._replace(policy=before)
    rows = {name: record[name] for name in ("observation", "log_prob", "advantage")}
    action = record["action"]
    action = action[..., 0].astype(int) if isinstance(space, Discrete) else action

    @jit
    def update(settings):
        distribution, _ = network.policy(params, rows["observation"], ())
        ours = distribution.log_prob(action)
        zeros = jnp.zeros(ours.shape)
        batch = Batch(
            rows["observation"], (), distribution, action, rows["log_prob"], zeros,
            rows["advantage"], zeros,
        )  # fmt: skip
        algorithm = make_algorithm(config.replace(**settings), network)
        new, _, metrics = algorithm.update(
            jax.random.key(1), params, algorithm.init(params), batch, jnp.ones(())
        )
        return new.policy, metrics, jnp.abs(ours - rows["log_prob"]).max()

    def our_step(**changes):
        new, metrics, log_prob_error = update({**floats, **changes})
        return difference(new, before), metrics, log_prob_error

    config = config.replace(**{k: v for k, v in settings.items() if isinstance(v, int)})
    floats = {name: value for name, value in settings.items() if isinstance(value, float)}
    return our_step, difference(to_params(record, "after"), before)


def test_the_policy_step_is_sb3_contribs(steps):
    our_step, theirs = steps
    ours, metrics, log_prob_error = our_step()
    assert log_prob_error < 1e-5
    assert metrics["step_accepted"] == 1
    assert metrics["line_search_steps"] > 1  # the record's search had work to do
    cosine = ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs))
    length = np.linalg.norm(ours) / np.linalg.norm(theirs)
    print(f"cosine {cosine:.6f}, length {length:.4f}, tried {metrics['line_search_steps']}")
    assert cosine >= COSINE
    assert length == pytest.approx(1, abs=LENGTH)


@pytest.mark.parametrize(
    "changes", [{"cg_damping": 0.2}, {"backtrack_coeff": 0.7}, {"max_kl": 0.2}], ids=str
)
def test_the_comparison_sees_another_step(steps, changes):
    our_step, theirs = steps
    ours, *_ = our_step(**changes)
    cosine = ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs))
    length = np.linalg.norm(ours) / np.linalg.norm(theirs)
    assert cosine < COSINE or abs(length - 1) > LENGTH
