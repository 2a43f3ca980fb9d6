// Asks a server over JSON lines; the arguments are its command. Ends by closing its input, and fails unless it exits with 0.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

import { connect, converse } from "./conversation.mjs";

const [command, ...args] = process.argv.slice(2);
const server = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
const exited = once(server, "exit");
const connection = connect((message) => { server.stdin.write(`${JSON.stringify(message)}\n`); });
createInterface({ input: server.stdout }).on("line", (line) => connection.peer.receiveAndSend(JSON.parse(line)));
const said = await converse(connection);
server.stdin.end();
const [status] = await exited;
if (status !== 0) throw new Error(`the server exited with ${status}`);
console.log(JSON.stringify(said));
