"""The page of `cost_model.py`."""

import math
import pathlib
from typing import NamedTuple

from cost_formulas import (
    LINKS,
    Device,
    Links,
    Seconds,
    Task,
    Ways,
    fits,
    flops_per_sample,
    iteration,
    parameters,
    sums,
    ways,
)

DEVICES = 1, 2, 4, 8, 64, 1024
MEMBERS = 1, 64, 2048
PAGE = """\
# What many devices give: a cost model

Made by `python experiments/cost_model.py`; {measured}.

Times on a GPU are those of [one H200](gpu.md), times on a core those of the
[benchmark](benchmark.md). **Nothing on this page was measured on more than one real device**: of
several, counts are checked and times computed.

A *member* is one training run. An iteration of it on D devices takes

    launches · ℓ  +  (flops / F + steps · c) / D  +  all-reduces · α(D)  +  bytes · β(D)

With T steps of N environments, B = T · N, E epochs of M minibatches, P parameters, PPO's is about

    T · (k_r · ℓ + c · N / D)  +  E · M · (k_u · ℓ + 6 · P · B / (M · D · F) + all-reduce of P)

with k_r and k_u kernels of a step and of a minibatch, less what the first layer's input would take,
and with what is done once an iteration. TRPO's E and M are its critic's; beside them come
`cg_iters` Fisher products of 8 flops a weight, where a gradient has 6, and one candidate of the
line search. For CartPole's policy a product has the flops of 1.32 gradients; on a core it took the
time of 1.0 ([fisher_product_cost.py](../fisher_product_cost.py)).

Every device goes through every step and every minibatch: **launches do not depend on D**. Nothing
is taken to overlap. The formulas: [cost_formulas.py](../cost_formulas.py).

## What goes in

| | | from |
|---|---:|---|
{inputs}

α is {alphas}.
A ring through all devices would have D - 1 hops each way: for small sums over many nodes NCCL's
choice is the tree.

## Checked: counts

A device's part of one iteration of CartPole, 32 x 16, 64 units, `minibatch_shards=8`, in the
programs as they are compiled for D devices. Flops are those of matrix products, loops as often as
they turn. "XLA's own" is its count of all operations, each loop's body once: D times a device's
part against that of one device.

| method | D | kernels | Mflop: model | counted | off | all-reduces | bytes: model | counted | off \
| XLA's own |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
{counts}

The model has a few flops too many: it counts the way back through the value head as a matrix
product. In the program that is an outer product, and not counted. Of PPO's five all-reduces a
minibatch one has the gradient in it; the others are a number or two: mean and variance of the
advantages, two extremes of the ratio. With `advantage_normalization="batch"` there are three. A
mesh has {more:.0f} to {most_more:.0f} % more kernels than one device, which the times below leave
out.

The tasks of this page, on one device:

| task | kernels | Mflop: model | counted | off |
|---|---:|---:|---:|---:|
{programs}

What the model lacks of Ant are matrices that Brax multiplies in a step.

## Checked: times of one device

| row | device | measured (ms) | model (ms) | of it launches | off |
|---|---|---:|---:|---:|---:|
{times}

- On the GPU the model is off by {others} where nothing was fitted, and takes too little time, but
  for Ant: {ant} by the rule of CartPole. Ant's launches were not traced; of {ant_kernels:,} kernels
  they must be fewer than that rule says. The tables below take what Ant's own rows say.
- TRPO's rows lack what the line search tries after its first candidate, and that its products are
  in single precision.
- On a core, rows of two threads (64 x 128) contain their waiting for each other, and Breakout's
  first layer, of 400 inputs, runs at more than F.
- Members over devices, measured: 16 seeds on two cores, a thread each, ran at {seeds:.2f} times the
  speed of one core ([benchmark](benchmark.md)); the model says 2. A mesh of two forced devices on
  two busy cores did 0.76 of the work of one ([scaling](scaling.md)): there was no second core to be
  had, so nothing follows from it.

## One member over D devices

Speed-up over one H200, and the part of it that is each device's; – where D does not fit the
environments and minibatches. "One": milliseconds of an iteration on one, launches + work.

| task | P | one | {head} |
|---|---:|---:|{dashes}
{strong}

The same with D times the environments on D devices: samples a second against one device. That is
another run, for its batches are D times as large.

| task, environments a device | {head} |
|---|{dashes}
{weak}

## Members over devices, one after the other, or both

Speed-up over one device that has all members side by side; no bound of memory is modelled.
Members, each on one device, those of a device side by side / all devices on a member, members in
turns / both: groups of devices (of the size behind "x"), each with members of its own in turns.
Bold: the fastest, and what is within 2 % of it.

| task | members | {head} |
|---|---:|{dashes}
{members}

## Where it breaks even

| task | members of a device until work takes as long as launches | environments from which 8 \
devices are faster than one | for a speed-up of 4 |
|---|---:|---:|---:|
{breaks}

First column: with so many members side by side on one device their work takes as long as the
launches do, so that an iteration takes twice the time of its launches. Second and third:
environments of one member, at the same number of steps and minibatches.

## What carries the conclusions

- **F of wide networks is an assumption**: none was measured here. Did the one of 10M parameters run
  at the F of 64 units, one member of it would be {narrow:.1f} times as fast on 8 devices as on one,
  not {wide:.1f} times.
- **Ant's launches and work** are told apart by six agents against one. Were its step all launches,
  8,192 environments would be {all_launches:.2f} times as fast on 8 devices as on one; as fitted it
  is {ant_eight:.2f}.
- **No link was measured.** With twice the α, one member of CartPole, 1,024 x 128, would be
  {slow_links:.2f} times as fast on 8 devices as on one, in place of {links:.2f}; with none,
  {no_links:.2f}: its launches bound it.

Not in it: overlap of sums with work; devices that wait for each other; hosts and their start;
memory, and the chunks of members that it makes necessary, whose launches add up; what CartPole
computes beside its networks.
"""


class Counted(NamedTuple):
    """A program's counts beside the model's task."""

    method: str
    task: Task
    devices: int
    counts: dict[str, float]
    xla_ratio: float  # D times its flops by XLA's own count, against one device's


class Check(NamedTuple):
    """A time that was measured beside the model's."""

    title: str
    device: str
    seconds: float
    model: Seconds
    fits: str  # what was set by it, if anything


class Findings(NamedTuple):
    """All that the page is made of."""

    measured: str
    gpu: Device
    cpu: Device
    ratio: float
    ratio_of_ant: float
    ant_kernels: int
    launches: float
    kernels: int
    counted: list[Counted]
    programs: list[Counted]  # of one device
    checks: list[Check]
    tasks: list[Task]
    seeds: float  # speed of 16 seeds on two cores against one core's


def write_report(found: Findings, path: pathlib.Path) -> None:
    """Write the page."""
    fitted = {check.fits: check for check in found.checks if check.device == "H200"}
    tasks = {task.title: task for task in found.tasks}
    cartpole, large, ant_wide = (
        tasks[title]
        for title in (
            "PPO CartPole, 1,024 x 128",
            "PPO Ant, 4,096 x 20, 10M parameters",
            "PPO Ant, 8,192 x 20",
        )
    )
    free = [abs(_off(c)) for c in found.checks if c.device == "H200" and not c.fits]
    ant = next(c for c in found.checks if "Ant" in c.title and not c.fits)
    others = [x for x in free if x != abs(_off(ant))]
    more = [100 * (c.counts["kernels"] / one - 1) for c, one in _beside_one(found.counted)]
    page = PAGE.format(
        more=min(more),
        most_more=max(more),
        measured=found.measured,
        inputs="\n".join(_row(*cells) for cells in _inputs(found, fitted, ant, ant_wide.step)),
        alphas=", ".join(f"{1e6 * LINKS.latency(d):.1f} µs on {d:,}" for d in DEVICES[1:]),
        counts="\n".join(map(_count_row, found.counted)),
        programs="\n".join(map(_program_row, found.programs)),
        times="\n".join(map(_time_row, found.checks)),
        others=f"{100 * min(others):.0f} to {100 * max(others):.0f} %",
        ant=f"{100 * _off(ant):+.0f} %",
        ant_kernels=found.ant_kernels,
        seeds=found.seeds,
        head=" | ".join(f"D = {d:,}" for d in DEVICES[1:]),
        dashes="---:|" * len(DEVICES[1:]),
        strong="\n".join(_strong_row(task, found.gpu) for task in found.tasks),
        weak="\n".join(_weak_row(task, found.gpu) for task in found.tasks),
        members="\n".join(_members_row(t, found.gpu, s) for t in found.tasks for s in MEMBERS),
        breaks="\n".join(_break_row(task, found.gpu) for task in found.tasks),
        narrow=_on_eight(large, found.gpu._replace(most=found.gpu.flops)),
        wide=_on_eight(large, found.gpu),
        all_launches=_on_eight(_without_steps(ant_wide, ant.seconds, found.gpu), found.gpu),
        ant_eight=_on_eight(ant_wide, found.gpu),
        slow_links=_on_eight(cartpole, found.gpu, 2.0),
        links=_on_eight(cartpole, found.gpu),
        no_links=_on_eight(cartpole, found.gpu, 0.0),
    )
    path.write_text(page)


def _beside_one(counted: list[Counted]) -> list[tuple[Counted, float]]:
    """Each program of several devices, and the kernels of that of one."""
    ones = {c.method: c.counts["kernels"] for c in counted if c.devices == 1}
    return [(c, ones[c.method]) for c in counted if c.devices > 1]


def _inputs(
    found: Findings, fitted: dict[str, Check], ant: Check, step: float
) -> list[tuple[str, str, str]]:
    """Names, numbers and sources of what the model is given."""
    gpu, cpu = found.gpu, found.cpu
    one, many = 1e3 * fitted["ℓ"].seconds, 1e3 * fitted["F"].seconds
    six = 1e3 * fitted["c and launches of Ant"].seconds
    launches = f"{found.launches:,.0f} launches"
    return [
        (
            "ℓ of an H200",
            f"{1e6 * gpu.launch:.2f} µs",
            f"one agent of CartPole, 4 x 128: {one:.2f} ms an iteration of {launches}",
        ),
        (
            "F of an H200, 64 units",
            f"{gpu.flops / 1e12:.1f} TFLOP/s",
            f"2,048 agents of it: {many:.1f} ms an iteration",
        ),
        (
            "F, h units",
            f"F · h / 64, at most {gpu.most / 1e12:.0f} TFLOP/s",
            "assumed: bytes moved for a flop fall as 1/h; half of the nominal 494 (TF32)",
        ),
        (
            "launches for a kernel of the CPU's program",
            f"{found.ratio:.3f}",
            f"{launches} in the trace of CartPole, {found.kernels:,} kernels counted",
        ),
        (
            "the same for Ant, and its c",
            f"{found.ratio_of_ant:.3f}, {1e6 * step:.2f} µs",
            f"one agent: {1e3 * ant.seconds:.0f} ms an iteration; six at once: {six:.0f}, if they "
            "compiled as long as one",
        ),
        (
            "ℓ and F of a core",
            f"{1e6 * cpu.launch:.3f} µs, {cpu.flops / 1e9:.0f} GFLOP/s",
            "PPO 4 x 128 and TRPO 8 x 256 on CartPole, one thread",
        ),
        ("NVLink, 8 devices", "450 GB/s", "nominal, one direction"),
        ("InfiniBand, a port a device", "50 GB/s", "nominal, NDR, one direction"),
        (
            "α(D), n nodes of g devices",
            "6.8 µs + 2 · (0.6 µs · (g - 1) + 5 µs · log₂ n)",
            "by what NCCL chooses its algorithms (`tuning.cc`; tree, LL): a chain in a node, a "
            "tree of nodes",
        ),
        (
            "β(D)",
            "2 (g - 1) / g / 450 GB/s + 2 (n - 1) / n / g / 50 GB/s",
            "rings in nodes, then each device with 1/g of the sum in a ring of nodes",
        ),
    ]


def _on_eight(task: Task, device: Device, latency: float = 1.0) -> float:
    """Speed-up of one member on eight devices, with links of so many times the latency."""
    links = Links(
        start=latency * LINKS.start,
        hop_inside=latency * LINKS.hop_inside,
        hop_between=latency * LINKS.hop_between,
    )
    return iteration(task, device).total / iteration(task, device, 8, links=links).total


def _without_steps(task: Task, seconds: float, device: Device) -> Task:
    """Ant's, were all of its step launches, so that 4,096 environments take these seconds."""
    free = task._replace(step=0.0)
    work = iteration(free, device).work * 4096 / task.config.num_envs
    return free._replace(launches=(seconds - work) / device.launch)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(model: float, measured: float) -> str:
    return f"{100 * (model / measured - 1):+.1f} %" if measured else "0 %"


def _off(check: Check) -> float:
    return check.model.total / check.seconds - 1


def _count_row(counted: Counted) -> str:
    method, task, devices, counts, ratio = counted
    samples = task.config.num_envs * task.config.num_steps / devices
    flops, size = flops_per_sample(task) * samples, sums(task).bytes if devices > 1 else 0
    return _row(
        method,
        str(devices),
        f"{counts['kernels']:,}",
        f"{flops / 1e6:.2f}",
        f"{counts['product_flops'] / 1e6:.2f}",
        _percent(flops, counts["product_flops"]),
        f"{counts['all_reduces']}",
        f"{size:,}",
        f"{counts['reduced_bytes']:,}",
        _percent(size, counts["reduced_bytes"]),
        f"{ratio:.3f}",
    )


def _program_row(counted: Counted) -> str:
    flops = flops_per_sample(counted.task) * counted.task.config.num_envs
    flops *= counted.task.config.num_steps
    found = counted.counts["product_flops"]
    numbers = f"{counted.counts['kernels']:,}", f"{flops / 1e6:,.0f}", f"{found / 1e6:,.0f}"
    return _row(counted.task.title, *numbers, _percent(flops, found))


def _time_row(check: Check) -> str:
    return _row(
        check.title,
        check.device,
        f"{1e3 * check.seconds:.2f}",
        f"{1e3 * check.model.total:.2f}",
        f"{check.model.launches / check.model.total:.0%}",
        f"sets {check.fits}" if check.fits else _percent(check.model.total, check.seconds),
    )


def _strong_row(task: Task, device: Device) -> str:
    one = iteration(task, device)
    cells = []
    for devices in DEVICES[1:]:
        up = one.total / iteration(task, device, devices).total
        cells.append(f"{up:.2f} ({up / devices:.1%})" if fits(task, devices) else "–")
    parts = f"{1e3 * one.launches:.1f} + {1e3 * one.work:.1f}"
    return _row(task.title, f"{sum(parameters(task)):,}", parts, *cells)


def _weak_row(task: Task, device: Device) -> str:
    one = iteration(task, device).total
    cells = []
    for devices in DEVICES[1:]:
        num_envs = devices * task.config.num_envs
        wide = task._replace(
            config=task.config.replace(num_envs=num_envs, total_timesteps=2**32 - 1)
        )
        up = devices * one / iteration(wide, device, devices).total
        cells.append(f"{_two(up)} ({up / devices:.0%})")
    return _row(task.title, *cells)


def _two(x: float) -> str:
    """Two digits, or all before the point."""
    return f"{x:,.0f}" if x >= 10 else f"{x:.2g}"


def _members_row(task: Task, device: Device, members: int) -> str:
    together = iteration(task, device, 1, members).total

    def cell(way: Ways) -> str:
        times = [way.members, way.mesh, way.both]
        good = 1.02 * min(t for t in times if t)
        texts = []
        for t in times:
            text = _two(together / t) if t else "–"
            texts.append(f"**{text}**" if t and t <= good else text)
        if way.group:
            texts[-1] += f" x{way.group}"
        return " / ".join(texts)

    cells = [cell(ways(task, device, members, devices)) for devices in DEVICES[1:]]
    return _row(task.title, f"{members:,}", *cells)


def _break_row(task: Task, device: Device) -> str:
    one, eight = iteration(task, device), iteration(task, device, 8)
    work = one.work / task.config.num_envs  # of an environment

    def environments(speed_up: float) -> str:
        """Where launches + work is so many times launches + work / 8 + travel."""
        numerator = (speed_up - 1) * one.launches + speed_up * eight.travel
        return f"{math.ceil(numerator / (1 - speed_up / 8) / work):,}"

    return _row(task.title, f"{one.launches / one.work:,.1f}", environments(1.0), environments(4.0))
