"""What an RLHF run starts from: the policy's parameters, and the critic's where it has one."""

import jax

from jaxrl_po.rlhf.config import RLHFConfig
from jaxrl_po.rlhf.heads import init_actor, init_actor_critic
from jaxrl_po.rlhf.reward_model import RewardModel, check_scale
from jaxrl_po.rlhf.types import LanguageModel
from jaxrl_po.types import Params, PyTree


def init_params(
    config: RLHFConfig, model: LanguageModel, learned: PyTree, critic_from: RewardModel | None
) -> Params:
    """What is learned of the fine-tuned model as policy, with a critic if the config has one."""
    if not config.has_critic:
        return init_actor(learned)
    critic = None if critic_from is None else critic_of(critic_from)
    return init_actor_critic(model, learned, config.update.shared_torso, critic)


def critic_of(reward_model: RewardModel) -> PyTree:
    """A critic that begins as a reward model, {"torso", "head"}: V = (raw score - mean) / std."""
    params, mean, std = reward_model
    kernel, bias = params["head"]["kernel"], params["head"]["bias"]
    head = {"kernel": kernel / std, "bias": (bias - mean) / std}
    return {"torso": params["torso"], "head": head}


def check_critic(config: RLHFConfig, model: LanguageModel, critic_from: RewardModel | None) -> None:
    """Raise unless the run has a critic that can begin as the reward model."""
    if critic_from is None:
        return
    if not config.has_critic:
        raise ValueError(f"critic_from has no effect: estimator={config.estimator!r} has no critic")
    if config.update.shared_torso:
        raise ValueError(
            "critic_from needs update.shared_torso=False: a critic on the policy's own torso "
            "cannot begin as another model"
        )
    if config.lora.rank:
        raise ValueError(
            "critic_from needs lora.rank=0: the critic's adapters stand on the policy's own model"
        )
    if not isinstance(critic_from, RewardModel):
        raise ValueError(f"critic_from must be a RewardModel, not {type(critic_from).__name__}")
    wanted = jax.eval_shape(model.init, jax.random.key(0))
    torso = critic_from.params["torso"]
    if _shapes(torso) != _shapes(wanted):
        raise ValueError("critic_from must be a reward model on the run's model: its torso differs")
    check_scale("critic_from", critic_from)


def _shapes(params: PyTree) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}
