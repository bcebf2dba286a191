/**
 * The hops of a sequential store without dsm: a Unix socket into one Bun process, TCP into a second one, and back.
 * `bun relay.ts echo` is the far process and prints its port; `bun relay.ts relay SOCKET PORT` the near one.
 */
import type { Socket } from "bun";

const REPLY_FRAME = 40;
const [, , role, path, port] = process.argv;

if (role === "echo") {
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open: (socket) => {
        socket.setNoDelay(true);
      },
      data: (socket, chunk) => {
        socket.write(chunk.subarray(0, REPLY_FRAME));
      },
    },
  });
  console.log(listener.port);
} else {
  let client: Socket | undefined;
  const far = await Bun.connect({
    hostname: "127.0.0.1",
    port: Number(port),
    socket: {
      data: (_socket, chunk) => {
        client?.write(chunk);
      },
    },
  });
  far.setNoDelay(true);
  Bun.listen({
    unix: path as string,
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
