"""How each provider says that something is wrong: bodies that it documents, or that were reported.

Where a form is the vendor's by its source or its pages, it stands here as there; the words of a
message are those that users quote. `never` names what a provider has no way to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

KINDS = {"rate", "key", "model", "input", "too large", "too long", "down"}


@dataclass(frozen=True)
class Error:
    """One answer, and what it means; `expects` are fields of the outcome."""

    kind: str
    status: int
    body: object
    headers: Mapping[str, str] = field(default_factory=dict)
    expects: Mapping[str, object] = field(default_factory=dict)


class Errors(list):
    """The answers of one provider."""

    def __init__(self, *errors: Error, never: tuple[str, ...] = ()) -> None:
        super().__init__(errors)
        self.never = never


def openai(message, *, kind="invalid_request_error", code=None, param=None):
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
DOWN = Error("down", 502, PAGE)
CONTEXT = (
    "This model's maximum context length is 8192 tokens, however you requested 9000 tokens "
    "(9000 in your prompt; 0 for the completion). Please reduce your prompt; or completion length."
)

OPENAI = Errors(
    Error(
        "rate",
        429,
        openai("Rate limit reached for requests", kind="requests", code="rate_limit_exceeded"),
        {"retry-after": "2", "retry-after-ms": "1500"},
        {"wait": 1.5},
    ),
    Error(
        "rate",
        429,
        openai(
            "Rate limit reached for text-embedding-3-small in organization o on tokens per min "
            "(TPM): Limit 1000000, Used 999000, Requested 3000. Please try again in 120ms.",
            kind="tokens",
            code="rate_limit_exceeded",
        ),
        expects={"wait": 0.12},
    ),
    Error("rate", 429, openai("Slow down", kind="rate_limit_error", code="slow_down")),
    Error("rate", 503, openai("Slow down", kind="rate_limit_error", code="slow_down")),
    # A request of more tokens than a minute allows would be refused for ever.
    Error(
        "too large",
        429,
        openai(
            "Request too large for text-embedding-3-small in organization o on tokens per min "
            "(TPM): Limit 40000, Requested 87941. The input must be reduced in order to run.",
            kind="tokens",
            code="rate_limit_exceeded",
        ),
    ),
    *(
        Error("money", 429, openai("You exceeded your current quota", kind=kind, code=code))
        for kind, code in (
            ("insufficient_quota", "insufficient_quota"),
            ("insufficient_quota", None),
            ("insufficient_quota", "credit_balance_exhausted"),
            ("requests", "organization_spend_limit_exceeded"),
            ("requests", "project_spend_limit_exceeded"),
            ("requests", "organization_usage_limit_exceeded"),
        )
    ),
    Error("money", 429, openai("Billing hard limit", code="billing_hard_limit_reached")),
    Error("key", 401, openai("Incorrect API key provided: sk-no***.", code="invalid_api_key")),
    Error("key", 403, openai("Country, region, or territory not supported")),
    Error("model", 404, openai("The model `x` does not exist", code="model_not_found")),
    Error("setting", 400, openai("This model does not support dimensions", param="dimensions")),
    Error("input", 400, openai("'$.input' is invalid. Please check the API reference.")),
    Error("input", 400, openai(CONTEXT)),
    Error("too long", 400, openai(CONTEXT)),
    Error(
        "too large",
        400,
        openai("Invalid 'input': array too long. Expected an array with maximum length 2048, but "
               "got an array with length 3000 instead.", code="array_above_max_length"),
        expects={"texts_per_request": 2048},
    ),
    Error(
        "too large",
        400,
        openai(
            "Requested 346134 tokens, max 300000 tokens per request",
            kind="max_tokens_per_request",
            code="max_tokens_per_request",
        ),
    ),
    Error("down", 503, openai("Overloaded", code="server_is_overloaded")),
    Error("down", 500, openai("The server had an error", kind="server_error")),
    DOWN,
)  # fmt: skip

AZURE = Errors(
    Error(
        "rate",
        429,
        {
            "error": {
                "code": "429",
                "message": "Requests to the Embeddings_Create Operation have exceeded call rate "
                "limit of your current OpenAI S0 pricing tier. Please retry after 6 seconds.",
            }
        },
        expects={"wait": 6.0},
    ),
    Error("rate", 429, openai("slow", code="RateLimitReached"), {"retry-after-ms": "800"}),
    Error("key", 401, {"error": {"code": "401", "message": "Access denied due to invalid key"}}),
    Error(
        "model",
        404,
        {
            "error": {
                "code": "DeploymentNotFound",
                "message": "The API deployment for this resource does not exist.",
            }
        },
    ),
    Error("input", 400, openai("'$.input' is invalid.")),
    Error("too long", 400, openai(CONTEXT)),
    Error(
        "too large",
        400,
        openai("Too many inputs. The max number of inputs is 2048."),
        expects={"texts_per_request": 2048},
    ),
    DOWN,
)

COHERE = Errors(
    Error(
        "rate",
        429,
        {
            "message": "Please wait and try again later. You are past the per minute request limit"
        },
        {"retry-after": "3"},
        {"wait": 3.0},
    ),
    Error(
        "money",
        429,
        {
            "message": "You are using a Trial key, which is limited to 1000 API calls / month. You "
            "can continue to use the Trial key for free or upgrade to a Production key"
        },
    ),
    Error("money", 402, {"message": "Please add or update your payment method"}),
    Error("key", 401, {"id": "i", "message": "invalid api token"}),
    Error("key", 403, {"message": "Forbidden"}),
    Error("model", 404, {"message": "model 'x' not found, make sure the model ID is right"}),
    Error("input", 498, {"message": "blocked input"}),
    Error("input", 422, {"message": "invalid text"}),
    Error("too long", 400, {"message": "invalid request: text is too long: 600 tokens, max 512"}),
    Error(
        "too large",
        400,
        {"message": "invalid request: total number of texts must be at most 96 - received 97"},
        expects={"texts_per_request": 96},
    ),
    Error("down", 499, {"message": "client closed request"}),
    Error("down", 500, {"message": "internal server error"}),
    DOWN,
)  # fmt: skip

VOYAGE = Errors(
    Error(
        "rate",
        429,
        {
            "detail": "You have not yet added your payment method in the billing page and will "
            "have reduced rate limits of 3 RPM and 10K TPM."
        },
    ),
    Error("rate", 429, {"detail": "Your request rate is too high"}),
    Error("key", 401, {"detail": "Provided API key is invalid."}),
    Error("key", 403, {"detail": "Forbidden"}),
    Error(
        "model",
        400,
        {"detail": "Model x is not supported. Supported models are ['voyage-4', 'voyage-3.5']."},
    ),
    Error("input", 400, {"detail": "Input cannot contain empty strings"}),
    Error(
        "too long",
        400,
        {
            "detail": "Request to model 'voyage-4' failed. The example at index 0 in your batch "
            "has too many tokens and does not fit into the model's context window of 32000 tokens."
        },
    ),
    Error(
        "too large",
        400,
        {"detail": "The batch size limit is 1000. Your batch size is 3000."},
        expects={"texts_per_request": 1000},
    ),
    Error(
        "too large",
        400,
        {
            "detail": "Request to model 'voyage-4-large' failed. The max allowed tokens per "
            "submitted batch is 120000. Your batch has 121138 tokens after truncation."
        },
    ),
    Error("down", 500, {"detail": "Internal error"}),
    DOWN,
)


def google(code, status, message, *details):
    return {"error": {"code": code, "message": message, "status": status, "details": details}}


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "58s"}


def quota(quota_id):
    return {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"quotaMetric": "m", "quotaId": quota_id, "quotaValue": "100"}],
    }


GEMINI = Errors(
    Error(
        "rate",
        429,
        google(
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota, please check your plan and billing details.",
            quota("EmbedContentRequestsPerMinutePerUserPerProjectPerModel-FreeTier"),
            RETRY,
        ),
        expects={"wait": 58.0},
    ),
    Error(
        "money",
        429,
        google(
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota",
            quota("EmbedContentRequestsPerDayPerUserPerProjectPerModel-FreeTier"),
            RETRY,
        ),
    ),
    Error(
        "key",
        400,
        google(
            400,
            "INVALID_ARGUMENT",
            "API key not valid. Please pass a valid API key.",
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"},
        ),
    ),
    Error("key", 403, google(403, "PERMISSION_DENIED", "Permission denied")),
    Error("model", 404, google(404, "NOT_FOUND", "models/x is not found for API version v1")),
    Error("input", 400, google(400, "INVALID_ARGUMENT", "Request contains an invalid argument.")),
    Error(
        "too large",
        400,
        google(
            400,
            "INVALID_ARGUMENT",
            "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch",
        ),
        expects={"texts_per_request": 100},
    ),
    Error(
        "too large",
        400,
        google(
            400,
            "INVALID_ARGUMENT",
            "Request payload size exceeds the limit: 4194304 bytes.",
        ),
    ),
    Error("down", 503, google(503, "UNAVAILABLE", "The model is overloaded.")),
    Error("down", 500, google(500, "INTERNAL", "An internal error has occurred.")),
    DOWN,
    never=("too long",),  # it cuts
)

MISTRAL = Errors(
    Error(
        "rate",
        429,
        {
            "object": "error",
            "message": "Rate limit exceeded",
            "type": "rate_limited",
            "param": None,
            "code": "1300",
            "raw_status_code": 429,
        },
    ),
    Error("rate", 429, {"message": "Requests rate limit exceeded"}, {"retry-after": "1"}),
    Error("money", 402, {"message": "Payment required"}),
    Error("key", 401, {"detail": "Unauthorized"}),
    Error(
        "model",
        400,
        {
            "object": "error",
            "message": "Invalid model: x",
            "type": "invalid_model",
            "param": None,
            "code": "1500",
        },
    ),
    Error(
        "input",
        422,
        {
            "detail": [
                {"type": "string_type", "loc": ["body", "input", 3], "msg": "Input should be"}
            ]
        },
    ),
    Error(
        "too long",
        400,
        {
            "object": "error",
            "message": "Input 0 has 9000 tokens, exceeding max 8192 tokens.",
            "type": "invalid_request_prompt",
            "code": "3210",
        },
    ),
    Error(
        "too large",
        400,
        {
            "object": "error",
            "message": "Too many inputs in request, split into more batches.",
            "type": "invalid_request_prompt",
            "code": "3210",
        },
    ),
    Error(
        "too large",
        400,
        {
            "object": "error",
            "message": "Too many tokens overall, split into more batches.",
            "type": "invalid_request_prompt",
            "code": "3210",
        },
    ),
    Error("too large", 400, {"message": "Too many tokens in batch. Max is 16384 got 17555"}),
    Error("down", 500, {"object": "error", "message": "Service unavailable.", "code": "1000"}),
    DOWN,
)

JINA = Errors(
    Error("rate", 429, {"detail": "Rate limit exceeded"}),
    Error("money", 402, {"detail": "Insufficient account balance, please top up"}),
    Error("money", 403, {"detail": "Insufficient balance"}),
    Error("key", 401, {"detail": "Unauthorized"}),
    Error("model", 422, {"detail": "Model x not found"}),
    Error("input", 400, {"detail": "[CUSTOM_ERROR] invalid input"}),
    Error("too long", 400, {"detail": "Input text exceeds maximum length of 8194 tokens"}),
    Error(
        "too large",
        422,
        {"detail": "[max_items] List should have at most 512 items after validation, not 3000"},
        expects={"texts_per_request": 512},
    ),
    Error("down", 503, {"detail": "Service unavailable"}),
    DOWN,
)


def hosted(*more, never=()):
    """What hosts that speak OpenAI's form have in common."""
    return Errors(
        Error("rate", 429, openai("Rate limited", kind="rate_limit"), {"retry-after": "1"}),
        Error("money", 402, openai("Payment required", kind="credit_limit")),
        Error("key", 401, openai("Invalid API key provided")),
        Error("model", 404, openai("Unable to access model x", code="model_not_available")),
        Error("input", 400, openai("Input validation error")),
        Error("too long", 400, openai(CONTEXT)),
        Error("too large", 413, b""),
        DOWN,
        *more,
        never=never,
    )


VLLM = Errors(
    Error("rate", 429, openai("Too many requests")),  # a gateway's: vLLM itself has no limit
    Error("key", 401, {"error": "Unauthorized"}),
    Error(
        "model",
        404,
        {
            "object": "error",
            "message": "The model `x` does not exist.",
            "type": "NotFoundError",
            "param": None,
            "code": 404,
        },
    ),
    Error(
        "setting",
        400,
        {
            "object": "error",
            "message": 'Model "x" does not support matryoshka representation, changing output '
            "dimensions will lead to poor results.",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
    ),
    Error("input", 400, openai("Invalid input", kind="BadRequestError", code=400)),
    Error("too long", 400, openai(CONTEXT, kind="BadRequestError", code=400)),
    Error("too large", 413, b"Request Entity Too Large"),
    Error("down", 500, openai("EngineCore encountered an issue", kind="InternalServerError")),
    DOWN,
)


def tei(*shape):
    """Return errors of TEI: native ones have error and error_type, the other route is flat."""

    def said(kind, message, code):
        if shape:
            return {"message": message, "code": code, "type": kind}
        return {"error": message, "error_type": kind}

    return Errors(
        Error("rate", 429, said("Overloaded", "Model is overloaded", 429)),
        Error("key", 401, b""),
        Error("model", 404, b""),
        Error("input", 422, said("Tokenizer", "tokenization error", 422)),
        Error("input", 400, said("Empty", "`inputs` cannot be empty", 400)),
        Error(
            "too long",
            422,
            said(
                "Validation",
                "Input validation error: `inputs` must have less than 512 tokens. Given: 785",
                422,
            ),
        ),
        Error(
            "too large",
            422,
            said("Validation", "batch size 3000 > maximum allowed batch size 32", 422),
            expects={"texts_per_request": 32},
        ),
        Error("too large", 413, b"Failed to buffer the request body: length limit exceeded"),
        Error("down", 424, said("Backend", "inference error", 424)),
        Error("down", 503, said("Unhealthy", "unhealthy", 503)),
        DOWN,
    )


INFINITY = Errors(
    Error(
        "rate",
        429,
        openai("ModelNotDeployedError: model x is currently overloaded", kind=None, code=429),
    ),
    Error("key", 401, {"detail": "Unauthorized"}),
    Error(
        "model",
        400,
        openai("ModelNotDeployedError: model=`x` not found in models.", kind=None, code=400),
    ),
    Error("input", 400, openai("InputError: not an embedding", kind=None, code=400)),
    Error(
        "too long",
        422,
        {
            "detail": [
                {
                    "type": "string_too_long",
                    "loc": ["body", "input", 0],
                    "msg": "String should have at most 122880 characters",
                }
            ]
        },
    ),
    Error(
        "too large",
        422,
        {
            "detail": [
                {
                    "type": "too_long",
                    "loc": ["body", "input"],
                    "msg": "List should have at most 2048 items after validation, not 3000",
                }
            ]
        },
        expects={"texts_per_request": 2048},
    ),
    Error("down", 500, openai("InternalServerError: x", kind=None, code=500)),
    DOWN,
)  # fmt: skip

OLLAMA = Errors(
    Error("rate", 429, {"error": "too many requests"}),  # a gateway's: its own limit is a 503
    Error("key", 401, {"error": "unauthorized"}),
    Error("model", 404, {"error": 'model "x" not found, try pulling it first'}),
    Error("input", 400, {"error": "invalid input type"}),
    Error("input", 400, {"error": "embedding contains NaN"}),
    Error("too long", 400, {"error": "the input length exceeds the context length"}),
    Error("too large", 413, b""),
    Error(
        "down", 503, {"error": "server busy, please try again.  maximum pending requests exceeded"}
    ),
    Error("down", 499, {"error": "request cancelled"}),
    Error("down", 500, {"error": "model runner has unexpectedly stopped"}),
    DOWN,
)

ALEPH_ALPHA = Errors(
    Error("rate", 429, {"error": "Too many requests", "code": "TOO_MANY_REQUESTS"}),
    Error("rate", 429, b"<html><head><title>429 Too Many Requests</title>"),
    Error("money", 402, {"error": "Not enough credits", "code": "OUT_OF_CREDITS"}),
    Error("key", 401, {"error": "InvalidToken", "code": "UNAUTHENTICATED"}),
    Error("model", 404, {"error": "No such model", "code": "NOT_FOUND"}),
    Error("input", 400, {"error": "wrong", "code": "MISSING_CAPABILITY"}),
    Error("too long", 400, {"error": "Prompt is too long: 3000 tokens, max 2048", "code": "X"}),
    Error("too large", 413, PAGE),
    Error("down", 503, {"error": "Sorry we had to reject your request", "code": "QUEUE_FULL"}),
    DOWN,
)

# By status, and by words in the place that the description names.
DESCRIBED = Errors(
    Error("rate", 429, {"problem": {"words": "calm down"}}, {"retry-after": "3"}, {"wait": 3.0}),
    Error("money", 402, {"problem": {"words": "no credit"}}),
    Error("key", 401, {"problem": {"words": "who are you"}}),
    Error("model", 404, {"problem": {"words": "no such engine"}}),
    Error("input", 400, {"problem": {"words": "row 3 is odd"}}),
    Error("too long", 400, {"problem": {"words": "the text is too long"}}),
    Error(
        "too large",
        400,
        {"problem": {"words": "number of texts must be at most 20"}},
        expects={"texts_per_request": 20},
    ),
    DOWN,
)

BY_PROVIDER = {
    "http": DESCRIBED,
    "aleph-alpha": ALEPH_ALPHA,
    "openai": OPENAI,
    "azure": AZURE,
    "azure-classic": AZURE,
    "cohere": COHERE,
    "voyage": VOYAGE,
    "gemini": GEMINI,
    "mistral": MISTRAL,
    "jina": JINA,
    **dict.fromkeys(("together", "deepinfra", "fireworks", "openrouter"), hosted()),
    "vllm": VLLM,
    "tei": tei(),
    "tei-openai": tei("flat"),
    "infinity": INFINITY,
    "ollama": OLLAMA,
    "ollama-openai": OLLAMA,
    "lm-studio": hosted(
        Error("model", 400, {"error": "Model not found x"}),
        Error("too long", 500, openai("input is too large to process. increase the batch size")),
        never=(),
    ),
}
