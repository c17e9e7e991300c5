/** The time line: what was asked of the auth server, what came of it, and what it did at Ably. Newest first. */

import { clock, el, listOf } from "./dom.js";

const KEPT = 60;

export class TimeLine {
  #list;
  #request = null; // the facts of the request under way
  #held = {};
  #connection = null;

  constructor(list) {
    this.#list = list;
    list.replaceChildren();
  }

  add({ what, ...detail }) {
    this[what]?.(detail);
  }

  connected({ id }) {
    const before = this.#connection;
    this.#connection = id;
    if (before === id) this.#entry("good", "Connected again", "same connection");
    else this.#entry("good", "Connected", el("code", {}, id));
  }

  disconnected({ error }) {
    this.#entry("", "Disconnected", code(error));
  }

  suspended({ error }) {
    this.#entry("bad", "Suspended", code(error));
  }

  failed({ id, error }) {
    // From the connection, or from a request of the auth server: that one has facts to add to.
    if (id === undefined && this.#request) this.#fact("Failed", "denied", `${error.code}: ${error.message}`);
    else this.#entry("bad", "Failed for good", code(error));
  }

  closed() {
    this.#entry("", "Closed");
  }

  refused({ resource, error }) {
    if (this.#list.firstChild?.dataset.failed === resource) return; // told as the channel's failure
    this.#entry("bad", "Refused by Ably", el("code", {}, resource), " ", code(error));
  }

  request({ asked, dropped }) {
    this.#request = el("dl", { class: "facts" });
    this.#entry("ask", "Auth request").append(this.#request);
    this.#fact("Asked", "", Object.keys(asked).length ? words(asked) : "nothing in particular");
    if (dropped.length) this.#fact("Dropped", "", listOf(dropped));
  }

  checked({ checked }) {
    this.#fact("Checked", "", words(checked));
  }

  granted({ capability }) {
    const added = Object.fromEntries(Object.entries(capability).filter(([name]) => !(name in this.#held)));
    const lost = Object.keys(this.#held).filter((name) => !(name in capability));
    if (Object.keys(added).length) this.#fact("Granted", "granted", words(added));
    else this.#fact("Granted", "", lost.length ? `all but ${listOf(lost)}` : "as before");
    this.#held = capability;
  }

  denied({ denied }) {
    this.#fact("Denied", "denied", words(denied));
  }

  reauthorized({ id }) {
    this.#entry("good", "Reauthorized", id === this.#connection ? "same connection" : el("code", {}, id));
  }

  attached({ channel }) {
    this.#entry("good", "Attached", el("code", {}, channel));
  }

  detached({ channel }) {
    this.#entry("", "Detached", el("code", {}, channel));
  }

  "channel-failed"({ channel, error }) {
    const entry = this.#entry("bad", "Refused by Ably", el("code", {}, channel), " ", code(error));
    entry.dataset.failed = channel;
  }

  #entry(kind, title, ...rest) {
    const now = el("time", {}, clock());
    const entry = el(
      "li",
      { class: `${kind} arrives`.trim(), "data-what": title },
      el("div", { class: "line" }, el("p", {}, el("b", {}, title), " ", ...rest), now),
    );
    this.#list.prepend(entry);
    while (this.#list.children.length > KEPT) this.#list.lastChild.remove();
    return entry;
  }

  #fact(term, kind, text) {
    this.#request?.append(el("dt", {}, term), el("dd", { class: kind || undefined }, text));
  }
}

function code(error) {
  return error?.code ? el("span", { class: "code" }, String(error.code)) : null;
}

/** A capability in words: `*` is what an ask for "all I may have" says. */
function words(capability) {
  return Object.entries(capability)
    .map(([resource, operations]) => `${resource} (${operations.includes("*") ? "all" : operations.join(", ")})`)
    .join(", ");
}
