"""RLHF: the library's own updates acting on token sequences, as one compiled program.

Fine-tune, learn a reward from preferences, optimise it; here a text is the better the more sevens
it has, and token 0 ends it:

    import jax
    import jax.numpy as jnp
    from jaxrl_po import PPOConfig
    from jaxrl_po.rlhf import *

    config = RLHFConfig(
        model=TransformerConfig(vocab_size=16, context_length=12),
        update=PPOConfig(
            num_envs=64, num_steps=8, total_timesteps=15 * 64 * 8, gamma=1.0, learning_rate=1e-3
        ),
        kl_coef=0.1,
        eos_id=0,
        pad_id=-1,
    )
    key = jax.random.key(0)
    ids = jax.random.randint(key, (256, 12), 0, 16)  # your texts, as token ids
    texts = Tokens(ids, ids >= 0)
    order = jnp.argsort((ids == 7).sum(axis=1))  # your preferences, as pairs of indices
    rejected, chosen = order[:128], order[128:]

    model = make_transformer(config.model)
    untrained = jax.jit(model.init)(key)
    sft_params, losses = jax.jit(make_sft(SFTConfig(), model, texts))(key, untrained)
    learn = make_reward_model(SFTConfig(), model, texts, chosen, rejected)
    reward_model, losses = jax.jit(learn)(key, sft_params)
    reward_fn = learned_reward(model, reward_model)  # or any function of prompt and response

    train = jax.jit(make_rlhf(config, reward_fn, prompts=ids[:, :4]))
    result = train(key, sft_params)
    print(result.metrics["objective/scores"], result.metrics["objective/kl"])
    policy = policy_params(result.state.params)  # a fine-tuned model again
"""

from jaxrl_po.rlhf.config import RLHFConfig
from jaxrl_po.rlhf.generation import generate
from jaxrl_po.rlhf.heads import policy_params
from jaxrl_po.rlhf.lora import LoRAConfig, adapted, init_adapters, merge
from jaxrl_po.rlhf.models.config import TransformerConfig
from jaxrl_po.rlhf.models.transformer import make_transformer
from jaxrl_po.rlhf.packing import pack
from jaxrl_po.rlhf.prompts import as_prompts
from jaxrl_po.rlhf.reward_model import (
    RewardModel,
    learned_reward,
    make_reward_model,
    pair_accuracy,
)
from jaxrl_po.rlhf.sft import SFTConfig, make_sft, perplexity
from jaxrl_po.rlhf.train import RLHFResult, RLHFState, make_rlhf, make_rlhf_step
from jaxrl_po.rlhf.types import Generation, LanguageModel, RewardFn, Tokens

__all__ = [
    "Generation",
    "LanguageModel",
    "LoRAConfig",
    "RLHFConfig",
    "RLHFResult",
    "RLHFState",
    "RewardFn",
    "RewardModel",
    "SFTConfig",
    "Tokens",
    "TransformerConfig",
    "adapted",
    "as_prompts",
    "generate",
    "init_adapters",
    "learned_reward",
    "make_reward_model",
    "make_rlhf",
    "make_rlhf_step",
    "make_sft",
    "make_transformer",
    "merge",
    "pack",
    "pair_accuracy",
    "perplexity",
    "policy_params",
]
