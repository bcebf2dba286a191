/**
 * The hops of an operation without dsm: a Unix socket into one Bun process, from there one into a second one, and back.
 * `bun relay.ts echo SOCKET` is the far process, `bun relay.ts relay SOCKET FAR` the near one. `bun relay.ts gather SOCKET N`
 * is the far process of a barrier: it answers all N near ones when it has a frame of each.
 */
import type { Socket } from "bun";

const STORE_FRAME = 48;
const REPLY_FRAME = 40;
const [, , role, path = "", farPath = ""] = process.argv;

if (role === "echo") {
  Bun.listen({
    unix: path,
    socket: {
      data: (socket, chunk) => {
        socket.write(chunk.subarray(0, REPLY_FRAME));
      },
    },
  });
  console.log("ready");
} else if (role === "gather") {
  const sockets = new Set<Socket>();
  const answer = new Uint8Array(REPLY_FRAME);
  let waiting = 0;
  Bun.listen({
    unix: path,
    socket: {
      open: (socket) => {
        sockets.add(socket);
      },
      data: (_socket, chunk) => {
        waiting += chunk.length;
        if (waiting < Number(farPath) * STORE_FRAME) return;
        waiting = 0;
        for (const socket of sockets) socket.write(answer);
      },
    },
  });
  console.log("ready");
} else {
  let client: Socket | undefined;
  const far = await Bun.connect({
    unix: farPath,
    socket: {
      data: (_socket, chunk) => {
        client?.write(chunk);
      },
    },
  });
  Bun.listen({
    unix: path,
    socket: {
      open: (socket) => {
        client = socket;
      },
      data: (_socket, chunk) => {
        far.write(chunk);
      },
    },
  });
  console.log("ready");
}
