"""Records what the vendors' own clients send, and what they read from an answer.

Run by a python that has the clients (`make vendors`), it prints JSON: for each case what was asked
for, the request as it reached a server on 127.0.0.1, the answer, and the vectors that the client
took from it. The answers are in the form that the vendor documents, with stand-in vectors.

    .venv-vendors/bin/python tests/vendors/record.py > tests/vendors/recorded.json
"""

from __future__ import annotations

import base64
import json
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from urllib.parse import parse_qsl, urlsplit

TEXTS = ["I want to play on my TV.", 'Größe 🎉 naïve "quoted" \\ \n tab\t', "x"]
KEY = "a-key-of-nobody"
PNG = b"\x89PNG\r\n\x1a\n of a kind"
KEPT = ("authorization", "api-key", "x-goog-api-key", "content-type")


def rows(count, size=4):
    """Vectors of unit length whose numbers JSON, float32 and float64 all hold exactly."""
    found = [[0.0] * size for _ in range(count)]
    for number, row in enumerate(found):
        row[number % size], row[(number + 1) % size] = 0.6000000238418579, -0.800000011920929
    return found


def encoded(row):
    return base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode()


def voyage_answer(body):
    usage = {"text_tokens": 5, "image_pixels": 12, "video_pixels": 0, "total_tokens": 7}
    return openai_answer(body | {"input": body["inputs"]}) | {"usage": usage}


def openai_answer(body):
    given = body["input"] if isinstance(body["input"], list) else [body["input"]]
    found = rows(len(given))
    shown = [encoded(r) for r in found] if body.get("encoding_format") == "base64" else found
    data = [{"object": "embedding", "index": n, "embedding": r} for n, r in enumerate(shown)]
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    told = {"id": "an-id", "created": 1_700_000_000}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage, **told}


def numbers_answer(body):
    """OpenAI's form in numbers, whatever was asked for: the client of Infinity reads no other."""
    return openai_answer(body | {"encoding_format": "float"})


def cohere_answer(body):
    found = rows(len(body.get("texts") or body["inputs"]))
    shown = {"base64": [encoded(r) for r in found], "float": found}
    return {
        "id": "an-id",
        "embeddings": {kind: shown[kind] for kind in body["embedding_types"]},
        "texts": body.get("texts"),
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 7}},
        "response_type": "embeddings_by_type",
    }


def gemini_answer(body):
    return {"embeddings": [{"values": row} for row in rows(len(body["requests"]))]}


def ollama_answer(body):
    found = rows(len(body["input"]))
    return {"model": body["model"], "embeddings": found, "prompt_eval_count": 7}


def tei_answer(body):
    return rows(len(body["inputs"]))


class Recorder:
    """A server that answers in one form and keeps the last request."""

    def __init__(self, answer):
        self.last = None
        recorder = self

        class Answering(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                raw = self.rfile.read(int(self.headers["content-length"]))
                parts = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = json.loads(raw)
                said = answer(body)
                recorder.last = (
                    {
                        "method": "POST",
                        "path": parts.path,
                        "query": dict(parse_qsl(parts.query)),
                        "headers": {name: headers[name] for name in KEPT if name in headers},
                        "body": body,
                    },
                    said,
                )
                sent = json.dumps(said).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def floats(found):
    return [list(map(float, row)) for row in found]


def unpacked(found):
    """Vectors that a client leaves in base64, which is little-endian float32 everywhere."""
    raw = [base64.b64decode(row) for row in found]
    return floats(struct.unpack(f"<{len(row) // 4}f", row) for row in raw)


# -- the clients -----------------------------------------------------------------------------------


def by_openai(path="/v1", **told):
    def call(url, case):
        import openai

        client = openai.OpenAI(api_key=KEY, base_url=url + path, max_retries=0)
        found = client.embeddings.create(model=case["name"], input=case["texts"], **told)
        return floats(e.embedding for e in found.data)

    return call


def by_azure(url, case):
    import openai

    client = openai.AzureOpenAI(
        api_key=KEY, azure_endpoint=url, api_version="2024-10-21", max_retries=0
    )
    found = client.embeddings.create(model=case["name"], input=case["texts"])
    return floats(e.embedding for e in found.data)


def by_mistral(**told):
    def call(url, case):
        from mistralai.client import Mistral

        with Mistral(api_key=KEY, server_url=url) as client:
            found = client.embeddings.create(model=case["name"], inputs=case["texts"], **told)
        return floats(e.embedding for e in found.data)

    return call


def by_voyage(**told):
    def call(url, case):
        import voyageai

        client = voyageai.Client(api_key=KEY, base_url=url + "/v1")
        found = client.embed(case["texts"], model=case["name"], truncation=False, **told)
        return floats(found.embeddings)

    return call


def by_cohere(**told):
    def call(url, case):
        import cohere

        client = cohere.ClientV2(KEY, base_url=url)
        found = client.embed(texts=case["texts"], model=case["name"], truncate="NONE", **told)
        if found.embeddings.float_ is not None:
            return floats(found.embeddings.float_)
        return unpacked(found.embeddings.base64)

    return call


def by_voyage_multimodal(**told):
    """Its images are made anew as WebP by the client: what it made is what we are asked for."""

    def call(url, case):
        import voyageai
        from PIL import Image

        picture = Image.new("RGB", (3, 2), (200, 10, 10))
        client = voyageai.Client(api_key=KEY, base_url=url + "/v1")
        inputs = [["a caption", picture], [picture], ["text alone"]]
        found = client.multimodal_embed(inputs, model=case["name"], truncation=False, **told)
        return floats(found.embeddings)

    return call


def by_cohere_mixed(**told):
    def call(url, case):
        import cohere

        uri = "data:image/png;base64," + base64.b64encode(PNG).decode()
        image = {"type": "image_url", "image_url": {"url": uri}}
        words = {"type": "text", "text": "a caption"}
        rows_ = [[words, image], [image], [{"type": "text", "text": "text alone"}]]
        client = cohere.ClientV2(KEY, base_url=url)
        found = client.embed(
            inputs=[{"content": row} for row in rows_],
            model=case["name"],
            truncate="NONE",
            embedding_types=["base64"],
            **told,
        )
        return unpacked(found.embeddings.base64)

    return call


def by_gemini(**told):
    def call(url, case):
        from google import genai
        from google.genai import types

        client = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=url))
        prefix = case.get("expects_prefix", "")
        contents = [
            types.Content(role="user", parts=[types.Part(text=prefix + text)])
            for text in case["texts"]
        ]
        config = types.EmbedContentConfig(**told)
        found = client.models.embed_content(model=case["name"], contents=contents, config=config)
        return floats(e.values for e in found.embeddings)

    return call


def by_ollama(**told):
    def call(url, case):
        import ollama

        client = ollama.Client(host=url)
        found = client.embed(model=case["name"], input=case["texts"], truncate=False, **told)
        return floats(found.embeddings)

    return call


def by_together(url, case):
    import together

    client = together.Together(api_key=KEY, base_url=url, max_retries=0)
    found = client.embeddings.create(model=case["name"], input=case["texts"])
    return floats(e.embedding for e in found.data)


def by_hugging_face(**told):
    def call(url, case):
        from huggingface_hub import InferenceClient

        client = InferenceClient(model=url + "/embed", token=KEY)
        return floats(client.feature_extraction(case["texts"], truncate=False, **told))

    return call


def by_infinity(url, case):
    from infinity_client import AuthenticatedClient
    from infinity_client.api.default import embeddings
    from infinity_client.models import EmbeddingEncodingFormat, OpenAIEmbeddingInputText

    body = OpenAIEmbeddingInputText(
        input_=case["texts"],
        model=case["name"],
        encoding_format=EmbeddingEncodingFormat("base64"),
    )
    with AuthenticatedClient(base_url=url, token=KEY) as client:
        found = embeddings.sync(client=client, body=body)
    return floats(e.embedding for e in found.data)


def case(provider, client, call, answer=openai_answer, **told):
    """One thing to ask for: by `call` of the package `client`, and of us by provider and spec."""
    asked = {"provider": provider, "name": "a-model", "role": "symmetric", "texts": TEXTS, **told}
    return asked, client, call, answer


def cases():
    yield case("openai", "openai", by_openai(), name="text-embedding-3-small")
    yield case(
        "openai",
        "openai",
        by_openai(dimensions=256),
        name="text-embedding-3-large",
        dimensions=256,
    )
    yield case("azure-classic", "openai", by_azure, name="my-deployment")
    yield case("azure", "openai", by_openai("/openai/v1"), name="my-deployment")
    for name in ("vllm", "tei-openai", "ollama-openai"):
        yield case(name, "openai", by_openai())
    for name, path in (
        ("deepinfra", "/v1/openai"),
        ("fireworks", "/inference/v1"),
        ("openrouter", "/api/v1"),
        ("lm-studio", "/v1"),
    ):
        yield case(name, "openai", by_openai(path, encoding_format="float"))
    yield case("together", "together", by_together)
    yield case("infinity", "infinity-client", by_infinity, numbers_answer)
    yield case("mistral", "mistralai", by_mistral(), name="mistral-embed")
    yield case(
        "mistral",
        "mistralai",
        by_mistral(output_dimension=512),
        name="codestral-embed",
        dimensions=512,
    )
    for role, word in (("symmetric", None), ("document", "document"), ("query", "query")):
        yield case("voyage", "voyageai", by_voyage(input_type=word), name="voyage-4", role=role)
    yield case(
        "voyage",
        "voyageai",
        by_voyage(output_dimension=256, input_type="query"),
        name="voyage-3.5",
        role="query",
        dimensions=256,
    )
    for role, word in (
        ("symmetric", "clustering"),
        ("document", "search_document"),
        ("query", "search_query"),
    ):
        told = {"input_type": word, "embedding_types": ["base64"]}
        yield case(
            "cohere", "cohere", by_cohere(**told), cohere_answer, name="embed-v4.0", role=role
        )
    told = {"input_type": "search_query", "embedding_types": ["base64"], "output_dimension": 256}
    yield case(
        "cohere",
        "cohere",
        by_cohere(**told),
        cohere_answer,
        name="embed-v4.0",
        role="query",
        dimensions=256,
    )
    yield case(
        "cohere",
        "cohere",
        by_cohere_mixed(input_type="search_document"),
        cohere_answer,
        name="embed-v4.0",
        role="document",
        images=True,
    )
    for name, told in (("3", {}), ("3.5", {"dimensions": 256})):
        wanted = {"output_dimension": told["dimensions"]} if told else {}
        yield case(
            "voyage",
            "voyageai",
            by_voyage_multimodal(input_type="query", **wanted),
            voyage_answer,
            name=f"voyage-multimodal-{name}",
            role="query",
            images=True,
            **told,
        )
    for role, task in (
        ("symmetric", "SEMANTIC_SIMILARITY"),
        ("document", "RETRIEVAL_DOCUMENT"),
        ("query", "RETRIEVAL_QUERY"),
    ):
        yield case(
            "gemini",
            "google-genai",
            by_gemini(task_type=task),
            gemini_answer,
            name="gemini-embedding-001",
            role=role,
        )
    for role, prefix in (
        ("symmetric", "task: sentence similarity | query: "),
        ("document", "title: none | text: "),
        ("query", "task: search result | query: "),
    ):
        yield case(
            "gemini",
            "google-genai",
            by_gemini(output_dimensionality=768),
            gemini_answer,
            name="gemini-embedding-2",
            role=role,
            dimensions=768,
            expects_prefix=prefix,
        )
    yield case("ollama", "ollama", by_ollama(), ollama_answer)
    yield case("ollama", "ollama", by_ollama(dimensions=256), ollama_answer, dimensions=256)
    yield case("tei", "huggingface-hub", by_hugging_face(normalize=True), tei_answer)
    yield case(
        "tei",
        "huggingface-hub",
        by_hugging_face(normalize=False, prompt_name="query", dimensions=256),
        tei_answer,
        role="query",
        dimensions=256,
        normalize=False,
        prompts={"query": "query"},
    )


def main():
    found = []
    for asked, client, call, answer in cases():
        recorder = Recorder(answer)
        vectors = call(recorder.url, asked)
        request, said = recorder.last
        recorder.server.shutdown()
        recorder.server.server_close()
        found.append(
            {
                "asked": asked,
                "client": f"{client} {version(client)}",
                "request": request,
                "answer": said,
                "vectors": vectors,
            }
        )
    json.dump(found, sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
