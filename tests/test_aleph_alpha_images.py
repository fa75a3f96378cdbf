"""Images, token ids and prompts: whole runs from the corpus to vectors."""

import hashlib
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import running, vector
from fakes.places import Place
from fakes.runs import digests, manifest, output, rejects, write_job

from batchembed.corpus import CorpusSettings, scan
from batchembed.prompts import Image

HOW = {"limits": {"max_rejects": 4, "concurrency": 2}}


def picture(number):
    """The bytes of a picture of its own."""
    return b"\x89PNG " + str(number).encode() * 50


def said(data, crop=(), spans=()):
    """How the stand-in writes an image down, of which the vector is a function."""
    digest = hashlib.sha256(data).hexdigest()[:16]
    return f"<image {digest} {list(crop)} {json.dumps(list(spans), sort_keys=True)}>"


class Album(Place):
    """A folder with a corpus of its own form."""

    def __init__(self, commands, folder, server, table, **corpus):
        self.commands, self.folder, self.server, self.provider = commands, folder, server, ""
        self.out, self.job, self.corpus = (
            folder / "run",
            folder / "job.toml",
            folder / "rows.parquet",
        )
        self.told = {"path": "rows.parquet", "id": "id", **corpus}
        folder.mkdir(parents=True, exist_ok=True)
        self.write(table)
        self.jobs()

    def write(self, table):
        pq.write_table(pa.table(table), self.corpus)

    def jobs(self, model=(), **more):
        model = {"provider": "aleph-alpha", "name": "m", "base_url": self.server.url, **dict(model)}
        job = {"corpus": self.told, "model": model, "output": {"path": "run"}, **HOW, **more}
        write_job(self.job, job)

    def vectors(self):
        return output(self.out)["embedding"].to_pylist()


@pytest.fixture
def album(commands, tmp_path, server):
    def make(table, **corpus):
        return Album(commands, tmp_path / "album", server, table, **corpus)

    return make


def right(words, **told):
    return vector(words, model="m", **told).tolist()


def files(folder, count):
    (folder / "album").mkdir(exist_ok=True)
    for number in range(count):
        (folder / "album" / f"{number}.png").write_bytes(picture(number))
    return [f"{number}.png" for number in range(count)]


def test_images_of_files_and_bytes(album, tmp_path):
    """A path counts from the corpus file; what cannot be had is a reject with its reason."""
    names = files(tmp_path, 4)
    (tmp_path / "album" / "empty.png").write_bytes(b"")
    given = [*names, str(tmp_path / "album" / "2.png"), "gone.png", "empty.png", None, "."]
    job = album({"id": range(len(given)), "image": given}, image="image")
    planned = job.run("plan", job.job, "--json").json
    assert planned["unsendable"] == {"missing_image": 1, "unreadable_image": 2, "null_image": 1}
    assert planned["tokens"][1] == 4 * 144
    job.run(code=3)
    assert job.vectors()[:4] == [right(said(picture(n))) for n in range(4)]
    assert job.vectors()[4] == job.vectors()[2], "one image, under two names, is sent once"
    assert len(job.sent()) == 4
    assert [(r["row"], r["reason"]) for r in rejects(job.out)] == [
        (5, "missing_image"),
        (6, "unreadable_image"),
        (7, "null_image"),
        (8, "unreadable_image"),
    ]
    assert job.run("verify", "run", "--sample", "9", "--json").json["problems"] == []

    paid, data = len(job.sent()), pa.array([picture(n) for n in range(4)], pa.binary())
    job.told = {**job.told, "image": "image", "keep": []}
    job.write({"id": range(4), "image": data})
    job.jobs()
    job.run()
    assert len(job.sent()) == paid, "bytes of images that were paid for as files"
    assert job.vectors() == [right(said(picture(n))) for n in range(4)]


def test_an_image_that_changes_is_another_image(album, tmp_path):
    """Also where the corpus file itself stays as it is."""
    names = files(tmp_path, 3)
    job = album({"id": range(3), "image": names}, image="image")
    job.run()
    before = (job.out / "manifest.json").stat().st_mtime_ns
    job.run()
    assert (job.out / "manifest.json").stat().st_mtime_ns == before
    (tmp_path / "album" / names[1]).write_bytes(picture("new"))
    job.run()
    assert len(job.sent()) == 4
    assert job.vectors()[1] == right(said(picture("new")))
    assert (
        "changed" in " ".join(job.run("verify", "run", "--json").json["ignored"])
        or job.run("verify", "run", "--json").json["problems"] == []
    )


def test_images_are_searched_by_words_and_by_images(album, tmp_path):
    """The image before the text, as in a corpus; others than Aleph Alpha have no eyes."""
    names = files(tmp_path, 3)
    table = {"id": names, "image": names, "text": ["one", None, "three"]}
    job = album(table, image="image", text="text")
    job.run()
    picture_file = job.folder / names[1]
    near = job.run("search", "run", "--image", picture_file, "--json").json
    assert (near[0]["id"], near[0]["score"]) == (names[1], pytest.approx(1, abs=1e-6))
    near = job.run("search", "run", "three", "--image", job.folder / names[2], "--json").json
    assert near[0]["score"] == pytest.approx(1, abs=1e-6)
    assert len(job.run("search", "run", "three", "--json").json) == 3
    assert "gone.png" in job.run("search", "run", "--image", "gone.png", code=2).err
    assert "no text" in job.run("search", "run", code=2).err
    write_job(
        job.job,
        {
            "corpus": {"path": "rows.parquet", "text": "id"},
            "model": {"provider": "local"},
            "output": {"path": "local"},
        },
    )
    job.run()
    assert "corpus.image" in job.run("search", "local", "--image", picture_file, code=2).err


def test_images_with_texts_and_crops_and_controls(album):
    """The struct of an image says what of it is seen; its text comes after it."""
    rect = {"left": 0.0, "top": 0.25, "width": 0.5, "height": 0.5, "factor": 2.0}
    image = [
        {"bytes": picture(1), "x": 1, "y": 2, "size": 3, "controls": [rect]},
        {"bytes": picture(2), "x": None, "y": None, "size": None, "controls": None},
        {"bytes": None, "x": None, "y": None, "size": None, "controls": None},
        {"bytes": picture(1), "x": None, "y": None, "size": None, "controls": []},
        None,
    ]
    texts = ["a caption to control", None, "a text alone", "", None]
    job = album({"id": range(5), "image": image, "text": texts}, image="image", text="text")
    job.jobs({"representation": "query", "controls": [{"match": "control", "factor": 3.0}]})
    job.run(code=3)
    told = ["rect", {"left": 0.0, "top": 0.25, "width": 0.5, "height": 0.5}]
    spans = [[told[1], 2.0]]
    assert job.vectors() == [
        right(said(picture(1), (1, 2, 3), spans) + texts[0], role="query", controls=[(13, 7, 3.0)]),
        right(said(picture(2)), role="query"),
        right("a text alone", role="query"),
        right(said(picture(1)), role="query"),
        None,
    ]
    assert [r["reason"] for r in rejects(job.out)] == ["empty_prompt"]


def test_token_ids_with_controls(album):
    """A column of lists; the controls count the ids."""
    ids = [[5, 17, 3], [5], None, [], [5, 17, 3]]
    spans = [[{"index": 1, "factor": 0.5}], [], None, None, None]
    job = album({"id": range(5), "ids": ids, "spans": spans}, tokens="ids", controls="spans")
    planned = job.run("plan", job.job, "--json").json
    assert planned["tokens"][1] == 3 + 1 + 3
    job.run(code=3)
    words = ["<tokens [5, 17, 3] [[1, 0.5]]>", "<tokens [5] []>", "<tokens [5, 17, 3] []>"]
    assert job.vectors() == [right(words[0]), right(words[1]), None, None, right(words[2])]
    assert [r["reason"] for r in rejects(job.out)] == ["empty_prompt"] * 2
    job.jobs({"endpoint": "embeddings"}, output={"path": "other"})
    ended = job.run(code=2)
    assert "controls" in ended.err
    job.told.pop("controls")
    job.jobs({"endpoint": "embeddings"}, output={"path": "other"})
    job.run(code=3)
    assert output(job.folder / "other")["embedding"].to_pylist()[1] == right("ids [5]")


def piece(**told):
    every = dict.fromkeys(("text", "image", "tokens", "x", "y", "size", "controls"))
    return every | told


def test_prompts_of_several_pieces(album, tmp_path):
    """Texts, images and token ids in any order, each with its own controls, are one vector."""
    files(tmp_path, 2)
    span = dict.fromkeys(("start", "length", "index", "left", "top", "width", "height"))
    span |= {"factor": 2.0, "token_overlap": None}
    prompts = [
        [
            piece(text="look: ", controls=[span | {"start": 0, "length": 4}]),
            piece(image="0.png", x=0, y=0, size=9),
            piece(tokens=[7, 8], controls=[span | {"index": 1}]),
            piece(
                text=" and ",
                controls=[span | {"start": 1, "length": 3, "token_overlap": "complete"}],
            ),
        ],
        [piece(text="alone")],
        [piece(image="gone.png"), piece(text="x")],
        [],
        None,
    ]
    inner = pa.struct(
        [
            *(("text", pa.string()), ("image", pa.string()), ("tokens", pa.list_(pa.int64()))),
            *((name, pa.int64()) for name in ("x", "y", "size")),
            (
                "controls",
                pa.list_(
                    pa.struct(
                        [
                            *((n, pa.int64()) for n in ("start", "length", "index")),
                            *(
                                (n, pa.float64())
                                for n in ("left", "top", "width", "height", "factor")
                            ),
                            ("token_overlap", pa.string()),
                        ]
                    )
                ),
            ),
        ]
    )
    table = {"id": range(5), "prompt": pa.array(prompts, pa.list_(inner))}
    job = album(table, prompt="prompt")
    job.run(code=3)
    words = "look: " + said(picture(0), (0, 0, 9)) + "<tokens [7, 8] [[1, 2.0]]> and "
    controls = [(0, 4, 2.0), (1, 3, 2.0, "complete")]
    assert job.vectors()[:2] == [right(words, controls=controls), right("alone")]
    assert [r["reason"] for r in rejects(job.out)] == ["missing_image", *["empty_prompt"] * 2]

    written = [json.dumps(p, default=str) if p is not None else None for p in prompts]
    as_text = [None if w is None else w for w in written]
    job.write({"id": range(5), "prompt": as_text})
    job.run(code=3)
    assert len(job.sent()) == 2, "JSON text of the same is the same prompts"


def controlled(told, **control):
    return json.dumps([{**told, "controls": [control]}])


@pytest.mark.parametrize(
    ("corpus", "values", "says"),
    [
        ("tokens", [[1, 2], [-1]], "`-1` is no number from 0"),
        ("tokens", [["a"]], "int"),
        ("image", ["https://host/1.png"], "address"),
        ("image", [1.5], "double"),
        ("prompt", [[{"text": "a", "tokens": [1]}]], "not one text, image"),
        ("prompt", [[{"text": "a", "x": 1}]], "has no `x`"),
        ("prompt", [["a"]], "prompt is a list"),
        ("prompt", ['[{"image": "1.png", "x": 1, "y": 0}]'], "together"),
        ("prompt", ['[{"image": "0.png", "x": -1, "y": 0, "size": 4}]'], "cut nothing out"),
        ("prompt", ['[{"text": "abc", "controls": [{"start": 2, "length": 2, "factor": 1}]}]'],
         "not within its text of 3"),
        ("prompt", ['[{"text": "abc", "controls": [{"start": -1, "length": 2, "factor": 1}]}]'],
         "start -1"),
        ("prompt", ['[{"tokens": [1], "controls": [{"index": 1, "factor": 1}]}]'],
         "index 1 is not within its 1 token ids"),
        ("prompt", [controlled({"tokens": [1]}, index=0, factor=1, token_overlap="partial")],
         "has not just index and factor"),
        ("prompt", [controlled({"image": "0.png"}, left=0.6, top=0, width=0.5, height=1, factor=1)],
         "not within the image"),
        ("prompt", [controlled({"image": "0.png"}, left=0, top=0, width=1.5, height=1, factor=1)],
         "not a number from 0 to 1"),
        ("prompt", [controlled({"text": "a"}, start=0, length=1, factor=1, token_overlap="all")],
         "`all`, not `partial` or `complete`"),
        ("prompt", ["not json"], "cannot be used"),
    ],
)  # fmt: skip
def test_what_is_no_prompt_is_an_error_that_names_its_row(album, tmp_path, corpus, values, says):
    """Before anything is sent: file, row, what is wrong and what the form is."""
    files(tmp_path, 1)
    job = album({"id": range(len(values)), corpus: values}, **{corpus: corpus})
    ended = job.run(code=2)
    assert says in ended.err
    assert "hint:" in ended.err
    assert "rows.parquet" in ended.err
    assert job.server.bill.requests == 0


@pytest.mark.parametrize(
    ("corpus", "says"),
    [
        ({"text": "t", "tokens": "i"}, "`tokens`"),
        ({"prompt": "p", "image": "i"}, "`prompt`"),
        ({"prompt": "p", "controls": "c"}, "corpus.controls"),
        ({}, "corpus.text"),
    ],
)
def test_what_is_embedded_is_said_once(album, corpus, says):
    """Settings that contradict each other are an error."""
    columns = {"id": ["a"], "t": ["x"], "i": ["x"], "p": ["[]"], "c": ["[]"]}
    job = album(columns, **corpus)
    assert says in job.run(code=2).err


def test_what_no_arrow_table_can_hold_is_not_changed(album):
    """Half a character in a prompt of JSON Lines is a reject, not the replacement character."""
    job = album({"id": [0], "prompt": ["[]"]}, prompt="prompt")
    rows = [[{"text": "fine", "tokens": None}], [{"text": "half \ud800", "tokens": None}]]
    lines = [json.dumps({"id": at, "prompt": row}) for at, row in enumerate(rows)]
    (job.folder / "rows.jsonl").write_text("\n".join(lines))
    job.told["path"] = "rows.jsonl"
    job.jobs()
    job.run(code=3)
    assert job.sent() == ["fine"]
    assert [r["reason"] for r in rejects(job.out)] == ["lone_surrogate"]


def test_images_stand_beside_a_corpus_on_another_file_system(tmp_path):
    """A relative path counts from the folder of the corpus file there as well."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").write_bytes(picture(1))
    table = pa.table({"image": ["pictures/1.png", "pictures/2.png"]})
    pq.write_table(table, tmp_path / "rows.parquet")
    rows = scan(CorpusSettings((f"file://{tmp_path}/rows.parquet",), image="image"))
    before = rows.fingerprint()
    (some,) = rows.texts()
    assert some.prompts() == [(Image(picture(1)),), "missing_image"]
    (tmp_path / "pictures" / "2.png").write_bytes(picture(2))
    assert rows.fingerprint() != before


def test_the_images_of_a_corpus_are_never_in_memory_together(tmp_path):
    """They are read with their rows, about 8 MB at a time, and only when they are asked for."""
    for number in range(30):
        (tmp_path / f"{number}.png").write_bytes(bytes(1 << 20))
    names = [f"{number}.png" for number in range(30)]
    pq.write_table(pa.table({"image": names}), tmp_path / "rows.parquet")
    rows = scan(CorpusSettings((str(tmp_path / "rows.parquet"),), image="image"))
    sizes = []
    for some in rows.texts():
        prompts = some.prompts()
        sizes.append(sum(len(piece.data) for prompt in prompts for piece in prompt))
    assert sum(sizes) == 30 << 20
    assert max(sizes) <= 8 << 20


@pytest.mark.parametrize("setting", ["image", "tokens", "prompt"])
def test_other_providers_refuse_what_they_cannot_embed(album, setting):
    """At openai's endpoints, and at Aleph Alpha's that is like them."""
    job = album({"id": ["a"], setting: ["[1]"]}, **{setting: setting})
    job.jobs({"provider": "openai", "base_url": job.server.openai_url})
    assert f"corpus.{setting}" in job.run(code=2).err
    if setting != "tokens":
        job.jobs({"endpoint": "embeddings"})
        assert f"corpus.{setting}" in job.run(code=2).err
    assert job.server.bill.requests == 0


def test_a_killed_run_of_images_goes_on(album, tmp_path):
    """What was answered is not sent again, and the output has the same bytes."""
    names = files(tmp_path, 30)
    table = {"id": range(60), "image": [*names, *names]}
    job = album(table, image="image")
    job.jobs(limits={"texts_per_request": 3, "concurrency": 2})
    job.run("run", job.job, "--out", "whole")
    once = len(job.sent())
    assert once == 30
    assert job.start(twists=[["die_at_step", str(job.out), 45]]).wait().code == -9
    job.run()
    assert len(job.sent()) - once <= 30 + 2 * 3
    assert digests(job.out) == digests(job.folder / "whole")


def test_requests_of_images_are_bounded_in_bytes(album):
    """Not a hundred images a request when they are large."""
    data = [os.urandom(1 << 20) for _ in range(6)]
    job = album({"id": range(6), "image": pa.array(data, pa.binary())}, image="image", keep=[])
    job.run()
    assert max(job.server.bill.sizes) <= 2
    assert [np.float32(v).tolist() for v in job.vectors()] == [right(said(d)) for d in data]


def test_a_poisoned_image_costs_its_row(commands, tmp_path):
    """A server that refuses one image of a batch: it is found by halving."""
    bad = said(picture(3))

    def script(seen):
        from fakes import faults

        return faults.status(400, b'{"error":"bad image"}') if bad in seen.texts else None

    with running(script=script) as server:
        data = pa.array([picture(n) for n in range(8)], pa.binary())
        job = Album(
            commands, tmp_path / "album", server, {"id": range(8), "image": data}, image="image"
        )
        job.run(code=3)
        assert [(r["row"], r["reason"]) for r in rejects(job.out)] == [(3, "refused")]
        assert server.bill.paid_twice == {}


def test_a_control_can_stand_for_a_whole_column(album):
    """Of a template, of images, of token ids; what an earlier pattern took stays its own."""
    table = {"id": ["a", "b"], "title": ["A red boat", None], "body": ["at sea", "alone"]}
    job = album(table, template="{title}: {body}")
    controls = [{"match": "red", "factor": 5.0}, {"column": "title", "factor": 2.0}]
    job.jobs({"controls": controls})
    job.run()
    spans = [(0, 2, 2.0), (2, 3, 5.0), (5, 5, 2.0)]
    assert job.vectors() == [right("A red boat: at sea", controls=spans), right(": alone")]
    assert manifest(job.out)["identity"]["controls"][1]["column"] == "title"

    job.told = {"path": "rows.parquet", "id": "id", "image": "image"}
    job.write({"id": ["a"], "image": pa.array([picture(1)], pa.binary())})
    whole = {"column": "image", "factor": 2.0, "token_overlap": "complete"}
    job.jobs({"controls": [whole]}, output={"path": "pictures"})
    job.run()
    rect = {"left": 0.0, "top": 0.0, "width": 1.0, "height": 1.0}
    words = said(picture(1), (), [[rect, 2.0, "complete"]])
    assert output(job.folder / "pictures")["embedding"].to_pylist() == [right(words)]

    job.jobs({"controls": [{"column": "title", "factor": 2.0}]}, output={"path": "none"})
    ended = job.run(code=2)
    assert "`title`" in ended.err
    assert "`image`" in ended.err


def test_token_overlap_is_sent_and_is_part_of_the_key(album):
    """By column and by pattern; the same text without it is another text."""
    spans = [
        [{"start": 0, "length": 1, "factor": 2.0, "token_overlap": o}]
        for o in ("complete", "partial", None)
    ]
    job = album(
        {"id": range(3), "text": ["abc"] * 3, "spans": spans}, text="text", controls="spans"
    )
    job.run()
    assert job.vectors() == [
        right("abc", controls=[(0, 1, 2.0, "complete")]),
        right("abc", controls=[(0, 1, 2.0, "partial")]),
        right("abc", controls=[(0, 1, 2.0)]),
    ]
    job.jobs({"provider": "openai", "base_url": job.server.openai_url}, output={"path": "o"})
    assert "controls" in job.run(code=2).err
    write_job(
        job.job,
        {"corpus": job.told, "model": {"provider": "local"}, "output": {"path": "local"}},
    )
    ended = job.run(code=2)
    assert "token_overlap" in ended.err
    assert "row 1" in ended.err


def test_roles_row_by_row_go_with_images(album):
    """A column of roles at the endpoints that have some; an error at those that have none."""
    data = pa.array([picture(1), picture(1), picture(2)], pa.binary())
    roles = ["query", "document", "symmetric"]
    job = album({"id": range(3), "image": data, "role": roles}, image="image")
    for endpoint in ("semantic_embed", "batch_semantic_embed"):
        told = {"representation": {"column": "role"}, "endpoint": endpoint}
        job.jobs(told, output={"path": endpoint})
        job.run()
        found = output(job.folder / endpoint)["embedding"].to_pylist()
        numbers = (1, 1, 2)
        assert found == [
            right(said(picture(n)), role=r) for n, r in zip(numbers, roles, strict=True)
        ]
    instructions = {"query": "find", "document": "", "symmetric": "compare"}
    job.jobs(
        {"representation": {"column": "role"}, "instruction": instructions}, output={"path": "i"}
    )
    job.run()
    found = output(job.folder / "i")["embedding"].to_pylist()
    assert found == [
        right(said(picture(n)), more=(instructions[r],))
        for n, r in zip((1, 1, 2), roles, strict=True)
    ]
    for model in ({"layers": [1], "pooling": ["mean"]}, {"instruction": "x"}):
        job.jobs({"representation": {"column": "role"}, **model}, output={"path": "none"})
        assert "representation" in job.run(code=2).err
