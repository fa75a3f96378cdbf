"""The embedded default model: its files, its vectors, and that they depend on the text alone."""

import hashlib
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from batchembed.errors import DamagedError
from batchembed.providers import static_words
from batchembed.providers.static_files import EMBEDDED
from batchembed.providers.static_model import StaticModel

MODEL = StaticModel.load()
ROWS = np.load(EMBEDDED / "rows.npy")
SCALES = np.load(EMBEDDED / "scales.npy")
TOKENIZER = Tokenizer.from_file(str(EMBEDDED / "tokenizer.json"))
UNKNOWN = TOKENIZER.token_to_id("[UNK]")

TEXTS = [
    "A man is playing a guitar.",
    "Somebody strums a guitar!",
    "The stock market fell sharply on Monday",
    "",
    "   \t\n ",
    "naïve café, straße — ÀÉÎÕÜ",
    "I ♥ New York 😀 and 東京",
    "한국어 ราคา привет мир שלום",
    "[SEP] [UNK] ##ing https://example.org/a?b=c&d=e#f foo_bar(x) == 1.5e-3",
    "x" * 101,
    "a\u0301e\u0308 de\u0301ja\u0300 vu",
    "ﬁne ½ ² Ⅷ İstanbul ǅ",
    "word " * 700,
    "antidisestablishmentarianism tokenisation of unbelievably overcomplicated words",
]
WORDS = st.sampled_from(["the", "cat", "on", "quickly", "Tokyo", "2024", "naïve,", "(running!)"])
ANY_WORD = WORDS | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
ANY_TEXT = st.lists(ANY_WORD, max_size=12).map(" ".join)
SPANS = st.lists(
    st.tuples(
        st.integers(0, 40), st.integers(0, 30), st.sampled_from([0, 0.25, 0.5, 1, 1.5, 2, 10.0])
    ),
    max_size=3,
)


def slow_vector(text, spans=(), *, dimensions=256):
    """A vector straight from the int8 rows, one token and one character at a time."""
    total, tokens = np.zeros(dimensions), 0
    encoding = TOKENIZER.encode(text, add_special_tokens=False)
    for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        weight = 1.0
        for first, length, factor in spans:
            covered = sum(first <= place < first + length for place in range(start, end))
            share = covered / (end - start)
            weight *= factor * share + 1 - share
        if number != UNKNOWN and weight > 0:
            total += weight * ROWS[number, :dimensions].astype(float) * float(SCALES[number])
            tokens += 1
    return total / (np.linalg.norm(total) or 1), tokens


def vector(text, spans=None, *, model=MODEL):
    """The vector of one text alone, and its number of known tokens."""
    vectors, tokens = model.encode([text], None if spans is None else [spans])
    return vectors[0], int(tokens[0])


def cosine(left, right):
    """How alike the model finds two texts."""
    return float(vector(left)[0] @ vector(right)[0])


def test_the_files_are_as_model_json_says():
    """Each file has the checksum that model.json gives."""
    about = json.loads((EMBEDDED / "model.json").read_text("utf-8"))
    assert set(about["sha256"]) == {"rows.npy", "scales.npy", "tokenizer.json"}
    for name, wanted in about["sha256"].items():
        assert hashlib.sha256((EMBEDDED / name).read_bytes()).hexdigest() == wanted
    assert ROWS.dtype == np.int8
    assert SCALES.dtype == np.float32
    assert ROWS.shape == (about["tokens"], about["dimensions"]) == (len(SCALES), 256)
    assert TOKENIZER.get_vocab_size() == len(ROWS)


def test_the_files_are_small():
    """All files of the model together take less than 9 MB."""
    assert sum(path.stat().st_size for path in EMBEDDED.iterdir()) < 9_000_000


def test_the_notice_names_what_the_model_is_made_from():
    """The notice names the teacher and every source of texts."""
    notice = (EMBEDDED / "NOTICE").read_text("utf-8")
    for name in ("MiniLM", "CLINC150", "tldr", "WordNet", "Digital.gov", "18F", "Python", "Rust"):
        assert name in notice


def test_the_model_says_what_it_is():
    """The loaded model has the name, version and dimensions of model.json."""
    assert (MODEL.name, MODEL.version, MODEL.dimensions) == ("batchembed-static-en-1", "1", 256)


@pytest.mark.parametrize("dimensions", [0, -1, 257])
def test_impossible_dimensions_are_refused(dimensions):
    """Dimensions that the model does not have are refused with its range."""
    with pytest.raises(ValueError, match="1 to 256 dimensions"):
        StaticModel.load(dimensions=dimensions)


@pytest.mark.parametrize("name", ["rows.npy", "scales.npy", "tokenizer.json", "model.json"])
@pytest.mark.parametrize("harm", ["delete", "truncate", "flip"])
def test_a_damaged_file_is_noticed(tmp_path, name, harm):
    """A model with a missing, cut or altered file is not loaded."""
    folder = shutil.copytree(EMBEDDED, tmp_path / "model")
    data = (folder / name).read_bytes()
    if harm == "delete":
        (folder / name).unlink()
    elif harm == "truncate":
        (folder / name).write_bytes(data[: len(data) // 2])
    else:
        place = data.index(b'"sha256": {') + 9 if name == "model.json" else len(data) // 2
        (folder / name).write_bytes(data[:place] + b"\x00" + data[place + 1 :])
    with pytest.raises(DamagedError, match="reinstall"):
        StaticModel.load(folder)


def test_a_model_in_another_folder_is_the_same(tmp_path):
    """A copy of the model gives the vectors of the embedded one."""
    copy = StaticModel.load(shutil.copytree(EMBEDDED, tmp_path / "model"))
    assert np.array_equal(copy.encode(TEXTS)[0], MODEL.encode(TEXTS)[0])


@pytest.mark.parametrize("text", TEXTS)
def test_vectors_are_the_sums_of_rows(text):
    """A vector is the sum of the rows of its known tokens, at length 1."""
    made, tokens = vector(text)
    wanted, known = slow_vector(text)
    assert tokens == known
    np.testing.assert_allclose(made, wanted, atol=3e-5)


@given(ANY_TEXT)
def test_vectors_of_any_text_are_the_sums_of_rows(text):
    """Cutting at whitespace and remembering words give the tokens of the whole text."""
    made, tokens = vector(text)
    wanted, known = slow_vector(text)
    assert tokens == known
    np.testing.assert_allclose(made, wanted, atol=2e-4)  # float32 against float64


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30))
def test_plain_words_have_the_tokens_of_the_tokenizer(word):
    """A word that is taken apart without the tokenizer has the same tokens as with it."""
    words = static_words.Words(TOKENIZER)
    ids = np.frombuffer(words.tokens([word])[0], np.uint16).tolist()
    wanted = TOKENIZER.encode(word, add_special_tokens=False).ids
    assert ids == [number for number in wanted if number != UNKNOWN]


def test_emoji_do_not_hide_the_word_they_stand_at():
    """A word with an emoji right before or after it is still known."""
    assert vector("great😀👍🏽")[0].tobytes() == vector("great")[0].tobytes()
    assert vector("❤️cats and dogs🐕")[1] >= 3


def test_shapes_and_types():
    """Vectors are float32 rows of length 1 and tokens int32."""
    vectors, tokens = MODEL.encode(TEXTS)
    assert (vectors.dtype, vectors.shape) == (np.float32, (len(TEXTS), 256))
    assert (tokens.dtype, tokens.shape) == (np.int32, (len(TEXTS),))
    np.testing.assert_allclose(np.linalg.norm(vectors[tokens > 0], axis=1), 1, atol=1e-6)


def test_no_texts_give_no_vectors():
    """An empty batch gives empty arrays of the right shape."""
    vectors, tokens = MODEL.encode([])
    assert vectors.shape == (0, 256)
    assert tokens.shape == (0,)


@pytest.mark.parametrize("text", ["", " \n\t\u2003", "x" * 101, "\u200b", "\u0378", "\x07"])
def test_a_text_without_known_tokens_has_no_vector(text):
    """A text of nothing known has zeros and 0 tokens, alone or among others."""
    for batch in ([text], ["a cat", text, "a dog"]):
        vectors, tokens = MODEL.encode(batch)
        place = batch.index(text)
        assert tokens[place] == 0
        assert not vectors[place].any()
        assert all(tokens[i] == 2 for i in range(len(batch)) if i != place)


def test_names_of_markers_are_ordinary_text():
    """A text that names a marker of the tokenizer is read letter by letter."""
    assert vector("[SEP]")[1] > 1
    assert vector("[UNK]")[1] > 1


def test_vectors_do_not_depend_on_the_batch():
    """Each text has the same bytes alone, in any order and in batches of any size."""
    alone = [vector(text)[0].tobytes() for text in TEXTS]
    rng = np.random.default_rng(7)
    for size in (1, 2, 5, 64, 257, 1000):
        order = rng.integers(0, len(TEXTS), size)
        vectors, _ = MODEL.encode([TEXTS[i] for i in order])
        assert [row.tobytes() for row in vectors] == [alone[i] for i in order]


@given(st.lists(ANY_TEXT, min_size=1, max_size=8), st.randoms())
@settings(max_examples=50)
def test_vectors_of_any_texts_do_not_depend_on_the_batch(texts, rng):
    """Shuffling a batch shuffles its vectors and changes no bit of them."""
    vectors, tokens = MODEL.encode(texts)
    order = rng.sample(range(len(texts)), len(texts))
    again, counted = MODEL.encode([texts[i] for i in order])
    assert again.tobytes() == vectors[order].tobytes()
    assert counted.tolist() == tokens[order].tolist()


def test_vectors_do_not_depend_on_threads():
    """Eight threads that share a fresh model give the bytes that one gives."""
    texts = [f"{text} number {i}" for i in range(40) for text in TEXTS]
    wanted = MODEL.encode(texts)[0].tobytes()
    shared = StaticModel.load()
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: shared.encode(texts)[0].tobytes(), range(16)))
    assert set(made) == {wanted}


def test_forgetting_words_changes_nothing(monkeypatch):
    """When the remembered words are dropped again and again, vectors and threads are unharmed."""
    monkeypatch.setattr(static_words, "_REMEMBERED", 0)
    model = StaticModel.load()
    wanted = MODEL.encode(TEXTS)[0].tobytes()
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: model.encode(TEXTS)[0].tobytes(), range(40)))
    assert set(made) == {wanted}


def test_vectors_are_the_same_in_another_process():
    """A fresh process with one thread gives the same bytes."""
    code = (
        "import sys, json; from batchembed.providers.static_model import StaticModel;"
        "texts = json.loads(sys.stdin.read());"
        "sys.stdout.buffer.write(StaticModel.load().encode(texts)[0].tobytes())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(TEXTS).encode(),
        capture_output=True,
        check=True,
        env={"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout == MODEL.encode(TEXTS)[0].tobytes()


@pytest.mark.parametrize("dimensions", [1, 128, 255])
def test_fewer_dimensions_are_a_prefix(dimensions):
    """A smaller vector is the beginning of the whole one, at length 1."""
    small, known = StaticModel.load(dimensions=dimensions).encode(TEXTS)
    whole, tokens = MODEL.encode(TEXTS)
    cut = whole[:, :dimensions]
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    np.testing.assert_allclose(small, cut / np.where(lengths == 0, 1, lengths), atol=2e-6)
    assert known.tolist() == tokens.tolist()


@pytest.mark.parametrize("text", TEXTS)
def test_factor_one_changes_nothing(text):
    """A control with factor 1 leaves every bit of the vector as it was."""
    plain, tokens = vector(text)
    steered, counted = vector(text, [(0, len(text), 1.0), (3, 2, 1)])
    assert steered.tobytes() == plain.tobytes()
    assert counted == tokens


def test_factor_zero_leaves_words_out():
    """With factor 0 on a word, the text has the vector that it has without the word."""
    steered, tokens = vector("a cat and a dog", [(0, 9, 0)])
    plain, counted = vector("a dog")
    assert steered.tobytes() == plain.tobytes()
    assert tokens == counted == 2


def test_factor_two_is_saying_it_twice():
    """With factor 2 on a word, the text has the vector of one that repeats the word."""
    assert vector("cat dog", [(0, 3, 2)])[0].tobytes() == vector("cat cat dog")[0].tobytes()


def test_factor_zero_over_everything_leaves_no_vector():
    """A text whose every token has weight 0 has no vector."""
    made, tokens = vector("a cat", [(0, 5, 0)])
    assert tokens == 0
    assert not made.any()


def test_half_a_word_gets_half_the_factor():
    """Factor 2 on half of a word's characters weighs the word 1.5; controls multiply."""
    half = vector("bird dog", [(0, 2, 2)])[0]
    assert half.tobytes() == vector("bird dog", [(0, 4, 1.5)])[0].tobytes()
    assert half.tobytes() == vector("bird bird bird dog dog")[0].tobytes()
    both = vector("bird dog", [(0, 4, 2), (0, 2, 2)])[0]
    assert both.tobytes() == vector("bird bird bird dog")[0].tobytes()


@given(ANY_TEXT, SPANS)
@settings(max_examples=200)
def test_controls_weigh_tokens_by_the_characters_covered(text, spans):
    """Any controls on any text give the weighted sum that plain arithmetic gives."""
    made, tokens = vector(text, spans)
    wanted, known = slow_vector(text, spans)
    assert tokens == known
    np.testing.assert_allclose(made, wanted, atol=2e-4)  # float32 against float64


@pytest.mark.parametrize(
    "before", ["😀😀😀 ", "e\u0301e\u0301 ", "naïve ", "한국 ", "\u200b\u200b ", "İ "]
)
def test_controls_count_characters_of_the_text(before):
    """Emoji, accents and invisible characters before a span do not shift it."""
    steered = vector(before + "cat dog", [(len(before), 3, 3)])[0]
    wanted = vector(before + "cat cat cat dog")[0]
    assert steered.tobytes() == wanted.tobytes()


def test_controls_of_one_text_leave_the_others_alone():
    """In a batch, each text has its own controls or none."""
    texts = ["a cat", "a dog", "a bird", "a cat"]
    vectors, _ = MODEL.encode(texts, [[], [(0, 1, 5.0)], [], [(2, 3, 0.5)]])
    assert vectors[0].tobytes() == vector("a cat")[0].tobytes()
    assert vectors[1].tobytes() == vector("a dog", [(0, 1, 5.0)])[0].tobytes()
    assert vectors[2].tobytes() == vector("a bird")[0].tobytes()
    assert vectors[3].tobytes() == vector("a cat", [(2, 3, 0.5)])[0].tobytes()


@pytest.mark.parametrize("span", [(500, 3, 2.0), (3, 0, 9.0), (5, 10**30, 7.0), (1, 1, 9.0)])
def test_controls_that_cover_no_token_change_nothing(span):
    """A control beyond the text, of no length or on a space leaves the vector as it was."""
    assert vector("a cat", [span])[0].tobytes() == vector("a cat")[0].tobytes()


def test_a_control_may_end_beyond_the_text():
    """A control reaches at most to the end of the text."""
    assert vector("a cat", [(2, 10**30, 2)])[0].tobytes() == vector("a cat cat")[0].tobytes()


@pytest.mark.parametrize("factor", [1e-300, 1e-20, 1e20, 1e300])
def test_extreme_factors_still_give_a_vector_of_length_one(factor):
    """A very small or large factor on everything changes only the scale, so nothing."""
    made = vector("a cat and a dog", [(0, 15, factor)])[0]
    np.testing.assert_allclose(made, vector("a cat and a dog")[0], atol=1e-6)


@pytest.mark.parametrize(
    "span", [(-1, 2, 1.0), (0, -2, 1.0), (0, 1, -0.5), (0, 1, float("nan")), (0, 1, float("inf"))]
)
def test_impossible_controls_are_refused(span):
    """A negative place, length or factor, or one that is no number, is refused with its text."""
    with pytest.raises(ValueError, match="text `1` has an impossible control"):
        MODEL.encode(["a cat", "a dog"], [[], [span]])


def test_factors_too_large_together_are_refused():
    """Factors whose product is beyond every number are refused."""
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="too large together"):
        MODEL.encode(["a cat"], [[(0, 5, 1e300), (0, 5, 1e300)]])


def test_controls_must_match_the_texts():
    """There are as many lists of controls as texts, or none at all."""
    with pytest.raises(ValueError, match="`2` texts, but controls for `1`"):
        MODEL.encode(["a", "b"], [[]])


@pytest.mark.parametrize("controls", [None, [[(0, 1, 2.0)]]])
def test_a_lone_surrogate_is_refused(controls):
    """A text without a UTF-8 form is refused with the character that has none."""
    with pytest.raises(ValueError, match=r"lone surrogate `U\+D800`"):
        MODEL.encode(["a \ud800b"], controls)


def test_long_texts_are_read_to_the_end():
    """A long text has as many tokens as its words, and the vector of the repeated part."""
    made, tokens = vector("one two three " * 20_000)
    assert tokens == 60_000
    np.testing.assert_allclose(made, vector("one two three")[0], atol=1e-6)


def test_a_long_text_is_the_sum_of_its_words():
    """Cutting a long text into pieces loses and adds nothing."""
    rng = np.random.default_rng(3)
    text = "  ".join(rng.choice(" ".join(TEXTS).split(), 9_000))
    made, tokens = vector(text)
    wanted, known = slow_vector(text)
    assert len(text) > 50_000
    assert tokens == known
    np.testing.assert_allclose(made, wanted, atol=3e-5)


def test_a_long_text_without_spaces_is_read_to_the_end():
    """A text of one endless word of Chinese characters or of full stops is read whole."""
    assert vector("漢" * 100_000)[1] == 100_000
    assert vector("." * 100_000)[1] == 100_000
    assert vector("x" * 100_000)[1] == 0
    assert vector("hello;world;" * 10_000)[1] == 40_000


def test_controls_reach_every_part_of_a_long_text():
    """A control far into a long text weighs the words there, and only those."""
    text = "alpha beta " * 5_000 + "gamma delta"
    place = text.index("gamma")
    spans = [(place, 5, 0.0), (0, 5, 0.0), (30_000, 0, 5.0)]
    made, tokens = vector(text, spans)
    wanted = text[6:place] + "delta"
    assert made.tobytes() == vector(wanted)[0].tobytes()
    assert tokens == vector(wanted)[1]
    assert vector(text, [(0, len(text), 1.0)])[0].tobytes() == vector(text)[0].tobytes()


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("a man plays the guitar", "somebody is making music", "the bank raised interest rates"),
        ("how do I reset my password", "I forgot my login", "what is the weather tomorrow"),
        ("the kitten is asleep", "a cat naps", "the parliament passed a law"),
        ("list files in a directory", "show the content of a folder", "a slice of lemon cake"),
        ("physicians treat patients", "doctors care for the sick", "cars need petrol"),
    ],
)
def test_texts_that_mean_the_same_are_near(text, near, far):
    """A text is clearly nearer to a paraphrase of other words than to one on another subject."""
    assert cosine(text, near) > cosine(text, far) + 0.2
