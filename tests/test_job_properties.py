"""Job files, whatever they hold: a Job or a JobError, and what is written is what is read."""

import tomllib

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from batchembed.errors import JobError
from batchembed.job import Job, from_dict, load, quantities, writing
from batchembed.job.mistakes import TABLES

NAMES = sorted({name for names in TABLES.values() for name in names} | {"column", "query", "zzz"})
WORDS = st.sampled_from(
    ["all", "auto", "query", "document", "local", "aleph-alpha", "openai", "1%", "4h", "float16",
     "dot", "reject", "embed", "mean", "utf-8", "a.csv", "{a}", ";", "MY_TOKEN", "http://localhost"]
)  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.builds(lambda: 10**5000)
    | st.floats()
    | WORDS
    | st.text(max_size=8)
    | st.text(st.characters(categories=["Cs", "Cc"]), max_size=3)
    | st.dates()
    | st.times()
    | st.binary(max_size=3)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)
TABLE = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6)
JOBS = st.dictionaries(st.sampled_from([*TABLES, "zzz"]), TABLE | VALUES, max_size=6)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def job_or_mistake(make):
    """A job, or None for a JobError whose words can be printed anywhere."""
    try:
        job = make()
    except JobError as error:
        said = str(error)
    else:
        assert isinstance(job, Job)
        return job
    assert said.encode("utf-8").strip()
    return None


@QUICK
@given(JOBS | VALUES)
@example({"corpus": {None: 1}})
@example({"limits": {"max_cost": 10**400, "max_rejects": 10**4000}})
@example({"corpus": {"path": "\ud800"}})
@example({"model": {"layers": [2**70], "dimensions": 2**70}})
@example({"access": {"key_env": 10**5000}})
def test_any_dict_gives_a_job_or_a_job_error(given):
    """No value of any setting, of any type, ends in a traceback."""
    job_or_mistake(lambda: from_dict(given, where="x"))


def test_a_dict_that_holds_itself_gives_a_job_error():
    """Python callers can build what no file can hold."""
    given = {}
    given["corpus"] = {"path": given}
    assert job_or_mistake(lambda: from_dict(given, where="x")) is None
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert job_or_mistake(lambda: from_dict({"corpus": {"keep": deep}}, where="x")) is None


@QUICK
@given(
    st.lists(
        st.sampled_from(
            ["[corpus]", "[model]", "[limits]", "[[model.controls]]", "[similarity]", "\n", " = ",
             "path", "text", '"a.csv"', "provider", '"local"', "1", "[", "]", "{", "}", '"', "'",
             "#", ",", "\\u0000", "1e999", "nan", "2026-11-23", "\x00", "é", "true", "top_k"]
        )
    ).map("".join)
    | st.text(max_size=50)
)  # fmt: skip
def test_any_text_gives_a_job_or_a_job_error(tmp_path_factory, text):
    """No file ends in a traceback, be it TOML or not."""
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    job_or_mistake(lambda: load(path))


@QUICK
@given(
    st.text(max_size=30) | st.builds("{}.{}={}".format, *[st.sampled_from(NAMES)] * 2, st.text())
)
def test_any_override_gives_a_job_or_a_job_error(tmp_path_factory, override):
    """No override ends in a traceback."""
    path = tmp_path_factory.getbasetemp() / "good.toml"
    path.write_text(
        '[corpus]\npath = "a"\ntext = "t"\n[model]\nprovider = "local"\n[output]\npath = "x"\n'
    )
    job_or_mistake(lambda: load(path, overrides=[override]))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
PATHS = TEXTS.filter(lambda text: text.strip() and "\0" not in text)
COUNTS = st.integers(1, 2**53)
POSITIVE = st.floats(1e-300, 1e300)
DURATIONS = st.builds(
    "{}{}".format, st.integers(1, 999), st.sampled_from(["ms", "s", "m", "h", "d", ".5s", ".125s"])
)


def some(needed, **optional):
    return st.fixed_dictionaries(needed, optional=optional)


PATTERNS = some({"match": TEXTS, "factor": st.floats(0, 1e300)})
GOOD = some(
    {
        "corpus": some(
            {"path": PATHS | st.lists(PATHS, min_size=1, max_size=3), "text": TEXTS},
            id=TEXTS, keep=st.just("all") | st.lists(TEXTS, max_size=3), controls=TEXTS,
            encoding=TEXTS, delimiter=st.sampled_from(',;|\t"'), quote=st.sampled_from(["", "'"]),
        ),
        "model": some(
            {"provider": st.just("aleph-alpha"), "name": TEXTS},
            representation=st.sampled_from(["query", "document"]) | st.builds(dict, column=TEXTS),
            dimensions=st.just(128), normalize=st.booleans(), nice=st.booleans(), hosting=TEXTS,
            contextual_control_threshold=st.floats(-1e300, 1e300), controls=st.lists(PATTERNS),
            control_log_additive=st.booleans(), base_url=st.just("http://localhost:8080/x"),
        ),
        "output": some({"path": PATHS}, dtype=st.just("float16"), part_rows=COUNTS),
    },
    limits=some(
        {}, requests_per_minute=POSITIVE, tokens_per_minute=POSITIVE,
        concurrency=st.just("auto") | st.integers(1, 10_000), texts_per_request=COUNTS,
        tokens_per_request=COUNTS, max_cost=st.floats(0, 1e300), deadline=DURATIONS,
        patience=DURATIONS, max_rejects=COUNTS | st.sampled_from(["0%", "0.1%", "12.50 %", "100%"]),
    ),
    similarity=some({"top_k": COUNTS}, metric=st.just("dot"), against=PATHS, force=st.booleans()),
    access=some(
        {}, key_env=st.just("MINE"), timeout=DURATIONS, tags=st.lists(TEXTS, max_size=2),
        device=TEXTS,
    ),
)  # fmt: skip


@QUICK
@given(GOOD)
def test_every_good_job_survives_being_written_and_read(tmp_path_factory, given):
    """Whatever a good job holds, its TOML gives the same job, and the same TOML again."""
    job = from_dict(given, where="x")
    path = tmp_path_factory.getbasetemp() / "round.toml"
    path.write_text(job.to_toml(), "utf-8", newline="")
    again = load(path)
    assert again == job
    assert again.to_toml() == job.to_toml()
    assert again.spec().fingerprint() == job.spec().fingerprint()


PLAIN = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@QUICK
@given(PLAIN)
def test_every_value_is_written_as_python_reads_it(value):
    """What is written as TOML is what tomllib reads, quotes, control characters and all."""
    assert tomllib.loads(f"value = {writing.value(value)}")["value"] == value


@given(st.integers(1, 3_000_000_000_000))
def test_every_duration_is_written_as_it_is_read(milliseconds):
    """Down to the millisecond, up to a century."""
    value = milliseconds / 1000
    assert quantities.seconds(quantities.duration(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("90s", 90), ("15m", 900), ("4h", 14_400), ("1h30m", 5_400), ("1d", 86_400), ("1.5s", 1.5),
     ("250ms", 0.25), ("1d2h3m4.5s", 93_784.5), ("0h1m", 60)],
)  # fmt: skip
def test_durations_mean_what_they_say(text, value):
    """Days, hours, minutes, seconds and milliseconds, in this order."""
    assert quantities.seconds(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "90", "s", "0s", "-1s", "1 h", "30m1h", "1h1h", "1H", "1.5h", "1e3s", "\u0661s", "1s\n",
     "9999999d", 90, 1.5, None, True, ["1s"]],
)  # fmt: skip
def test_what_is_no_duration_is_refused(text):
    """No unit, no number, the wrong order, other digits: nothing is guessed."""
    with pytest.raises(ValueError, match="must be"):
        quantities.seconds(text)


@pytest.mark.parametrize(
    ("given", "total", "allowed"),
    [("1%", 100, 1), ("1%", 199, 1), ("1%", 99, 0), ("29%", 100, 29), ("0.1%", 1000, 1),
     ("100%", 7, 7), ("0%", 10**9, 0), ("7 %", 100, 7), (0, 100, 0), (500, 100, 500),
     ("0.29%", 100_000, 290)],
)  # fmt: skip
def test_tolerated_rejects_are_counted_exactly(given, total, allowed):
    """A percentage of the rows, rounded down, with no rounding error; a count as it stands."""
    assert quantities.tolerance(given).rows(total) == allowed


@given(st.integers(0, 10_000), st.integers(0, 10**12))
def test_tolerated_rejects_agree_with_whole_numbers(hundredths, total):
    """Against the same sum in integers."""
    text = f"{hundredths // 100}.{hundredths % 100:02d}%"
    assert quantities.tolerance(text).rows(total) == total * hundredths // 10_000
