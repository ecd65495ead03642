"""An executor's workers: calls are submitted, and once more when the worker of one was lost."""

import copy
import pickle
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from typing import Any, NamedTuple, Self

from jaxrl_po.config.messages import described
from jaxrl_po.host.machine.arguments import integer
from jaxrl_po.host.machine.wording import counted

RETRIES = 3
# Between looks at the futures, for not all kinds can wake who waits for them, and of some a look is
# one at a shared disk: from the first to the last, ever longer while nothing ends.
PAUSES = 0.02, 1.0


class Answer(NamedTuple):
    """What came of a call in a worker that lived to tell."""

    value: Any
    error: Exception | None


def answer(name: str, function: Callable[[Any], Any], argument: Any) -> Answer:
    """Call a function in a worker.

    An error of the call's own is a part of the answer. So what a future itself raises is that
    there is no answer, in whatever class of errors an engine says so.
    """
    try:
        return Answer(function(argument), None)
    except Exception as error:
        error = _portable(error)
        error.add_note(f"in a worker, {name}")
        return Answer(None, error)


def _portable(error: Exception) -> Exception:
    """An error itself, or in words where it would not arrive."""
    try:
        pickle.dumps(error)
        copy.copy(error)  # made anew from its arguments, as where it arrives
    except Exception:  # what an error of another's class does is its own affair
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class Workers:
    """The workers of an executor, or of the executors that a function makes.

    Args:
        executor: `submit(function, *arguments)` returns what has `done()` and `result()`; or a
            function without arguments that makes one, called again when the loss of a worker
            has broken the executor itself.
        retries: how often a call is submitted again after its worker was lost; None for 3.
        report: is told of every loss.

    Raises:
        ValueError: naming the argument that is not what it must be.
    """

    def __init__(
        self,
        executor: Any,
        retries: int | None,
        report: Callable[[str], None],
    ) -> None:
        has_submit = callable(getattr(executor, "submit", None))
        makes_one = isinstance(executor, type) or (callable(executor) and not has_submit)
        if not has_submit and not makes_one:
            raise ValueError(
                f"executor: {described(executor)} has no `submit`: give an executor in the sense "
                "of concurrent.futures, or a function without arguments that makes one"
            )
        self._make: Callable[[], Any] | None = executor if makes_one else None
        self._executor: Any = None if makes_one else _checked(executor)
        self._retries = RETRIES if retries is None else integer("retries", retries, 0)
        self._report = report

    def __enter__(self) -> Self:
        if self._make is not None:
            self._executor = _checked(self._make())
        return self

    def __exit__(self, *_: object) -> None:
        if self._make is not None:  # another's executor is another's to shut down
            getattr(self._executor, "shutdown", lambda wait: None)(wait=False)

    def call(
        self,
        function: Callable[[Any], Any],
        arguments: Mapping[str, Any],
        stop: Callable[[], None] = lambda: None,
    ) -> Generator[tuple[str, Any]]:
        """Call a function with each argument: the arguments' names and results, as they come.

        Args:
            function: can be imported by its name.
            arguments: name -> argument.
            stop: is called while waiting, and may raise.

        Raises:
            RuntimeError: when a call has lost its worker more often than it is retried.
        """
        futures = {name: self._submit(name, function, arguments[name], 0) for name in arguments}
        losses = dict.fromkeys(arguments, 0)
        pause, longest = PAUSES
        try:
            while futures:
                stop()
                ended = [name for name, future in futures.items() if future.done()]
                pause = PAUSES[0] if ended else min(1.5 * pause, longest)
                if not ended:
                    time.sleep(pause)
                for name in ended:
                    try:
                        value, error = futures.pop(name).result()
                    except Exception as loss:
                        losses[name] += 1
                        self._lament(name, losses[name], loss)
                        futures[name] = self._submit(name, function, arguments[name], losses[name])
                        continue
                    if error is not None:
                        raise error
                    yield name, value
        finally:
            for future in futures.values():
                future.cancel()

    def _lament(self, name: str, losses: int, loss: Exception) -> None:
        """Report the loss of a worker, or raise when it was one too many."""
        reason = f"{type(loss).__name__}: {loss}".strip(": ")
        if losses > self._retries:
            raise RuntimeError(
                f"{name}: the worker was lost {counted(losses, 'time')} (retries="
                f"{self._retries}), last by {reason}; what ended before is kept"
            ) from loss
        self._report(f"{name}: the worker was lost, submitted again ({reason})")

    def _submit(self, name: str, function: Callable[[Any], Any], argument: Any, losses: int) -> Any:
        # An engine may take calls of equal arguments for one: no two are.
        call = answer, f"{name}, attempt {losses + 1}", function, argument
        try:
            future = self._executor.submit(*call)
        except BrokenExecutor as error:
            if self._make is None:
                raise RuntimeError(
                    f"the loss of a worker has broken the executor ({error}): what ended is kept; "
                    "for a sweep that goes on by itself give a function that makes executors"
                ) from error
            self._executor = _checked(self._make())
            future = self._executor.submit(*call)
        if not (hasattr(future, "done") and hasattr(future, "result")):
            raise ValueError(
                f"executor: {described(self._executor)} is none in the sense of "
                f"concurrent.futures: its `submit` returns {described(future)}, not a future"
            )
        return future


def _checked(executor: Any) -> Any:
    """The executor itself, unless calls would end badly in it."""
    if not callable(getattr(executor, "submit", None)):
        raise ValueError(f"executor: what it makes is {described(executor)}, without a `submit`")
    if hasattr(executor, "get_executor"):
        raise ValueError(f"executor: {described(executor)} is none itself: give .get_executor()")
    context: Any = getattr(executor, "_mp_context", None)
    if isinstance(executor, ProcessPoolExecutor) and context.get_start_method() == "fork":
        raise ValueError(
            "executor: the pool forks, and a fork of a process that runs JAX hangs: give "
            'ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))'
        )
    return executor
