"""What the programs have in common: how they speak with the test.

The test publishes on "publish TOPIC FROM TO", and starts the server anew on
"restart". Each "ok WHAT" is a check that passed; a program that ends with
another status than 0 has failed.
"""
import json
import sys

SERVER, TOKEN = sys.argv[1:3]  # http://127.0.0.1:8080


def say(line):
    print(line, flush=True)


def text(n):
    """The text of event n; that of each hundredth has 60,000 bytes."""
    return "漢" * 20000 if n % 100 == 50 else f"é漢字😀\u2028 {n}"


class Follower:
    """Checks what comes: controls, and events from a number on."""

    def __init__(self):
        self.controls, self.next, self.cursor = [], 0, None

    def take(self, message):
        m = json.loads(message)
        if "control" in m:
            self.controls.append(m["control"])
            return
        data = m["data"]
        if data["n"] != self.next or data["text"] != text(self.next):
            raise AssertionError(f"event {data['n']} came, want {self.next}")
        self.next, self.cursor = self.next + 1, m["cursor"]


def check(what, got, want):
    if got != want:
        raise AssertionError(f"{what}: {got!r}, want {want!r}")
    say(f"ok {what}")
