"""The plan of a long run: written before it starts, and compared when it resumes. Loads no heavy package."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from boundarygeo.results.files import check_format, read_json

RUN_FORMAT = 2
"""Version of the layout of runs; runs of other versions cannot be resumed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that determines the content of a store, as plain values.

    Attributes:
        analysis: full name of the function, and a digest of its code if it is outside installed packages.
        result: position of this result among those of the analysis, from 0.
        settings: of the analysis.
        classifiers: digests of weights and module, bounds, normalisation and batch size of each classifier.
        examples: number of examples.
        data: shape and dtype of an input; first 16 digits of the SHA-256 of all inputs, of the example numbers, and of
            the classes.
        chunk_size: examples per part; the last may hold fewer.
        device: kind of device, `"cpu"` or `"cuda"`.
        versions: versions of the software that affects results.
        format: version of the layout of the run.
    """

    analysis: str
    result: int
    settings: dict[str, Any]
    classifiers: Any
    examples: int
    data: dict[str, str]
    chunk_size: int
    device: str
    versions: dict[str, str]
    format: int = RUN_FORMAT

    @property
    def parts(self) -> int:
        """Number of parts."""
        return -(-self.examples // self.chunk_size)

    def rows(self, part: int) -> slice:
        """Positions of the examples of a part."""
        return slice(part * self.chunk_size, min((part + 1) * self.chunk_size, self.examples))

    def size(self, part: int) -> int:
        """Number of examples in a part."""
        return len(range(self.examples)[self.rows(part)])

    def check_same(self, wanted: "Plan", root: Path) -> None:
        """Raise if another plan is wanted in a folder that was started with this one."""
        differences = self.differences(wanted)
        if differences:
            raise ValueError(
                f"{str(root)!r} was started with other settings ({'; '.join(differences)}): use those, or pass "
                "overwrite to start again"
            )

    def differences(self, other: "Plan") -> list[str]:
        """Differences from another plan, as `name: this value, other value`."""
        own, theirs = (dict(_flat(dataclasses.asdict(plan))) for plan in (self, other))
        pairs = {name: (own.get(name, "nothing"), theirs.get(name, "nothing")) for name in own | theirs}
        return [f"{name}: {before}, now {now}" for name, (before, now) in pairs.items() if before != now]


def read_plan(file: Path) -> Plan | None:
    """The plan in a file of a run's folder, or None if there is no file."""
    if not file.is_file():
        return None
    read, root = read_json(file), file.parent.parent
    check_format(root, read.get("format", 0), RUN_FORMAT)
    if 0 < read.get("format", 0) < RUN_FORMAT:
        raise ValueError(
            f"{str(root)!r} was started by an earlier version of boundarygeo and cannot be resumed by this one: finish "
            "it with that version, or pass overwrite to start again"
        )
    if set(read) != {field.name for field in dataclasses.fields(Plan)}:
        raise ValueError(f"{str(file)!r} is not the plan of a run: pass overwrite to start again")
    return Plan(**read)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, by dotted names."""
    if isinstance(value, Mapping) and value:
        for key, one in value.items():
            yield from _flat(one, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
