"""One line of a data set: what its fields may be, and the token ids that they make."""

from typing import Any, NamedTuple

from jaxrl_po.host.language.text.chat import Message
from jaxrl_po.host.language.text.tokenizer import Tokenizer

Record = dict[str, Any]

SHOWN = 80  # characters of a wrong value in an error


class Text(NamedTuple):
    """Token ids of a prompt and of what answers it, or of several in turn."""

    ids: list[int]
    learned: list[bool]  # whether each is an answer's


def prompt_text(tokenizer: Tokenizer, record: Record) -> tuple[Text]:
    """The prompt of {"prompt"}."""
    ids = prompt_ids(tokenizer, as_prompt(record))
    return (Text(ids, [False] * len(ids)),)


def completion_text(tokenizer: Tokenizer, record: Record, all_turns: bool = False) -> tuple[Text]:
    """Prompt and completion of {"prompt", "completion"}, or of {"messages"}."""
    if "messages" not in record or "completion" in record:
        return (answered(tokenizer, record, "completion"),)
    messages = as_messages("messages", record["messages"], "a list of messages")
    if len(messages) == 1:
        raise ValueError('"messages" must hold a prompt and an answer, not a single message')
    split = {"prompt": messages[:-1], "completion": messages[-1:]}
    ids, learned = answered(tokenizer, split, "completion")
    for i in range(1, len(messages) - 1):  # the first answers nothing
        if all_turns and messages[i]["role"] == "assistant":
            span = earlier_answer(tokenizer, messages[:i], messages[i], ids)
            learned[span] = [True] * (span.stop - span.start)
    return (Text(ids, learned),)


def earlier_answer(
    tokenizer: Tokenizer, prompt: list[Message], answer: Message, ids: list[int]
) -> slice:
    """Where a conversation's ids have an answer, from the first that the prompt alone has not."""
    asked, written = chat(tokenizer, prompt, [answer])
    before, after = tokenizer.encode(asked), tokenizer.encode(asked + written)
    if ids[: len(after)] != after:
        raise ValueError(
            "the chat template writes an earlier answer otherwise once others follow, or its last "
            "token runs into theirs: only the last answer can be learned"
        )
    alike = [one == other for one, other in zip(before, after, strict=False)]
    return slice([*alike, False].index(False), len(after))


def pair_texts(tokenizer: Tokenizer, record: Record) -> tuple[Text, Text]:
    """The prompt of {"prompt", "chosen", "rejected"} with the one answer, and with the other."""
    return answered(tokenizer, record, "chosen"), answered(tokenizer, record, "rejected")


def answered(tokenizer: Tokenizer, record: Record, name: str) -> Text:
    """A record's prompt, with the answer that a field holds, ended by a token of `stop_ids`.

    The answer's ids are those that follow the prompt's: of both in a row, where its ids begin the
    row, for some tokenizers write a space before every text; else of the answer alone.
    """
    prompt, answer = as_prompt(record), field(record, name)
    before = prompt_ids(tokenizer, prompt)
    if isinstance(prompt, str):
        if not isinstance(answer, str):
            raise ValueError(f'"{name}" must be a string as "prompt" is, not {shown(answer)}')
        asked, written, begin = prompt, answer, True
    else:
        asked, written = chat(tokenizer, prompt, as_answer(name, answer))
        begin = False
    after = tokenizer.encode(asked + written, begin)
    follows = after[: len(before)] == before
    after = after[len(before) :] if follows else tokenizer.encode(written)
    if not after or after[-1] not in tokenizer.stop_ids:
        after.append(tokenizer.stop_ids[0])
    if len(after) == 1:
        raise ValueError(f'"{name}" is empty')
    if any(i in tokenizer.stop_ids for i in after[:-1]):
        raise ValueError(f'"{name}" goes on after a token that ends it: {shown(written)}')
    return Text([*before, *after], [False] * len(before) + [True] * len(after))


def prompt_ids(tokenizer: Tokenizer, prompt: str | list[Message]) -> list[int]:
    """Ids of a prompt: a text with the BOS it begins with, or messages up to the answer."""
    if isinstance(prompt, str):
        ids = tokenizer.encode(prompt, begin=True)
    else:
        ids = tokenizer.encode(tokenizer.apply_chat_template(prompt, add_generation_prompt=True))
    if not ids:
        raise ValueError('"prompt" holds no token')
    return ids


def chat(tokenizer: Tokenizer, prompt: list[Message], answer: list[Message]) -> tuple[str, str]:
    """What the chat template writes of a prompt, and after it of the answer, but white space."""
    asked = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*prompt, *answer], add_generation_prompt=False)
    if not whole.startswith(asked):
        raise ValueError(
            f"the chat template writes {whole!r} with the answer, which does not begin with what "
            f"it writes without: {asked!r}"
        )
    return asked, whole[len(asked) :].rstrip()


def field(record: Record, name: str) -> Any:
    """A field that must be there."""
    if name not in record:
        raise ValueError(
            f'"{name}" is missing; there are: {", ".join(sorted(record)) or "no keys"}'
        )
    return record[name]


def as_prompt(record: Record) -> str | list[Message]:
    """A record's prompt: a string, or messages whose last one is not the assistant's."""
    value = field(record, "prompt")
    if isinstance(value, str):
        return value
    messages = as_messages("prompt", value)
    if messages[-1]["role"] == "assistant":
        raise ValueError('"prompt" ends with a message of the assistant, whose turn it should be')
    return messages


def as_answer(name: str, value: Any) -> list[Message]:
    """An answer to messages: a single message of the assistant, or what it says."""
    if isinstance(value, str):
        return [{"role": "assistant", "content": value}]
    messages = as_messages(name, value)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise ValueError(f'"{name}" must be a single message of the assistant, not {shown(value)}')
    return messages


def as_messages(
    name: str, value: Any, allowed: str = "a string or a list of messages"
) -> list[Message]:
    """Messages, each with a role and a content."""
    if not isinstance(value, list) or not value:
        raise ValueError(f'"{name}" must be {allowed}, not {shown(value)}')
    for number, message in enumerate(value):
        keys = message if isinstance(message, dict) else {}
        if not all(isinstance(keys.get(key), str) for key in ("role", "content")):
            raise ValueError(
                f'"{name}"[{number}] must be {{"role": string, "content": string}}, '
                f"not {shown(message)}"
            )
    return value


def shown(value: Any) -> str:
    """A value as an error shows it, not longer than a line."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
