"""Walks every state that a model can reach."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

S = TypeVar("S")


def walk(
    start: S,
    following: Callable[[S], Sequence[S]],
    kills: Callable[[S], Iterable[S]],
    wrong: Callable[[S, bool], bool],
    *,
    first: bool,
) -> tuple[int, list[S]]:
    """Return how many states can be reached, and those that are wrong.

    Args:
        following: the states that one step leads to.
        kills: those that the death of a process leads to; nothing has to be killed for a state to be at rest.
        wrong: whether a state is, told whether it is at rest.
        first: stop at one that is wrong.
    """
    seen, open_, found = {start}, [start], list[S]()
    while open_:
        state = open_.pop()
        after = following(state)
        if wrong(state, not after):
            found.append(state)
            if first:
                break
        for one in (*after, *kills(state)):
            if one not in seen:
                seen.add(one)
                open_.append(one)
    return len(seen), found
