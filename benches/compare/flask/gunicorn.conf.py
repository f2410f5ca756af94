"""The bench's configuration of gunicorn: it prints its address, and ends when its input is closed."""

import os
import signal
import tempfile
import threading

import database

bind = "127.0.0.1:0"
loglevel = "warning"

# Inherited by the workers. The master removes it, not a worker that ends.
descriptor, path = tempfile.mkstemp(suffix=".db")
os.close(descriptor)
os.environ["DATABASE"] = path
database.create(path, int(os.environ["TOKENS"]))


def on_exit(server):
    os.remove(path)


def when_ready(server):
    host, port = server.LISTENERS[0].sock.getsockname()
    os.write(1, f"{host}:{port}\n".encode())
    threading.Thread(target=end_with_input, daemon=True).start()


def end_with_input():
    # The raw descriptor, because a worker that is forked meanwhile would inherit a locked sys.stdin.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
