"""What Python's own http.client sees of the streams of Server-Sent Events."""
import http.client

from common import SERVER, TOKEN, Follower, check, say

HOST = SERVER.removeprefix("http://")


def follow(f, query, header, until):
    """Reads a stream up to a number and leaves it."""
    conn = http.client.HTTPConnection(HOST, timeout=20)
    conn.request("GET", "/v1/stream?topic=closed/stream" + query, headers={"Authorization": "Bearer " + TOKEN, **header})
    answer = conn.getresponse()
    if answer.status != 200 or answer.headers["Content-Type"] != "text/event-stream":
        raise AssertionError(f"{answer.status}, {answer.headers}")
    first = not f.controls
    fields = {}
    while f.next < until:
        line = answer.readline().decode()
        if not line.endswith("\n"):
            raise AssertionError("the stream ended")
        name, _, value = line.rstrip("\n").partition(":")
        if name:
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            f.take(fields["data"])
            if first:
                first = False
                check("hello", f.controls, ["hello"])
                say("publish closed/stream 0 200")
            elif "event" not in fields and fields["id"] != f.cursor:
                raise AssertionError(f"{fields['id']} is the id of the event at {f.cursor}")
            fields = {}
    answer.close()
    conn.close()


f = Follower()
follow(f, "", {}, 120)
say("publish closed/stream 200 220")
follow(f, "&after=start", {"Last-Event-ID": f.cursor}, 220)
check("200 events", f.next, 220)
for what, status, header in [("foreign origin", 403, {"Origin": "https://evil.example"}), ("wrong token", 401, {"Authorization": "Bearer x"})]:
    conn = http.client.HTTPConnection(HOST, timeout=20)
    conn.request("GET", "/v1/stream?topic=open/x", headers=header)
    check(what, conn.getresponse().status, status)
