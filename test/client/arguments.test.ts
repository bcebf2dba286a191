/** Arguments that the types forbid and JavaScript does not: each is an error of dsm that says what was given. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Cluster, type Puppet } from "./cluster.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterAll(() => cluster[Symbol.asyncDispose]());

/** Each as a program would write it, with what the message must say. */
const WRONG: [source: string, said: string][] = [
  ["s.view(Array)", "Array is no type of a view; give DataView or a typed array, such as Float64Array"],
  ["s.view('f64')", '"f64" is no type of a view'],
  ["s.view()", "undefined is no type of a view"],
  ["s.view(class Other {})", "Other is no type of a view"],
  ["s.view(() => {})", "function is no type of a view"],
  ["s.view(Int32Array, '0')", "byte 0 is not in the map"],
  ["s.named('y', Array, 4)", "Array is no type of a view"],
  ["s.named('y', Float64Array)", "a block of undefined elements; give it 1 or more"],
  ["s.named('y', Float64Array, 1.5)", "a block of 1.5 elements; give it 1 or more"],
  ["s.named(7, 8)", "the block name is 7; give a string"],
  ["s.alloc(0)", "a block of 0 elements"],
  ["s.alloc('8')", '"8" is no type of a view'],
  ["s.alloc(Float64Array, 8, { align: 'a' })", "align is a; give a power of two"],
  ["s.free(s.buffer)", "ArrayBuffer is no view"],
  ["s.free()", "undefined is no view"],
  ["s.free(new Uint8Array(8))", "the view is not over this session's buffer"],
  ["s.hole()", "undefined is no view"],
  ["s.hole(s.buffer)", "ArrayBuffer is no view"],
  ["s.hole({ offset: 0 })", "a hole of undefined bytes"],
  ["s.readSync(0)", "undefined is no view"],
  ["s.semaphore()", "the semaphore name is undefined; give a string"],
  ["s.semaphore('s', 'a')", 'semaphore "s": initial value a; give 0 to'],
  ["s.semaphore('s', -1)", "initial value -1"],
  ["s.semaphore('s').wait(100)", "the options are 100; give an object, such as { timeoutMs: 1000 }"],
  ["s.semaphore('s').waitSync(null)", "the options are null"],
  ["s.lock(7)", "the lock name is 7; give a string"],
  ["s.lock('l').lock(100)", "the options are 100"],
  ["s.lock('l').lockSync({ timeoutMs: '5' })", "timeoutMs is 5; give 0 to"],
  ["s.lock('l').use(() => {}, 100)", "the options are 100"],
  ["s.barrier(100)", "the options are 100"],
  ["s.barrierSync(100)", "the options are 100"],
  ["s.waitFor(undefined, 0, 0)", "undefined cannot be slept on; use an integer array"],
  ["s.waitFor([1], 0, 0)", "Array cannot be slept on"],
  ["s.waitFor(s.view(Float64Array), 0, 0)", "Float64Array cannot be slept on"],
  ["s.waitFor(new Int32Array(4), 0, 0)", "the view is not over this session's buffer"],
  ["s.waitFor(s.view(Int32Array), 0, 0, 100)", "the options are 100"],
  ["s.waitForSync(s.view(Int32Array), 99999999, 0)", "index is 99999999"],
  ["s.waitForSync(s.view(BigInt64Array), 0, 0)", "expected is 0; the view's elements are bigints"],
  ["s.notify(s.view(Int32Array), 0, 'a')", "count is a; give 0 or more"],
  ["s.struct(7, { a: dsm.i32 })", "the block name is 7; give a string"],
  ["s.struct('q')", "struct() takes an object of fields"],
  ["s.struct('q', {})", "a struct needs a field that has bytes"],
  ["s.struct('q', { a: 5 })", 'field "a" is 5; give a type'],
  ["s.struct('q', { a: 'f64' })", 'field "a" is f64; give a type'],
  ["dsm.join(null)", "the options of join() are null"],
  ["dsm.attach(5)", "attach() takes what session.handle() has given"],
];

test("are refused", async () => {
  const [puppet] = (await cluster.join({ processes: 1 })) as [Puppet];
  const sources = WRONG.map(([source]) => source);
  const said = await puppet.run(async ({ dsm, session }, sources) => {
    const outcomes: string[] = [];
    for (const source of sources) {
      const outcome = await new Function("s", "dsm", `return (async () => ${source})()`)(session, dsm).then(
        (value: unknown) => `no error, but ${String(value)}`,
        (error: Error & { code?: string }) => `${error.name} ${error.code}: ${error.message}`,
      );
      outcomes.push(outcome);
    }
    return outcomes;
  }, sources);
  for (const [index, [source, words]] of WRONG.entries()) {
    expect(said[index], source).toStartWith("DsmError DSM_INVALID: ");
    expect(said[index], source).toContain(words);
  }
});
