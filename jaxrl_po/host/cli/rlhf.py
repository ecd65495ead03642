"""`python -m jaxrl_po rlhf sft | reward | METHOD`: language models from folders and JSON lines."""

import dataclasses
import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_po.algorithms.ppo import ProximalConfig
from jaxrl_po.config import Config
from jaxrl_po.host.cli.flags import Parser, add_fields, add_parameters
from jaxrl_po.host.language.checkpoints import (
    load_pretrained,
    make_model_folder,
    refuse_model,
    save_pretrained,
)
from jaxrl_po.host.language.json_files import read_object
from jaxrl_po.host.language.reward_folder import load_reward_model, save_reward_model
from jaxrl_po.host.language.run import run_rlhf
from jaxrl_po.host.language.text import (
    Tokenizer,
    check_fits,
    load_tokenizer,
    read_completions,
    read_preferences,
    read_prompts,
    text_reward,
)
from jaxrl_po.host.machine.arguments import integer, seeds
from jaxrl_po.host.machine.wording import counted
from jaxrl_po.rlhf import (
    LanguageModel,
    LoRAConfig,
    RewardFn,
    RewardModel,
    RLHFConfig,
    SFTConfig,
    adapted,
    init_adapters,
    learned_reward,
    make_reward_model,
    make_sft,
    merge,
    pack,
)
from jaxrl_po.rlhf.config import WITHOUT_MEANING
from jaxrl_po.rlhf.reward_model import Preferences

# What the comments of these fields say of environments, on tokens.
ON_TOKENS = {
    "num_envs": "N, answers generated side by side",
    "num_steps": "T, tokens that an answer may have",
    "minibatch_shards": "M, blocks of answers: a minibatch takes as many of one as of another",
    "num_minibatches": "minibatches of a pass; they divide num_envs",
    "critic_minibatches": "minibatches of a pass; they divide num_envs",
}


@contextmanager
def _budget_by_its_flags() -> Iterator[None]:
    """Say of a budget what it is on the command line, where it has no flag."""
    try:
        yield
    except ValueError as error:
        name = "total_timesteps"
        flags = f"{name} (--iterations * num_envs * num_steps)"
        raise ValueError(str(error).replace(name, flags)) from error


def sft_command(
    model: Path,
    data: Path,
    out: Path,
    max_length: int = 512,
    batch_size: int = 8,
    num_epochs: int = 1,
    learning_rate: float = 2e-5,
    lora_rank: int = 0,
    packed: bool = False,
    all_turns: bool = False,
    seed: int = 0,
) -> None:
    """Fine-tune a model on completions, and write it as a folder of Hugging Face's format.

    Args:
        model: the model's folder
        data: JSON lines, each {"prompt", "completion"} or {"messages"}
        out: the folder to write
        max_length: tokens of a row; longer ones are left out, and counted
        batch_size: rows in a step
        num_epochs: passes over the rows
        learning_rate: peak step size of AdamW
        lora_rank: learn adapters of this rank, merged when written; 0 for all weights
        packed: put several texts in a row
        all_turns: learn every answer of {"messages"}, not the last alone
        seed: of the order of the rows
    """
    refuse_model(out)
    pretrained, tokenizer = load_pretrained(model), load_tokenizer(model)
    check_fits(tokenizer, pretrained.model)
    texts = read_completions(data, tokenizer, max_length, all_turns=all_turns)
    _tell_dropped(data, texts.num_dropped, max_length)
    rows: Any = texts.tokens, texts.completion
    if packed:
        rows = pack(texts.tokens, max_length, texts.completion)
    config = SFTConfig(
        batch_size=batch_size, num_epochs=num_epochs, learning_rate=learning_rate, weight_decay=0.0
    )
    lora = LoRAConfig(rank=lora_rank) if lora_rank else None
    key = jax.random.key(seeds(seed, 1).start)

    def fine_tune(key: Any, base: Any, learned: Any, rows: Any) -> Any:
        own = pretrained.model if lora is None else adapted(pretrained.model, base, lora)
        return make_sft(config, own, *rows)(key, learned, *rows)

    learned = pretrained.params if lora is None else init_adapters(key, pretrained.params, lora)
    make_model_folder(out)
    learned, losses = jax.jit(fine_tune)(key, pretrained.params, learned, rows)
    params = learned if lora is None else merge(pretrained.params, learned, lora)
    save_pretrained(out, pretrained, params)
    print(
        f"{out}: {counted(len(losses), 'step')} on {counted(len(rows[0].ids), 'row')}, "
        f"loss {losses[0]:.3f} to {losses[-1]:.3f}"
    )


def reward_command(
    model: Path,
    data: Path,
    out: Path,
    max_length: int = 512,
    batch_size: int = 8,
    num_epochs: int = 1,
    learning_rate: float = 2e-5,
    seed: int = 0,
) -> None:
    """Learn a reward model from preferences, and write it as a folder.

    Args:
        model: the folder of the model that it begins from
        data: JSON lines, each {"prompt", "chosen", "rejected"}
        out: the folder to write
        max_length: tokens of a prompt and an answer; longer pairs are left out, and counted
        batch_size: pairs in a step
        num_epochs: passes over the pairs
        learning_rate: peak step size of AdamW
        seed: of the head and of the order of the pairs
    """
    refuse_model(out)
    pretrained, tokenizer = load_pretrained(model), load_tokenizer(model)
    check_fits(tokenizer, pretrained.model)
    pairs = read_preferences(data, tokenizer, max_length)
    _tell_dropped(data, pairs.num_dropped, max_length)
    config = SFTConfig(
        batch_size=batch_size, num_epochs=num_epochs, learning_rate=learning_rate, weight_decay=0.0
    )
    learn = make_reward_model(config, pretrained.model, pairs.tokens, pairs.chosen, pairs.rejected)
    preferences = Preferences(pairs.tokens, pairs.chosen, pairs.rejected, pairs.tokens)
    key = jax.random.key(seeds(seed, 1).start)
    make_model_folder(out)
    reward_model, losses = jax.jit(learn)(key, pretrained.params, preferences)
    save_reward_model(out, pretrained, reward_model)
    print(f"{out}: {counted(len(losses), 'step')}, loss {losses[0]:.3f} to {losses[-1]:.3f}")


@_budget_by_its_flags()
def align_command(
    base: Config,
    fields: dict[str, Any],
    model: Path,
    data: Path,
    directory: Path,
    reward: Path | None = None,
    reward_function: str | None = None,
    test_data: Path | None = None,
    iterations: int = 100,
    kl_coef: float = 0.05,
    temperature: float = 1.0,
    estimator: str = "gae",
    answers_per_prompt: int = 1,
    lora_rank: int = 0,
    critic_from_reward: bool = False,
    max_prompt_length: int = 128,
    visit_every: int = 10,
    seed: int = 0,
    resume: bool = False,
) -> None:
    """Align a model with a reward in a run directory, or go on with one.

    Args:
        base: of the update's class
        fields: of the update, that are given
        model: the folder of the model that the policy begins as, and is held to
        data: JSON lines, each {"prompt"}: text, or messages
        directory: of the run
        reward: the folder of a reward model
        reward_function: a function of lists of prompts and answers, as module:function
        test_data: JSON lines of prompts to evaluate on, beside the reference
        iterations: of answers and an update
        kl_coef: price of a nat of the KL to the reference
        temperature: of sampling
        estimator: gae, rloo, grpo or reinforce++
        answers_per_prompt: answers that rloo and grpo compare
        lora_rank: learn adapters of this rank; 0 for all weights
        critic_from_reward: begin the critic as the reward model, which is of the same model
        max_prompt_length: tokens; longer prompts are left out, and counted
        visit_every: iterations between two checkpoints and evaluations
        seed: all randomness of the run
        resume: go on with the run in the directory
    """
    if (reward is None) == (reward_function is None):
        raise ValueError("give one of --reward FOLDER and --reward-function MODULE:FUNCTION")
    if critic_from_reward and reward is None:
        raise ValueError("--critic-from-reward needs --reward FOLDER")
    size = beginning(type(base))
    per_iteration = math.prod(fields.get(n, getattr(size, n)) for n in ("num_envs", "num_steps"))
    budget = integer("iterations", iterations) * per_iteration
    update = size.replace(**fields, total_timesteps=budget)
    if (estimator != "gae" or critic_from_reward) and "shared_torso" not in fields:
        update = update.replace(shared_torso=False)  # no critic, or none on the policy's own torso
    pretrained, tokenizer = load_pretrained(model), load_tokenizer(model)
    learned = None if reward is None else _load_reward(reward, tokenizer, model)
    reward_fn: RewardFn = (
        learned_reward(*learned)
        if learned
        else text_reward(_imported(str(reward_function)), tokenizer)
    )
    prompts = read_prompts(data, tokenizer, max_prompt_length)
    _tell_dropped(data, prompts.num_dropped, max_prompt_length)
    tests = None
    if test_data is not None:
        found = read_prompts(test_data, tokenizer, max_prompt_length)
        _tell_dropped(test_data, found.num_dropped, max_prompt_length)
        tests = found.tokens
    config = RLHFConfig(
        update=update,
        lora=LoRAConfig(rank=lora_rank),
        temperature=temperature,
        kl_coef=kl_coef,
        estimator=estimator,
        answers_per_prompt=answers_per_prompt,
        eos_id=tokenizer.stop_ids[0],
        stop_ids=tokenizer.stop_ids[1:],
        pad_id=tokenizer.pad_id,
    )
    run_rlhf(
        config,
        pretrained,
        reward_fn,
        prompts.tokens,
        directory,
        tokenizer=tokenizer,
        test_prompts=tests,
        critic_from=learned[1] if learned and critic_from_reward else None,
        visit_every=visit_every,
        seed=seed,
        resume=resume,
    )


def beginning(config_class: type[Config]) -> Config:
    """What the flags of an update change: sizes for a language model."""
    size: dict[str, Any] = {"num_envs": 32, "num_steps": 32}
    if issubclass(config_class, ProximalConfig):
        size |= {"num_minibatches": 4, "update_epochs": 1, "learning_rate": 1e-5}
        size |= {"shared_torso": True}
    return config_class(**size)


def add_update_flags(parser: Parser, config_class: type[Config]) -> None:
    """Add the flags of an update, but for the fields that have nothing to act on."""
    idle = {field.name for record in WITHOUT_MEANING for field in dataclasses.fields(record)}
    idle |= {"total_timesteps", "recompute_advantages"}  # the budget is --iterations
    default = RLHFConfig(update=beginning(config_class)).update
    parser.set_defaults(command=align_command, config_class=config_class)
    add_parameters(parser, align_command)
    if not issubclass(config_class, ProximalConfig):
        idle.add("shared_torso")  # always refused: their critic is apart
    add_fields(parser, default, texts=False, without=idle, described=ON_TOKENS)


def _load_reward(
    folder: Path, tokenizer: Tokenizer, model: Path
) -> tuple[LanguageModel, RewardModel]:
    """The reward model of a folder, which must read the policy's tokens."""
    scorer, reward_model = load_reward_model(folder)
    check_fits(tokenizer, scorer.model)
    theirs, ours = (read_object(path / "tokenizer.json") for path in (folder, model))
    if theirs and theirs.get("model") != ours.get("model"):
        raise ValueError(f"{folder} has another tokenizer than {model}: its ids differ")
    return scorer.model, jax.tree.map(jnp.asarray, reward_model)


def _imported(function: str) -> Callable[..., Any]:
    """What --reward-function names."""
    module, colon, name = function.partition(":")
    if not colon:
        raise ValueError(f"--reward-function {function}: it is written MODULE:FUNCTION")
    try:
        score: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--reward-function {function}: {error}") from error
    return score


def _tell_dropped(file: Path, number: int, length: int) -> None:
    if number:
        print(f"{file}: {counted(number, 'line')} of more than {length} tokens left out")


COMMANDS: dict[str, Callable[..., None]] = {
    "sft": sft_command,
    "reward": reward_command,
}
