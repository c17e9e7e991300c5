// reauth.js without an Ably SDK: responses of the auth server, storages that fail, patterns.
import assert from "node:assert/strict";
import test from "node:test";
import { AuthServerError, Reauthorizer } from "../../aiohttp_ably/static/reauth.js";

const URL = "https://app.example.com/ably/auth";
const REQUEST = { keyName: "app.key", capability: '{"lobby":["subscribe"]}', mac: "…", clientId: "alice" };

function responding(...responses) {
  const sent = [];
  const fetch = async (url, init) => {
    sent.push({ url, ...init });
    const response = responses.shift();
    if (response instanceof Error) throw response;
    const { body = REQUEST, status = 200, type = "application/json", headers = {} } = response ?? {};
    const text = typeof body === "string" ? body : JSON.stringify(body);
    return new Response(text, { status, headers: { "Content-Type": type, ...headers } });
  };
  return { fetch, sent };
}

function token(reauth, params = {}) {
  return new Promise((resolve, reject) => {
    reauth.clientOptions().authCallback(params, (error, value) => (error ? reject(error) : resolve(value)));
  });
}

function jwt(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "HS256" })}.${part(claims)}.signature`;
}

test("a token request goes to the SDK as it is", async () => {
  const { fetch, sent } = responding();
  const reauth = new Reauthorizer(URL, { fetch, params: { tenant: "t1" }, headers: () => ({ Authorization: "Bearer x" }) });
  assert.deepEqual(await token(reauth, { clientId: "alice", ttl: 60000, capability: '{"a":["publish"]}' }), REQUEST);
  const [request] = sent;
  assert.deepEqual(JSON.parse(request.body), { tenant: "t1", clientId: "alice", ttl: 60000, capability: { a: ["publish"] } });
  assert.equal(request.credentials, "include");
  assert.equal(request.headers.get("Authorization"), "Bearer x");
  assert.equal(request.headers.get("Content-Type"), "application/json");
  assert.equal(request.headers.has("Ably-Grant"), false);
  assert.deepEqual(reauth.capability, { lobby: ["subscribe"] });
});

test("the capability of a bare JWT is read as UTF-8", async () => {
  const text = jwt({ "x-ably-capability": '{"chat:ü":["publish"]}', "x-ably-clientId": "alice" });
  const reauth = new Reauthorizer(URL, responding({ body: text, type: "application/jwt" }));
  assert.equal(await token(reauth), text);
  assert.deepEqual(reauth.capability, { "chat:ü": ["publish"] });
});

const errors = {
  "an error in JSON": [{ status: 403, body: { error: { message: "no", code: 40300, statusCode: 403 } } }, 40300, 403, "no"],
  "an error in headers": [
    { status: 401, body: "", type: "text/plain", headers: { "X-Ably-ErrorCode": "40160", "X-Ably-ErrorMessage": "denied" } },
    40160, 401, "denied",
  ],
  "an HTML error page of a proxy": [{ status: 502, body: "<html>", type: "text/html" }, 50200, 502, "the auth server answered with 502"],
  "invalid JSON": [{ status: 500, body: "{" }, 50000, 500, "the auth server answered with 500"],
  "a login page": [{ body: "<html>", type: "text/html" }, 40170, 401, "the auth server answered with text/html and no token"],
  "an empty response": [{ body: "", type: "text/plain" }, 40170, 401, "the auth server answered with text/plain and no token"],
  "JSON without a token": [{ body: {} }, 40170, 401, "the auth server answered with application/json and no token"],
  "no response": [new TypeError("fetch failed"), 50300, 503, `no answer from ${URL}: fetch failed`],
};
for (const [name, [response, code, statusCode, message]] of Object.entries(errors)) {
  test(`${name} is an error with code and status`, async () => {
    const reauth = new Reauthorizer(URL, responding(response));
    const failed = new Promise((resolve) => reauth.addEventListener("failed", ({ detail }) => resolve(detail.error)));
    await assert.rejects(token(reauth), (error) => {
      assert.ok(error instanceof AuthServerError);
      assert.deepEqual([error.code, error.statusCode, error.message], [code, statusCode, message]);
      return true;
    });
    assert.equal((await failed).code, code);
  });
}

test("a server that does not answer within the timeout is an error", async () => {
  const fetch = (url, { signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  const alive = setInterval(() => {}, 1000); // the timer of AbortSignal.timeout() does not keep the process running
  await assert.rejects(token(new Reauthorizer(URL, { fetch, timeout: 1 })), { code: 50300, statusCode: 503 });
  clearInterval(alive);
});

test("requests never overlap", async () => {
  let open = 0;
  const fetch = async () => {
    assert.equal((open += 1), 1);
    await new Promise(setImmediate);
    open -= 1;
    return Response.json(REQUEST);
  };
  const reauth = new Reauthorizer(URL, { fetch });
  await Promise.all([token(reauth), token(reauth), token(reauth)]);
});

const allowed = [
  ["chat:1", "chat:1", true],
  ["chat:1", "chat:2", false],
  ["chat:*", "chat:1", true],
  ["chat:*", "chat:1:2", true],
  ["chat:*", "chat", false],
  ["chat:*", "chat:*", true],
  ["chat:*:in", "chat:1:in", true],
  ["chat:*:in", "chat:1:out", false],
  ["chat:*:in", "chat:*", false],
  ["chat:1", "chat:*", false],
  ["cha*", "chat", false],
  ["*", "chat:1", true],
  ["*", "[meta]log", false],
  ["[meta]*", "[meta]log", true],
  ["[*]*", "[meta]log", true],
  ["[*]*", "chat:1", true],
  ["__proto__", "__proto__", true],
];
for (const [pattern, resource, expected] of allowed) {
  test(`${pattern} ${expected ? "covers" : "does not cover"} ${resource}`, async () => {
    const capability = JSON.stringify(Object.fromEntries([[pattern, ["publish"]]]));
    const reauth = new Reauthorizer(URL, responding({ body: { ...REQUEST, capability } }));
    await token(reauth);
    assert.equal(reauth.allows(resource, "publish"), expected);
    assert.equal(reauth.allows(resource), expected);
    assert.equal(reauth.allows(resource, ["publish", "subscribe"]), false);
  });
}

test("a storage that fails or has invalid entries is ignored", async () => {
  const broken = {
    getItem: () => "not JSON",
    setItem() {
      throw new Error("full");
    },
  };
  for (const storage of [broken, { ...broken, getItem: () => null }, { ...broken, getItem: () => '{"list":7}' }]) {
    assert.deepEqual(await token(new Reauthorizer(URL, { storage, list: true, ...responding() })), REQUEST);
  }
});

test("the app's fetch sends the grant to the auth server's origin only", async () => {
  const seen = [];
  const fetch = async (request) => {
    seen.push([request.url, request.headers.get("Ably-Grant")]);
    return new Response(null, { headers: { "Ably-Grant": "signed" } });
  };
  const reauth = new Reauthorizer(URL, { fetch, grant: "header" });
  await reauth.fetch("https://app.example.com/join", { method: "POST", body: "x", headers: { "X-Own": "1" } });
  await reauth.fetch("https://elsewhere.example.com/");
  await reauth.fetch(new Request("https://app.example.com/leave"));
  reauth.clear();
  await reauth.fetch("https://app.example.com/join");
  assert.deepEqual(seen, [
    ["https://app.example.com/join", ""],
    ["https://elsewhere.example.com/", null],
    ["https://app.example.com/leave", "signed"],
    ["https://app.example.com/join", ""],
  ]);
});

test("misuse throws an error", async () => {
  const reauth = new Reauthorizer(URL);
  await assert.rejects(reauth.need("chat:1"), /bind\(client\) first/);
  await assert.rejects(reauth.need(""), /name a resource/);
  assert.throws(() => new Reauthorizer(URL, { grant: "query" }), /"cookie", "header" and "token"/);
});
