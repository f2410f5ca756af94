"""The design of Dify's `api_token_cache.py` in a service of one route: one GET by redis-py for each
request, pydantic's JSON, and on a miss a load from the database under a lock in Redis.

What it does towards Redis is testing/fleet/python/dify, the other side of `KeyLayout::dify()`. The
original also writes the time of each request to Redis; here neither side records uses.
"""

import os
import sys
from functools import wraps
from pathlib import Path

import redis
from flask import Flask, g, request
from werkzeug.exceptions import Unauthorized

from database import Database

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.append(str(REPOSITORY / "testing/fleet/python/dify"))

from cache import Cache, Ttls  # noqa: E402
from client import PrefixedClient  # noqa: E402
from lookup import Lookup, Row  # noqa: E402
from record import CURRENT, Record  # noqa: E402

app = Flask(__name__)
database = Database(os.environ["DATABASE"])


def query(token: str, scope: str | None) -> Row:
    row = database.find(token, scope)
    return Row(Record(**row) if row else None, load=None)


connection = redis.Redis.from_url(os.environ["REDIS_URL"])
lookup = Lookup(Cache(PrefixedClient(connection, ""), CURRENT, Ttls()), query)


def validate_token(scope):
    def decorate(view):
        @wraps(view)
        def validated(*args, **kwargs):
            g.api_token = validate(scope)
            return view(*args, **kwargs)

        return validated

    return decorate


def validate(scope: str) -> Record:
    header = request.headers.get("Authorization")
    if header is None or " " not in header:
        raise Unauthorized("Authorization header must be provided and start with 'Bearer'")
    scheme, token = header.split(None, 1)
    if scheme.lower() != "bearer":
        raise Unauthorized("Authorization scheme must be 'Bearer'")
    record = lookup.fetch(token, scope)
    if record is None:
        raise Unauthorized("Access token is invalid")
    return record


@app.get("/")
@validate_token("app")
def index():
    return "ok"
