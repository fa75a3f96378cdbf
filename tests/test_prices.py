"""Prices: the table that is shipped, a user's own, whose price holds, and exact sums."""

import datetime as dt
import re
import tomllib
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchembed import costing, prices
from batchembed.errors import JobError
from batchembed.job import from_dict
from batchembed.ledger import Bill
from batchembed.prices import Price, amount, cost, find, read, table
from batchembed.prices.table import is_private

FILE = Path(prices.__file__).parent / "prices.toml"
OWN = "https://api.openai.com/v1"


def job(price=None, limits=None, **model):
    """A job for a provider, with a price of its own where one is given."""
    tables = {
        "corpus": {"path": "a.csv", "text": "t"},
        "model": {"provider": "openai", **model},
        "output": {"path": "x"},
    }
    tables |= {"price": price} if price else {}
    return from_dict(tables | ({"limits": limits} if limits else {}), where="the test")


def price_of(made, **more):
    return costing.price_of(made, made.spec(), **more)


# -- the table -------------------------------------------------------------------------------------


def test_every_price_of_the_package_has_its_date_and_source():
    """Each of them, not only some; the sources are those that the head of the file explains."""
    text = FILE.read_text("utf-8")
    explained = set(re.findall(r"(?m)^#   ([\w-]+)  ", text))
    for line in tomllib.loads(text)["price"]:
        assert line["date"] <= dt.date(2026, 11, 25)
        assert line["source"] in explained, line
        assert re.fullmatch("[A-Z]{3}", line["currency"])
    assert len(table()) == len(tomllib.loads(text)["price"]) > 20


def test_no_price_stands_there_twice():
    """Otherwise the first would win without a word."""
    names = [(line.provider, line.model, line.lane) for line in table()]
    assert len(names) == len(set(names))


def test_the_batch_lane_is_never_dearer():
    """It is there to save money: half the price at OpenAI and Mistral, a third less at Voyage."""
    online = {(x.provider, x.model): x.price.per_million for x in table() if x.lane == "online"}
    shares = {
        x.provider: x.price.per_million / online[x.provider, x.model]
        for x in table()
        if x.lane == "batch"
    }
    assert shares == {
        "openai": Decimal("0.5"), "mistral": Decimal("0.5"), "voyage": Decimal("0.67")
    }  # fmt: skip


def test_a_table_of_ones_own_goes_before(tmp_path):
    """Whatever the address; what it does not have is looked up in the package's."""
    path = tmp_path / "prices.toml"
    path.write_text(
        '[[price]]\nprovider = "openai"\nmodel = "text-embedding-3-small"\n'
        'per_million_tokens = 0.015\ncurrency = "EUR"\ndate = 2026-10-01\nsource = "contract"\n'
    )
    given_file = {"file": str(path)}
    found = price_of(job(given_file, base_url="https://gateway.example/v1"))
    assert found == Price(Decimal("0.015"), "EUR", "contract", "2026-10-01")
    assert price_of(job(given_file, name="text-embedding-3-large")).per_million == Decimal("0.13")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[", "is not TOML"),
        ("x = 1", "no list called `price`"),
        ("price = 3", "no list called `price`"),
        ("price = [3]", "price 1 lacks something"),
        ('price = [{provider = "a", model = "b"}]', "price 1 lacks something"),
        ('price = [{provider = "a", model = "b", per_million_tokens = "1"}]', "`1`, not a number"),
        ('price = [{provider = "a", model = "b", per_million_tokens = true}]', "not a number"),
        ('price = [{provider = "a", model = "b", per_million_tokens = -1}]', "must be 0 or more"),
        ('price = [{provider = "a", model = "b", per_million_tokens = inf}]', "must be 0 or more"),
        ('price = [{provider="a", model="b", per_million_tokens=1, cost=2}]', "`cost` is unknown"),
        (
            'price = [{provider="a", model="b", per_million_tokens=1, currency="US Dollar"}]',
            "`currency` is `US Dollar`: must be a word",
        ),
    ],
)
def test_a_table_that_is_none_is_said_to_be(tmp_path, text, says):
    """With the file, the price at fault, and what one looks like."""
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(JobError, match=re.escape(says)) as caught:
        read(path)
    assert str(path) in caught.value.message


def test_a_table_that_cannot_be_read_is_named(tmp_path):
    """Whether it is not there or no text."""
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(JobError, match="cannot be read"):
            read(path)
    (tmp_path / "odd.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(JobError, match="not UTF-8"):
        read(tmp_path / "odd.toml")


# -- whose price -----------------------------------------------------------------------------------


def test_the_job_has_the_last_word():
    """Also at the provider's own address."""
    given_price = {"per_million_tokens": 0.5, "currency": "EUR"}
    assert price_of(job(given_price)) == Price(Decimal("0.5"), "EUR", "job")


def test_the_table_is_for_the_providers_own_address():
    """Who else serves a model of that name may ask another price."""
    assert price_of(job()).per_million == Decimal("0.02")
    assert price_of(job(), lane="batch").per_million == Decimal("0.01")
    assert (
        price_of(job(base_url="https://gateway.example/v1", name="text-embedding-3-small")) is None
    )
    assert price_of(job(name="of-tomorrow")) is None


def test_what_runs_at_home_is_free():
    """The local model, and servers in a private network."""
    assert not price_of(job(provider="local")).per_million
    for host in ("localhost:1", "127.0.0.1", "10.1.2.3", "192.168.0.9", "[::1]:8080"):
        found = price_of(
            from_dict(
                {
                    "corpus": {"path": "a.csv", "text": "t"},
                    "model": {"provider": "openai", "name": "m", "base_url": f"http://{host}/v1"},
                    "output": {"path": "x"},
                    "access": {"allow_insecure_http": True},
                },
                where="the test",
            )
        )
        assert (found.per_million, found.source) == (0, prices.PRIVATE), host


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("http://tei/v1", True),
        ("http://tei.svc.cluster.local", True),
        ("http://tei.internal:80", True),
        ("https://api.openai.com/v1", False),
        ("https://8.8.8.8", False),
        ("https://localhost.example", False),
        ("https://fc00.example", False),
    ],
)
def test_a_private_network_is_known_by_its_looks(address, private):
    """By address or by the end of the name; what only looks like one is none."""
    assert is_private(address) == private


def test_free_lines_hold_everywhere_others_do_not():
    """A server of a kind that bills nobody bills nobody, wherever it stands."""
    free = {"lane": "online", "address": "https://x.example", "own_address": False}
    assert find("tei", "any", **free, tables=[table()]).source == "self-hosted"
    assert find("voyage", "voyage-4", **free, tables=[table()]) is None


# -- bounds that could not be kept -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: job(limits={"max_cost": 1}, name="of-tomorrow"), "of `of-tomorrow` at `openai`"),
        (
            lambda: job(limits={"max_cost": 1}, name="m", base_url="http://127.0.0.1:9/v1"),
            "is taken for a server of your own",
        ),
    ],
)
def test_a_bound_that_could_not_be_kept_is_refused_with_the_mend(made, says):
    """The price is missing, or none is asked by what seems to be one's own server."""
    with pytest.raises(JobError, match=re.escape(says)) as caught:
        costing.check_bound(made(), made().spec())
    assert "--set price.per_million_tokens=" in caught.value.hint
    priced = made()
    costing.check_bound(job({"per_million_tokens": 1}, {"max_cost": 1}, name="x"), priced.spec())


def test_a_bound_in_another_currency_than_was_paid_in_is_refused():
    """Two currencies have no sum."""
    made = job({"per_million_tokens": 1, "currency": "EUR"}, {"max_cost": 1})
    bill = Bill(tokens=10, rates={"0.02 USD": 10})
    with pytest.raises(JobError, match="another currency than `EUR`"):
        costing.budget(made, made.spec(), price_of(made), bill)
    bill = Bill(tokens=10, rates={"": 10})
    assert costing.budget(made, made.spec(), price_of(made), bill).paid == Decimal("0.00001")


# -- sums ------------------------------------------------------------------------------------------


@given(st.decimals("0.0001", 1000, places=4), st.integers(0, 10**12))
def test_money_and_tokens_are_exact(per_million, tokens):
    """What so many tokens cost pays for so many tokens, and not for one more."""
    price = Price(per_million)
    assert price.of(tokens) * 1_000_000 == per_million * tokens
    assert price.tokens(price.of(tokens)) == tokens
    assert price.tokens(price.of(tokens) - Decimal("1e-12")) == max(0, tokens - 1)
    assert Price(Decimal(0)).tokens(Decimal(0)) is None


def test_a_cost_sums_what_was_paid_at_the_price_of_its_time():
    """What was paid while no price was known counts at that of today."""
    today = Price(Decimal("0.1"))
    paid = {"0.02 USD": 1_000_000, "0.01 USD": 3_000_000, "": 500_000}
    assert cost(paid, today) == prices.Cost(Decimal("0.1"), "USD")
    assert cost(paid, None).amount is None
    assert cost({}, None).amount == 0
    assert cost({"1 EUR": 1, "1 USD": 1}, today).amount is None


@pytest.mark.parametrize("per_million", ["0.02", "1", "1000", "0.000001", "1E+2", "0"])
def test_a_rate_reads_back_as_the_price_it_was(per_million):
    """It stands with every answer that is kept."""
    price = Price(Decimal(per_million), "EUR")
    assert cost({price.rate: 10**6}, None) == prices.Cost(Decimal(per_million), "EUR")


@pytest.mark.parametrize(
    ("money", "up", "told"),
    [
        (0, False, "0"), (1234.5, False, "1234.50"), (3.1, False, "3.10"),
        (0.0123456, False, "0.012"), (0.00071, False, "0.00071"), (2.001, True, "2.01"),
        (Decimal("0.0000001234"), True, "0.00000013"),
    ],
)  # fmt: skip
def test_money_is_told_with_the_digits_that_matter(money, up, told):
    """At least cents, at most what two figures need."""
    assert amount(money, up=up) == told
