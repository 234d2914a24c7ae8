"""The `polytope` command as a test runs it: in its process, as the console script does."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Answer:
    status: int
    out: str
    err: str

    def rows(self) -> Any:
        """What was printed as JSON."""
        return json.loads(self.out)

    def table(self) -> pd.DataFrame:
        """What was printed as CSV."""
        return pd.read_csv(io.StringIO(self.out))

    def refuses(self, words: str) -> bool:
        """Whether it ended with one message of an error, which says this."""
        return self.status == 1 and words in self.err and "error: " in self.err and "Traceback" not in self.err


Run = Callable[..., Answer]
