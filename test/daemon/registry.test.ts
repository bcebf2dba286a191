/** Registrations: which server has a name. The servers here are sockets that listen, or nothing. */
import { afterEach, expect, test } from "bun:test";
import { SESSIONS_MAX } from "../../src/core/base/limits.ts";
import type { Registration } from "../../src/core/messages/daemon-api.ts";
import { SessionRegistry } from "../../src/daemon/registry.ts";

const listeners: Bun.TCPSocketListener[] = [];
afterEach(() => {
  for (const listener of listeners.splice(0)) listener.stop(true);
});

function listen(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  listeners.push(listener);
  return listener.port;
}

function registry(log: (line: string) => void = () => {}): SessionRegistry {
  return new SessionRegistry({
    ...{ serverCommand: ["/nonexistent/dsm"], serverEnvironment: {}, serverHost: "127.0.0.1" },
    ...{ daemonAddress: () => "127.0.0.1:1", log, changed() {} },
    security: { token: null, always: false, tls: null },
  });
}

function registration(change: Partial<Registration> = {}): Registration {
  return {
    ...{ name: "s", instance: "00000000000000aa", epoch: 1, host: "127.0.0.1", port: 1001, pid: 12 },
    ...{ processes: 2, size: 4096, slot: 7, order: "sequential", onLoss: "fail", elastic: false },
    ...change,
  };
}

const mark = (digit: string): string => digit.repeat(16);

test("two servers of one epoch are distinguished by their marks, even with the same process id and port", async () => {
  const sessions = registry();
  const first = registration({ mark: mark("1") });
  expect(await sessions.register(first, "127.0.0.1")).toBe(true);
  expect(await sessions.register(first, "127.0.0.1")).toBe(false);
  for (const other of [{ mark: mark("2") }, { pid: 13 }, { port: 1002 }, { host: "127.0.0.2" }]) {
    await expect(sessions.register({ ...first, ...other }, "127.0.0.1")).rejects.toMatchObject({ code: "DSM_ENDED" });
  }
  const { mark: _, ...older } = first;
  await expect(sessions.register(older, "127.0.0.1")).rejects.toMatchObject({ code: "DSM_ENDED" });
  expect(await sessions.register({ ...first, epoch: 2, mark: mark("2") }, "127.0.0.1")).toBe(true);
});

test("a server of an older dsm, without a mark, registers again and again", async () => {
  const sessions = registry();
  expect(await sessions.register(registration(), "127.0.0.1")).toBe(true);
  expect(await sessions.register(registration(), "127.0.0.1")).toBe(false);
  await expect(sessions.register(registration({ mark: mark("1") }), "127.0.0.1")).rejects.toMatchObject({
    code: "DSM_ENDED",
  });
});

test("a succession starts no server beyond the limit of sessions", async () => {
  const sessions = registry();
  for (let number = 0; number < SESSIONS_MAX; number++) {
    await sessions.register(
      registration({ name: `s${number}`, instance: number.toString(16).padStart(16, "0") }),
      "::1",
    );
  }
  // A port where nothing listens any more.
  const port = listen();
  listeners.pop()?.stop(true);
  const { pid: _, ...lost } = registration({ name: "one more", instance: mark("f"), port });
  await expect(sessions.findOrStartSuccessor(lost)).rejects.toMatchObject({ code: "DSM_LIMIT" });
  // One that is known already has its place.
  const known = { ...lost, name: "s3", instance: "3".padStart(16, "0") };
  const { message } = await sessions.findOrStartSuccessor(known).then(
    () => new Error("started"),
    (error: Error) => error,
  );
  expect(message).toContain("cannot be started");
});

test("of the removal of a session one line says what became of its server", async () => {
  const lines: string[] = [];
  const sessions = registry((line) => lines.push(line));
  const ports = { gone: listen(), silent: listen() };
  listeners.shift()?.stop(true);
  for (const [name, port] of Object.entries(ports)) {
    await sessions.register(registration({ name, port, instance: mark(name === "gone" ? "1" : "2") }), "127.0.0.1");
    lines.length = 0;
    expect(await sessions.end(name)).toBe(true);
    const became = name === "gone" ? "; its server had ended" : ", but its server does not answer";
    expect(lines).toEqual([`session "${name}" was removed${became}`]);
  }
});
