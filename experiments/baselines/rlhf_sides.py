"""One side of `rlhf_speed.py`, in a process of its own: prints its numbers as JSON.

python experiments/baselines/rlhf_sides.py weights|own_ppo|trl_ppo|own_grpo|trl_grpo FOLDER SETTING
"""

import json
import os
import statistics
import sys
import time
from typing import Any

import numpy as np

LAYERS, HEADS, VOCABULARY, EPOCHS, MINIBATCHES = 4, 4, 4096, 4, 4
EOS, PAD = 0, 1
ANSWERS, PRICE = 4, 0.05  # of GRPO: answers a prompt, of a nat of the KL
SKIPPED = 2  # iterations, which compile and warm up


def clock(setting: dict[str, Any]) -> float:
    """Seconds of the CPU, or on a GPU of the wall."""
    return time.perf_counter() if setting["gpu"] else time.process_time()


def some_prompts(setting: dict[str, Any]) -> np.ndarray:
    """Openings of random tokens [64, P]."""
    generator = np.random.default_rng(0)
    return generator.integers(2, VOCABULARY, (64, setting["prompt"]), dtype=np.int32)


def report(seconds: list[float]) -> None:
    """Print the median of the iterations, the first ones left out."""
    measured = seconds[SKIPPED:]
    print(json.dumps({"seconds": statistics.median(measured), "fastest": min(measured)}))


def weights(folder: str, setting: dict[str, Any]) -> None:
    """A random GPT-2 that all sides begin from."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=setting["prompt"] + setting["response"],
        n_embd=setting["width"],
        n_layer=LAYERS,
        n_head=HEADS,
        bos_token_id=EOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    print("{}")


def own_ppo(folder: str, setting: dict[str, Any]) -> None:
    """PPO of this library on a reward model of the policy's size."""
    own(folder, setting, {"clip_value": True}, {})


def own_grpo(folder: str, setting: dict[str, Any]) -> None:
    """GRPO of this library on the length of the answers."""
    signal = {"estimator": "grpo", "answers_per_prompt": ANSWERS, "kl_coef": PRICE}
    own(folder, setting, {}, signal)


def own(
    folder: str, setting: dict[str, Any], fields: dict[str, Any], signal: dict[str, Any]
) -> None:
    """An update of this library: with a critic on a reward model, else on the answers' length."""
    import jax
    import jax.numpy as jnp

    from jaxrl_po import PPOConfig
    from jaxrl_po.host.language.checkpoints import load_pretrained
    from jaxrl_po.rlhf import RewardModel, RLHFConfig, as_prompts, learned_reward, make_rlhf_step
    from jaxrl_po.rlhf.heads import zero_head

    loaded = load_pretrained(folder)
    N, T = setting["batch"], setting["response"]
    update = PPOConfig(
        num_envs=N,
        num_steps=T,
        total_timesteps=N * T * setting["iterations"],
        update_epochs=EPOCHS,
        num_minibatches=MINIBATCHES,
        gamma=1.0,
        learning_rate=1e-5,
        **fields,
    )
    config = RLHFConfig(model=loaded.config, update=update, eos_id=EOS, pad_id=PAD, **signal)

    def length(prompt: Any, response: Any) -> Any:
        return response.mask.sum(axis=1) / T

    torso = {"torso": loaded.params, "head": zero_head(loaded.model.num_features)}
    judge = RewardModel(torso, jnp.zeros(()), jnp.ones(()))
    reward = learned_reward(loaded.model, judge) if config.has_critic else length
    prompts = as_prompts(some_prompts(setting), PAD)
    init, step = make_rlhf_step(config, reward, prompts, loaded.model)
    state = jax.jit(init)(jax.random.key(0), loaded.params)
    advance = jax.jit(step, donate_argnums=0)
    seconds = []
    for _ in range(setting["iterations"]):
        started = clock(setting)
        state, _ = jax.block_until_ready(advance(state, loaded.params))
        seconds.append(clock(setting) - started)
    report(seconds)


WORDS = ["<eos>", "<pad>", *(f"w{i}" for i in range(2, VOCABULARY))]  # EOS and PAD are 0 and 1


def tokenizer() -> Any:
    """A word for each id: TRL asks for a tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=WORDS[PAD]))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token=WORDS[EOS], pad_token=WORDS[PAD], padding_side="left"
    )


def trl_watch(setting: dict[str, Any]) -> tuple[Any, list[float]]:
    """A callback that notes the seconds of each iteration, and where it notes them."""
    from transformers import TrainerCallback

    seconds: list[float] = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.started = clock(setting)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            now = clock(setting)
            seconds.append(now - self.started)
            self.started = now

    return Watch(), seconds


def trl_ppo(folder: str, setting: dict[str, Any]) -> None:
    """PPO of TRL, its reward and value models of the policy's size."""
    import torch
    from datasets import Dataset
    from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    torch.set_num_threads(1)
    N = setting["batch"]
    watch, seconds = trl_watch(setting)
    arguments = PPOConfig(
        output_dir=os.path.join(folder, "trl"),
        use_cpu=not setting["gpu"],
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=N,
        local_rollout_forward_batch_size=N,
        num_mini_batches=MINIBATCHES,
        num_ppo_epochs=EPOCHS,
        total_episodes=N * setting["iterations"],
        response_length=setting["response"],
        num_sample_generations=0,
        learning_rate=1e-5,
        temperature=1.0,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )

    def judge() -> Any:
        return GPT2ForSequenceClassification.from_pretrained(folder, num_labels=1)

    trainer = PPOTrainer(
        args=arguments,
        processing_class=tokenizer(),
        model=GPT2LMHeadModel.from_pretrained(folder),
        ref_model=GPT2LMHeadModel.from_pretrained(folder),
        reward_model=judge(),
        value_model=judge(),
        train_dataset=Dataset.from_dict({"input_ids": some_prompts(setting).tolist()}),
        callbacks=[watch],
    )
    trainer.train()
    report(seconds)


def trl_grpo(folder: str, setting: dict[str, Any]) -> None:
    """GRPO of TRL on the length of the answers."""
    import torch
    from datasets import Dataset
    from transformers import GPT2LMHeadModel
    from trl import GRPOConfig, GRPOTrainer

    if not setting["gpu"]:
        torch.set_num_threads(1)
    N, T = setting["batch"], setting["response"]
    watch, steps = trl_watch(setting)
    per_iteration = EPOCHS * MINIBATCHES
    arguments = GRPOConfig(
        output_dir=os.path.join(folder, "trl"),
        use_cpu=not setting["gpu"],
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=N // MINIBATCHES,
        steps_per_generation=MINIBATCHES,
        num_generations=ANSWERS,
        num_iterations=EPOCHS,
        max_completion_length=T,
        max_steps=per_iteration * setting["iterations"],
        beta=PRICE,
        learning_rate=1e-5,
        temperature=1.0,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    prompts = [" ".join(WORDS[i] for i in row) for row in some_prompts(setting)]

    def length(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [len(ids) / T for ids in completion_ids]

    trainer = GRPOTrainer(
        model=GPT2LMHeadModel.from_pretrained(folder),
        args=arguments,
        processing_class=tokenizer(),
        reward_funcs=length,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        callbacks=[watch],
    )
    trainer.train()
    report(np.reshape(steps, (-1, per_iteration)).sum(axis=1).tolist())


if __name__ == "__main__":
    SIDES = {side.__name__: side for side in (weights, own_ppo, trl_ppo, own_grpo, trl_grpo)}
    SIDES[sys.argv[1]](sys.argv[2], json.loads(sys.argv[3]))
