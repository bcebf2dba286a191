/** The runtime interface of the client: a socket, a pipe and a promise, for Bun and for Node. */
import { closeSync } from "node:fs";
import { Socket } from "node:net";

/** A connected Unix socket. */
export interface Connection {
  /** Takes some of the bytes (maybe none), at once, and returns how many; `drain` comes when it takes more again. */
  write(bytes: Uint8Array): number;
  /** Lets it keep the program alive, or not. */
  ref(): void;
  unref(): void;
  /** Ends it without waiting for anything. */
  terminate(): void;
}

export interface ConnectionHandlers {
  data(chunk: Uint8Array): void;
  drain(): void;
  close(): void;
  error(error: Error): void;
}

const isBun = typeof Bun !== "undefined";

/** Connects to a Unix socket. Rejects with the system's error. */
export const connect: (path: string, handlers: ConnectionHandlers) => Promise<Connection> = isBun
  ? connectBun
  : connectNode;

async function connectBun(path: string, { data, drain, close, error }: ConnectionHandlers): Promise<Connection> {
  return Bun.connect({
    unix: path,
    socket: { data: (_, chunk) => data(chunk), drain, close, error: (_, reason) => error(reason) },
  });
}

function connectNode(path: string, { data, drain, close, error }: ConnectionHandlers): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const socket = new Socket();
    socket.once("error", reject);
    socket.connect(path, () => {
      socket.off("error", reject);
      socket.on("data", data).on("drain", drain).on("close", close).on("error", error);
      resolve({
        write(bytes) {
          if (socket.writableNeedDrain) return 0;
          // Written before it returns, if the socket takes it. What it does not take Node keeps, and so has a copy.
          socket.write(Uint8Array.from(bytes));
          return bytes.length;
        },
        ref: () => void socket.ref(),
        unref: () => void socket.unref(),
        terminate: () => void socket.destroy(),
      });
    });
  });
}

/** readToEnd returns all bytes of a pipe, up to the close of its other end, and closes it. */
export async function readToEnd(descriptor: number): Promise<Uint8Array> {
  if (isBun) {
    try {
      return await new Response(Bun.file(descriptor).stream()).bytes();
    } finally {
      closeSync(descriptor);
    }
  }
  const chunks: Uint8Array[] = [];
  // Not by fs: each read would hold one of the runtime's few threads until something comes.
  for await (const chunk of new Socket({ fd: descriptor, readable: true, writable: false })) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** deferred returns a promise and the functions that settle it. (`Promise.withResolvers()` is not in Node 20.) */
export function deferred<Value>(): PromiseWithResolvers<Value> {
  let resolve!: PromiseWithResolvers<Value>["resolve"];
  let reject!: PromiseWithResolvers<Value>["reject"];
  const promise = new Promise<Value>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
