// Asks a server over a websocket; the argument is its address.

import { once } from "node:events";

import WebSocket from "ws";

import { connect, converse } from "./conversation.mjs";

const socket = new WebSocket(process.argv[2]);
await once(socket, "open");
const connection = connect((message) => { socket.send(JSON.stringify(message)); });
socket.on("message", (data) => connection.peer.receiveAndSend(JSON.parse(data.toString())));
const said = await converse(connection);
socket.close();
console.log(JSON.stringify(said));
