"""A written model of an iteration's time on D devices, and of the ways to use them.

A member is one training run. Its iteration on D devices takes

    launches · ℓ  +  (flops / F + steps · c) / D  +  all-reduces · α(D)  +  bytes · β(D)

with ℓ the seconds that a kernel takes however little it has to do, F what a device sustains, c what
a step of one environment takes beside the networks, α(D) and β(D) what an all-reduce over D devices
costs at least and for each byte. Nothing overlaps.
Launches do not depend on D: every device goes through every step and every minibatch.
"""

import math
from typing import Any, NamedTuple

from jaxrl_po.config import Config


class Device(NamedTuple):
    """What computes."""

    launch: float  # ℓ, seconds
    flops: float  # a second, in networks of 64 units
    most: float = math.inf  # a second, however wide the network

    def sustained(self, width: int) -> float:
        """F, flops a second: a product of width h moves 1/h as many bytes for each of its flops."""
        return min(self.most, self.flops * width / 64)


class Links(NamedTuple):
    """What connects devices: nodes of some, and a network of nodes.

    Bandwidths are nominal ones, of one direction: NVLink of an H200, one NDR InfiniBand port a
    device. Latencies are those by which NCCL chooses its algorithms (src/graph/tuning.cc, tree,
    protocol LL): a message goes from device to device within a node, and through a tree of nodes.
    """

    node: int = 8
    inside: float = 450e9  # bytes a second
    between: float = 50e9
    start: float = 6.8e-6  # seconds
    hop_inside: float = 0.6e-6
    hop_between: float = 5.0e-6

    def split(self, devices: int) -> tuple[int, int]:
        """Devices of a node, and nodes."""
        inside = min(devices, self.node)
        return inside, devices // inside

    def latency(self, devices: int) -> float:
        """α, of an all-reduce: there and back, D - 1 hops in a node and log₂ of the nodes."""
        inside, nodes = self.split(devices)
        hops = (inside - 1) * self.hop_inside + math.log2(nodes) * self.hop_between
        return self.start + 2 * hops if devices > 1 else 0.0

    def seconds_per_byte(self, devices: int) -> float:
        """β: rings in the nodes, then each device a part of the sum around a ring of nodes."""
        inside, nodes = self.split(devices)
        ring_inside = 2 * (inside - 1) / inside / self.inside
        return ring_inside + 2 * (nodes - 1) / nodes / inside / self.between


class Task(NamedTuple):
    """What is trained."""

    title: str
    config: Config
    observation: int  # numbers
    outputs: int  # of the policy's last layer
    continuous: bool = False  # a policy with a logarithm of a deviation for each output
    launches: float = 0.0  # of kernels in an iteration
    step: float = 0.0  # c, seconds of an environment's step beside the networks


class Weights(NamedTuple):
    """Numbers in the matrices of policy and value, and in the first of each."""

    policy: int
    value: int
    first: int


def weights(task: Task) -> Weights:
    """Of two networks of the same hidden layers."""

    def of(outputs: int) -> int:
        inputs = task.observation, *task.config.hidden_sizes
        return sum(a * b for a, b in zip(inputs, (*inputs[1:], outputs), strict=True))

    return Weights(of(task.outputs), of(1), task.observation * task.config.hidden_sizes[0])


def parameters(task: Task) -> tuple[int, int]:
    """P of the policy and of the value, biases included."""
    policy, value, _ = weights(task)
    biases = sum(task.config.hidden_sizes)
    deviations = task.outputs if task.continuous else 0
    return policy + biases + task.outputs + deviations, value + biases + 1


def flops_per_sample(task: Task) -> int:
    """Flops of matrix products that an iteration spends on a sample.

    A pass forwards takes 2 a weight, a gradient 6, less the 2 of the first layer's input, which
    needs none. A Fisher product goes forwards with a tangent and back: 4 each, less that input.
    """
    policy, value, first = weights(task)
    config: Any = task.config
    # To act and for the KL at the end; V(o), and V(o') in a rollout that a time limit cuts.
    flops: int = 4 * policy + 4 * value
    if config.algorithm == "ppo":
        flops += config.update_epochs * (6 * (policy + value) - 4 * first)
        return flops
    fisher = config.cg_iters * (8 * policy - 4 * first)
    search = 2 * policy  # the first candidate, which is mostly accepted
    critic = config.critic_epochs * (6 * value - 2 * first)
    flops += 6 * policy - 2 * first + fisher + search + critic
    return flops


class Sums(NamedTuple):
    """What an iteration adds up over devices."""

    all_reduces: int
    bytes: int


def sums(task: Task) -> Sums:
    """Gradients, Fisher products, statistics: four bytes a number.

    How many all-reduces they travel in is the compiler's choice, and is told here as it was
    counted: a minibatch of PPO has its gradient, two extremes of the ratio, and two for the mean
    and the variance of its advantages where they are standardised over it.
    """
    policy, value = parameters(task)
    config: Any = task.config
    if config.algorithm == "ppo":
        minibatches = config.update_epochs * config.num_minibatches
        each, numbers, rest = 3, 6, Sums(6, 45)
        if config.advantage_normalization == "minibatch":
            each, numbers, rest = 5, 9, Sums(5, 33)
        of_minibatches = Sums(each * minibatches, 4 * minibatches * (policy + value + numbers))
    else:
        minibatches = config.critic_epochs * config.critic_minibatches
        products = 4 * (config.cg_iters + 1) * policy  # and the gradient
        rest = Sums(4 * config.cg_iters + 8, products + 61)
        of_minibatches = Sums(minibatches, 4 * minibatches * (value + 1))
    return Sums(*map(sum, zip(of_minibatches, rest, strict=True)))


class Seconds(NamedTuple):
    """Parts of an iteration's time."""

    launches: float
    work: float
    travel: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self)


LINKS = Links()


def iteration(
    task: Task, device: Device, devices: int = 1, members: int = 1, links: Links = LINKS
) -> Seconds:
    """An iteration of some members side by side, each cut over so many devices."""
    samples = members * task.config.num_envs * task.config.num_steps / devices
    speed = device.sustained(max(task.config.hidden_sizes))
    travel = 0.0
    if devices > 1:
        all_reduces, size = sums(task)
        travel = all_reduces * links.latency(devices) + size * links.seconds_per_byte(devices)
    work = samples * (flops_per_sample(task) / speed + task.step)
    return Seconds(task.launches * device.launch, work, members * travel)


def fits(task: Task, devices: int) -> bool:
    """Whether so many devices can hold as many whole blocks of environments each."""
    try:
        task.config.replace(minibatch_shards=devices)
    except ValueError:
        return False
    return True


class Ways(NamedTuple):
    """Seconds of an iteration of all members: three ways to use devices. None where none is."""

    members: float  # each device has members of its own, side by side; nothing travels
    mesh: float | None  # a member is cut over all devices; members take turns
    both: float | None  # groups of devices, each with members of its own in turns
    group: int | None  # devices of such a group


def ways(task: Task, device: Device, members: int, devices: int) -> Ways:
    """What the ways take, by the model."""
    apart = iteration(task, device, 1, math.ceil(members / devices)).total

    def in_turns(group: int) -> float:
        return math.ceil(members * group / devices) * iteration(task, device, group).total

    sizes = [2**i for i in range(1, int(math.log2(devices)) + 1) if fits(task, 2**i)]
    mesh = in_turns(devices) if devices in sizes else None
    groups = [size for size in sizes if size < devices]
    group = min(groups, key=in_turns) if groups else None
    return Ways(apart, mesh, in_turns(group) if group else None, group)
