"""A folder with a corpus, a job and its run directory, and commands that work on them."""

from __future__ import annotations

from pathlib import Path

from . import runs
from .api import Server
from .commands import Command, Commands, Ended

KEYS = {"AA_TOKEN": "a-key", "OPENAI_API_KEY": "a-key"}


class Place:
    """One job in a folder of its own. `more` are settings, such as `limits__concurrency=2`."""

    def __init__(
        self,
        commands: Commands,
        folder: Path,
        given: list[str | None],
        *,
        server: Server | None = None,
        provider: str = "openai",
        suffix: str = ".parquet",
        **more: object,
    ) -> None:
        self.commands, self.folder, self.server, self.provider = commands, folder, server, provider
        self.out, self.job = folder / "run", folder / "job.toml"
        self.corpus = folder / f"corpus{suffix}"
        self.fill(given)
        self.set(**more)

    def fill(self, given: list[str | None]) -> None:
        """Write the corpus anew."""
        self.table = runs.table(given)
        runs.write(self.corpus, self.table)

    def set(self, **more: object) -> None:
        """Write the job anew, with these settings alone."""
        runs.write_job(self.job, runs.settings(self.corpus, self.server, self.provider, **more))

    def start(
        self, *argv: object, env: dict[str, str] | None = None, twists: object = ()
    ) -> Command:
        """Start a command; without words, `run` of the job."""
        told = argv or ("run", self.job)
        return self.commands.start(*told, cwd=self.folder, env=KEYS | (env or {}), twists=twists)

    def run(self, *argv: object, code: int | None = 0, **more: object) -> Ended:
        """Run a command to its end, which must be with exit code `code`."""
        ended = self.start(*argv, **more).wait()
        assert code is None or ended.code == code, ended
        return ended

    def sent(self) -> list[str]:
        """Return every text that was paid for, in order."""
        return [text for answer in self.server.bill.answers for text in answer]

    def wrong(self, **how: object) -> list[str]:
        """Return what is wrong with the output."""
        return runs.wrong_rows(self.out, self.table, **how)
