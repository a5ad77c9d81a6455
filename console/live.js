// Keeps the live page up to date from our own event stream.

import { connect } from "../chappe.js";

const maxRows = 200;

/** @typedef {import("../client/chappe.js").CloudEvent} CloudEvent */

/**
 * The page's own element; it is always there.
 * @param {string} id
 * @returns {HTMLElement}
 */
function element(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page lacks #${id}`);
  return found;
}

const table = /** @type {HTMLTableElement} */ (element("events"));
const rows = table.tBodies[0];
const shown = element("shown");
const pauseButton = element("pause");
const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

let paused = false;
/** @type {CloudEvent[]} events that came while paused, at most maxRows */
let held = [];
let heldCount = 0;

/**
 * @param {string} word what the live line says
 * @param {"live" | "waiting" | "failed"} mark
 */
function say(word, mark) {
  const line = element("live-line");
  line.classList.toggle("is-stale", mark !== "live");
  line.querySelector("use")?.setAttribute("href", `#mark-${mark}`);
  const status = element("live-word");
  if (status.textContent !== word) status.textContent = word;
}

/**
 * @param {string} tag
 * @param {string} [className]
 * @param {string} [text]
 */
function make(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** @param {CloudEvent} event */
function titleOf(event) {
  const data = event.data;
  if (data && typeof data === "object") {
    for (const key of ["title", "subject"]) {
      const value = /** @type {Record<string, unknown>} */ (data)[key];
      if (typeof value === "string" && value) return value;
    }
  }
  if (event.subject) return event.subject;
  const text = JSON.stringify(data) ?? "";
  return text.length > 80 ? text.slice(0, 80) + "…" : text || event.type;
}

/** @param {CloudEvent} event */
function rowOf(event) {
  const row = document.createElement("tr");
  row.className = "is-new";
  const time = make("time", "", clock.format(new Date(event.time)));
  time.setAttribute("datetime", event.time);
  const when = make("td", "cell-time fold-end");
  when.append(time);
  const where = make("td", "fold-start");
  where.append(make("span", "topic", event.topic), make("span", "sub", event.type));
  const what = document.createElement("td");
  const details = document.createElement("details");
  details.append(make("summary", "", titleOf(event)), make("pre", "code", JSON.stringify(event, null, 2)));
  what.append(details, make("span", "sub", event.source));
  const place = make("td", "number wide-only");
  place.append(make("code", "", event.cursor ?? "ephemeral"));
  row.append(when, where, what, place);
  return row;
}

/** @param {CloudEvent[]} events oldest first */
function show(events) {
  if (!events.length) return;
  table.hidden = false;
  element("empty").hidden = true;
  for (const event of events) rows.prepend(rowOf(event));
  while (rows.rows.length > maxRows) rows.rows[rows.rows.length - 1].remove();
}

/** Several events a frame are one change of the page. @type {CloudEvent[]} */
let waiting = [];

/** @param {CloudEvent} event */
function receive(event) {
  if (event.cursor) element("cursor").textContent = event.cursor;
  if (paused) {
    heldCount++;
    held.push(event);
    if (held.length > maxRows) held.shift();
    shown.textContent = `${heldCount} new`;
    return;
  }
  waiting.push(event);
  if (waiting.length > 1) {
    if (waiting.length > maxRows) waiting.shift();
    return;
  }
  requestAnimationFrame(() => {
    show(waiting);
    waiting = [];
  });
}

pauseButton.addEventListener("click", () => {
  paused = !paused;
  pauseButton.setAttribute("aria-pressed", String(paused));
  pauseButton.textContent = paused ? "Go on" : "Pause";
  if (paused) {
    shown.textContent = "Paused";
    return;
  }
  show(held);
  held = [];
  heldCount = 0;
  shown.textContent = "";
});

for (const time of rows.querySelectorAll("time")) time.textContent = clock.format(new Date(time.dateTime));

let since = "";
connect({
  topics: table.dataset.topic ?? "**",
  after: table.dataset.cursor,
  onEvent: receive,
  onState(state, info) {
    if (info.reset) shown.textContent = "Some events are no longer kept; these are from now on";
    if (state === "live") {
      since = "";
      return say("Live", "live");
    }
    if (state === "refused") return say("Closed, reload the page to go on", "failed");
    since ||= clock.format(new Date());
    say(state === "waiting" ? `Stale since ${since}, trying again` : "Connecting", "waiting");
  },
});
