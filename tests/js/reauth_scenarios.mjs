// Runs scenarios with ably-js and reauth.js against an app and the emulator. A JSON line on stdin names a scenario; a
// JSON line on stdout has its result and the events of reauth.js.
import Ably from "ably";
import readline from "node:readline";
import { DENIED, Reauthorizer } from "../../aiohttp_ably/static/reauth.js";

let url, site, ably, options, events, clients;

function start(more = {}, ablyOptions = {}) {
  const reauth = new Reauthorizer(url, { ...options, ...more });
  for (const type of ["request", "granted", "denied", "failed", "refused", "reauthorized"]) {
    reauth.addEventListener(type, ({ detail }) => events.push([type, { ...detail, error: errorOf(detail.error) }]));
  }
  const logHandler = () => {};
  const all = { ...reauth.clientOptions(), ...ably, logHandler, disconnectedRetryTimeout: 50, ...ablyOptions };
  const realtime = reauth.bind(new Ably.Realtime(all));
  clients.push(realtime);
  return { reauth, realtime };
}

async function connected(more, ablyOptions) {
  const client = start(more, ablyOptions);
  await client.realtime.connection.whenState("connected");
  return client;
}

const configure = (change) => fetch(`${site}/settings`, { method: "POST", body: JSON.stringify(change) });
const errorOf = (error) => error && { code: error.code, status: error.statusCode, message: error.message };
const outcome = (promise) => promise.then(() => "done", errorOf);
const post = (body) => ({ method: "POST", body: JSON.stringify(body) });

function memoryStorage() {
  const entries = new Map();
  return { getItem: (name) => entries.get(name) ?? null, setItem: (name, text) => entries.set(name, text) };
}

const scenarios = {
  async needAndDrop() {
    const { reauth, realtime } = await connected();
    const { id } = realtime.connection;
    const channel = realtime.channels.get("chat:1");
    await reauth.need("chat:1", ["publish", "subscribe"]);
    const received = new Promise((resolve) => channel.subscribe((message) => resolve(message.data)));
    await channel.publish("greeting", "hello");
    const data = await received;
    await reauth.enter(channel, "here");
    const granted = reauth.capability;
    await reauth.drop("chat:1");
    return { data, granted, after: reauth.capability, sameConnection: id === realtime.connection.id, state: channel.state };
  },

  async serverDetermined() {
    const { reauth } = await connected();
    const subscribe = ["subscribe"];
    await configure({ rights: { lobby: subscribe, "chat:1": subscribe, "chat:2": subscribe } });
    await reauth.need("chat:1", "subscribe");
    return { capability: reauth.capability, error: await outcome(reauth.need("chat:3", "subscribe")) };
  },

  async concurrentCalls() {
    const { reauth } = start();
    const rooms = [...Array(20).keys()].map((number) => `chat:${number}`);
    const outcomes = await Promise.all(rooms.map((room) => outcome(reauth.need(room, "subscribe"))));
    return { outcomes, allowed: rooms.every((room) => reauth.allows(room, ["subscribe"])) };
  },

  async callsDuringARequest() {
    const { reauth } = await connected();
    const first = reauth.need("chat:1", "subscribe");
    await new Promise((resolve) => reauth.addEventListener("request", resolve, { once: true }));
    await Promise.all([first, reauth.need("chat:2", "subscribe"), reauth.need("chat:3", "subscribe"), reauth.reauthorize()]);
    await reauth.need("chat:1", "subscribe"); // granted already: sends nothing
    return { capability: reauth.capability };
  },

  async denied() {
    const { reauth, realtime } = await connected();
    const { id } = realtime.connection;
    const error = await outcome(reauth.need("chat:secret", "subscribe"));
    await reauth.need("chat:1", "subscribe");
    await reauth.reauthorize();
    await realtime.auth.authorize();
    return { error, sameConnection: id === realtime.connection.id, state: realtime.connection.state };
  },

  async oneOfThreeDenied() {
    const { reauth } = await connected();
    const rooms = ["chat:1", "chat:secret", "chat:2"];
    return { outcomes: await Promise.all(rooms.map((room) => outcome(reauth.need(room, "subscribe")))) };
  },

  async oneOfTwoMalformed() {
    const { reauth, realtime } = await connected();
    const calls = [reauth.need("chat:1", "subscribe"), reauth.need("chat:2", "sing")];
    return { outcomes: await Promise.all(calls.map(outcome)), state: realtime.connection.state };
  },

  async outage() {
    await configure({ down: true });
    const { reauth, realtime } = start();
    await realtime.connection.whenState("disconnected");
    await configure({ down: false });
    await realtime.connection.whenState("connected");
    const { id } = realtime.connection;
    await configure({ down: true });
    const error = await outcome(reauth.need("chat:1", "subscribe"));
    const state = realtime.connection.state;
    await configure({ down: false });
    const recovered = await outcome(reauth.need("chat:1", "subscribe"));
    return { error, state, recovered, sameConnection: id === realtime.connection.id };
  },

  async deniedAgain() {
    const { reauth } = await connected();
    let runs = 0;
    const refused = async () => {
      runs += 1;
      throw Object.assign(new Error("no"), { code: DENIED });
    };
    return { error: await outcome(reauth.guard("[?rewind=1]chat:1", "publish", refused)), runs };
  },

  async apiKeyLacksCapability() {
    const { reauth, realtime } = await connected();
    const channel = realtime.channels.get("chat:1");
    const attached = await outcome(reauth.attach(channel));
    return { attached, needed: await outcome(reauth.need("chat:1", "publish")), state: channel.state };
  },

  async failedChannel() {
    const { reauth, realtime } = await connected();
    const { id } = realtime.connection;
    const channel = realtime.channels.get("chat:1");
    const states = [];
    channel.on(({ current }) => states.push(current));
    await reauth.attach(channel);
    await reauth.fetch("/withdraw", post(["chat:1"]));
    if (channel.state !== "failed") await channel.whenState("failed");
    await reauth.publish(channel, "greeting", "hello");
    const other = await outcome(reauth.publish(channel, "greeting", Symbol("never sent")));
    return { states: [...states], other, sameConnection: id === realtime.connection.id };
  },

  async enterPresence() {
    const { reauth, realtime } = await connected();
    const channel = realtime.channels.get("chat:1");
    await reauth.enter(channel, "here");
    return { state: channel.state, error: await outcome(reauth.enter(realtime.channels.get("chat:secret"))) };
  },

  async storedList() {
    const storage = memoryStorage();
    const { reauth } = await connected({ storage });
    await reauth.need("chat:1", "subscribe");
    await Promise.all([reauth.need("chat:2"), outcome(reauth.need("chat:secret", "subscribe"))]);
    await reauth.drop("chat:1");
    await reauth.reauthorize();
    const second = await connected({ storage });
    const restored = second.reauth.capability;
    for (const client of clients) client.close();
    await configure({ user: "bob" });
    const third = await connected({ storage });
    return { restored, another: third.reauth.capability };
  },

  async fetchReauthorizes() {
    const { reauth, realtime } = await connected();
    const { id } = realtime.connection;
    const response = await reauth.fetch(`${site}/grant`, post({ "chat:1": ["subscribe"] }));
    const allowed = reauth.allows("chat:1", "subscribe");
    const again = await reauth.fetch("/grant", post({ "chat:1": ["subscribe"] })); // changes nothing
    const statuses = [response.status, again.status];
    return { body: await response.json(), allowed, statuses, sameConnection: id === realtime.connection.id };
  },

  async notSignedIn() {
    const { reauth, realtime } = await connected();
    await configure({ user: null });
    const error = await outcome(reauth.need("chat:1", "subscribe"));
    const { state, errorReason } = realtime.connection;
    return { error, state, cause: errorOf(errorReason.cause) };
  },

  async notSignedInAtRenewal() {
    const { realtime } = await connected();
    await configure({ user: null });
    const error = await outcome(realtime.auth.authorize());
    return { error, state: realtime.connection.state };
  },

  async notSignedInAtStart() {
    await configure({ user: null });
    const { realtime } = start();
    await realtime.connection.whenState("failed");
    return { cause: errorOf(realtime.connection.errorReason.cause) };
  },

  async anotherUser() {
    const { reauth, realtime } = await connected();
    await configure({ user: "bob" });
    return { error: await outcome(reauth.need("chat:1", "subscribe")), state: realtime.connection.state };
  },

  async needDropNeed() {
    const { reauth } = await connected();
    await Promise.all([reauth.need("chat:1", "subscribe"), reauth.drop("chat:1"), reauth.need("chat:2", "subscribe")]);
    return { capability: reauth.capability };
  },

  async closedDuringACall() {
    const { reauth, realtime } = await connected();
    reauth.addEventListener("granted", () => realtime.close(), { once: true });
    const error = await outcome(reauth.need("chat:1", "subscribe"));
    await realtime.connection.whenState("closed");
    return { error };
  },

  async rest() {
    const reauth = new Reauthorizer(url, options);
    const rest = reauth.bind(new Ably.Rest({ ...reauth.clientOptions(), ...ably, logHandler: () => {} }));
    await reauth.publish(rest.channels.get("chat:1"), "greeting", "hello");
    return { capability: reauth.capability, error: await outcome(reauth.publish(rest.channels.get("chat:secret"), "a", "b")) };
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  ({ url, ably, options } = command);
  site = new URL(url).origin;
  events = [];
  clients = [];
  const result = await scenarios[command.scenario]();
  process.stdout.write(`${JSON.stringify({ result, events })}\n`);
  for (const client of clients) client.close();
}
process.exit();
