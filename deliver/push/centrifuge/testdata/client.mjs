// An unmodified centrifuge-js against a server: node client.mjs URL TRANSPORT TASK [TOKENS]
// Each task prints a JSON object a line, and ends with {"done":true} or by an exception.
import assert from "node:assert/strict";
import {once} from "node:events";
import {Centrifuge} from "centrifuge";
import {EventSource} from "eventsource";
import WebSocket from "ws";

const [url, transport, task, tokens] = process.argv.slice(2);
const path = {websocket: "websocket", http_stream: "http_stream", sse: "sse"}[transport];
const endpoint = (transport === "websocket" ? url.replace("http", "ws") : url) + "/connection/" + path;
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

function client(options = {}) {
  const c = new Centrifuge([{transport, endpoint}], {
    emulationEndpoint: url + "/emulation", websocket: WebSocket, eventsource: EventSource, fetch, readableStream: ReadableStream,
    minReconnectDelay: 50, maxReconnectDelay: 300, ...options,
  });
  c.on("error", (e) => say({error: e}));
  return c;
}

// happens resolves with the context of an event.
const happens = (emitter, name) => once(emitter, name).then(([ctx]) => ctx);

async function ready(c, sub) {
  c.connect();
  sub.subscribe();
  await Promise.all([c.ready(5000), sub.ready(5000)]);
}

const tasks = {
  async methods() {
    const alice = client(), bob = client();
    const topic = "chat/" + transport;
    const sub = alice.newSubscription(topic), other = bob.newSubscription(topic);
    const subscribed = happens(sub, "subscribed"), joined = [];
    sub.on("join", (ctx) => joined.push(ctx.info.client));
    await ready(alice, sub);
    assert.equal((await subscribed).recoverable, true);
    assert.ok((await subscribed).streamPosition.epoch);
    await ready(bob, other);

    const got = [];
    const all = new Promise((resolve) => sub.on("publication", (ctx) => { got.push(ctx); if (got.length === 10) resolve(); }));
    for (let n = 0; n < 10; n++) await other.publish({n});
    await all;
    assert.deepEqual(got.map((p) => p.data.n), [...Array(10).keys()]);
    assert.ok(got.every((p, i) => p.tags.topic === topic && p.tags.type === "message" && (i === 0 || p.offset > got[i - 1].offset)));

    assert.deepEqual((await sub.history({limit: 3})).publications.map((p) => p.data.n), [0, 1, 2]);
    assert.deepEqual((await sub.history({limit: 2, reverse: true})).publications.map((p) => p.data.n), [9, 8]);
    const since = await sub.history({limit: 100, since: {offset: got[6].offset, epoch: (await subscribed).streamPosition.epoch}});
    assert.deepEqual(since.publications.map((p) => p.data.n), [7, 8, 9]);
    await assert.rejects(sub.history({limit: 1, since: {offset: 1, epoch: "no"}}), {code: 112});
    await assert.rejects(alice.rpc("x", {}), {code: 108});
    await assert.rejects(alice.publish("read/only", 1), {code: 103});

    const forbidden = alice.newSubscription("secret/a");
    const refused = happens(forbidden, "unsubscribed");
    forbidden.subscribe();
    assert.equal((await refused).code, 103);

    const ids = (await connectedIDs([alice, bob], sub)).sort();
    const {clients} = await sub.presence();
    assert.deepEqual(Object.keys(clients).sort(), ids);
    assert.deepEqual(await other.presenceStats(), {numClients: 2, numUsers: 1});
    assert.ok(joined.length >= 1, "bob's joining was told");

    const left = happens(sub, "leave");
    other.unsubscribe();
    await left;
    other.subscribe();
    await other.ready(5000);
    bob.disconnect();
    alice.disconnect();
  },

  // Many subscriptions, as they go out in one message, and again after a cut.
  async many() {
    const c = client();
    const subs = [...Array(100).keys()].map((n) => c.newSubscription("many/" + n));
    subs.forEach((s) => s.subscribe());
    c.connect();
    await Promise.all(subs.map((s) => s.ready(5000)));
    say({subscribed: subs.length});
    const again = Promise.all(subs.map((s) => happens(s, "subscribed")));
    await new Promise((resolve) => c.once("connecting", resolve)); // the server is killed
    assert.ok((await again).every((ctx) => ctx.wasRecovering && ctx.recovered));
    c.disconnect();
  },

  async follow() {
    const c = client();
    const sub = c.newSubscription("load/*");
    sub.on("subscribed", (ctx) => say({subscribed: true, wasRecovering: ctx.wasRecovering, recovered: ctx.recovered}));
    sub.on("publication", (ctx) => say({n: ctx.data.n, offset: ctx.offset}));
    await ready(c, sub);
    await happens(process.stdin.resume(), "end");
    c.disconnect();
  },

  // Tokens that end soon; one names the channel of a server-side subscription.
  async tokens() {
    let asked = 0, connected = 0, subscribed = 0;
    const getToken = async () => { asked++; return (await fetch(tokens)).text(); };
    const c = client({getToken});
    c.on("connected", () => connected++);
    c.on("subscribed", (ctx) => { subscribed++; say({serverSide: ctx.channel, wasRecovering: ctx.wasRecovering, recovered: ctx.recovered}); });
    c.on("publication", (ctx) => say({n: ctx.data.n, offset: ctx.offset}));
    const sub = c.newSubscription("secret/mine");
    sub.on("publication", (ctx) => say({mine: ctx.data.n}));
    await ready(c, sub);
    await happens(process.stdin.resume(), "end");
    say({asked, connected, subscribed});
    c.disconnect();
  },
};

// connectedIDs are the clients' own, by who published.
async function connectedIDs(clients, sub) {
  const ids = [];
  for (const c of clients) {
    const seen = new Promise((resolve) => sub.once("publication", resolve));
    await c.publish(sub.channel, {who: true});
    ids.push((await seen).tags.source.split("/").pop());
  }
  return ids;
}

await tasks[task]();
say({done: true});
