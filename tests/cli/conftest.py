"""One desk in memory, and a face that speaks to it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from cli.main import main
from quote.bus import InProcessBus
from tests.cli.face import FakeSession
from tests.fakes import FakeDesk


class Face:
    """Runs commands like `run.py --cli`; `answers` are typed at its questions."""

    def __init__(self, bus: InProcessBus) -> None:
        self.bus = bus
        self.desk = FakeDesk(bus)
        self.session = FakeSession(self.desk, bus)
        self.fails: Exception | None = None
        self.connects = 0
        self.answers: list[str] = []
        self.questions: list[str] = []
        self.out = self.err = ""

    def __call__(self, *words: str, is_tty: bool = False) -> int:
        out, err = io.StringIO(), io.StringIO()
        try:
            return main(words, self._connect, out=out, err=err, is_tty=is_tty, ask=self._ask)
        finally:
            self.out, self.err = out.getvalue(), err.getvalue()

    @property
    def document(self) -> Any:
        """Standard output, which must be exactly one JSON document."""
        return json.loads(self.out)

    def _connect(self) -> FakeSession:
        self.connects += 1
        if self.fails is not None:
            raise self.fails
        return self.session

    def _ask(self, prompt: str) -> str:
        self.questions.append(prompt)
        return self.answers.pop(0) if self.answers else ""


@pytest.fixture
def face() -> Iterator[Face]:
    bus = InProcessBus()
    yield Face(bus)
    bus.close()
