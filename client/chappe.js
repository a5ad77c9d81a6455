// Events from a Chappe server as they happen, each once and in order, by
// WebSocket, SSE or long-poll, whichever gets through. Manual: docs/client.md.

/**
 * @typedef {object} CloudEvent
 * @property {string} specversion
 * @property {string} id
 * @property {string} source
 * @property {string} type
 * @property {string} [subject]
 * @property {string} time
 * @property {string} topic
 * @property {string} [cursor] an ephemeral event has none
 * @property {any} [data]
 *
 * @typedef {"websocket" | "sse" | "poll"} Transport
 * @typedef {"connecting" | "live" | "waiting" | "refused" | "closed"} State
 *
 * @typedef {object} Info
 * @property {Transport} [transport] when live
 * @property {boolean} [reset] when live: events were missed for good, read anew what the page shows
 * @property {number} [retryIn] when waiting, milliseconds
 * @property {string} [code] why, when waiting or refused
 * @property {string} [detail] the same as a sentence
 *
 * @typedef {object} Options
 * @property {string} [url] the server; default: where this module came from
 * @property {string | string[]} topics topics or patterns
 * @property {string} [token]
 * @property {() => string | null | Promise<string | null>} [getToken] called when a fresh token is needed
 * @property {(event: CloudEvent) => void} [onEvent]
 * @property {(state: State, info: Info) => void} [onState]
 * @property {string} [after] a cursor, or "start"; default: from now
 * @property {boolean | string} [share] a connection with other tabs; with a name, with those that give it too
 * @property {RequestCredentials} [credentials] as for fetch
 *
 * @typedef {{why: string, began?: boolean, code?: string, detail?: string, retryIn?: number, cursor?: string}} End
 *   of a session; began: it said hello. Why: lost, without a word; silent; told, it said so;
 *   expired, its token; down or refused, before it began; gone, its cursor; again, it gave way
 * @typedef {{heard: number, limit: number, asked?: boolean, stop: (end: End) => void}} Watch
 *   what must not stay silent longer: a session, a pause, the tab that leads
 * @typedef {{proved: boolean, strikes: number, skipFor: number, skipUntil: number}} Way
 *   a transport; proved: it said hello; strikes: its last sessions, which did not last
 * @typedef {{name: Transport, failed: Way[], signal: AbortSignal, began: number, reached?: boolean, reused?: boolean, retry?: number, told?: End} & Watch} Session
 *   failed: tried before it; reached: the server, so what fails now is the transport; reused: its ticket
 */

const second = 1000;
const minute = 60 * second;
const helloTime = 6 * second;
const maxSeen = 1024;
const order = /** @type {const} */ (["websocket", "sse", "poll"]);

/** @param {Options} options */
export function connect(options) {
  const c = new Connection(options);
  return {
    close: () => c.finish("closed"),
    /** where a later connect would go on */
    get cursor() {
      return c.cursor;
    },
    get state() {
      return c.state;
    },
  };
}

class Stop extends Error {
  /** @param {End} end */
  constructor(end) {
    super(end.why);
    this.end = end;
  }
}

/** @param {number} ms */
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** @param {number} ms */
const upTo = (ms) => Math.random() * ms;

/** @param {() => void} tell what may fail by the page's fault, which stops nothing here */
function safely(tell) {
  try {
    tell();
  } catch (e) {
    reportError(e);
  }
}

class Connection {
  /** @param {Options} options */
  constructor(options) {
    if (!options?.topics?.length) throw new TypeError("connect: topics is missing, say what to follow");
    this.options = options;
    const base = new URL(options.url ?? new URL(".", import.meta.url), location.href);
    this.base = base.origin + base.pathname.replace(/\/?$/, "/");
    this.topics = [options.topics].flat();
    this.cursor = options.after;
    /** @type {State} */
    this.state = "connecting";
    /** @type {Info} */
    this.info = {};
    /** @type {string | null | undefined} undefined: to be asked for */
    this.token = options.token;
    this.ticket = "";
    /** @type {Set<string>} cursors of the events delivered last */
    this.seen = new Set();

    this.over = new AbortController();
    /** @type {Watch | undefined} */
    this.watch = undefined;
    this.timer = 0;
    this.met = false; // some transport said hello
    this.retry = [second, 10 * second];
    this.tries = 0; // in a row, without hello
    this.hiddenTries = 0;
    this.prolonged = false; // the pause, since nobody looks
    this.wake = () => {};
    const way = () => ({ proved: false, strikes: 0, skipFor: 0, skipUntil: 0 });
    this.ways = { websocket: way(), sse: way(), poll: way() };

    /** @type {BroadcastChannel | undefined} */
    this.channel = undefined;
    this.locking = new AbortController();
    this.steal = false;
    this.term = 0; // which leading of ours this is; 0: another tab leads
    this.leader = 0; // its term
    this.number = 0; // of events the leader delivered: a follower sees what it missed
    this.behind = false;
    this.catching = false;
    /** @type {any[] | undefined} what the leader sent while we catch up */
    this.held = undefined;
    this.watched = 0; // when a visible tab told that it waits

    for (const name of ["visibilitychange", "resume", "online", "pageshow"]) {
      addEventListener(name, () => this.awake(name), { capture: true, signal: this.over.signal });
    }
    queueMicrotask(() => this.start()); // the caller has its result by then
  }

  get ended() {
    return this.over.signal.aborted;
  }

  start() {
    this.report("connecting");
    if (this.ended) return;
    const { after, share } = this.options;
    if (share === false || after || !navigator.locks || !globalThis.BroadcastChannel) return this.run();
    const name = ["chappe", this.base, ...[...this.topics].sort(), share].join(" ");
    return this.share(name).catch(() => {
      this.channel?.close(); // this page may not lock
      this.channel = undefined;
      return this.run();
    });
  }

  /**
   * @param {State} state
   * @param {Info} [info]
   */
  report(state, info = {}) {
    if (this.state === "refused" || this.state === "closed") return; // by a callback, meanwhile
    this.state = state;
    this.info = { ...info, reset: undefined };
    this.post({ info });
    safely(() => this.options.onState?.(state, info));
  }

  /**
   * @param {"refused" | "closed"} state
   * @param {Info} [info]
   */
  finish(state, info) {
    if (this.ended) return;
    this.over.abort();
    this.depose();
    this.locking.abort();
    this.channel?.close();
    this.channel = undefined;
    clearTimeout(this.timer);
    this.report(state, info);
  }

  /**
   * @param {CloudEvent} event
   * @param {string} [at] where to go on after it
   */
  deliver(event, at = event.cursor) {
    if (this.ended) return;
    this.cursor = at ?? this.cursor;
    if (event.cursor) {
      if (this.seen.has(event.cursor)) return;
      this.seen.add(event.cursor);
      const [oldest] = this.seen;
      if (this.seen.size > maxSeen) this.seen.delete(oldest);
    }
    if (this.term) {
      this.number++;
      if (!this.behind) this.post({ event });
    }
    safely(() => this.options.onEvent?.(event));
  }

  /**
   * @param {CloudEvent[]} events
   * @param {string} [at]
   */
  deliverAll(events, at) {
    for (const event of events) this.deliver(event);
    if (!this.ended) this.cursor = at;
  }

  // Sessions, one after the other.

  async run() {
    const term = (this.term = Math.random());
    let ms = 0;
    /** @type {End} */
    let end = { why: "told" };
    for (;;) {
      if (end.why !== "again") {
        await this.pause(ms, end);
        if (this.term === term && this.state !== "connecting") this.report("connecting");
      }
      if (this.term !== term) return;
      end = await this.walk();
      if (this.term !== term) return;
      if (end.why === "refused") return this.finish("refused", { code: end.code, detail: end.detail });
      ms = this.delay(end);
    }
  }

  /** Ends run. */
  depose() {
    this.term = 0;
    this.watch?.stop({ why: "over" });
    this.wake();
  }

  /** Goes down the transports until one says hello, and returns how that ended. */
  async walk() {
    /** @type {Way[]} */
    const failed = [];
    /** @type {End} */
    let end = { why: "lost" };
    for (const name of order) {
      const way = this.ways[name];
      if (name !== "poll") {
        if (this.behind || way.skipUntil > Date.now()) continue;
        if (way.strikes > 1) {
          failed.push(way);
          continue;
        }
      }
      end = await this.session(name, failed);
      if (end.began) break;
      // What was there before is more likely down than out of reach, and a
      // server that is down fails by all. Both may err: each third attempt
      // goes all the way.
      const down = end.why === "down" || (end.why === "lost" && way.proved);
      if (down ? this.tries % 3 !== 2 : end.why !== "lost") break;
      failed.push(way);
    }
    if (!end.began) for (const way of failed) way.strikes = 0; // better those than none
    return end;
  }

  /**
   * @param {Transport} name
   * @param {Way[]} failed
   * @returns {Promise<End>}
   */
  async session(name, failed) {
    const abort = new AbortController();
    const s = /** @type {Session} */ ({ name, failed, signal: abort.signal, heard: Date.now(), limit: helloTime, began: 0 });
    const stopped = new Promise((_, reject) => {
      s.stop = (end) => {
        abort.abort();
        reject(new Stop(end));
      };
    });
    this.watch = s;
    this.check();
    /** @type {End} */
    let end = { why: "lost" };
    try {
      await Promise.race([stopped, this[name](s)]);
    } catch (e) {
      if (e instanceof Stop) end = e.end;
      else if (!s.reached) end = { why: "down", detail: String(e) };
    }
    abort.abort();
    if (this.watch === s) this.watch = undefined;
    return this.judge(s, end.why === "over" ? end : (s.told ?? end));
  }

  /**
   * Learns from how a session ended.
   * @param {Session} s
   * @param {End} end
   * @returns {End}
   */
  judge(s, end) {
    const way = this.ways[s.name];
    let why = end.why;
    const age = Date.now() - s.began;
    if (!s.began) {
      if (why === "silent") why = "lost";
      if (s.name === "websocket") {
        // Its ticket may be why; a browser does not tell.
        if (why === "lost" && s.reused) why = "expired";
        this.ticket = "";
      }
    } else {
      if (s.heard - s.began >= minute) way.strikes = way.skipFor = this.hiddenTries = 0;
      if (why === "silent" || (why === "lost" && age < 10 * second)) way.strikes++;
      if (why === "expired") {
        this.renew();
        way.proved = false; // a refusal is not waited for, it shows by the next one
      }
      if (why === "expired" && age < second) why = "told"; // it would go on like that
    }
    return { ...end, why, began: s.began > 0 };
  }

  /**
   * How long to wait before the next attempt.
   * @param {End} end
   */
  delay(end) {
    const [min, max] = this.retry;
    const tries = end.began ? 0 : this.tries++;
    if (end.why === "expired") return upTo(second);
    if (end.retryIn) return Math.max(second, Math.min(60 * minute, end.retryIn));
    if (end.why === "silent") return 0;
    return end.began ? min + upTo(max - min) : upTo(Math.min(minute, (this.met ? max : second) * 2 ** tries));
  }

  /**
   * @param {number} ms
   * @param {End} end
   */
  async pause(ms, { code, detail }) {
    const hidden = document.hidden && Date.now() - this.watched > 2 * minute;
    if (!hidden) this.hiddenTries = 0;
    this.prolonged = hidden && this.hiddenTries++ > 0;
    if (this.prolonged || !navigator.onLine) ms = Math.max(ms, minute);
    if (!ms) return;
    this.report("waiting", { retryIn: Math.round(ms), code, detail });
    const pause = { heard: Date.now(), limit: ms, stop: () => {} };
    await new Promise((done) => {
      this.wake = pause.stop = () => done(undefined);
      this.watch = pause;
      this.check();
    });
    if (this.watch === pause) this.watch = undefined;
    this.prolonged = false;
  }

  /** Looks for silence by the wall clock: timers stand still while a laptop sleeps. */
  check() {
    clearTimeout(this.timer);
    const watch = this.watch;
    if (!watch) return;
    const now = Date.now();
    watch.heard = Math.min(watch.heard, now); // the clock may be set back
    const left = watch.heard + watch.limit - now;
    if (left <= 0) watch.stop({ why: "silent" });
    this.timer = setTimeout(() => this.check(), left > 0 ? Math.min(left, 5 * second) : second);
  }

  /** @param {string} event that somebody may look again */
  awake(event) {
    if (event === "visibilitychange" && document.hidden) return;
    if (this.watch) this.watch.asked = false; // we may not have heard the answer
    this.check();
    if (this.term) this.wake();
    else this.ask(true);
  }

  // Transports. Each speaks until its connection ends.

  /** @param {Session} s */
  async websocket(s) {
    s.reused = this.ticket !== "";
    if (!s.reused && (await this.bearer())) {
      const answer = await this.fetch("v1/tickets", { method: "POST", signal: s.signal });
      this.ticket = (await answer.json()).ticket;
    }
    if (s.signal.aborted) return;
    s.reached = true;
    const url = this.base + this.query("v1/ws", this.ticket ? { ticket: this.ticket } : {});
    const socket = new WebSocket(url.replace(/^http/, "ws"));
    s.signal.addEventListener("abort", () => socket.close());
    const close = await new Promise((/** @type {(event: CloseEvent) => void} */ done) => {
      socket.onmessage = ({ data }) => this.take(s, JSON.parse(data));
      socket.onclose = done;
    });
    const retry = /^retry=(\d+)/.exec(close.reason);
    if (retry) s.told = { why: "told", ...s.told, retryIn: Number(retry[1]) };
  }

  /** @param {Session} s */
  async sse(s) {
    const answer = await this.fetch(this.query("v1/stream"), { signal: s.signal });
    s.reached = true;
    if (!answer.body || !answer.headers.get("Content-Type")?.startsWith("text/event-stream")) return;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    /** @type {Record<string, string>} */
    let fields = {};
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      if (s.began) s.heard = Date.now();
      const lines = (text + value).split(/\r?\n/);
      text = lines.pop() ?? "";
      for (const line of lines) {
        const [, name, value] = /^(\w*): ?(.*)/s.exec(line) ?? [];
        if (name === "retry") s.retry = Number(value);
        else if (name) fields[name] = value;
        if (line) continue;
        if (fields.data) this.take(s, JSON.parse(fields.data), fields.id);
        fields = {};
      }
    }
  }

  /** @param {Session} s */
  async poll(s) {
    for (let wait = 0; ; wait = this.behind ? 0 : 25) {
      const asked = (s.heard = Date.now());
      s.limit = (wait + 10) * second;
      const { events, cursor, reset } = await this.page(wait, s.signal);
      if (s.signal.aborted) return;
      s.heard = Date.now();
      if (reset) this.cursor = cursor;
      if (reset || !s.began) this.hello(s, reset);
      this.deliverAll(events, cursor);
      if (!events.length) this.behind = false;
      this.post();
      const others = order.some((name) => name !== "poll" && this.ways[name].skipUntil <= s.heard);
      if (others && !this.behind) {
        this.tries = 2; // the server is there: down to us again, if need be
        throw new Stop({ why: "again" });
      }
      if (wait && !events.length && s.heard - asked < second) await sleep(second);
    }
  }

  /**
   * @param {Session} s
   * @param {any} m an event or a control
   * @param {string} [id] where to go on after it
   */
  take(s, m, id) {
    if (s.signal.aborted) return;
    s.heard = Date.now();
    if (m.specversion) return this.deliver(m, id ?? m.cursor);
    this.cursor = id ?? m.cursor ?? this.cursor;
    switch (m.control) {
      case "hello":
        s.limit = m.heartbeat * 1.25 * second + 2 * second;
        this.retry = m.retry;
        return this.hello(s);
      case "heartbeat":
        return this.post();
      case "reset":
        return this.hello(s, true);
      case "drain":
      case "error":
        s.told = { why: m.code === "token-expired" ? "expired" : "told", code: m.code ?? m.control, retryIn: m.retry_in ?? s.retry };
    }
  }

  /**
   * @param {Session} s
   * @param {boolean} [reset]
   */
  hello(s, reset) {
    s.began ||= Date.now();
    this.met = true;
    this.tries = 0;
    this.ways[s.name].proved = true;
    for (const way of s.failed.splice(0)) {
      way.skipFor = Math.min(2 * way.skipFor || 5 * minute, 60 * minute);
      way.skipUntil = Date.now() + way.skipFor;
      way.strikes = 0;
      way.proved = false; // the next time it is not waited for
    }
    this.report("live", reset ? { transport: s.name, reset } : { transport: s.name });
  }

  // Requests.

  async bearer() {
    if (this.token === undefined) this.token = (await this.options.getToken?.()) ?? null;
    return this.token;
  }

  /** Has the next request ask for a fresh token. */
  renew() {
    this.ticket = "";
    if (this.options.getToken) this.token = undefined;
    return this.token === undefined;
  }

  /**
   * @param {string} path
   * @param {Record<string, string>} [more]
   */
  query(path, more) {
    const query = new URLSearchParams(more);
    for (const topic of this.topics) query.append("topic", topic);
    if (this.cursor) query.set("after", this.cursor);
    return path + "?" + query;
  }

  /**
   * @param {string} path
   * @param {RequestInit} init
   * @returns {Promise<Response>} an answer that is fine, or a Stop
   */
  async fetch(path, init) {
    for (let first = true; ; first = false) {
      const token = await this.bearer();
      const headers = token ? { Authorization: "Bearer " + token } : undefined;
      const answer = await fetch(this.base + path, { cache: "no-store", credentials: this.options.credentials, headers, ...init });
      if (answer.ok) return answer;
      const { status } = answer;
      if (status === 401 && first && this.renew()) continue;
      const { code, detail, cursor } = await answer.json().catch(() => ({}));
      const end = { code: code ?? "http-" + status, detail, cursor };
      if (code === "cursor-gone") throw new Stop({ why: "gone", ...end });
      // Without a code it is not our server who says no, but what stands
      // before it, which may do so while it restarts.
      const final = status === 401 || (code && status < 500 && ![408, 410, 425, 429].includes(status));
      const retryIn = Number(answer.headers.get("Retry-After")) * second || undefined;
      throw new Stop({ why: final ? "refused" : "down", retryIn, ...end });
    }
  }

  /**
   * One long-poll.
   * @param {number} wait seconds
   * @param {AbortSignal} signal
   * @returns {Promise<{events: CloudEvent[], cursor?: string, reset?: boolean}>}
   */
  async page(wait, signal) {
    try {
      const answer = await this.fetch(this.query("v1/poll", { wait: wait + "s" }), { signal });
      return await answer.json();
    } catch (e) {
      if (!(e instanceof Stop) || e.end.why !== "gone") throw e;
      return { events: [], cursor: e.end.cursor, reset: true };
    }
  }

  // Tabs: one leads and has the connection, the others hear from it.

  /** @param {string} name */
  async share(name) {
    this.channel = new BroadcastChannel(name);
    this.channel.onmessage = ({ data }) => (data.ask ? this.answer(data) : this.hear(data));
    while (!this.ended) {
      this.follow();
      const lock = this.steal ? { steal: true } : { signal: this.locking.signal };
      this.steal = false;
      try {
        await navigator.locks.request(name, lock, () => this.lead());
      } catch (e) {
        if (this.term) this.depose(); // another tab has taken the lock from us
        else if (!this.locking.signal.aborted) throw e;
      }
    }
  }

  lead() {
    if (this.ended) return;
    this.watch = undefined;
    // The others may be ahead of us: we catch up before we send them anything.
    this.behind = this.cursor !== undefined;
    return this.run();
  }

  follow() {
    this.locking = new AbortController();
    /** @type {Watch} */
    const watch = {
      heard: Date.now(),
      limit: 10 * second,
      stop: ({ why }) => {
        if (why !== "silent") return;
        if (watch.asked && !document.hidden) {
          this.steal = true; // the leader is frozen, and somebody looks at us
          this.locking.abort();
          return;
        }
        Object.assign(watch, { asked: true, heard: Date.now(), limit: 5 * second });
        this.ask();
      },
    };
    this.watch = watch;
    this.check();
    this.ask();
  }

  /** @param {boolean} [now] somebody has just come to look at us */
  ask(now) {
    this.channel?.postMessage({ ask: true, visible: !document.hidden, now });
  }

  /** @param {{visible: boolean, now?: boolean}} m */
  answer({ visible, now }) {
    if (visible) {
      this.watched = Date.now();
      if (now || this.prolonged) this.wake();
      if (now) this.check();
    }
    this.post();
  }

  /** @param {object} [more] */
  post(more) {
    if (!this.term) return;
    const { term, number, cursor, state, info } = this;
    const { heard, limit } = this.watch ?? { heard: Date.now(), limit: second };
    this.channel?.postMessage({ term, number, at: cursor, state, info, heard, limit, ...more });
  }

  /** @param {any} m from the leader */
  hear(m) {
    if (this.term || !this.watch) return;
    // A frozen leader may answer, but what it heard is old.
    const limit = m.limit + 5 * second;
    if (Date.now() - m.heard < limit) Object.assign(this.watch, { asked: false, heard: m.heard, limit });
    const { event } = m;
    if (this.cursor && (m.term !== this.leader || m.number !== this.number + (event ? 1 : 0))) this.behind = true;
    this.leader = m.term;
    this.number = m.number;
    if (!this.behind) {
      if (event) this.deliver(event, m.at);
      else this.cursor = m.at;
    } else if (event?.cursor) {
      if (this.held && this.held.push(m) > maxSeen) this.held = undefined;
    } else if (event) this.deliver(event);
    if (m.state !== this.state || m.info.transport !== this.info.transport || m.info.reset) {
      this.report(m.state, m.info);
      if (m.state !== "live" && !document.hidden) this.ask();
    }
    if (this.behind && m.state === "live") this.catchUp();
  }

  /** Fetches what was missed of the leader's. */
  async catchUp() {
    if (this.catching) return;
    this.catching = true;
    for (let tries = 0; this.behind && this.state === "live" && !this.term; ) {
      try {
        this.held = [];
        const { events, cursor, reset } = await this.page(0, AbortSignal.timeout(10 * second));
        if (this.term) break;
        this.deliverAll(events, cursor);
        if (reset) this.report("live", { ...this.info, reset });
        // What the leader sent before an empty page was asked for is no news;
        // what it sent since is held, unless it was too much.
        if (events.length || reset || !this.held) continue;
        this.behind = false;
        for (const m of this.held) this.deliver(m.event, m.at);
      } catch (e) {
        if (e instanceof Stop && e.end.why === "refused") this.finish("refused", { code: e.end.code, detail: e.end.detail });
        this.held = undefined;
        await sleep(upTo(Math.min(minute, second * 2 ** ++tries)));
      }
    }
    this.held = undefined;
    this.catching = false;
  }
}
