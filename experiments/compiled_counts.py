"""What a compiled program does when it is run, counted in its text, loops as often as they turn.

XLA's own `cost_analysis` counts the body of a loop once; here a body counts as often as the text
says that it turns, and once where it does not say (the search of a line, which ends when it may).
"""

import functools
import math
import re
from typing import Any, NamedTuple

import jax

from jaxrl_po import make_step
from jaxrl_po.config import Config
from jaxrl_po.fast import dense
from jaxrl_po.host.machine.devices import device_mesh
from jaxrl_po.loop.layout import state_shardings

COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([a-z][a-z\-]*)\((.*)$")
ARRAY = re.compile(r"([a-z]+)(\d*)\[([\d,]*)\]")
NAME = re.compile(r"[\w.\-]+")
FREE = {"parameter", "tuple", "get-tuple-element", "constant", "bitcast"}  # no work when run


class Counts(NamedTuple):
    """What one device does in a run of a program."""

    kernels: int = 0
    product_flops: int = 0  # of matrix products alone, 2 for a multiplication and its addition
    all_reduces: int = 0
    reduced_bytes: int = 0  # that go into them

    def plus(self, other: "Counts", times: int = 1) -> "Counts":
        """These, and others so many times."""
        return Counts(*(mine + times * theirs for mine, theirs in zip(self, other, strict=True)))


class Instruction(NamedTuple):
    """A line of a program's text."""

    shape: str
    opcode: str
    rest: str  # operands and attributes

    def named(self, attribute: str) -> str:
        """The computation that an attribute names."""
        found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.rest)
        assert found, (attribute, self.rest)
        return found[1]


class Program(NamedTuple):
    """A program's text, taken apart."""

    bodies: dict[str, list[Instruction]]
    shapes: dict[str, str]  # of what each instruction makes
    entry: str


def parse(text: str) -> Program:
    """Take the text of `compiled.as_text()` apart."""
    program = Program({}, {}, "")
    body: list[Instruction] = []
    for line in text.splitlines():
        if start := COMPUTATION.match(line):
            body = program.bodies[start[2]] = []
            program = program._replace(entry=start[2] if start[1] else program.entry)
        elif found := INSTRUCTION.match(line):
            body.append(Instruction(*found.groups()[1:]))
            program.shapes[found[1]] = found[2]
    return program


def count_text(text: str) -> Counts:
    """The counts of a program from its text."""
    program = parse(text)

    @functools.cache
    def of(name: str) -> Counts:
        total = Counts()
        for instruction in program.bodies[name]:
            total = total.plus(of_one(instruction))
        return total

    def of_one(instruction: Instruction) -> Counts:
        shape, opcode, rest = instruction
        match opcode:
            case "while":
                turns = re.search(r'known_trip_count":\{"n":"(\d+)"', rest)
                return Counts().plus(of(instruction.named("body")), int(turns[1]) if turns else 1)
            case "conditional":  # the branch that does more
                return max(map(of, branches(instruction)), key=lambda c: c[1::-1])
            case "call":
                return of(instruction.named("to_apply"))
            case "fusion":
                return Counts(1, of(instruction.named("calls")).product_flops)
            case "dot":
                left = NAME.search(rest)
                assert left
                return Counts(1, _product_flops(shape, program.shapes[left[0]], rest))
            case "all-reduce" | "all-reduce-start":
                return Counts(1, 0, 1, _bytes(shape))
        return Counts() if opcode in FREE else Counts(1)

    return of(program.entry)


def branches(conditional: Instruction) -> list[str]:
    """The computations of which one is run."""
    if found := re.search(r"branch_computations=\{(.*?)\}", conditional.rest):
        return NAME.findall(found[1])
    return [conditional.named(f"{name}_computation") for name in ("true", "false")]


def _axes(dims: str) -> list[int]:
    return [int(n) for n in dims.split(",") if n]


def _bytes(shape: str) -> int:
    """Of an array or a tuple of them; a bool has one."""
    arrays = ARRAY.findall(shape)
    return sum(max(1, int(bits or 8) // 8) * math.prod(_axes(dims)) for _, bits, dims in arrays)


def _product_flops(shape: str, left: str, rest: str) -> int:
    """2 for each number of the product and each that is summed over for it."""
    (output,), (factor,) = (ARRAY.findall(one) for one in (shape, left))
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", rest)
    assert contracted
    summed = math.prod(_axes(factor[2])[i] for i in _axes(contracted[1]))
    return 2 * math.prod(_axes(output[2])) * summed


def compile_iteration(config: Config, env: Any = None, devices: int | None = None) -> Any:
    """One iteration as it is compiled for this machine, cut over so many of its devices.

    Dense layers multiply in the one form that all devices but a CPU have: a CPU's form for a few
    numbers is no matrix product, and would not be counted as one.
    """
    kept = dense.FEW_OUTPUTS, dense.FEW_PRODUCTS
    dense.FEW_OUTPUTS = dense.FEW_PRODUCTS = 0
    try:
        mesh = device_mesh(devices)
        init, step = make_step(config, env, mesh=mesh)
        state = jax.eval_shape(init, jax.random.key(0))
        if mesh is not None:
            state = jax.tree.map(
                lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
                state,
                state_shardings(mesh, state),
            )
        return jax.jit(step).lower(state).compile()
    finally:
        dense.FEW_OUTPUTS, dense.FEW_PRODUCTS = kept
