/** A room: its channel, the people in it, and whether the user is in it. */

import { RoomView } from "./room_view.js";

const DENIED = 40160;

/**
 * `state` is `out`, `joining`, `in`, `refused`, `removed` or `failed`; `error` is the reason of the last three.
 * `onChange()` is called when something changed that is shown outside the room.
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

  /** Take the room's new data from the server. */
  update(info) {
    this.info = info;
    this.#changed();
  }

  /**
   * Enter the room. With `request` the capability is requested first: the user was just admitted. Otherwise it is
   * requested after Ably refuses to attach the channel.
   */
  async join({ request = false } = {}) {
    if (this.state === "joining" || this.state === "in") return;
    this.#become("joining");
    try {
      if (request) await this.#client.reauth.need(this.info.channel);
      await this.#client.reauth.attach(this.#channel);
      await this.#client.reauth.enter(this.#channel);
      await this.#readPeople();
      this.removedBy = null;
      this.#become("in");
    } catch (error) {
      this.#become(error.code === DENIED ? "refused" : "failed", error);
    }
  }

  /** Leave the room, and release its capability. */
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

  /** The channel became FAILED. While joining, reauth.js recovers from that, or `join` gets its error. */
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
