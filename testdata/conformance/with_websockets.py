"""What the library websockets sees of the server, on a topic behind a token."""
import asyncio

import websockets

from common import SERVER, TOKEN, Follower, check, say

URL = SERVER.replace("http", "ws", 1) + "/v1/ws?topic=closed/websockets"


class Client(websockets.WebSocketClientProtocol):
    heard = 0  # pings; it has a field pings of its own
    header = {}

    async def pong(self, data=b""):
        self.heard += 1
        await super().pong(data)

    def write_http_request(self, path, headers):
        for name, value in self.header.items():
            del headers[name]
            headers[name] = value
        super().write_http_request(path, headers)


def connect(protocol=Client, **options):
    return websockets.connect(URL, create_protocol=protocol,
                              extra_headers={"Authorization": "Bearer " + TOKEN}, **options)


async def follow():
    async with connect() as ws:
        f = Follower()
        f.take(await ws.recv())
        check("hello", f.controls, ["hello"])
        for junk in ["hello", "", b"\x00\xff", ["a", "", "漢"]]:
            await ws.send(junk)
        await asyncio.wait_for(await ws.ping(b"payload"), 5)
        say("ok pong")
        say("publish closed/websockets 0 200")
        while f.next < 200:
            f.take(await ws.recv())
        check("200 events", f.next, 200)
        while ws.heard < 2:
            f.take(await ws.recv())  # heartbeats
        check("pings", f.controls.count("heartbeat") >= 4, True)
        say("publish closed/websockets 200 202")
        while f.next < 202:
            f.take(await ws.recv())
        await ws.close(4001, "bye")
        check("close", ws.close_code, 1000)


async def broken(what, code, write):
    """The server must end it with the code."""
    async with connect() as ws:
        await ws.recv()
        await write(ws)
        try:
            while True:
                await asyncio.wait_for(ws.recv(), 5)
        except websockets.ConnectionClosed as e:
            check(what, e.rcvd and e.rcvd.code, code)


def raw(data):
    async def write(ws):
        ws.transport.write(data)
    return write


async def refused(what, status, header={}, **options):
    protocol = type("Refused", (Client,), {"header": header})
    try:
        async with connect(protocol, **options):
            raise AssertionError(f"{what}: it was let in")
    except websockets.InvalidStatusCode as e:
        check(what, e.status_code, status)


async def main():
    await follow()
    await broken("unmasked", 1002, raw(b"\x81\x05hello"))
    await broken("reserved bit", 1002, raw(b"\xc1\x80\0\0\0\0"))
    await broken("reserved opcode", 1002, raw(b"\x83\x80\0\0\0\0"))
    await broken("fragmented ping", 1002, raw(b"\x09\x80\0\0\0\0"))
    await broken("huge length", 1009, raw(b"\x82\xff\x40\0\0\0\0\0\0\0\0\0\0\0"))
    await broken("too large", 1009, lambda ws: ws.send("x" * 70000))
    await broken("too large in parts", 1009, lambda ws: ws.send(["x" * 30000] * 3))
    await broken("bad UTF-8", 1007, lambda ws: ws.write_frame(True, 1, b"\xff"))
    await broken("bad UTF-8 in a close", 1007, lambda ws: ws.write_frame(True, 8, b"\x03\xe8\xff"))
    await refused("foreign origin", 403, origin="https://evil.example")
    await refused("wrong version", 426, {"Sec-WebSocket-Version": "8"})
    await refused("wrong key", 400, {"Sec-WebSocket-Key": "short"})
    async with connect(origin=SERVER) as ws:
        await ws.recv()
        say("ok own origin")


asyncio.run(asyncio.wait_for(main(), 60))
