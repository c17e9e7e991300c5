/** The panel: connection, strategy, capability and time line. */

import { byId, clock, el } from "./dom.js";
import { STRATEGIES } from "./strategies.js";
import { TimeLine } from "./timeline.js";

const OPERATIONS = ["subscribe", "publish", "presence"];
const STATES = {
  initialized: "starting",
  connecting: "connecting",
  connected: "connected",
  disconnected: "disconnected, trying again",
  suspended: "suspended, trying again",
  closing: "closing",
  closed: "closed",
  failed: "failed",
};

export class Panel {
  #client;
  #strategy;
  #timeline = new TimeLine(byId("timeline"));
  #shown = {};

  constructor(session, { onStrategy, until }) {
    this.#strategy = STRATEGIES[session.strategy];
    byId("client-id").textContent = session.user;
    this.#renderStrategies(session.strategy, onStrategy);
    this.#renderConnection({ state: "initialized" });
    byId("capability").tBodies[0].replaceChildren();
    byId("panel-toggle").addEventListener("click", () => this.#toggle(), { signal: until });
    byId("panel").addEventListener("keydown", (event) => event.key === "Escape" && this.#toggle(false), { signal: until });
    const ticking = setInterval(() => this.#renderLife(), 1000);
    until.addEventListener("abort", () => clearInterval(ticking));
  }

  watch(client) {
    this.#client = client;
    client.addEventListener("connection", ({ detail }) => this.#renderConnection(detail));
    client.addEventListener("token", () => this.#renderToken());
    client.addEventListener("happened", ({ detail }) => this.#timeline.add(detail));
  }

  /** On a phone the panel is a sheet. */
  #toggle(open = !byId("panel").classList.contains("open")) {
    byId("panel").classList.toggle("open", open);
    byId("panel-toggle").setAttribute("aria-expanded", String(open));
    (open ? byId("panel") : byId("panel-toggle")).focus();
  }

  #renderConnection({ state, id, reauthorized }) {
    for (const dot of document.querySelectorAll(".app > .panel-toggle .dot, #panel .dot")) dot.dataset.connection = state;
    const times = reauthorized === 1 ? "once" : `${reauthorized} times`;
    byId("connection-state").textContent = STATES[state] + (reauthorized ? `, reauthorized ${times}` : "");
    byId("connection-id").textContent = id ?? "none yet";
    byId("panel-toggle-text").textContent = `${STATES[state]} · ${this.#strategy.title}`;
  }

  #renderToken() {
    const { capability } = this.#client.reauth;
    if (JSON.stringify(capability) !== JSON.stringify(this.#shown)) {
      const rows = Object.entries(capability).map(([resource, operations]) => {
        const isNew = !(resource in this.#shown);
        return el(
          "tr",
          { class: isNew ? "arrives" : undefined, "data-resource": resource },
          el("th", { scope: "row" }, el("code", {}, resource)),
          OPERATIONS.map((operation) => cell(operations.includes(operation) || operations.includes("*"))),
        );
      });
      byId("capability").tBodies[0].replaceChildren(...rows);
      this.#shown = capability;
    }
    this.#renderLife();
  }

  #renderLife() {
    const { issued, expires } = this.#client?.token ?? {};
    if (!expires) {
      byId("token-until").textContent = "none yet";
      byId("token-life").style.width = "0";
      return;
    }
    byId("token-until").textContent = `until ${clock(new Date(expires))}`;
    const left = Math.max(0, Math.min(1, (expires - Date.now()) / (expires - issued)));
    byId("token-life").style.width = `${100 * left}%`;
  }

  #renderStrategies(current, onStrategy) {
    const choices = Object.entries(STRATEGIES).map(([name, { title }]) =>
      el(
        "label",
        {},
        el("input", {
          type: "radio",
          name: "strategy",
          value: name,
          checked: name === current,
          change: () => onStrategy(name),
        }),
        title,
      ),
    );
    const focused = document.activeElement?.name === "strategy";
    byId("strategy-choices").replaceChildren(...choices);
    if (focused) byId("strategy-choices").querySelector(":checked").focus();
    const { stored, checked, withdrawn } = this.#strategy;
    const facts = { Stored: stored, Checked: checked, Withdrawn: withdrawn };
    byId("strategy-facts").replaceChildren(
      ...Object.entries(facts).flatMap(([term, fact]) => [el("dt", {}, term), el("dd", {}, fact)]),
    );
  }
}

function cell(allowed) {
  return allowed
    ? el("td", {}, el("span", { class: "tick", "aria-hidden": "true" }, "✓"), el("span", { class: "unseen" }, "yes"))
    : el("td", {}, el("span", { class: "unseen" }, "no"));
}
