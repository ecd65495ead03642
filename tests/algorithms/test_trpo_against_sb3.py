"""The policy step of TRPO against sb3-contrib's, from the same weights and batch.

Differences that remain: sb3-contrib differentiates KL(new‖old) where the paper has KL(old‖new) (the
two have the same Hessian at the old parameters, so the direction is the same), starts CG from noise
of 1e-4, and accepts on its own KL; so the line search may stop one shrinking apart.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import TRPOConfig
from jaxrl_po.algorithms import make_algorithm
from jaxrl_po.envs import Box, Discrete
from jaxrl_po.networks import make_network
from jaxrl_po.types import Batch

torch = pytest.importorskip("torch")
pytest.importorskip("sb3_contrib")
gymnasium = pytest.importorskip("gymnasium")

STEPS, DAMPING, ITERATIONS, RADIUS = 256, 0.1, 10, 0.01


def torch_step(env_id, params, batch):
    """Parameters of sb3-contrib's policy after its own `train()` on this batch, by our names."""
    from sb3_contrib import TRPO
    from stable_baselines3.common.logger import Logger

    model = TRPO(
        "MlpPolicy",
        gymnasium.make(env_id),
        n_steps=STEPS,
        cg_max_steps=ITERATIONS,
        cg_damping=DAMPING,
        target_kl=RADIUS,
        n_critic_updates=1,
        normalize_advantage=False,
        device="cpu",
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    layers = [
        model.policy.mlp_extractor.policy_net[0],
        model.policy.mlp_extractor.policy_net[2],
        model.policy.action_net,
    ]
    policy = params["policy"]
    ours = [
        policy["torso"]["params"]["Dense_0"],
        policy["torso"]["params"]["Dense_1"],
        policy["head"]["params"]["Dense_0"],
    ]
    for layer, our in zip(layers, ours, strict=True):
        layer.weight.data = torch.tensor(np.asarray(our["kernel"]).T.copy())
        layer.bias.data = torch.tensor(np.asarray(our["bias"]).copy())
    log_std = getattr(model.policy, "log_std", None)
    if log_std is not None:
        log_std.data = torch.tensor(np.asarray(policy["head"]["params"]["log_std"]).copy())

    buffer = model.rollout_buffer
    buffer.reset()
    buffer.observations[:, 0] = batch.observation[:, 0]
    buffer.actions[:, 0] = np.asarray(batch.action[:, 0]).reshape(STEPS, -1)
    buffer.log_probs[:, 0] = batch.log_prob[:, 0]
    buffer.advantages[:, 0] = batch.advantage[:, 0]
    buffer.pos, buffer.full = STEPS, True
    model.train()
    new = [layer.weight.detach().numpy().T for layer in layers]
    new += [layer.bias.detach().numpy() for layer in layers]
    return new + ([] if log_std is None else [log_std.detach().numpy()])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("env_id", "size", "space"),
    [
        ("CartPole-v1", 4, Discrete(2)),
        ("Pendulum-v1", 3, Box(-np.full(1, 2.0), np.full(1, 2.0))),
    ],
)
def test_the_policy_step_is_sb3_contribs(env_id, size, space):
    config = TRPOConfig(
        env_id=env_id,
        num_envs=1,
        num_steps=STEPS,
        cg_damping=DAMPING,
        cg_iters=ITERATIONS,
        max_kl=RADIUS,
        critic_epochs=1,
    )
    network = make_network(config, (size,), space)
    params_key, observation_key, noise_key, advantage_key = jax.random.split(jax.random.key(0), 4)
    params = network.init(params_key)
    observation = jax.random.normal(observation_key, (STEPS, 1, size))
    distribution, _ = network.policy(params, observation, ())
    action = distribution.sample(distribution.noise(noise_key))
    advantage = jax.random.normal(advantage_key, (STEPS, 1))
    log_prob = distribution.log_prob(action)
    value = network.value(params, observation, ())
    batch = Batch(observation, (), distribution, action, log_prob, value, advantage, value)

    algorithm = make_algorithm(config, network)
    new, _, metrics = jax.jit(algorithm.update)(
        jax.random.key(1), params, algorithm.init(params), batch, jnp.ones(())
    )

    def as_list(params):
        torso, head = (params["policy"][part]["params"] for part in ("torso", "head"))
        layers = [torso["Dense_0"], torso["Dense_1"], head["Dense_0"]]
        weights = [layer["kernel"] for layer in layers] + [layer["bias"] for layer in layers]
        return [np.asarray(x) for x in weights + ([head["log_std"]] if "log_std" in head else [])]

    old = as_list(params)
    theirs = torch_step(env_id, params, batch)
    our_step = np.concatenate([(n - o).ravel() for n, o in zip(as_list(new), old, strict=True)])
    their_step = np.concatenate([(n - o).ravel() for n, o in zip(theirs, old, strict=True)])
    norms = np.linalg.norm(our_step), np.linalg.norm(their_step)
    cosine = our_step @ their_step / np.prod(norms)
    print(f"{env_id}: cosine {cosine:.6f}, length {norms[0] / norms[1]:.4f} of sb3-contrib's")
    assert metrics["step_accepted"] == 1
    assert cosine >= 0.999
    shrinkings = np.log(norms[0] / norms[1]) / np.log(config.backtrack_coeff)
    assert abs(shrinkings - round(shrinkings)) < 0.05
    assert abs(round(shrinkings)) <= 1
