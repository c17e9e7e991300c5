/** The panel's facts about each strategy. */

export const STRATEGIES = {
  "server-determined": {
    title: "Server-determined",
    stored: "nowhere: the server computes it for each request",
    checked: "nothing: a request can only narrow the token",
    withdrawn: "the next token omits it",
  },
  "server-stored": {
    title: "Server-stored",
    stored: "by the server, in the visitor's session",
    checked: "the requested part that is not granted yet",
    withdrawn: "removed from the session",
  },
  "client-stored": {
    title: "Client-stored",
    stored: "by this page, as a plain list",
    checked: "the whole list, every time",
    withdrawn: "the next check denies it",
  },
  "client-signed": {
    title: "Client-signed",
    stored: "by this browser, in a signed cookie",
    checked: "the requested part that is not in the grant",
    withdrawn: "removed from every grant that is presented",
  },
};
