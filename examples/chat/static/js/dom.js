/** DOM helpers. Strings are inserted as text, never as HTML. */

export const byId = (id) => document.getElementById(id);

/** Create an element. An attribute that is a function is a listener; `undefined` and `false` are left out. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** A round badge with a person's first letter. */
export function badge(person) {
  const sign = el("span", { class: "badge", "aria-hidden": "true" });
  return paintBadge(sign, person);
}

export function paintBadge(sign, person) {
  let hue = 40;
  for (const character of person) hue = (hue * 31 + character.codePointAt(0)) % 360;
  sign.style.setProperty("--hue", hue);
  sign.textContent = [...person][0]?.toUpperCase() ?? "";
  return sign;
}

/** Announce `text` to screen readers. */
export function announce(text) {
  byId("status").textContent = text;
}

export function clock(date = new Date()) {
  return date.toLocaleTimeString([], { timeStyle: "medium", hourCycle: "h23" });
}

export function listOf(words) {
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}
