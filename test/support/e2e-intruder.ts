/** A process of another user, which connects to a socket or listens at one. Started by the tests that need one. */
import { chmodSync } from "node:fs";

const [role, path] = process.argv.slice(2) as [string, string];
if (role === "listen") {
  Bun.listen({ unix: path, socket: { data: (socket) => void socket.end() } });
  chmodSync(path, 0o777);
  console.log("listening");
} else {
  let received = 0;
  const closed = (): never => {
    console.log(`closed after ${received} bytes`);
    process.exit();
  };
  // One that is closed at once may never have been open here.
  await Bun.connect({
    unix: path,
    socket: {
      open: (socket) => void socket.write(Buffer.from(process.argv[4] as string, "hex")),
      data: (_, chunk) => {
        received += chunk.length;
      },
      close: closed,
    },
  }).catch((error: { code?: string }) => {
    if (error.code !== "ECONNRESET") throw error;
    closed();
  });
}
