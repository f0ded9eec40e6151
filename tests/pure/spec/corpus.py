"""The manifests corpus: real Pod manifests with an API server's verdict on each, in the folder NSRUN_CORPUS names."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = os.environ.get("NSRUN_CORPUS", "")


@dataclass(frozen=True)
class Case:
    """A document of the corpus and what Kubernetes says of it."""

    file: str
    index: int
    verdict: str
    messages: str
    defaulted: Any

    @property
    def id(self) -> str:
        return f"{self.file}:{self.index}"

    def data(self) -> bytes:
        return (Path(ROOT) / self.file).read_bytes()


def cases() -> list[Case]:
    """Every document with a verdict; [] without a corpus."""
    if not ROOT:
        return []
    root = Path(ROOT)
    defaulted = {}
    for line in (root / "defaulted.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        defaulted[record["file"], record["doc"]] = record.get("defaulted")
    with (root / "verdicts.tsv").open(encoding="utf-8", newline="") as table:
        return [
            Case(
                row["file"],
                int(row["doc"]),
                row["verdict"],
                row["messages"],
                defaulted.get((row["file"], int(row["doc"]))),
            )
            for row in csv.DictReader(table, delimiter="\t")
        ]
