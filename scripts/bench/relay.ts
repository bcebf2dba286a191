/**
 * The hops of a sequential store without dsm: a Unix socket into one Bun process, from there one into a second one, and
 * back. `bun relay.ts echo SOCKET` is the far process, `bun relay.ts relay SOCKET FAR` the near one.
 */
import type { Socket } from "bun";

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
