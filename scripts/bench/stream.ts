/**
 * How fast Bun moves bytes over TCP loopback: `bun stream.ts sink BYTES` prints its port and answers a byte for every
 * BYTES that have come; `bun stream.ts source PORT BYTES ROUNDS` prints the nanoseconds of every round, one a line.
 */
import { connect, listen, type Socket } from "bun";

const [, , role, first, second, third] = process.argv;

if (role === "sink") {
  const whole = Number(first);
  let have = 0;
  const listener = listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data: (socket, chunk) => {
        have += chunk.length;
        if (have < whole) return;
        have -= whole;
        socket.write("1");
      },
    },
  });
  console.log(listener.port);
} else {
  const bytes = new Uint8Array(Number(second)).fill(1);
  let sent = 0;
  let answered: () => void = () => {};
  const send = (socket: Socket): void => {
    while (sent < bytes.length) {
      const written = socket.write(bytes, sent, bytes.length - sent);
      if (written <= 0) return;
      sent += written;
    }
  };
  const socket = await connect({
    hostname: "127.0.0.1",
    port: Number(first),
    socket: { data: () => answered(), drain: send },
  });
  for (let round = 0; round < Number(third); round += 1) {
    const start = Bun.nanoseconds();
    const answer = new Promise<void>((resolve) => {
      answered = resolve;
    });
    sent = 0;
    send(socket);
    await answer;
    console.log(Bun.nanoseconds() - start);
  }
  socket.end();
}
