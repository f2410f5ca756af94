"""A node of the Python service, controlled by JSON lines on stdin and stdout.

It is a program of our own that behaves, towards Redis, as published versions of the service do: `first`
(JSON by json.dumps, no tenants' index, no lock), `second` (the same JSON, an index, and a scan that
compares tenants where there is none) and `current` (pydantic's JSON, index, lock).
It is the other side of `KeyLayout::dify()`, and speaks through the real packages redis and pydantic, so
that what they do (escapes, forms of times, the lock's protocol) is theirs and not our belief.
"""

import argparse
import platform
import sys

import pydantic
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cache import Cache, Ttls
from channel import Channel
from client import PrefixedClient
from commands import Commands
from record import FORMS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", choices=FORMS, required=True)
    parser.add_argument("--redis", required=True)
    parser.add_argument("--prefix", default="")
    options = parser.parse_args()

    # No retries, so that tests of an outage see the service without Redis soon.
    connection = redis.Redis.from_url(
        options.redis, socket_timeout=10, socket_connect_timeout=10, retry=Retry(NoBackoff(), 0)
    )
    client = PrefixedClient(connection, options.prefix)
    cache = Cache(client, FORMS[options.version], Ttls())
    channel = Channel(sys.stdin.fileno(), sys.stdout.fileno())
    channel.say(
        ready={
            "python": platform.python_version(),
            "redis": redis.__version__,
            "pydantic": pydantic.VERSION,
        }
    )
    Commands(cache, channel).run()


if __name__ == "__main__":
    main()
