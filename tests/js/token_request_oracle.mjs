// Signs the token params it reads (a JSON list on stdin) with ably-js, and writes the TokenRequests.
import Ably from "ably";

const { key, params } = JSON.parse(await new Response(process.stdin).text());
const auth = new Ably.Rest({ key }).auth;
const signed = [];
for (const one of params) signed.push(await auth.createTokenRequest(one));
process.stdout.write(JSON.stringify(signed));
