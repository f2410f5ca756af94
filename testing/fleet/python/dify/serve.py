"""A serving node: sends and reports one request after another, until it receives any message."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from cache import Cache
from channel import Channel
from lookup import DatabaseFailed, Denied, Lookup, Row, Written


@dataclass(frozen=True)
class Load:
    tokens: list[str]
    scopes: list[str | None]
    seed: int
    pause_ms: float


def _now() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def serve(
    cache: Cache,
    channel: Channel,
    query: Callable[[str, str | None], Row],
    load: Load,
) -> int:
    def wrote(written: Written) -> None:
        channel.say(wrote={"load": written.load, "sent": written.sent, "replied": written.replied})

    lookup = Lookup(cache, query, wrote)
    dice = random.Random(load.seed)
    served = 0
    while not channel.has_line():
        token, scope = dice.choice(load.tokens), dice.choice(load.scopes)
        start = _now()
        try:
            record = lookup.fetch(token, scope)
            said = {"found": record.id} if record else {"absent": True}
        except Denied as denied:
            said = {"denied": str(denied)}
        except DatabaseFailed:
            said = {"unavailable": True}
        channel.say(asked={"token": token, "scope": scope, "start": start, "end": _now(), **said})
        served += 1
        # Limits the rate, and waits for nothing.
        time.sleep(dice.uniform(0, 2 * load.pause_ms) / 1000)
    if channel.hear() != {"do": "stop"}:
        raise ValueError("a node that serves can only be stopped")
    return served
