"""The snippets: texts to tokens and back, prompts, pairs; and VADER against the package."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tasks import snippets, vader
from tasks.snippets import EOS, UNKNOWN

from jaxrl_po.rlhf import Tokens

# The package's tables, cut down to what the sentences below need.
RATINGS = {"good": 1.9, "bad": -2.5, "great": 3.1, ":)": 2.0, "no": -1.2}
TABLES = SimpleNamespace(
    SentimentIntensityAnalyzer=lambda: SimpleNamespace(lexicon=RATINGS),
    NEGATE=["not", "never"],
    BOOSTER_DICT={"very": 0.293, "hardly": -0.293},
)


def corpus(*texts, rating=None, domain=None):
    words = [snippets.tokenize(text, RATINGS) for text in texts]
    size = len(texts)
    return snippets.Snippets(
        words,
        list(texts),
        np.zeros(size) if rating is None else np.array(rating),
        np.zeros(size, int) if domain is None else np.array(domain),
    )


def score(text):
    found = corpus(text)
    vocabulary = snippets.Vocabulary(found, 50)
    lexicon = vader.make_lexicon(vocabulary.words, TABLES)
    return float(vader.vader_score(lexicon, snippets.whole(found, vocabulary, 16))[0])


@pytest.mark.parametrize(
    ("text", "total"),
    [
        ("a chair", 0.0),
        ("a good chair", 1.9),
        ("a very good chair", 1.9 + 0.293),
        ("a very bad chair", -2.5 - 0.293),
        ("very old good chair", 1.9 + 0.95 * 0.293),
        ("very old ugly good chair", 1.9 + 0.9 * 0.293),
        ("hardly good", 1.9 - 0.293),
        ("not good", -0.74 * 1.9),
        ("not a good chair", -0.74 * 1.9),
        ("not very good", -0.74 * (1.9 + 0.293)),
        ("not in the least good", 1.9),
        ("isn't good", -0.74 * 1.9),
        ("good but bad", 0.5 * 1.9 - 1.5 * 2.5),
        ("good!", 1.9 + 0.292),
        ("bad!!", -2.5 - 2 * 0.292),
        ("good!!!!!!", 1.9 + 4 * 0.292),
        ("good??", 1.9 + 2 * 0.18),
        ("good????", 1.9 + 0.96),
        ("good :)", 1.9 + 2.0),
        ("no good", -0.74 * 1.9),
        ("no", -1.2),
    ],
)
def test_vader_by_its_rules(text, total):
    np.testing.assert_allclose(score(text), total / np.sqrt(total**2 + 15), atol=1e-6)


def test_vader_does_not_look_at_empty_slots():
    found = corpus("not a good chair", "bad")
    vocabulary = snippets.Vocabulary(found, 50)
    lexicon = vader.make_lexicon(vocabulary.words, TABLES)
    ids, mask, _ = snippets.whole(found, vocabulary, 8)
    expected = vader.vader_score(lexicon, Tokens(ids, mask))
    noise = Tokens(jnp.where(mask, ids, vocabulary.ids["good"]), mask)
    np.testing.assert_array_equal(vader.vader_score(lexicon, noise), expected)
    left = Tokens(
        jnp.pad(ids, ((0, 0), (3, 0)), constant_values=-1), jnp.pad(mask, ((0, 0), (3, 0)))
    )
    np.testing.assert_array_equal(vader.vader_score(lexicon, left), expected)
    prompt, response = (
        jax.tree.map(lambda x, p=part: x[:, p], left) for part in (slice(0, 5), slice(5, 11))
    )
    np.testing.assert_array_equal(vader.vader_reward(lexicon)(prompt, response), expected)


def test_words_become_tokens_and_text_again():
    text = "it isn't a film , it's :) a good old-fashioned play!"
    words = snippets.tokenize(text, RATINGS)
    assert words == [
        "it", "isn't", "a", "film", ",", "it's", ":)", "a", "good", "old-fashioned", "play", "!",
    ]  # fmt: skip
    assert snippets.tokenize(snippets.detokenize(words), RATINGS) == words


def test_a_vocabulary_holds_the_most_frequent_words():
    vocabulary = snippets.Vocabulary(corpus("b b b a a c"), 4)
    assert vocabulary.words == ["<eos>", "<unk>", "b", "a"]
    assert vocabulary.encode(["a", "c", "b"]) == [3, UNKNOWN, 2]
    tokens = Tokens(jnp.array([[2, 3, EOS, 2]]), jnp.array([[True, True, True, False]]))
    assert vocabulary.decode(tokens) == ["b a"]


def test_packed_rows_hold_every_snippet_once():
    found = corpus(*["a b c", "a", "b b b b b", "c c"] * 3)
    vocabulary = snippets.Vocabulary(found, 10)
    ids, mask = map(np.asarray, snippets.packed(found, vocabulary, 8)[:2])
    assert (ids[:, 0] == EOS).all()
    assert len(ids) < 12
    pieces = [tuple(p) for i, m in zip(ids, mask, strict=True) for p in pieces_of(i[m])]
    assert sorted(pieces) == sorted(tuple(vocabulary.encode(w)) for w in found.words)


def pieces_of(row):
    ends = np.flatnonzero(row == EOS)
    return [row[a + 1 : b].tolist() for a, b in itertools.pairwise(ends)]


def test_prompts_are_openings_padded_on_the_left():
    found = corpus("a b c d e f g", "a b", "zzz b c d e f")
    vocabulary = snippets.Vocabulary(corpus("a b c d e f g"), 20)
    prompts = snippets.opening_words(found, vocabulary, 6, pad_id=-1)
    assert prompts.shape == (1, 6)  # the second is too short, the third begins with a stranger
    row = prompts[0][prompts[0] != -1]
    assert row[0] == EOS
    assert 2 <= len(row) - 1 <= 5
    assert row[1:].tolist() == vocabulary.encode(found.words[0])[: len(row) - 1]
    assert (prompts[0][: 6 - len(row)] == -1).all()


def test_pairs_are_of_one_domain_and_rated_apart():
    rng = np.random.default_rng(0)
    rating, domain = rng.uniform(-4, 4, 60), np.arange(60) % 4
    found = corpus(*["a"] * 60, rating=rating, domain=domain)
    better, worse = map(np.asarray, snippets.human_pairs(found, 100))
    assert (rating[better] - rating[worse] >= 1.0).all()
    assert (domain[better] == domain[worse]).all()


def test_the_split_shares_no_snippet():
    found = corpus(*[f"word{n}" for n in range(50)])
    train, test = snippets.split(found, 10)
    assert (len(train.words), len(test.words)) == (40, 10)
    assert not set(train.text) & set(test.text)


def test_an_archive_that_is_not_the_one_is_refused(tmp_path):
    (tmp_path / snippets.ARCHIVE).write_bytes(b"something else")
    with pytest.raises(RuntimeError, match=r"has SHA-256 .*, not 5d7c06e0"):
        snippets.fetch(tmp_path)


def test_vader_agrees_with_the_package():
    """On real texts; where they can be had."""
    try:
        root = snippets.fetch()
    except RuntimeError as error:
        pytest.skip(str(error).splitlines()[0])
    module = snippets.load_vader(root)
    analyzer = module.SentimentIntensityAnalyzer()
    _, some = snippets.split(snippets.load_snippets(root, analyzer.lexicon), 1000)
    vocabulary = snippets.Vocabulary(some, 4096)
    rows = snippets.whole(some, vocabulary, 100)
    ours = np.asarray(vader.vader_score(vader.make_lexicon(vocabulary.words, module), rows))
    theirs = [analyzer.polarity_scores(text)["compound"] for text in vocabulary.decode(rows)]
    assert np.corrcoef(ours, theirs)[0, 1] >= 0.985
    assert (np.abs(ours - theirs) <= 2e-3).mean() >= 0.95
