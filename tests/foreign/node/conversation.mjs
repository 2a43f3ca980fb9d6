// What is asked of a server over either transport with json-rpc-2.0; used by lines.mjs and websocket.mjs.

import { JSONRPCClient, JSONRPCServer, JSONRPCServerAndClient } from "json-rpc-2.0";

const MISSING = 1000000;

/** A client that sends by `send`; what comes in is to be given to its `receiveAndSend`. */
export function connect(send) {
  const events = [];
  const server = new JSONRPCServer();
  const ended = new Promise((resolve) => {
    server.addMethod("event", ({ Event }) => { events.push(Event.Data.EventName); });
    server.addMethod("watchEnded", ({ Cursor }) => { resolve(Cursor); });
  });
  // A batch is an array of requests, sent as it is, whose answers come as an array.
  const client = new JSONRPCClient(send);
  return { peer: new JSONRPCServerAndClient(server, client), client, events, ended };
}

/** Asks everything, and resolves to what came. */
export async function converse({ peer, client, events, ended }) {
  const requestor = "node";
  const refused = (method, params) =>
    peer.request(method, params).then(
      () => { throw new Error(`${method} was not refused`); },
      (error) => error.code,
    );

  const version = await peer.request("version");
  const { methods } = await peer.request("rpc.discover");
  const jobDesc = JSON.parse(process.env.JOB);
  const started = await peer.request("start", { requestor, jobDesc });
  await peer.request("watch", { requestor, jobID: started.Data.JobID });
  const cursor = await ended;

  const long = await peer.request("start", { requestor, jobDesc: JSON.parse(process.env.LONG_JOB) });
  const jobID = long.Data.JobID;
  const batch = await client.requestAdvanced([
    { jsonrpc: "2.0", id: "one", method: "version" },
    { jsonrpc: "2.0", id: "two", method: "status", params: { requestor, jobID: MISSING } },
    { jsonrpc: "2.0", id: "three", method: "list", params: { requestor } },
  ]);
  const answered = batch.map(({ id, result, error }) => [id, result ? result.Type : error.code]);
  peer.notify("stop", { requestor, jobID });
  let state = "";
  while (state !== "JobStateCancelled") {
    state = (await peer.request("status", { requestor, jobID })).Data.Status.State;
  }
  return {
    version: version.Data.Version,
    methods: methods.length,
    events,
    cursor,
    unknown: await refused("nope", {}),
    refused: await refused("status", { requestor, jobID: MISSING }),
    invalid: await refused("status", [1]),
    batch: answered,
    state,
  };
}
