/** The chat of a signed-in user: rooms, the client, the panel, and news from the server. */

import { ApiError, api } from "./api.js";
import { Client } from "./client.js";
import { announce, byId, el, paintBadge } from "./dom.js";
import { Panel } from "./panel.js";
import { Room } from "./room.js";

export class Chat {
  #session;
  #onEnded;
  #client;
  #panel;
  #news;
  #rooms = new Map();
  #current = null;
  #seen = 0;
  #work = Promise.resolve();
  #stopped = new AbortController();

  constructor(session, { onEnded, onStrategy }) {
    this.#session = session;
    this.#onEnded = onEnded;
    this.#panel = new Panel(session, { onStrategy, until: this.#stopped.signal });
  }

  /** `focus`: whether the room gets the focus, for example after the user signed in. */
  async start({ focus = true } = {}) {
    const { user } = this.#session;
    byId("who").textContent = user;
    paintBadge(byId("who-badge"), user);
    const { rooms, seen } = await api("GET", "/api/rooms");
    this.#seen = seen;
    this.#client = new Client(this.#session);
    this.#panel.watch(this.#client);
    this.#client.addEventListener("ended", () => this.#onEnded("Your session has ended. Sign in again."));
    const shared = { client: this.#client, user, call: (...args) => this.#call(...args), onChange: () => this.#render() };
    for (const info of rooms) this.#rooms.set(info.name, new Room(info, shared));
    byId("conversation").replaceChildren(...[...this.#rooms.values()].map((room) => room.view.element));
    for (const room of this.#rooms.values()) room.view.render();
    addEventListener("hashchange", () => this.#go({ focus: true }), { signal: this.#stopped.signal });
    this.#listen();
    await this.#go({ focus });
  }

  /** Close the client and the news; nothing connects again. */
  async stop(options) {
    this.#stopped.abort();
    this.#news?.close();
    await this.#client?.stop(options);
    byId("conversation").replaceChildren();
    byId("rooms").replaceChildren();
  }

  /** Show the room in the URL's hash, and join it. */
  async #go({ focus }) {
    const room = this.#rooms.get(location.hash.slice(1)) ?? this.#current ?? this.#rooms.get("lobby");
    if (this.#current === room) return;
    this.#current?.show(false);
    this.#current = room;
    document.title = `${room.info.title} · Rooms`;
    room.show(true);
    if (room.state === "out" || room.state === "refused") await room.join();
    if (focus && room === this.#current) room.view.focus();
  }

  /** Handle the server's news one after the other. */
  #listen() {
    this.#news = new EventSource("/api/news");
    this.#news.onopen = () => this.#next(() => this.#refresh());
    this.#news.onmessage = ({ data }) => this.#next(() => this.#handleNews(JSON.parse(data)));
  }

  #next(task) {
    this.#work = this.#work.then(task).catch((error) => announce(error.message));
  }

  async #handleNews({ kind, room: name, by }) {
    if (this.#stopped.signal.aborted) return;
    const room = this.#rooms.get(name);
    if (kind === "removed") room.removedBy = by;
    await this.#refresh();
    if (kind === "admitted") {
      announce(`${by} let you into the ${room.info.title}.`);
      if (room === this.#current) await room.join({ request: true });
    }
  }

  /** Read the rooms again. If the capability has changed, the response makes reauth.js get a new token. */
  async #refresh() {
    const { rooms, seen } = await this.#call("GET", `/api/rooms?seen=${this.#seen}`);
    this.#seen = seen;
    for (const info of rooms) this.#rooms.get(info.name)?.update(info);
  }

  async #call(method, path, body) {
    try {
      return await api(method, path, { body, fetch: (...args) => this.#client.fetch(...args) });
    } catch (error) {
      if (error instanceof ApiError) announce(error.message);
      throw error;
    }
  }

  #render() {
    const focused = document.activeElement?.dataset?.room;
    byId("rooms").replaceChildren(...[...this.#rooms.values()].map((room) => this.#entry(room)));
    if (focused) byId("rooms").querySelector(`[data-room="${focused}"]`)?.focus();
  }

  #entry(room) {
    const { name, title, open, owner, knocks } = room.info;
    const mark = open
      ? el("span", { class: "hash", "aria-hidden": "true" }, "#")
      : el("span", { class: "lock", role: "img", "aria-label": "members only" });
    const state = stateOf(room);
    const waiting = owner === this.#session.user && knocks.length > 0;
    return el(
      "li",
      {},
      el(
        "button",
        {
          type: "button",
          "data-room": name,
          "aria-current": room === this.#current ? "true" : undefined,
          click: () => this.#choose(room),
        },
        mark,
        title,
        room.unread
          ? el("span", { class: "state unread" }, String(room.unread), el("span", { class: "unseen" }, " unread"))
          : waiting
            ? el("span", { class: "state unread" }, el("span", { class: "unseen" }, "somebody "), "asks")
            : el("span", { class: "state" }, state),
      ),
    );
  }

  #choose(room) {
    if (room === this.#current) room.view.focus();
    else location.hash = room.info.name;
  }
}

function stateOf({ state, people }) {
  if (state === "in") return people.length === 1 ? "1 here" : `${people.length} here`;
  return { joining: "…", refused: "not allowed", removed: "removed", failed: "failed" }[state] ?? "";
}
