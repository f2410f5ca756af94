"""Reads Cargo's messages, and prints the test programs that it built, each in a line: DIRECTORY PROGRAM [SERVER].

The largest come first, because they take longest. The crate's own unit tests and tests/it come once more for each of
the other servers.
"""

import json
import os
import subprocess
import sys

ROOT = os.getcwd()

servers = subprocess.run(["scripts/lib/other-servers"], check=True, capture_output=True, text=True).stdout
servers = [line.split(" ", 1)[1] for line in servers.splitlines()]
suites = []
for message in map(json.loads, sys.stdin):
    program = message.get("executable")
    # Programs that are no tests are built for tests to start them.
    if not program or not message["profile"]["test"]:
        continue
    directory = os.path.dirname(message["manifest_path"])
    target = message["target"]["name"]
    more = servers if directory == ROOT and target in ("tower_api_token", "it") else []
    for server in ["", *more]:
        suites.append((os.path.getsize(program), f"{directory} {program} {server}".rstrip()))
print(ROOT, "doctests")
for _, suite in sorted(suites, reverse=True):
    print(suite)
