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
    if messages[-1]["role"] != "assistant":
        raise ValueError('"messages" must end with a message of the assistant, to be learned')
    split = {"prompt": messages[:-1], "completion": messages[-1:]}
    ids, learned = answered(tokenizer, split, "completion")
    end = learned.index(True)
    for i in reversed(range(1, len(messages) - 1)):  # the first answers nothing
        if all_turns and messages[i]["role"] == "assistant":
            span = earlier_answer(tokenizer, messages, i, ids[:end])
            learned[span] = [True] * (span.stop - span.start)
            end = span.start
    return (Text(ids, learned),)


def earlier_answer(tokenizer: Tokenizer, messages: list[Message], i: int, ids: list[int]) -> slice:
    """Where the ids of a conversation, up to the next answer, have the answer `messages[i]`.

    It is read off the whole conversation, for a template may write an answer otherwise where it is
    the last; `answered` says what else an answer must be.
    """
    name, content = f'"messages"[{i}]', messages[i]["content"]
    asked = tokenizer.apply_chat_template(messages[:i], add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(messages, add_generation_prompt=False)
    if not whole.startswith(asked):
        raise ValueError(
            "the chat template writes what comes before an earlier answer otherwise once others "
            "follow: only the last answer can be learned"
        )
    if any(token in tokenizer.stop_ids for token in tokenizer.encode(content)):
        raise ValueError(f"{name} goes on after a token that ends it: {shown(content)}")
    start = end_of(tokenizer, tokenizer.encode(asked), ids)
    end = next((n for n in range(start, len(ids)) if ids[n] in tokenizer.stop_ids), None)
    if end is None:
        raise ValueError(
            "the chat template ends an earlier answer with none of the tokens that end one: only "
            "the last answer can be learned"
        )
    if end == start:
        raise ValueError(f"{name} is empty")
    return slice(start, end + 1)


def end_of(tokenizer: Tokenizer, before: list[int], ids: list[int]) -> int:
    """How many ids lie in the text of `before`, whose last tokens may be cut otherwise in them."""
    alike = [one == other for one, other in zip(before, ids, strict=False)]
    count = [*alike, False].index(False)
    size = len(tokenizer.decode(before, False))
    while count < len(ids) and len(tokenizer.decode(ids[: count + 1], False)) <= size:
        count += 1
    return count


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
