/** The entry point: show the door (the sign-in form) or the chat, and go from one to the other. */

import { api, loadSdk } from "./api.js";
import { Chat } from "./chat.js";
import { announce, byId } from "./dom.js";

const tabs = new BroadcastChannel("chat"); // the tabs of a browser share a session, so they sign in and out together
let chat = null;

function begin() {
  for (const button of byId("door").querySelectorAll("[data-name]")) {
    button.addEventListener("click", () => signIn(button.dataset.name));
  }
  byId("door-form").addEventListener("submit", (event) => {
    event.preventDefault();
    signIn(byId("name").value);
  });
  byId("sign-out").addEventListener("click", () => orDoor(signOut));
  tabs.addEventListener("message", () => location.reload());
  showOtherAddress();
  orDoor(async () => {
    const session = await api("GET", "/api/session");
    await loadSdk(session.sdk);
    if (session.user) await enter(session);
    else showDoor();
  });
}

/** Run `task`; if it fails, show the door with the error. */
async function orDoor(task) {
  try {
    await task();
  } catch (error) {
    showDoor(error.message);
  }
}

function signIn(name) {
  return orDoor(async () => {
    const session = await api("POST", "/api/session", { body: { name } });
    tabs.postMessage("signed in");
    await enter(session);
  });
}

async function enter(session, options) {
  await chat?.stop();
  chat = new Chat(session, {
    onEnded: (reason) => ended(reason),
    onStrategy: (name) => orDoor(() => change(name)),
  });
  byId("door").hidden = true;
  byId("app").hidden = false;
  await chat.start(options);
}

async function signOut() {
  await chat?.stop({ forget: true });
  await api("DELETE", "/api/session");
  tabs.postMessage("signed out");
  chat = null;
  showDoor();
  announce("You are signed out.");
}

/** The user is no longer signed in at the server, and the client has stopped. */
async function ended(reason) {
  await chat?.stop({ forget: true });
  chat = null;
  showDoor(reason);
}

async function change(strategy) {
  await chat?.stop();
  const session = await api("PUT", "/api/strategy", { body: { strategy } });
  await enter(session, { focus: false });
}

function showDoor(problem = "") {
  document.title = "Rooms";
  history.replaceState(null, "", location.pathname); // the next user begins in the lobby
  byId("app").hidden = true;
  byId("door").hidden = false;
  byId("door-problem").textContent = problem;
  byId("name").value = "";
  byId("name").focus();
}

/** Link to the other local host name: its cookies are separate, so that a second user can sign in. */
function showOtherAddress() {
  const other = { localhost: "127.0.0.1", "127.0.0.1": "localhost" }[location.hostname];
  if (!other) return;
  const address = new URL(location.href);
  address.hostname = other;
  address.hash = "";
  byId("second-link").href = address.href;
  byId("second-link").textContent = address.host;
  byId("second-person").hidden = false;
}

begin();
