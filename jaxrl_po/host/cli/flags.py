"""Flags of the command line: a parser with one-line errors, and a flag for each field of a config.

What is parsed holds only the flags that were given: functions and configs know their own defaults.
"""

import argparse
import dataclasses
import functools
import inspect
import re
import sys
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

from jaxrl_po.config import ANY, Config, Range, Settings
from jaxrl_po.config.messages import suggestion

NEGATIVE = re.compile(r"-(\d|\.\d|inf)")  # a value; all flags begin with two dashes
DESCRIBED = re.compile(r"^    (\w+): ((?:.+\n)(?: {5,}.+\n)*)", re.MULTILINE)  # in Args
FIELD = "field."  # begins where a field's value is kept: a command may have one of the same name
COMMENTED = re.compile(r"((?:^    # .*\n)+)    (\w+):", re.MULTILINE)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ValueErrors of one line, and that names the flag that was meant."""

    def __init__(self, **settings: Any) -> None:
        """As for `argparse.ArgumentParser`."""
        super().__init__(
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
            formatter_class=functools.partial(argparse.HelpFormatter, max_help_position=28),
            **settings,
        )
        self.set_defaults(parser=self)
        self.names: list[str] = []
        self.fill: Callable[[], None] = lambda: None  # adds flags once the command is chosen

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As its parent, with the flags that `fill` adds."""
        self.fill()
        return super().parse_known_args(args, namespace)

    def add_flag(self, name: str, text: str, hint: Any, **form: Any) -> None:
        """Add the flag of a field or a parameter, whose type is `hint`."""
        self.names.append(name)
        text = text.replace("%", "%%")
        self.add_argument(_flag(name), help=text, **({"dest": name} | _form(hint) | form))

    def add_commands(self) -> Callable[[str, Any], "Parser"]:
        """Let the next argument be a command: add(name, what its docstring describes)."""
        commands = self.add_subparsers(title="commands", required=True)

        def add(name: str, described: Any) -> Parser:
            summary = (inspect.getdoc(described) or "").partition("\n")[0].replace("%", "%%")
            return commands.add_parser(name, help=summary, description=summary)

        return add

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments.

        Raises:
            ValueError: saying why, and where help is.
        """
        raise ValueError(f"{message} (see {self.prog} --help)")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """What the arguments say; `parser` is that of the command.

        Raises:
            ValueError: naming the flag that is unknown, or whose value is none of its kind.
        """
        parsed, unknown = self.parse_known_args(_normal(arguments))
        if unknown:
            parsed.parser._refuse(unknown[0])
        flags: argparse.Namespace = parsed
        return flags

    def _refuse(self, argument: str) -> NoReturn:
        if not argument.startswith("--"):
            self.error(f"{argument!r} belongs to no flag")
        name = argument.partition("=")[0].strip("-").replace("-", "_")
        hint = suggestion(name, self.names).partition("known: ")[0]
        for ours in self.names:
            hint = hint.replace(f"'{ours}'", _flag(ours))
        self.error(f"there is no flag {_flag(name)}{': ' if hint else ''}{hint.strip()}")


def integer(text: str) -> int:
    """A whole number, in whatever notation: 1000000, 1_000_000, 1e6."""
    try:
        return int(text)
    except ValueError:
        value = number(text)
    if not value.is_integer():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(value)


def number_or_schedule(text: str) -> float | str:
    """A number, or "module:function" as it is: the config imports it."""
    return text if ":" in text else number(text)


def number(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


class Pairs(argparse.Action):
    """Names and values in turn, as a dict."""

    def __init__(self, *arguments: Any, read: Callable[[str], Any], **settings: Any) -> None:
        """As for `argparse.Action`; `read` makes a value of its text."""
        super().__init__(*arguments, **settings)
        self._read = read

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        """Keep the pairs."""
        if len(values) % 2:
            raise argparse.ArgumentError(self, "expected NAME VALUE pairs, as in: length 0.5")
        try:
            pairs = dict(zip(values[::2], map(self._read, values[1::2]), strict=True))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        setattr(namespace, self.dest, pairs)


def path(text: str) -> Path:
    """A path, which the empty text is not."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return Path(text)


def add_parameters(parser: Parser, function: Callable[..., Any]) -> None:
    """Add what a function takes: flags, described by its docstring; without a default, in order.

    The parameters `base` and `fields` are those that `add_fields` is for.
    """
    hints = typing.get_type_hints(function)
    described = DESCRIBED.findall(f"{inspect.getdoc(function)}\n")  # 3.13 takes the indents away
    texts = {name: " ".join(text.split()) for name, text in described}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in ("base", "fields"):
            continue
        text, default = texts[name], parameter.default
        if default is parameter.empty:
            parser.add_argument(name, help=text, **_form(hints[name]))
        elif default is None or default is False:
            parser.add_flag(name, text, hints[name])
        else:
            parser.add_flag(name, f"{text} (default: {default})", hints[name])


def given_parameters(parsed: argparse.Namespace, function: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of a function that were given."""
    names = inspect.signature(function).parameters
    return {name: value for name, value in vars(parsed).items() if name in names}


def add_fields(
    parser: Parser,
    default: Config,
    *,
    texts: bool,
    without: Collection[str] = (),
    described: Mapping[str, str] | None = None,
) -> None:
    """Add a flag for each field of a config, described by its comment.

    A field that is called as a flag that the parser has already is --update-NAME.

    Args:
        parser: of the command.
        default: whose fields, and the values that they have without flags.
        texts: take all values as texts, which may stand for several.
        without: fields that get no flag.
        described: what stands for the comments of some fields.
    """
    comments = field_comments(type(default)) | dict(described or {})
    hints = typing.get_type_hints(type(default))
    for field in dataclasses.fields(default):
        if field.name in without:
            continue
        name, allowed = field.name, field.metadata.get("allowed", ANY)
        form: dict[str, Any] = {"dest": FIELD + name}
        if name == "env_params":
            form |= {"action": Pairs, "read": str if texts else number, "nargs": "+"}
            form["metavar"] = ("NAME VALUE", "NAME VALUE")
        elif isinstance(allowed, tuple):
            form |= {"metavar": "{" + ",".join(allowed) + "}"}
        elif texts:
            form |= {"metavar": "VALUES"}
        limits = f"{allowed}; " if isinstance(allowed, Range) and allowed != ANY else ""
        text = f"{comments.get(name, name)} ({limits}default: {_text(getattr(default, name))})"
        hint = str if texts or name == "env_params" else hints[name]
        parser.add_flag(f"update_{name}" if name in parser.names else name, text, hint, **form)


def given_fields(parsed: argparse.Namespace) -> dict[str, Any]:
    """The fields of a config whose flags were given."""
    given = vars(parsed).items()
    return {name.removeprefix(FIELD): value for name, value in given if name.startswith(FIELD)}


def _form(hint: Any) -> dict[str, Any]:
    """How a value of this type is parsed and shown."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    if typing.get_origin(hint) is list:
        return _form(kinds[0]) | {"nargs": "+"}
    if typing.get_origin(hint) is tuple:
        return {"type": integer, "nargs": "*", "metavar": "INT"}
    if typing.get_origin(hint) is Literal:
        return {"choices": kinds}
    if kinds:  # one of them, or None
        return _form(kinds[0])
    return FORMS[hint]


FORMS: dict[Any, dict[str, Any]] = {
    bool: {"action": argparse.BooleanOptionalAction},
    int: {"type": integer, "metavar": "INT"},
    float: {"type": number_or_schedule, "metavar": "X"},
    str: {"metavar": "NAME"},
    Path: {"type": path, "metavar": "PATH"},
}


def field_comments(config_class: type[Settings]) -> dict[str, str]:
    """The comment above each field, by the field's name."""
    comments = {}
    for base in reversed(config_class.__mro__[:-1]):
        source = inspect.getsource(sys.modules[base.__module__])
        body = source.partition(f"\nclass {base.__name__}(")[2]
        for comment, name in COMMENTED.findall(re.split(r"\n(?=\S)", body, maxsplit=1)[0] + "\n"):
            comments[name] = " ".join(line.strip(" #") for line in comment.splitlines())
    return comments


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "none"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _normal(arguments: Sequence[str]) -> list[str]:
    """Flags with dashes, and negative numbers tied to their flags: argparse sees flags in some."""
    normal: list[str] = []
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            normal.append(name.replace("_", "-") + equals + value)
        elif NEGATIVE.match(argument) and normal and re.fullmatch("--[^=]+", normal[-1]):
            normal[-1] += f"={argument}"
        else:
            normal.append(argument)
    return normal
