"""The processes that one run spans: what they tell each other beside the arrays of its program.

Each runs the same script, as `jax.distributed` wants it. The first has the run's directory, its
terminal and its loggers; the others compute, and need to see no disk of the first.
"""

import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from jaxrl_po.host.machine.arguments import integer
from jaxrl_po.host.machine.signals import Interrupted
from jaxrl_po.host.machine.strict_json import from_json, to_json
from jaxrl_po.host.machine.wording import resume_command

CONNECT_SECONDS = 300  # that processes wait for each other at first
HEARTBEAT_SECONDS = 30  # after which one that is silent counts as gone
AUTOMATIC = "auto"
TOLD = ValueError, OSError  # what an error of the first process is told as; others as RuntimeError
# How what JAX's runtime says of another process begins.
LOST = re.compile("(ABORTED|CANCELLED|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|UNKNOWN): ")


class ProcessLostError(RuntimeError):
    """A process of a run is gone, or a device of it: the others cannot go on."""


class Peers(NamedTuple):
    """The processes of a run, as one of them sees them."""

    several: bool = False
    first: bool = True  # whether this one has directory, terminal and loggers

    def told(self, function: Callable[[], Any]) -> Any:
        """What a function gives in the first process, in each of them; its error likewise.

        Among several processes it must be something that JSON knows. Whatever the first process
        alone does goes through here, so that none waits for one that has failed.

        Raises:
            Exception: the function's own in the first process; in the others one of the same text,
                a ValueError or OSError where that is one, else a RuntimeError.
        """
        if not self.several:
            return function()
        failure: Exception | None = None
        text = ""
        if self.first:
            try:
                text = to_json({"value": function()})
            except Exception as error:  # whatever it is, the others must know
                failure = error
                kind = next((n for n, kind in enumerate(TOLD) if isinstance(error, kind)), None)
                said = f"{type(error).__name__}: {error}" if kind is None else str(error)
                text = to_json({"kind": kind, "error": said})
        message = from_json(_broadcast(text.encode()))
        if failure is not None:
            raise failure
        if "error" in message:
            kind = message["kind"]
            raise (RuntimeError if kind is None else TOLD[kind])(message["error"])
        return message["value"]

    def arrays(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Arrays of the first process, in each: one goes over as it is asked for.

        All processes must ask for the same ones in the same order.
        """
        if not self.several:
            return arrays
        return _Arrays(self, arrays, self.told(lambda: list(arrays)))

    def some(self, flag: bool) -> bool:
        """Whether it holds in any process."""
        if not self.several:
            return flag
        with _losses_named():
            return bool(multihost_utils.process_allgather(np.array(flag)).any())

    @contextmanager
    def together(self, directory: Path | None) -> Iterator[None]:
        """A run of theirs: a process that is lost is told of, and all end it at the same time.

        JAX's runtime would soon end a process that the others, having ended, wait for: the first,
        while it writes.

        Raises:
            ProcessLostError: where the runtime fails; it says how to go on.
        """
        if not self.several:
            yield
            return
        try:
            with _losses_named():
                try:
                    yield
                except Interrupted:  # by a signal, which is one to all
                    self.some(False)
                    raise
                self.some(False)
        except ProcessLostError as error:
            go_on = f"; to go on: {resume_command(directory)}" if directory else ""
            raise ProcessLostError(f"{error}{go_on}") from error


ALONE = Peers()


@contextmanager
def _losses_named() -> Iterator[None]:
    """What JAX raises where another process is gone, as one kind of error."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # it is the one or the other
        if not LOST.match(str(error)) or "CpuCallback" in str(error):
            raise
        raise ProcessLostError(
            f"process {jax.process_index()} of {jax.process_count()} lost another one, or a "
            f"device: {_first_line(error)}"
        ) from error


def peers_of(mesh: Mesh | None) -> Peers:
    """The processes whose devices are in a mesh; this one alone where there is none.

    Raises:
        ValueError: where they are neither this process nor all.
    """
    if mesh is None:
        return ALONE
    owners = {device.process_index for device in mesh.devices.flat}
    index, count = jax.process_index(), jax.process_count()
    if owners == {index}:
        return ALONE
    if owners != set(range(count)):
        raise ValueError(
            f"devices belong to the processes {', '.join(map(str, sorted(owners)))} of {count}: "
            f"a run has devices of its own process ({index}), or some of each"
        )
    return Peers(several=True, first=index == 0)


def connect(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Make this process one of several that run one program, before JAX is used.

    Args:
        coordinator: HOST:PORT of the first of several processes; auto, where the cluster tells
        num_processes: how many processes there are, unless auto
        process_id: which of them this is, from 0, unless auto

    Raises:
        ValueError: naming what is missing, or what did not answer.
    """
    given = {"num_processes": num_processes, "process_id": process_id}
    if coordinator == AUTOMATIC:
        if wrong := [name for name, value in given.items() if value is not None]:
            raise ValueError(f"{' and '.join(wrong)}: the cluster tells, where it is asked to")
        arguments: dict[str, Any] = {}
    else:
        host, port = _address(coordinator)
        place = _place(**given)
        arguments = {"coordinator_address": coordinator, **place}
        # Where one does not come, JAX ends this process with no word of whom it waited for.
        text = f"{host}:{port}: up to {CONNECT_SECONDS} s for {place['num_processes']} processes"
        print(f"waiting at {text}", file=sys.stderr, flush=True)
        if place["process_id"]:
            _wait_for(host, port)
    jax.config.update("jax_enable_preemption_service", False)  # it would swallow SIGTERM
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=CONNECT_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"coordinator={coordinator!r}: {_first_line(error)}") from error


def _broadcast(data: bytes) -> bytes:
    """The bytes of the first process."""
    words = np.array(divmod(len(data), 2**32), np.uint32)  # of a size that JAX may have no type for
    with _losses_named():
        high, low = multihost_utils.broadcast_one_to_all(words).tolist()
        buffer = np.zeros(high * 2**32 + low, np.uint8)
        if jax.process_index() == 0:
            buffer = np.frombuffer(data, np.uint8)
        return bytes(multihost_utils.broadcast_one_to_all(buffer))


def _wait_for(host: str, port: int) -> None:
    """Return once something answers there.

    Raises:
        ValueError: where nothing does.
    """
    last = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
            return
        except OSError as error:
            if time.monotonic() > last:
                raise ValueError(
                    f"coordinator={host}:{port} did not answer for {CONNECT_SECONDS} s: {error}"
                ) from error
        time.sleep(0.1)


def _address(text: str | None) -> tuple[str, int]:
    """The two parts of HOST:PORT.

    Raises:
        ValueError: where it is something else.
    """
    if text is None:
        raise ValueError("num_processes and process_id need coordinator=HOST:PORT beside them")
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"coordinator={text!r}: it must be HOST:PORT, or {AUTOMATIC!r}")
    return host.strip("[]"), int(port)


def _place(num_processes: int | None, process_id: int | None) -> dict[str, int]:
    """How many processes, and which of them.

    Raises:
        ValueError: naming what is missing or out of range.
    """
    if num_processes is None or process_id is None:
        raise ValueError("coordinator needs num_processes and process_id beside it")
    count = integer("num_processes", num_processes)
    if not 0 <= process_id < count:
        raise ValueError(f"process_id={process_id}: it must be from 0 to {count - 1}")
    return {"num_processes": count, "process_id": process_id}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


class _Arrays(Mapping[str, np.ndarray]):
    """Arrays of the first process, each told to all as it is asked for."""

    def __init__(self, peers: Peers, own: Mapping[str, np.ndarray], names: list[str]) -> None:
        self._peers, self._own, self._names = peers, own, names

    def __getitem__(self, name: str) -> np.ndarray:
        data: list[bytes] = []

        def kind() -> list[Any]:  # with which the first process alone reads it
            array = self._own[name]
            data.append(np.ascontiguousarray(array).tobytes())
            return [str(array.dtype), array.shape]

        dtype, shape = self._peers.told(kind)
        return np.frombuffer(_broadcast(b"".join(data)), jnp.dtype(dtype)).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
