/** The view of a room: its head, people and messages, or the reason why the user is not in it. */

import { announce, badge, clock, el } from "./dom.js";

export class RoomView {
  #room;
  #lastBy = null;
  #shape = "";

  constructor(room) {
    this.#room = room;
    const { name, title } = room.info;
    this.title = el("h1", { id: `title-${name}` }, title);
    this.about = el("p");
    this.leave = el("button", { type: "button", click: () => this.#leave() }, "Leave");
    this.people = el("ul", { class: "people", "aria-label": `People in the ${title}` });
    this.knocks = el("ul", { class: "knocks", "aria-label": "Asking to be let in" });
    this.log = el("div", { class: "log", role: "log", "aria-label": `Talk in the ${title}`, tabindex: "0" });
    this.input = el("input", {
      "aria-label": `Say something in the ${title}`,
      placeholder: "Say something",
      maxlength: "2000",
      autocomplete: "off",
    });
    this.problem = el("p", { class: "composer-problem problem", role: "alert" });
    this.composer = el(
      "form",
      { class: "composer", submit: (event) => this.#say(event) },
      this.input,
      el("button", { class: "primary" }, "Send"),
    );
    this.outside = el("div", { class: "outside", tabindex: "-1" });
    this.element = el(
      "section",
      { class: "room", "aria-labelledby": `title-${name}`, "data-room": name, hidden: true },
      el("div", { class: "room-head" }, el("div", {}, this.title, this.about), this.leave),
      this.people,
      this.knocks,
      this.log,
      this.problem,
      this.composer,
      this.outside,
    );
  }

  show(shown) {
    this.element.hidden = !shown;
    if (shown) this.log.scrollTop = this.log.scrollHeight;
  }

  focus() {
    if (this.#room.state === "in") this.input.focus();
    else this.outside.focus();
  }

  render() {
    const { state, info } = this.#room;
    const inside = state === "in";
    const hadFocus = this.element.contains(document.activeElement);
    this.element.dataset.state = state;
    this.about.textContent = info.about;
    for (const part of [this.leave, this.people, this.log, this.composer]) part.hidden = !inside;
    this.knocks.hidden = !inside;
    this.outside.hidden = inside;
    if (inside) {
      this.#renderPeople();
      this.#renderKnocks();
    }
    this.#renderOutside(hadFocus);
  }

  message({ clientId, data, timestamp }) {
    const again = this.#lastBy === clientId;
    const text = el("p", { class: "text" }, String(data));
    if (again) {
      this.#append(el("div", { class: "message again arrives" }, el("span", { class: "unseen" }, `${clientId}: `), text));
    } else {
      const time = el("time", {}, clock(new Date(timestamp)).slice(0, 5));
      this.#append(
        el("div", { class: "message arrives" }, badge(clientId), el("p", { class: "by" }, clientId, time), text),
      );
    }
    this.#lastBy = clientId;
  }

  note(text) {
    this.#lastBy = null;
    this.#append(el("p", { class: "note arrives" }, text));
  }

  #append(item) {
    const { scrollHeight, scrollTop, clientHeight } = this.log;
    const atEnd = scrollHeight - scrollTop - clientHeight < 60;
    this.log.append(item);
    if (atEnd) this.log.scrollTop = this.log.scrollHeight;
  }

  #renderPeople() {
    const { info, people, user } = this.#room;
    const mine = info.owner === user;
    const away = info.members.filter((person) => !people.includes(person));
    const chips = [...people, ...away].map((person) => {
      const here = people.includes(person);
      const remove =
        mine && info.members.includes(person)
          ? el(
              "button",
              { type: "button", class: "quiet remove", "aria-label": `Remove ${person}`, click: () => this.#remove(person) },
              "Remove",
            )
          : null;
      const standing = person === user ? " (you)" : person === info.owner ? " (owner)" : here ? "" : " (away)";
      return el("li", { class: here ? undefined : "away", "data-person": person }, badge(person), person + standing, remove);
    });
    this.people.replaceChildren(...chips);
  }

  #renderKnocks() {
    const { knocks } = this.#room.info;
    const known = [...this.knocks.children].map((item) => item.dataset.person);
    if (String(known) === String(knocks)) return;
    for (const person of knocks) if (!known.includes(person)) announce(`${person} asks to be let in.`);
    this.knocks.replaceChildren(
      ...knocks.map((person) =>
        el(
          "li",
          { "data-person": person },
          `${person} asks to be let in.`,
          el("button", { type: "button", click: () => this.#admit(person) }, `Admit ${person}`),
        ),
      ),
    );
  }

  /** Render only if something changed; if the element had the focus, its replacement gets it. */
  #renderOutside(hadFocus) {
    const { state, error, info, removedBy, connectionId } = this.#room;
    const shape = JSON.stringify([state, error?.message, info.knocked, info.allowed, removedBy]);
    if (shape === this.#shape) return;
    const fresh = !this.#shape.startsWith(`["${state}"`);
    this.#shape = shape;
    const stays = el("p", { class: "stays" }, el("span", { class: "dot", "data-connection": "connected" }));
    stays.append("The connection stays: ", el("code", {}, connectionId ?? ""));
    this.outside.replaceChildren(...this.#explain({ state, error, info, removedBy, stays }).filter(Boolean));
    if (fresh && ["refused", "removed", "failed"].includes(state)) announce(this.outside.querySelector("h2").textContent);
    if (hadFocus) this.focus();
  }

  #explain({ state, error, info, removedBy, stays }) {
    const reason = error && el("blockquote", {}, `${error.code}: ${error.message}`);
    const knock = info.knocked
      ? el("p", { class: "done" }, `${info.owner} has been asked. This page changes by itself.`)
      : el("button", { type: "button", class: "primary", click: () => this.#knock() }, `Ask ${info.owner} to let you in`);
    const join = el("button", { type: "button", class: "primary", click: () => this.#room.join() }, `Join the ${info.title}`);
    switch (state) {
      case "joining":
        return [el("p", { class: "muted" }, `Joining the ${info.title} …`)];
      case "refused":
        return [
          el("h2", {}, `The ${info.title} is for its members`),
          el("p", {}, "Ably refused the channel, and the auth server denied the capability for it:"),
          reason,
          stays,
          info.owner && !info.allowed ? knock : join,
        ];
      case "removed":
        return [
          el("h2", {}, `${removedBy} removed you from the ${info.title}`),
          el("p", {}, "The capability was withdrawn, the page got a token without it, and Ably failed the channel:"),
          reason,
          stays,
          info.allowed ? join : knock,
        ];
      case "failed":
        return [el("h2", {}, `The ${info.title} cannot be joined now`), reason, join];
      case "out":
        return [el("p", {}, info.about), join];
      default:
        return [];
    }
  }

  async #say(event) {
    event.preventDefault();
    const text = this.input.value.trim();
    if (!text) return;
    this.problem.textContent = "";
    this.input.value = "";
    try {
      await this.#room.say(text);
    } catch (error) {
      this.problem.textContent = `Not sent: ${error.message}`;
      this.input.value = text;
    }
  }

  #leave() {
    return this.#try(() => this.#room.leave(), `You left the ${this.#room.info.title}.`);
  }

  #knock() {
    return this.#try(() => this.#room.knock(), `${this.#room.info.owner} has been asked.`);
  }

  #admit(person) {
    return this.#try(() => this.#room.admit(person), `${person} is a member now.`);
  }

  #remove(person) {
    return this.#try(() => this.#room.remove(person), `${person} is no longer a member.`);
  }

  async #try(task, done) {
    this.problem.textContent = "";
    try {
      await task();
      announce(done);
    } catch (error) {
      this.problem.textContent = error.message;
    }
    this.focus();
  }
}
