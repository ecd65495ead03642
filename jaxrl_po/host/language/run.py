"""RLHF with a directory around it: a run that can be killed, and looked into."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jaxrl_po.host.language.checkpoints import Pretrained
from jaxrl_po.host.language.moments import Callback, RLHFRun, Settings
from jaxrl_po.host.language.records import Records, description_file
from jaxrl_po.host.language.session import RLHFSession
from jaxrl_po.host.language.text import Tokenizer, check_fits
from jaxrl_po.host.machine.arguments import integer, seeds
from jaxrl_po.host.machine.files import lock
from jaxrl_po.host.machine.signals import Interrupted, stop_requests
from jaxrl_po.host.runs.logging import Logger, Start
from jaxrl_po.host.runs.terminal import make_console
from jaxrl_po.rlhf.checks import check_length, vocabulary_size
from jaxrl_po.rlhf.config import RLHFConfig
from jaxrl_po.rlhf.prompts import as_prompts
from jaxrl_po.rlhf.reward_model import RewardModel
from jaxrl_po.rlhf.types import LanguageModel, RewardFn
from jaxrl_po.types import PyTree


def run_rlhf(
    config: RLHFConfig,
    policy: Pretrained | tuple[LanguageModel, PyTree],
    reward_fn: RewardFn,
    prompts: Any,
    directory: str | os.PathLike[str],
    *,
    tokenizer: Tokenizer | None = None,
    test_prompts: Any = None,
    critic_from: RewardModel | None = None,
    seed: int = 0,
    visit_every: int = 10,
    keep_checkpoints: int = 2,
    num_samples: int = 4,
    until: int | None = None,
    resume: bool = False,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> RLHFRun:
    """Align a language model, saving as it goes; killed, it goes on to the bit (`resume=True`).

    Every `visit_every` iterations the policy answers the test prompts beside its reference, a
    checkpoint is written, and answers of the last batch are added to samples.jsonl. The directory
    ends with the policy of the last iteration and that of the best test score as folders of
    Hugging Face's format (`last/`, `best/`), where a `Pretrained` was given.

    Args:
        config: the run; `config.model` is not looked at, for the model is given.
        policy: what `load_pretrained` gave, or a model of one's own with its parameters: the
            policy's start and the reference.
        reward_fn: prompt [N, P], response [N, T], each `Tokens` -> score [N], traced; a
            `learned_reward`; or a `text_reward` of a Python function.
        prompts: as for `make_rlhf`, to train on.
        directory: of the run.
        tokenizer: writes samples as text; without one they are token ids.
        test_prompts: held out [E, P]; None for no evaluation.
        critic_from: as for `make_rlhf`.
        seed: all randomness of the run.
        visit_every: iterations.
        keep_checkpoints: the newest ones kept, beside that of the best evaluation.
        num_samples: answers a visit adds to samples.jsonl.
        until: pause once so many iterations are done.
        resume: go on with the run in the directory, which must be of the same arguments.
        loggers: further ones, see `jaxrl_po.host.runs.logging`; they are closed at the end.
        callbacks: functions of a `Moment`, called at each visit; True ends the run.
        quiet: print nothing.

    Raises:
        ValueError: naming the argument that does not fit, or what in the directory is in the way.
        Interrupted: after SIGINT or SIGTERM; all iterations done are saved.
    """
    pretrained = policy if isinstance(policy, Pretrained) else None
    if not isinstance(policy, tuple) or not isinstance(policy[0], LanguageModel):
        raise ValueError(
            "policy must be what load_pretrained gave, or (LanguageModel, params), "
            f"not {type(policy).__name__}"
        )
    if not callable(reward_fn):
        raise ValueError(f"reward_fn must be callable, not {type(reward_fn).__name__}")
    model, sft_params = policy[:2]
    if tokenizer is not None:
        check_fits(tokenizer, model)
    settings = Settings(
        seeds(seed, 1).start,
        integer("visit_every", visit_every),
        integer("keep_checkpoints", keep_checkpoints),
        integer("num_samples", num_samples, 0),
    )
    V, T = vocabulary_size(model), config.update.num_steps
    pool, tests = as_prompts(prompts, config.pad_id, V), None
    if test_prompts is not None:
        tests = as_prompts(test_prompts, config.pad_id, V, "test_prompts")
        check_length("test_prompts", tests.ids.shape[1], model, T)
    total = config.update.num_iterations
    last = total if until is None else min(total, integer("until", until))
    described = None if pretrained is None else pretrained.config.to_dict()
    session = RLHFSession(
        config,
        model,
        sft_params,
        reward_fn,
        pool,
        tests,
        settings,
        tokenizer,
        described,
        critic_from,
    )
    session.check()
    path, console = Path(directory), make_console(quiet)
    if resume:
        description_file(path)  # before the lock makes the directory
    with ExitStack() as stack:
        stack.enter_context(lock(path))
        records = Records(path, session.description(), resume)
        stack.callback(records.close)
        requests = stack.enter_context(stop_requests(True, "" if quiet else "finishing"))
        for logger in loggers:
            stack.callback(logger.close)
        resumed = session.begin(records, loggers, console)
        steps = config.update.num_envs * config.update.num_steps
        for logger in records.loggers:
            logger.open(Start(config.to_dict(), [settings.seed], session.done, steps))
        text = f"{path}: at iteration {session.done} of {total}"
        console.print(text, soft_wrap=True, markup=False)
        ended = not resumed and session.visit(records, callbacks, console)
        while session.done < last and not (ended or requests):
            session.advance(records)
            if session.done % settings.visit_every == 0 or session.done == last or requests:
                ended = session.visit(records, callbacks, console)
        if requests and session.done < last:
            raise Interrupted(
                f"stopped by {requests[0]} after iteration {session.done} of {total}, "
                f"saved in {path}"
            )
        if pretrained is not None and (ended or session.done == total):
            session.write_policies(records, pretrained, path, console)
    return session.result()
