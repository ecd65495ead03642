"""Chat templates: messages as the text that a model was trained to read, rendered by Jinja."""

import datetime
import json
from collections.abc import Callable, Mapping
from typing import Any

from jaxrl_po.host.machine.imports import import_extra

Message = dict[str, Any]  # {"role": str, "content": str}, and whatever else a template looks at
Render = Callable[..., str]  # messages, add_generation_prompt=True -> text


def make_chat_template(source: str, label: str, special_tokens: Mapping[str, str]) -> Render:
    """A chat template as a function of messages.

    Args:
        source: the template.
        label: what errors call it.
        special_tokens: what it may write, by name: "bos_token", "eos_token".

    Returns:
        render(messages, add_generation_prompt=True) -> text, at whose end the model is to answer.

    Raises:
        ValueError: when the template is not one; of `render`, when it refuses the messages.
    """
    jinja2 = import_extra("jinja2", "text")
    # What templates are written for: the environment in which transformers renders them.
    sandbox = import_extra("jinja2.sandbox", "text").ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", generation_tag()],
    )
    sandbox.filters["tojson"] = to_json
    sandbox.globals |= {"strftime_now": strftime_now, "raise_exception": refusal(jinja2)}
    constants = {"tools": None, "documents": None, **special_tokens}
    try:
        template = sandbox.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"{label}, line {error.lineno}: {error.message}") from error

    def render(messages: list[Message], add_generation_prompt: bool = True) -> str:
        try:
            text: str = template.render(
                messages=messages, add_generation_prompt=add_generation_prompt, **constants
            )
        except (jinja2.TemplateError, TypeError) as error:  # of what a template cannot add up
            raise ValueError(f"{label}: {error}") from error
        return text

    return render


def to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """JSON as it is; Jinja's own filter would escape it for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def strftime_now(form: str) -> str:
    """The time, as some templates tell it to the model."""
    return datetime.datetime.now().strftime(form)


def refusal(jinja2: Any) -> Callable[[str], None]:
    """What a template calls when it has no form for the messages."""

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    return raise_exception


def generation_tag() -> Any:
    """An extension of Jinja by `{% generation %}`, which marks answers; here it changes nothing."""

    class Generation(import_extra("jinja2.ext", "text").Extension):  # type: ignore[misc]
        tags = frozenset({"generation"})

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return Generation
