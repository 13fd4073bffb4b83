"""Fuzzes one target in a process of its own, which atheris ends.

Its arguments are the target's name, seconds, a folder of inputs to begin from, and one for what is found.
"""

from __future__ import annotations

import pathlib
import sys

import atheris

with atheris.instrument_imports(include=["hal9mig"]):
    from tests.fuzz.table import BY_NAME

#: Seconds that one input may take, and megabytes of memory.
_SLOW, _MUCH = 20, 2000


def main(name: str, seconds: str, inputs: str, finds: str) -> None:
    """Fuzz until something is found, or the time is over."""
    target = BY_NAME[name]
    folder = pathlib.Path(inputs)
    for at, seed in enumerate(target.seeds()):
        (folder / f"seed-{at}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}", f"-timeout={_SLOW}", f"-rss_limit_mb={_MUCH}", f"-artifact_prefix={finds}/",
        "-print_final_stats=1", "-max_len=16384", "-verbosity=1",
    ]  # fmt: skip
    if target.words:
        words = folder.parent / f"{name}.words"
        words.write_text("\n".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"' for word in target.words))
        options.append(f"-dict={words}")
    atheris.Setup([sys.argv[0], *options, inputs], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
