"""An RLHF run as it goes on: its state, its programs, and what a visit finds."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jaxrl_po.host.language.checkpoints import Pretrained, replace_pretrained
from jaxrl_po.host.language.moments import Assessment, Callback, Moment, RLHFRun, Settings
from jaxrl_po.host.language.programs import is_tree, make_programs
from jaxrl_po.host.language.records import Records, fingerprint
from jaxrl_po.host.language.text import TextReward, Tokenizer, decode_responses
from jaxrl_po.host.runs.clock import Clock
from jaxrl_po.host.runs.logging import Logger, Visit
from jaxrl_po.rlhf.config import RLHFConfig
from jaxrl_po.rlhf.evaluate import Answers, compare
from jaxrl_po.rlhf.heads import policy_params
from jaxrl_po.rlhf.lora import merge
from jaxrl_po.rlhf.reward_model import RewardModel
from jaxrl_po.rlhf.start import check_critic
from jaxrl_po.rlhf.train import Scored
from jaxrl_po.rlhf.types import LanguageModel, RewardFn, Tokens
from jaxrl_po.types import PyTree

EVALUATION = 2**31 + 2  # folded into a run's key: the randomness of evaluations is apart


class RLHFSession:
    """A run as it goes on: its state, its programs, and what it has found."""

    def __init__(
        self,
        config: RLHFConfig,
        model: LanguageModel,
        sft_params: PyTree,
        reward_fn: RewardFn,
        prompts: Tokens,
        tests: Tokens | None,
        settings: Settings,
        tokenizer: Tokenizer | None,
        model_config: dict[str, Any] | None,
        critic_from: RewardModel | None,
    ) -> None:
        check_critic(config, model, critic_from)
        self._config, self._sft_params, self._settings = config, sft_params, settings
        self._model_config = model_config
        self._prompts, self._tests, self._tokenizer = prompts, tests, tokenizer
        # A learned reward is an argument of the programs.
        self._reward = (reward_fn,) if is_tree(reward_fn) else ()
        self._start = sft_params, *(() if critic_from is None else (critic_from,))
        self._failures = reward_fn.failures if isinstance(reward_fn, TextReward) else []
        self._init, self._iterate, self._answer = make_programs(
            config, model, reward_fn, prompts, tests
        )
        self._reference: Answers | None = None
        self.clock, self.done = Clock(), 0
        self._state: Any = None
        self._scored: Scored | None = None  # of the last iteration
        self._news: list[dict[str, Any]] = []
        self._history: list[dict[str, np.ndarray]] = []
        self._visited = 0  # length of the history at the last visit
        self._best: dict[str, Any] = {"iteration": None, "score": None}
        self._evaluations: list[tuple[int, Assessment]] = []

    def description(self) -> dict[str, Any]:
        """What must be the same when the run goes on."""
        critic = self._start[1:]
        return ({"critic_from": fingerprint(critic)} if critic else {}) | {
            "config": self._config.to_dict(),
            "settings": self._settings._asdict(),
            "model": fingerprint(self._sft_params),
            "model_config": self._model_config,
            "reward": fingerprint(self._reward),
            "prompts": fingerprint(self._prompts),
            "test_prompts": fingerprint(self._tests),
        }

    def check(self) -> None:
        """Trace an iteration: what does not fit is told before anything is written."""
        key = jax.random.key(self._settings.seed)
        state = jax.eval_shape(self._init, key, *self._start)
        jax.eval_shape(self._iterate, state, self._sft_params, *self._reward)
        if self._tests is not None:
            learned = policy_params(state.params)
            now = self._now(0)
            jax.eval_shape(self._answer, now, learned, self._sft_params, key, *self._reward)

    @contextmanager
    def _reward_errors(self) -> Iterator[None]:
        """An error of a reward function of texts as what it was."""
        self._failures.clear()  # those of other runs
        try:
            yield
        # JaxRuntimeError from a program's first call, ValueError from later, faster ones.
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            if not self._failures:
                raise
            cause = self._failures.pop()  # with its traceback it would keep the run
            raise ValueError(
                f"the reward function failed after iteration {self.done}: "
                f"{type(cause).__name__}: {cause}; what was saved before can be resumed"
            ) from error

    def begin(self, records: Records, loggers: Sequence[Logger], console: Console) -> bool:
        """Stand at the newest checkpoint of a directory, or at the start; open its logs.

        Returns:
            Whether there was a checkpoint.
        """
        key = jax.random.key(self._settings.seed)
        template = jax.eval_shape(self._init, key, *self._start)
        restored = records.restore(template)
        mended = records.open(restored)
        records.loggers += loggers
        if restored is None:
            with self.clock("compile"):
                self._state = self._init(key, *self._start)
            return False
        self._state, self.done = restored.state, restored.iteration
        self._best = restored.notes["best"]
        notices = [*restored.notices, *mended]
        for notice in notices:
            console.print(notice, style="red", soft_wrap=True, markup=False, highlight=False)
        self._news.append({"event": "resumed", "iteration": self.done, "notices": notices})
        return True

    def advance(self, records: Records) -> None:
        """An iteration, and its row in the logs."""
        with self.clock("train" if self._history else "compile"), self._reward_errors():
            self._state, metrics, self._scored = self._iterate(
                self._state, self._sft_params, *self._reward
            )
            row = {name: np.asarray(value)[None] for name, value in metrics.items()}
        self.done += 1
        self._history.append(row)
        if row["val/update_held"][0]:
            self._news.append({"event": "update_held", "iteration": self.done})
        with self.clock("host"):
            self._write(records, {name: value[None] for name, value in row.items()})

    def _write(self, records: Records, metrics: dict[str, np.ndarray]) -> None:
        seconds, count = self.clock.seconds, 1 if metrics else 0
        records.write(
            Visit(
                [self._settings.seed],
                np.arange(self.done + 1 - count, self.done + 1),
                metrics,
                np.array([count]),
                self._news,
                seconds["train"],
                seconds["evaluate"] + seconds["host"],
            )
        )
        self._news = []

    def visit(self, records: Records, callbacks: Sequence[Callback], console: Console) -> bool:
        """Evaluate, show samples, ask the callbacks, save; whether the run is to end here."""
        assessment = None
        if self._tests is not None:
            with self.clock("evaluate"), self._reward_errors():
                assessment = self.evaluate()
            self._evaluations.append((self.done, assessment))
            event = {"event": "evaluation", "seed": self._settings.seed, "iteration": self.done}
            self._news.append(event | assessment._asdict())
            best = -np.inf if self._best["score"] is None else self._best["score"]
            if assessment.score > best:
                self._best = {"iteration": self.done, "score": assessment.score}
        recent, self._visited = self._history[self._visited :], len(self._history)
        moment = Moment(self._config, self.done, self._state, stacked(recent), assessment)
        answers = [callback(moment) for callback in callbacks]
        for answer in answers:
            if not isinstance(answer, bool | np.bool_ | None):
                raise ValueError(
                    f"callbacks: one must return True to end the run, or False; not {answer!r}"
                )
        if any(answers):
            self._news.append({"event": "ended", "iteration": self.done, "by": "callback"})
        with self.clock("host"):
            if self._scored is not None:
                records.samples(self._samples(self._scored))
            self._write(records, {})
            records.save(self._state, self.done, self._best, self._settings.keep_checkpoints)
        console.print(self._summary(recent, assessment), soft_wrap=True, highlight=False)
        return any(answers)

    def evaluate(self) -> Assessment:
        """The policy's answers to the test prompts beside the reference's, from one key each."""
        key = jax.random.fold_in(jax.random.key(self._settings.seed), EVALUATION)
        now, shared = self._now(self.done), (self._sft_params, key, *self._reward)
        if self._reference is None or self._config.temperature is not now.temperature:
            self._reference = self._answer(now, None, *shared)
        own = self._answer(now, policy_params(self._state.params), *shared)
        found = compare(own.score, self._reference.score)
        return Assessment(
            score=float(found.score),
            reference_score=float(found.reference_score),
            win_rate=float(found.win_rate),
            left_out=int(found.left_out),
            kl=float(own.kl.mean()),
        )

    def _now(self, done: int) -> RLHFConfig:
        """The config with the values of its schedules that the last of `done` iterations had."""
        return self._config.at(self._config.update.fraction_done(jnp.uint32(max(done, 1) - 1)))

    def write_policies(
        self, records: Records, pretrained: Pretrained, directory: Path, console: Console
    ) -> None:
        """The last policy and that of the best evaluation as folders, adapters merged."""
        states = {"last": (self._state, self.done)}
        iteration = self._best["iteration"]
        if iteration is not None:
            template = jax.eval_shape(lambda state: state, self._state)
            try:
                states["best"] = records.state_of(template, iteration), iteration
            except ValueError as error:
                text = f"best/ is not written: {error}"
                console.print(text, style="red", soft_wrap=True, markup=False)
        with self.clock("host"):
            for name, (state, done) in states.items():
                learned = policy_params(state.params)
                if self._config.lora.rank:
                    learned = merge(self._sft_params, learned, self._now(done).lora)
                replace_pretrained(directory / name, pretrained, learned)

    def _samples(self, scored: Scored) -> list[dict[str, Any]]:
        """Some answers of the last batch, unchosen: its first ones."""
        some: Scored = jax.tree.map(lambda x: x[: self._settings.num_samples], scored)
        if self._tokenizer is not None:
            texts: list[Any] = [
                exchange._asdict()
                for exchange in decode_responses(self._tokenizer, some.generation)
            ]
        else:
            prompt, response = some.generation.prompt, some.generation.response
            texts = [
                {"prompt": kept(prompt, row), "response": kept(response, row)}
                for row in range(len(some.score))
            ]
        return [
            {"iteration": self.done, **text, "score": float(score)}
            for text, score in zip(texts, some.score, strict=True)
        ]

    def _summary(self, recent: list[dict[str, np.ndarray]], found: Assessment | None) -> str:
        """A line for people."""
        line = f"iteration {self.done}"
        if recent:
            now = {n: float(x.mean()) for n, x in stacked(recent).items()}
            line += f": score {now['objective/scores']:.3f}, KL {now['objective/kl_exact']:.2f}"
        if found:
            line += (
                f"; test score {found.score:.3f} (reference {found.reference_score:.3f}), "
                f"win-rate {found.win_rate:.2f}, KL {found.kl:.2f}"
            )
        return line

    def result(self) -> RLHFRun:
        """What has come of it."""
        metrics = stacked(self._history)
        return RLHFRun(self._state, metrics, self._evaluations, dict(self.clock.seconds))


def stacked(history: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Metrics [iterations] of rows [1] each."""
    names = history[0] if history else {}
    return {name: np.concatenate([row[name] for row in history]) for name in names}


def kept(tokens: Tokens, row: int) -> list[int]:
    """The token ids of a row."""
    ids: list[int] = np.asarray(tokens.ids[row])[np.asarray(tokens.mask[row])].tolist()
    return ids
