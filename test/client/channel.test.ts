/** The package's own connection to the arbiter, against an arbiter in this process. */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Channel, QUEUED_POSTS_MAX, WAITS_MAX } from "../../src/client/channel.ts";
import { DsmError, Status } from "../../src/core/base/errors.ts";
import { encode, encodeText } from "../../src/core/wire/frame.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import { type Member, TestArbiter } from "./fixtures/arbiter.ts";

// Some make many thousand round trips, on machines that may be busy.
setDefaultTimeout(180_000);

let arbiter: TestArbiter;
let members: Member[];
let channel: Channel;

const memberOf = (rank: number): Member => members.find(({ attachment }) => attachment.rank === rank) as Member;

beforeEach(async () => {
  arbiter = new TestArbiter(2);
  members = await arbiter.joinAll();
  channel = await Channel.open(memberOf(0).attachment);
});

afterEach(() => {
  channel.close(new DsmError("DSM_LEFT", "the test is over"));
  arbiter[Symbol.dispose]();
});

const codeOf = async (promise: Promise<unknown>): Promise<string> => {
  const error = await promise.then(
    (value) => new Error(`resolved to ${Bun.inspect(value)}`),
    (error: unknown) => error,
  );
  return error instanceof DsmError ? error.code : String(error);
};

describe("opening", () => {
  test("a path without an arbiter", async () => {
    const attachment = { ...memberOf(0).attachment, socket: `${arbiter.path}.none` };
    expect(await codeOf(Channel.open(attachment))).toBe("DSM_UNREACHABLE");
  });

  test("a wrong token", async () => {
    const attachment = { ...memberOf(0).attachment, token: new Uint8Array(8).fill(9) };
    expect(await codeOf(Channel.open(attachment))).toBe("DSM_REFUSED");
  });

  test("an arbiter that closes at once", async () => {
    const path = `${arbiter.path}.closing`;
    using _listener = Bun.listen({ unix: path, socket: { open: (socket) => void socket.end(), data: () => {} } });
    expect(await codeOf(Channel.open({ ...memberOf(0).attachment, socket: path }))).toBe("DSM_UNREACHABLE");
  });
});

describe("barrier", () => {
  test("is answered when the last process arrives", async () => {
    let done = false;
    const reply = channel.barrier().reply.finally(() => {
      done = true;
    });
    // A round trip after it, and it is still not answered.
    await channel.semaphorePost("elsewhere", 0);
    expect(done).toBeFalse();
    memberOf(1).send({ kind: Kind.BARRIER });
    expect(await reply).toEqual({ status: Status.OK, text: "", value: 2 });
  });

  test("a second one at once is refused", async () => {
    const first = channel.barrier().reply;
    expect(await channel.barrier().reply).toMatchObject({
      status: Status.BUSY,
      text: expect.stringContaining("barrier"),
    });
    memberOf(1).send({ kind: Kind.BARRIER });
    expect((await first).status).toBe(Status.OK);
  });

  test("goes on without a process that leaves", async () => {
    const reply = channel.barrier().reply;
    memberOf(1).send({ kind: Kind.LEAVE });
    expect((await reply).status).toBe(Status.OK);
  });

  test("tells which process was lost", async () => {
    const reply = channel.barrier().reply;
    memberOf(1).die();
    expect(await reply).toEqual({ status: Status.LOST, text: expect.stringContaining("process 1"), value: 0 });
  });
});

describe("semaphores", () => {
  test("waits are granted in their order, and only so many as posts", async () => {
    const granted: number[] = [];
    const waits = [0, 1, 2].map((index) =>
      channel.semaphoreWait("s", 0, false).reply.then(({ status }) => granted.push(status === Status.OK ? index : -1)),
    );
    await channel.semaphorePost("s", 0);
    await channel.semaphorePost("s", 0);
    expect(granted).toEqual([0, 1]);
    await channel.semaphorePost("s", 0);
    await Promise.all(waits);
    expect(granted).toEqual([0, 1, 2]);
  });

  test("the initial value counts at first use", async () => {
    expect((await channel.semaphoreWait("s", 2, true).reply).status).toBe(Status.OK);
    expect((await channel.semaphoreWait("s", 9, true).reply).status).toBe(Status.OK);
    expect((await channel.semaphoreWait("s", 9, true).reply).status).toBe(Status.AGAIN);
  });

  test("a wait that is taken back takes nothing", async () => {
    const request = channel.semaphoreWait("s", 0, false);
    request.cancel();
    request.cancel();
    expect((await request.reply).status).toBe(Status.TIMEOUT);
    expect(arbiter.semaphore("s")).toMatchObject({ value: 0, waiters: [] });
    request.cancel();
    await channel.semaphorePost("s", 0);
    expect(arbiter.semaphore("s")).toMatchObject({ value: 1, waiters: [] });
  });

  test("a grant that came before the cancel stands", async () => {
    const request = channel.semaphoreWait("s", 1, false);
    request.cancel();
    expect((await request.reply).status).toBe(Status.OK);
    expect(arbiter.semaphore("s")?.value).toBe(0);
  });

  test("an old cancel does not reach the request that has its tag now", async () => {
    const first = channel.semaphoreWait("s", 1, false);
    await first.reply;
    // Round the tags once, so that the first one comes up again.
    for (let left = 0xffff - 1; left > 0; left -= 1000) {
      await Promise.all(Array.from({ length: Math.min(left, 1000) }, () => channel.semaphorePost("t", 0)));
    }
    const second = channel.semaphoreWait("s", 1, false);
    first.cancel();
    await channel.semaphorePost("s", 1);
    expect((await second.reply).status).toBe(Status.OK);
  });

  test("posts find room when no wait does, and are sent in turn", async () => {
    const waits = Array.from({ length: WAITS_MAX }, () => channel.semaphoreWait("s", 0, false).reply);
    expect(() => channel.semaphoreWait("s", 0, false)).toThrow("the limit");
    expect(() => channel.barrier()).toThrow("the limit");
    const posts = Array.from({ length: 5 * WAITS_MAX }, () => channel.semaphorePost("s", 0));
    const statuses = (await Promise.all([...waits, ...posts])).map(({ status }) => status);
    expect(new Set(statuses)).toEqual(new Set([Status.OK]));
    expect(arbiter.semaphore("s")).toMatchObject({ value: 4 * WAITS_MAX, waiters: [] });
  });

  test("posts that are not awaited have a limit", async () => {
    const posts: Promise<unknown>[] = [];
    // One more than can be under way and queued.
    for (let i = 0; i < QUEUED_POSTS_MAX + 129; i += 1) posts.push(channel.semaphorePost("s", 0));
    expect(await codeOf(posts.pop() as Promise<unknown>)).toBe("DSM_LIMIT");
    expect(new Set((await Promise.all(posts)).map((reply) => (reply as { status: number }).status))).toEqual(
      new Set([Status.OK]),
    );
  });
});

describe("sleeps", () => {
  const value = (low: number): Uint8Array => Uint8Array.of(low, 0, 0, 0, 0, 0, 0, 0);
  const wake = (offset: number, count: number): void => memberOf(1).send({ kind: Kind.FUTEX_WAKE, offset, aux: count });

  test("end with a wake-up at their place, in their order", async () => {
    const woken: number[] = [];
    const sleeps = [0, 1, 2].map((index) =>
      channel.sleep(8, 4, value(0)).reply.then(({ status }) => woken.push(status === Status.OK ? index : -1)),
    );
    await channel.semaphorePost("s", 0);
    wake(4, 10);
    wake(8, 2);
    await channel.semaphorePost("s", 0);
    expect(woken).toEqual([0, 1]);
    wake(8, 0xffffffff);
    await Promise.all(sleeps);
    expect(woken).toEqual([0, 1, 2]);
  });

  test("do not begin where the map holds another value", async () => {
    expect(await channel.sleep(8, 1, value(1)).reply).toEqual({ status: Status.AGAIN, text: "", value: 0 });
  });

  test("that are taken back take no wake-up, and one that came before stands", async () => {
    const first = channel.sleep(0, 8, value(0));
    const second = channel.sleep(0, 8, value(0));
    first.cancel();
    expect((await first.reply).status).toBe(Status.TIMEOUT);
    wake(0, 1);
    second.cancel();
    expect((await second.reply).status).toBe(Status.OK);
  });

  test("of what is not in the map end the connection", async () => {
    expect(await codeOf(channel.sleep(4096, 1, value(0)).reply)).toBe("DSM_PROTOCOL");
  });
});

describe("the end", () => {
  const underWay = (): Promise<string[]> =>
    Promise.all([channel.barrier().reply, channel.semaphoreWait("s", 0, false).reply].map(codeOf));

  test("without a word", async () => {
    const codes = underWay();
    arbiter.die();
    expect(await codes).toEqual(["DSM_UNREACHABLE", "DSM_UNREACHABLE"]);
    expect(() => channel.barrier()).toThrow('the arbiter of session "channel-test" is gone');
    expect(await codeOf(channel.semaphorePost("s", 0))).toBe("DSM_UNREACHABLE");
  });

  test("with a reason", async () => {
    const codes = underWay();
    arbiter.say(encode({ kind: Kind.FAIL, op: Status.UNREACHABLE, body: encodeText("the server has gone") }));
    expect(await codes).toEqual(["DSM_UNREACHABLE", "DSM_UNREACHABLE"]);
    expect(() => channel.barrier()).toThrow("the server has gone");
  });

  test("by what is no frame", async () => {
    const codes = underWay();
    arbiter.say(new Uint8Array(64).fill(0xff));
    expect(await codes).toEqual(["DSM_PROTOCOL", "DSM_PROTOCOL"]);
  });

  test("by our own hand", async () => {
    const codes = underWay();
    channel.close(new DsmError("DSM_LEFT", "left"));
    expect(await codes).toEqual(["DSM_LEFT", "DSM_LEFT"]);
  });

  test("an answer without a waiting request is ignored", async () => {
    arbiter.say(encode({ kind: Kind.REPLY, op: Status.LEFT, tag: 77 }));
    expect((await channel.semaphorePost("s", 0)).status).toBe(Status.OK);
  });
});
