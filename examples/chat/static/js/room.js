/** A room: the channel behind it, who is there, and where we stand with it. */

import { RoomView } from "./room_view.js";

const DENIED = 40160;

/**
 * `state` is `out`, `joining`, `in`, `refused`, `removed` or `failed`; `error` says why for the last three.
 * `onChange()` is called whenever something changed that is shown outside the room.
 */
export class Room {
  #client;
  #onChange;
  #channel;
  #seen = new Set();

  constructor(info, { client, user, call, onChange }) {
    this.info = info;
    this.user = user;
    this.call = call;
    this.state = "out";
    this.error = null;
    this.removedBy = null;
    this.people = [];
    this.unread = 0;
    this.shown = false;
    this.#client = client;
    this.#onChange = onChange;
    this.#channel = client.channel(info.channel);
    this.#channel.subscribe((message) => this.#receive(message));
    this.#channel.presence.subscribe((member) => this.#presence(member));
    this.#channel.on("failed", (change) => this.#failed(change.reason));
    this.view = new RoomView(this);
  }

  get connectionId() {
    return this.#client.connection.id;
  }

  /** What the server says of the room now. */
  update(info) {
    this.info = info;
    this.#changed();
  }

  /**
   * Come in. Whoever knows that a right is there, but not yet in the token, asks first; else Ably's refusal tells
   * that it is lacking.
   */
  async join({ ask = false } = {}) {
    if (this.state === "joining" || this.state === "in") return;
    this.#become("joining");
    try {
      if (ask) await this.#client.reauth.need(this.info.channel);
      await this.#client.reauth.attach(this.#channel);
      await this.#client.reauth.enter(this.#channel);
      await this.#readPeople();
      this.removedBy = null;
      this.#become("in");
    } catch (error) {
      this.#become(error.code === DENIED ? "refused" : "failed", error);
    }
  }

  /** Go, and give the right back. */
  async leave() {
    await this.#channel.presence.leave();
    await this.#channel.detach();
    this.people = [];
    this.#become("out");
    await this.#client.reauth.drop(this.info.channel);
  }

  async say(text) {
    await this.#client.reauth.publish(this.#channel, "message", text);
  }

  knock() {
    return this.call("POST", `/api/rooms/${this.info.name}/knocks`);
  }

  admit(person) {
    return this.call("POST", `/api/rooms/${this.info.name}/members`, { name: person });
  }

  remove(person) {
    return this.call("DELETE", `/api/rooms/${this.info.name}/members/${encodeURIComponent(person)}`);
  }

  show(shown) {
    this.shown = shown;
    if (shown) this.unread = 0;
    this.view.show(shown);
    this.#onChange();
  }

  #receive(message) {
    if (this.#seen.has(message.id)) return;
    this.#seen.add(message.id);
    this.view.message(message);
    if (!this.shown && message.clientId !== this.user) {
      this.unread += 1;
      this.#onChange();
    }
  }

  async #presence(member) {
    if (this.state === "in" && member.clientId !== this.user) {
      if (member.action === "enter" && !this.people.includes(member.clientId)) this.view.note(`${member.clientId} came in`);
      if (member.action === "leave") this.view.note(`${member.clientId} left`);
    }
    await this.#readPeople();
  }

  async #readPeople() {
    if (this.#channel.state !== "attached") return;
    const members = await this.#channel.presence.get();
    this.people = [...new Set(members.map((member) => member.clientId))].sort();
    this.#changed();
  }

  /** Ably ended the channel. While joining that is what reauth.js puts right, or reports. */
  #failed(reason) {
    if (this.state !== "in") return;
    this.people = [];
    this.#become(this.removedBy ? "removed" : "failed", reason);
  }

  #become(state, error = null) {
    this.state = state;
    this.error = error;
    this.#changed();
  }

  #changed() {
    this.view.render();
    this.#onChange();
  }
}
