"""The types of ``native.pyx``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

KINDS: Mapping[str, int]
OTHER: int

def split(row: bytes, count: int) -> list[bytes]: ...

class Source:
    def __init__(self, place: int, skip: int, decode: Callable[[bytes], Any] | None) -> None: ...

class Computed:
    def __init__(
        self,
        function: Callable[..., Any],
        sources: tuple[Source, ...],
        kind: int,
        encode: Callable[[Any], bytes],
    ) -> None: ...

class Target:
    def __init__(
        self,
        header: bytes,
        when: tuple[int, bytes] | None,
        root: bool,
        shared: bool,
        leading: list[int],
        explode: tuple[Callable[..., Any], tuple[Source, ...]] | None,
        elements: list[tuple[int, Callable[[Any], bytes]]],
    ) -> None: ...

class Step:
    def __init__(self, width: int, computed: list[Computed], targets: list[Target]) -> None: ...
    def __call__(
        self,
        records: Sequence[Sequence[bytes]],
        pieces: list[list[bytes]],
        rows: list[int],
        shared: list[dict[bytes, None]],
    ) -> None: ...
