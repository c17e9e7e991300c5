// For comparison: Fastify and ably-js. Prints its port, and serves until it is terminated.
import Ably from "ably";
import Fastify from "fastify";

const ably = new Ably.Rest({ key: process.env.BENCH_KEY });
const fastify = Fastify();

fastify.get("/auth", (request) =>
  ably.auth.createTokenRequest({ clientId: "alice", capability: request.query.capability }, null),
);

await fastify.listen({ host: "127.0.0.1", port: 0 });
console.log(fastify.server.address().port);
