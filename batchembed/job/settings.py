"""Every setting of a job file: its name, what it means, its default and what is allowed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field, PlainValidator, Strict

from batchembed.controls import Pattern
from batchembed.exchange import Role
from batchembed.job import allowed, quantities
from batchembed.job.described import Http, usable
from batchembed.prompts import Overlap

_TABLE = ConfigDict(extra="forbid", use_attribute_docstrings=True)
Text: TypeAlias = Annotated[str, Strict()]
Word: TypeAlias = Annotated[str, Strict(), Field(min_length=1)]
Path: TypeAlias = Annotated[str, Strict(), AfterValidator(allowed.path)]
Flag: TypeAlias = Annotated[bool, Strict()]
Layer: TypeAlias = Annotated[int, Strict(), Field(ge=-1024, le=1024)]
Count: TypeAlias = Annotated[int, Strict(), Field(ge=1, le=2**53)]
Number: TypeAlias = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Positive: TypeAlias = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
Duration: TypeAlias = Annotated[
    float, PlainValidator(quantities.seconds, json_schema_input_type=str)
]
Pooling: TypeAlias = Literal["mean", "max", "last_token", "abs_max", "weighted_mean"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """What to embed."""

    __pydantic_config__: ClassVar[ConfigDict] = _TABLE

    path: Annotated[
        tuple[str, ...], PlainValidator(allowed.paths, json_schema_input_type=str | list[str])
    ]
    """File, folder, glob, or a list of them."""
    text: Word | None = None
    """The column to embed; or give `template`."""
    template: Word | None = None
    """Several columns as one text, such as "{title}\\n\\n{body}"."""
    image: Word | None = None
    """The column of images: paths of files, or bytes; before the text, if there is one."""
    tokens: Word | None = None
    """The column of token ids, instead of a text."""
    prompt: Word | None = None
    """The column of prompts: lists of texts, images and token ids, instead of a text."""
    id: Word | None = None
    """The column that names a row; without it, the row number does."""
    keep: Annotated[
        tuple[str, ...] | Literal["all"],
        PlainValidator(allowed.columns, json_schema_input_type=Literal["all"] | list[str]),
    ] = "all"
    """The columns to carry into the output: "all" or a list."""
    controls: Word | None = None
    """The column of attention controls: list<struct<start, length, factor>>, in characters."""
    encoding: Word = "utf-8"
    """The encoding of CSV files."""
    delimiter: Annotated[str, Strict(), AfterValidator(allowed.character)] | None = None
    """The separator of CSV files; without it, "," and for .tsv a tab."""
    quote: Annotated[str, Strict(), AfterValidator(allowed.quote)] = '"'
    """The quotation mark of CSV files; "" when quotes are plain characters there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One attention control by pattern."""

    __pydantic_config__: ClassVar[ConfigDict] = _TABLE

    match: Text | None = None
    """The text to look for, as it stands, capitals included; or give `regex`."""
    regex: Text | None = None
    """A regular expression to look for."""
    column: Word | None = None
    """All that a column gives to a text, or a column of images or token ids as a whole."""
    factor: Annotated[Number, Field(ge=0)]
    """Below 1 suppresses what was found, above 1 amplifies it."""
    token_overlap: Overlap | None = None
    """Aleph Alpha: how a token counts that is covered in part; without it, in part."""

    @property
    def pattern(self) -> Pattern:
        """The control as texts are searched by it."""
        return Pattern(self.match, self.regex, self.factor, self.column, self.token_overlap)


def _usable(control: Control) -> Control:
    if why := control.pattern.mistake():
        raise ValueError(why)
    return control


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What makes the vectors. Everything here is part of a vector's key."""

    __pydantic_config__: ClassVar[ConfigDict] = _TABLE

    provider: Word
    """Whose API; `batchembed providers` lists them."""
    name: Word | None = None
    """The model, as the provider calls it; without it, the one `batchembed providers` names."""
    representation: Annotated[
        Role | allowed.RoleColumn,
        PlainValidator(allowed.representation, json_schema_input_type=Role | allowed.RoleColumn),
    ] = "symmetric"
    """The role of the texts: "symmetric", "document", "query" or { column = "role" }."""
    dimensions: Count | None = None
    """Shorter vectors, where the model can make them; without it, the model's own length."""
    normalize: Flag = True
    """Make every vector of length 1."""
    base_url: Word | None = None
    """Where the API is, for servers of your own."""
    on_long_text: Literal["reject", "truncate", "mean"] = "reject"
    """What becomes of a text too long for the model: it is rejected, cut, or the mean of parts."""
    endpoint: Literal[
        "auto",
        "semantic_embed",
        "batch_semantic_embed",
        "embed",
        "instructable_embed",
        "embeddings",
    ] = "auto"
    """Aleph Alpha: which call to use; "auto" takes the one that the other settings are for."""
    instruction: (
        Annotated[
            str | dict[Role, str],
            PlainValidator(allowed.instruction, json_schema_input_type=str | dict[Role, str]),
        ]
        | None
    ) = None
    """Aleph Alpha, endpoint "instructable_embed": what the vectors are for, or that by role."""
    layers: tuple[Layer, ...] = ()
    """Aleph Alpha, endpoint "embed": the layers to read; -1 is the last one."""
    pooling: tuple[Pooling, ...] = ()
    """Aleph Alpha, endpoint "embed": how token vectors become one."""
    contextual_control_threshold: Number | None = None
    """Aleph Alpha: also control tokens that are at least this similar to the controlled ones."""
    control_log_additive: Flag = True
    """Aleph Alpha: add the factor's logarithm to the attention instead of multiplying it."""
    prefixes: dict[Role, Text] = field(default_factory=dict)
    """Text to put before every text of a role, such as { query = "query: " }; "" for none."""
    prompts: dict[Role, Word] = field(default_factory=dict)
    """Servers with prompts of their own (`tei`): the name of the one for each role."""
    controls: tuple[Annotated[Control, AfterValidator(_usable)], ...] = ()
    """Attention control by pattern: tables [[model.controls]] of match or regex, and factor."""
    http: Annotated[Http, AfterValidator(usable)] | None = None
    """Provider "http": an API that batchembed does not know, described by JSON paths."""
    nice: Flag | None = None
    """Aleph Alpha: let other requests go first. May also stand in [access]."""
    hosting: Word | None = None
    """Aleph Alpha: where the request may be computed. May also stand in [access]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How fast, how long and how dear a run may be. Nothing here changes a vector."""

    __pydantic_config__: ClassVar[ConfigDict] = _TABLE

    requests_per_minute: Positive | None = None
    """Your requests per minute; without it, the limit is found from what the server answers."""
    tokens_per_minute: Positive | None = None
    """Your tokens per minute; without it, the limit is found from what the server answers."""
    texts_per_minute: Positive | None = None
    """Your texts per minute, where a provider counts those (Cohere: inputs per minute)."""
    shards_at_once: Count | None = None
    """How many shards of a run send at once and share the limits a minute; without it, all."""
    concurrency: Annotated[
        int | Literal["auto"],
        PlainValidator(allowed.concurrency, json_schema_input_type=Count | Literal["auto"]),
    ] = "auto"
    """Requests in flight at once: "auto" or a number."""
    share: Annotated[Word, AfterValidator(allowed.share)] = "auto"
    """The limiter that runs on one key share: "auto", "start", "off", or its address."""
    texts_per_request: Count | None = None
    """The most texts in one request; without it, the provider's own limit."""
    tokens_per_request: Count | None = None
    """The most tokens in one request; without it, the provider's own limit."""
    max_cost: Annotated[Number, Field(ge=0)] | None = None
    """Stop before the request that could cost more than this in all, in the price's currency."""
    deadline: Duration | None = None
    """Stop cleanly after this long; the same command continues."""
    patience: Duration = 6 * 3600.0
    """How long an outage of the provider is waited out."""
    max_rejects: Annotated[
        quantities.Tolerance, PlainValidator(quantities.tolerance, json_schema_input_type=int | str)
    ] = field(default_factory=lambda: quantities.tolerance("1%"))
    """How many rows may stay without a vector: a count or a percentage."""
    canaries: Literal["auto", "always", "never"] = "auto"
    """Ask for known sentences at the start, each hour and at the end; "auto": in long runs."""
    on_model_change: Literal["stop", "go_on"] = "stop"
    """What a run does when the provider's model is another than it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What the provider charges, where that is not known or is another than known."""

    __pydantic_config__: ClassVar[ConfigDict] = _TABLE

    per_million_tokens: Annotated[Number, Field(ge=0)] | None = None
    """What a million tokens cost in the lane of this job; 0 for a server of your own."""
    currency: Annotated[str, Strict(), AfterValidator(allowed.currency)] = "USD"
    """The currency of `per_million_tokens`, in three letters."""
    file: Path | None = None
    """A price table of your own, which goes before the one in batchembed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where the run goes, and in which form."""

    __pydantic_config__: ClassVar[ConfigDict] = _TABLE

    path: Path
    """The run directory; `--out` takes its place."""
    dtype: Literal["float32", "float16"] = "float32"
    """The numbers of the embedding column."""
    part_rows: Count = 100_000
    """Rows in one file of embeddings/; a file that reaches 256 MiB ends before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity:
    """Which pairs to score at the end of the run. Exactly one of top_k, min_score and dense."""

    __pydantic_config__: ClassVar[ConfigDict] = _TABLE

    top_k: Count | None = None
    """The nearest rows of each row."""
    min_score: Number | None = None
    """Every pair that scores at least this."""
    dense: Flag = False
    """Every score of every pair."""
    metric: Literal["cosine", "dot"] = "cosine"
    """How two vectors are compared."""
    dtype: Literal["float32", "float16"] = "float32"
    """The numbers of a dense matrix."""
    against: Path | None = None
    """A finished run to compare this one with; without it, this run with itself."""
    column: Word | None = None
    """The column of vectors to compare, where the output has several."""
    force: Flag = False
    """Do what is most likely a mistake: queries with queries, dense files over 10 GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What machines that watch a run are told."""

    __pydantic_config__: ClassVar[ConfigDict] = _TABLE

    textfile: Path | None = None
    """A file for Prometheus, written every minute: node_exporter's textfile collector reads it."""
    opentelemetry: Flag = False
    """Send metrics and a span by OTLP, to where OTEL_EXPORTER_OTLP_ENDPOINT says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach the provider. Nothing here changes a vector, and no key ever stands here."""

    __pydantic_config__: ClassVar[ConfigDict] = _TABLE

    key_env: Annotated[str, Strict(), AfterValidator(allowed.variable)] | None = None
    """The environment variable that holds the key; without it, the provider's usual one."""
    key_file: Path | None = None
    """A file that holds nothing but the key, readable by you alone."""
    key_command: (
        Annotated[
            tuple[str, ...], PlainValidator(allowed.command, json_schema_input_type=str | list[str])
        ]
        | None
    ) = None
    """A program that prints the key, such as "pass show aleph-alpha"; no shell reads it."""
    lane: Literal["online", "batch"] = "online"
    """OpenAI, Mistral, Voyage: "batch" hands texts in as files: cheaper, within a day."""
    poll_every: Duration = 30.0
    """How often a batch is asked after."""
    leftovers: Literal["online", "stop"] = "online"
    """What becomes of texts that a batch did not answer: sent online, or the run ends."""
    timeout: Duration = 300.0
    """How long one request may take."""
    allow_insecure_http: Flag = False
    """Allow http:// to another machine: texts and key can then be read on their way."""
    nice: Flag = False
    """Aleph Alpha: let other requests go first."""
    hosting: Word | None = None
    """Aleph Alpha: where the request may be computed, such as "aleph-alpha"."""
    tags: tuple[Word, ...] = ()
    """Aleph Alpha: labels for the provider's own accounting."""
    device: Word = "auto"
    """Local models that sentence-transformers runs: "auto", "cpu", "cuda", …"""
