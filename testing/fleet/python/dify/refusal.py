"""The rejection of a request, as clients of the newest version get it.

The service is built on Flask-RESTX, whose JSON is that of json.dumps with a line end after it.
"""

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    message: str

    def body(self) -> str:
        said = {"code": "unauthorized", "message": self.message, "status": 401}
        return json.dumps(said) + "\n"


MISSING = Refusal("Authorization header must be provided and start with 'Bearer'")
OTHER_SCHEME = Refusal("Authorization scheme must be 'Bearer'")
UNKNOWN = Refusal("Access token is invalid")


def parse(authorization: str | None) -> str | Refusal:
    """Returns the token, or why there is none. Any whitespace may separate scheme and token."""
    parts = authorization.split(None, 1) if authorization else []
    if len(parts) != 2:
        return MISSING
    scheme, token = parts
    return token if scheme.lower() == "bearer" else OTHER_SCHEME
