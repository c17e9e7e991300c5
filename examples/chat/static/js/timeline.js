/** The time line: auth requests, their results, and the states of the connection and channels. Newest first. */

import { clock, el, listOf } from "./dom.js";

const KEPT = 60;

export class TimeLine {
  #list;
  #request = null; // the facts of the last auth request
  #granted = {};
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
    // Without an id it is an auth request that failed; with one, the connection.
    if (id === undefined && this.#request) this.#fact("Failed", "denied", `${error.code}: ${error.message}`);
    else this.#entry("bad", "Failed for good", code(error));
  }

  closed() {
    this.#entry("", "Closed");
  }

  refused({ requested, error }) {
    const [resource] = Object.keys(requested);
    if (this.#list.firstChild?.dataset.failed === resource) return; // already shown as the channel's failure
    this.#entry("bad", "Refused by Ably", el("code", {}, resource), " ", code(error));
  }

  request({ requested, released }) {
    this.#request = el("dl", { class: "facts" });
    this.#entry("request", "Auth request").append(this.#request);
    this.#fact("Requested", "", Object.keys(requested).length ? words(requested) : "nothing in particular");
    if (released.length) this.#fact("Released", "", listOf(released));
  }

  checked({ checked }) {
    this.#fact("Checked", "", words(checked));
  }

  granted({ capability }) {
    const added = Object.fromEntries(Object.entries(capability).filter(([name]) => !(name in this.#granted)));
    const lost = Object.keys(this.#granted).filter((name) => !(name in capability));
    if (Object.keys(added).length) this.#fact("Granted", "granted", words(added));
    else this.#fact("Granted", "", lost.length ? `all but ${listOf(lost)}` : "as before");
    this.#granted = capability;
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

/** A capability in words. A requested `*` is all operations that the client may have. */
function words(capability) {
  return Object.entries(capability)
    .map(([resource, operations]) => `${resource} (${operations.includes("*") ? "all" : operations.join(", ")})`)
    .join(", ");
}
