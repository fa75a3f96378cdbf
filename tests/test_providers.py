"""What providers are known, what is refused beforehand, and where a key may go."""

import asyncio
import subprocess
import sys

import pytest
from fakes.forms import DESCRIBED

from batchembed.errors import ActionNeededError, JobError
from batchembed.providers import Access, check, defaults, info, known, limits, open_provider
from batchembed.providers.access import checked
from batchembed.providers.presets.own import STATIC_MODEL
from batchembed.spec import Spec


def test_every_provider_says_what_it_is():
    """Names are unique, and what `batchembed providers` shows is there."""
    names = [p.name for p in known()]
    assert names[:3] == ["local", "aleph-alpha", "openai"]
    assert len(set(names)) == len(names)
    for provider in known():
        assert info(provider.name) is provider
        assert provider.title
        assert not provider.key_needed or provider.key_variable
        assert "prefixes" in provider.takes or provider.roles, "some way to tell a role"
        usual = provider.model_of(provider.model)
        assert not provider.model or usual.name == provider.model, "the usual model is a known one"
        assert not provider.base_url or checked(provider.base_url) == provider.base_url


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("openia", "openai"), ("aleph_alpha", "aleph-alpha"), ("Local", "local"), ("zzz", "known")],
)
def test_an_unknown_provider_names_the_nearest(wrong, near):
    """A slip of the pen costs no search."""
    with pytest.raises(JobError, match=f"`{wrong}`") as caught:
        info(wrong)
    assert near in caught.value.hint


def test_defaults_fill_in_name_and_address():
    """A job that names only the provider works."""
    assert defaults(Spec("local", "")).name == STATIC_MODEL
    assert defaults(Spec("openai", "")).base_url == "https://api.openai.com/v1"
    mine = defaults(Spec("openai", "bge-m3", base_url="https://host.example/v1/"))
    assert (mine.name, mine.base_url) == ("bge-m3", "https://host.example/v1")


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (Spec("nothing", ""), "nothing"),
        (Spec("aleph-alpha", "", dimensions=256), "256"),
        (Spec("aleph-alpha", "", endpoint="embed"), "embed"),
        (Spec("aleph-alpha", "", endpoint="instructable_embed"), "instructable_embed"),
        (Spec("aleph-alpha", "", endpoint="nonsense"), "nonsense"),
        (Spec("aleph-alpha", "", prefixes=(("query", "q"),)), "prefixes"),
        (Spec("gemini", "", on_long_text="mean"), "mean"),
        (Spec("openai", "", endpoint="semantic_embed"), "endpoint"),
        (Spec("openai", "", instruction="do"), "instruction"),
        (Spec("openai", "", control_log_additive=False), "control_log_additive"),
        (Spec("openai", "", contextual_control_threshold=0.5), "contextual_control_threshold"),
        (Spec("openai", "", dimensions=0), "0"),
        (Spec("openai", "", prefixes=(("querry", "q"),)), "querry"),
        (Spec("tei-openai", "m", on_long_text="truncate"), "truncate"),
        (Spec("local", "", base_url="http://x"), "base_url"),
        (Spec("local", "", normalize=False), "normalize"),
        (Spec("local", "", prefixes=(("query", "q"),)), "prefixes"),
        (Spec("local", "", layers=(1,)), "layers"),
        (Spec("local", "", dimensions=257), "257"),
    ],
)
def test_what_cannot_be_had_is_said_beforehand(wrong, word):
    """A setting that would be ignored is an error that names it, with the mend."""
    with pytest.raises(JobError, match=word) as caught:
        defaults(wrong)
    assert caught.value.hint


def test_what_can_be_had_is_let_through():
    """The settings of the contract's own example."""
    defaults(Spec("aleph-alpha", "luminous-base", dimensions=128, normalize=False))
    defaults(Spec("aleph-alpha", "", endpoint="semantic_embed", contextual_control_threshold=0.2))
    defaults(Spec("openai", "", dimensions=256, prefixes=(("query", "q: "),)))
    defaults(Spec("local", "intfloat/e5-small", normalize=False, prefixes=(("query", "q: "),)))


def test_roles_and_controls_are_checked_beforehand():
    """openai needs a prefix for a role; controls need a model that knows them."""
    check(Spec("aleph-alpha", ""), roles=("query", "document"), controls=True)
    check(Spec("local", ""), roles=("query", "document"), controls=True)
    check(Spec("openai", ""), roles=("symmetric",))
    check(Spec("openai", "", prefixes=(("query", "q: "),)), roles=("query",))
    for spec, told in (
        (Spec("openai", ""), {"roles": ("query",)}),
        (Spec("openai", "", prefixes=(("query", "q"),)), {"roles": ("query", "document")}),
        (Spec("openai", ""), {"controls": True}),
        (Spec("local", "other/model"), {"controls": True}),
    ):
        with pytest.raises(JobError) as caught:
            check(spec, **told)
        assert caught.value.hint


@pytest.mark.parametrize(
    "address",
    [
        "https://api.example.com",
        "https://api.example.com:8443/v1/",
        "http://127.0.0.1:8000/v1",
        "http://localhost:11434/v1",
        "http://[::1]:8000",
    ],
)
def test_addresses_that_are_safe_for_a_key(address):
    """https anywhere, http on this machine."""
    assert checked(address) == address.rstrip("/")


@pytest.mark.parametrize(
    "address",
    [
        "http://api.example.com",
        "http://10.0.0.1/v1",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "ftp://api.example.com",
        "api.example.com",
        "",
        "https://",
        "https://user:hunter2@api.example.com",
        "https://api.example.com?key=hunter2",
        "https://api.example.com/#hunter2",
        "https://api.example.com/a b",
        "https://169.254.169.254/latest",
        "https://[fe80::1]/",
        "https://[fd00:ec2::254]/",
        "https://[broken",
        "https://host:port/",
    ],
)
def test_addresses_where_a_key_must_not_go(address):
    """Refused with a hint, and without showing what might be a secret."""
    with pytest.raises(JobError) as caught:
        checked(address)
    assert caught.value.hint
    assert "hunter2" not in str(caught.value)


def test_http_beyond_this_machine_needs_a_word():
    """Inside a safe network it can be allowed; a link-local address never is."""
    assert checked("http://10.0.0.1", allow_insecure_http=True) == "http://10.0.0.1"
    with pytest.raises(JobError):
        checked("http://169.254.169.254", allow_insecure_http=True)


@pytest.mark.parametrize("name", ["aleph-alpha", "openai"])
def test_a_missing_key_names_its_variable(name):
    """Nothing is sent without the key that is needed."""
    with pytest.raises(ActionNeededError) as caught:
        open_provider(Spec(name, ""), Access(), key=None)
    assert info(name).key_variable in caught.value.hint


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel", " padded", "nul\0"])
def test_a_key_that_no_header_can_carry_is_not_shown(key):
    """A key file with a line break too many is told from a wrong key."""

    async def opened():
        open_provider(Spec("openai", ""), Access(), key=key)

    with pytest.raises(ActionNeededError) as caught:
        asyncio.run(opened())
    assert key.strip() not in str(caught.value)


def test_a_server_of_ones_own_needs_no_key():
    """Ollama and kin have none."""

    async def opened():
        provider = open_provider(
            Spec("openai", "m"), Access(base_url="http://127.0.0.1:1/v1"), key=None
        )
        await provider.close()

    asyncio.run(opened())


def test_limits_of_every_provider_are_known_without_opening_it():
    """A plan needs them before any key."""
    for provider in known():
        address = "https://host.example" if provider.dialect else None
        spec = Spec(
            provider.name,
            provider.model or "m",
            base_url=provider.base_url or address,
            http=DESCRIBED if provider.name == "http" else None,
        )
        assert limits(spec).texts_per_request >= 32


def test_looking_around_loads_no_network_library():
    """`batchembed providers` and job checks start fast."""
    words = (
        "import sys, batchembed.providers as p; from batchembed.spec import Spec;"
        "p.defaults(Spec('openai','')); p.known();"
        "print([m for m in ('aiohttp','tokenizers','simdjson','openai') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", words], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
