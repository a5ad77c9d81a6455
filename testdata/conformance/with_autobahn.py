"""What the library autobahn sees of the server, on a public topic."""
import asyncio

from autobahn.asyncio.websocket import WebSocketClientFactory, WebSocketClientProtocol

from common import SERVER, Follower, check, say

HOST, PORT = SERVER.removeprefix("http://").split(":")
URL = SERVER.replace("http", "ws", 1) + "/v1/ws?topic=open/autobahn"


class Client(WebSocketClientProtocol):
    def __init__(self):
        super().__init__()
        self.pings, self.messages, self.pongs = 0, asyncio.Queue(), asyncio.Queue()
        self.opened, self.ended = asyncio.Event(), asyncio.Event()

    def onOpen(self):
        self.opened.set()

    def onMessage(self, payload, isBinary):
        self.messages.put_nowait(payload)

    def onPing(self, payload):
        self.pings += 1
        super().onPing(payload)

    def onPong(self, payload):
        self.pongs.put_nowait(payload)

    def onClose(self, wasClean, code, reason):
        self.code, self.reason = self.remoteCloseCode, reason
        self.ended.set()


async def connect(origin=None, **options):
    factory = WebSocketClientFactory(URL, origin=origin)
    factory.protocol = Client
    factory.setProtocolOptions(failByDrop=False, **options)
    _, client = await asyncio.get_running_loop().create_connection(factory, HOST, int(PORT))
    first = [asyncio.create_task(e.wait()) for e in (client.opened, client.ended)]
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    return client


async def follow():
    client = await connect()
    f = Follower()
    f.take(await client.messages.get())
    check("hello", f.controls, ["hello"])
    client.sendMessage(b"hello")
    client.sendMessage(b"")
    client.sendMessage(b"\x00\xff", isBinary=True)
    client.sendMessage("fragments 漢".encode(), fragmentSize=3)
    client.sendMessage(b"x" * 65536)
    client.sendPing(b"x" * 125)
    check("pong", await client.pongs.get(), b"x" * 125)
    say("publish open/autobahn 0 200")
    while f.next < 200:
        f.take(await client.messages.get())
    check("200 events", f.next, 200)
    while client.pings < 2:
        f.take(await client.messages.get())
    check("pings", f.controls.count("heartbeat") >= 4, True)
    say("publish open/autobahn 200 202")
    while f.next < 202:
        f.take(await client.messages.get())
    client.sendClose(4001, "bye")
    await client.ended.wait()
    check("close", (client.code, client.wasClean), (1000, True))


async def broken(what, code, write, **options):
    client = await connect(**options)
    await client.messages.get()
    write(client)
    await client.ended.wait()
    check(what, client.code, code)


async def main():
    await follow()
    await broken("unmasked", 1002, lambda c: c.sendMessage(b"hello"), maskClientFrames=False)
    await broken("reserved bit", 1002, lambda c: c.sendFrame(1, b"hello", rsv=2))
    await broken("reserved opcode", 1002, lambda c: c.sendFrame(11, b"hello"))
    await broken("nothing to continue", 1002, lambda c: c.sendFrame(0, b"hello"))
    await broken("fragmented ping", 1002, lambda c: c.sendFrame(9, b"", fin=False))
    await broken("large ping", 1002, lambda c: c.sendFrame(9, b"x" * 126))
    await broken("close code 1005", 1002, lambda c: c.sendFrame(8, b"\x03\xed"))
    await broken("bad UTF-8", 1007, lambda c: c.sendFrame(1, b"\xed\xa0\x80"))
    await broken("too large", 1009, lambda c: c.sendMessage(b"x" * 65537))
    await broken("too large in parts", 1009, lambda c: c.sendMessage(b"x" * 70000, fragmentSize=7000))
    for what, status, options in [("foreign origin", "403", {"origin": "https://evil.example"}),
                                  ("wrong version", "426", {"version": 12})]:
        client = await connect(**options)
        await client.ended.wait()
        check(what, status in client.reason, True)


asyncio.run(asyncio.wait_for(main(), 60))
