/** What the panel says about the strategies. */

export const STRATEGIES = {
  "server-determined": {
    title: "Server-determined",
    kept: "nowhere: the server works it out each time",
    checked: "nothing: an ask can only narrow",
    takenBack: "missing in the next list",
  },
  "server-stored": {
    title: "Server-stored",
    kept: "by the server, in the visitor's session",
    checked: "what is asked and not held yet",
    takenBack: "dropped from the session",
  },
  "client-stored": {
    title: "Client-stored",
    kept: "by this page, as a plain list",
    checked: "the whole list, every time",
    takenBack: "fails the next check",
  },
  "client-signed": {
    title: "Client-signed",
    kept: "by this browser, in a signed cookie",
    checked: "what is asked and not in the grant",
    takenBack: "dropped from any grant that is shown",
  },
};
