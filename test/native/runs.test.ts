/** What runs.c makes of changed pages: the core takes it, and it changes exactly the bytes that differ. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { command, compiler, root } from "../../scripts/steps.ts";
import { loadApplyRuns } from "../../src/cli/install/apply-runs.ts";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import { eachSaved, redoFrame, savedSize } from "../../src/core/replica/store-frames.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { checkOperation } from "../../src/core/wire/check-operation.ts";
import { encode } from "../../src/core/wire/frame.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import { runIsDense, runIsMasked, runSize, STAGED_PER_MAP_BYTE } from "../../src/core/wire/runs.ts";
import { countMasked, runs as encodeRuns, viewOf } from "../support/core-frames.ts";
import { Random } from "../support/core-random.ts";

setDefaultTimeout(120_000);

const BYTES = 3 * 4096;
const flags = "-std=gnu11 -D_GNU_SOURCE= -g -Wall -Wextra -Werror -Inative/src".split(" ");
const builds = {
  plain: ["-O2"],
  sanitized: ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
};

const sources = ["runs", "runs_apply", "word_masks"].map((name) => `native/src/pages/${name}.c`);
const folder = await mkdtemp(join(tmpdir(), "dsm-runs-"));
afterAll(() => rm(folder, { recursive: true }));
const applyRuns = await loadApplyRuns();

for (const [build, options] of Object.entries(builds)) {
  test(`random changes of pages arrive byte for byte, and can be undone, ${build} build`, async () => {
    const program = join(folder, build);
    const files = [...sources, "test/native/runs_cases.c", "-o", program];
    await command([compiler(), ...flags, ...options, ...files]);
    const child = Bun.spawn([program, "1", "600"], { cwd: root, stdout: "pipe", stderr: "pipe" });
    const [output, stderr, code] = await Promise.all([child.stdout.bytes(), child.stderr.text(), child.exited]);
    expect({ stderr, code }).toEqual({ stderr: "", code: 0 });
    const view = viewOf(output);
    let masked = 0;
    let plain = 0;
    let dense = 0;
    let cases = 0;
    for (let at = 0; at < output.length; cases += 1) {
      const [from, to, size, savedBytes] = [0, 8, 16, 24].map((field) =>
        Number(view.getBigUint64(at + field, true)),
      ) as [number, number, number, number];
      at += 32;
      const [then, now, map, after] = [0, 1, 2, 3].map((part) =>
        output.subarray(at + part * BYTES, at + (part + 1) * BYTES),
      ) as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
      const runs = output.subarray(at + 4 * BYTES, at + 4 * BYTES + size);
      at += 4 * BYTES + size;
      const saved = output.subarray(at, at + savedBytes);
      at += savedBytes;

      let differ = 0;
      const expected = new Uint8Array(map);
      for (let byte = from; byte < to; byte += 1) {
        if (now[byte] === then[byte]) continue;
        expected[byte] = now[byte] as number;
        differ += 1;
      }
      const frame = encode({ kind: Kind.PUBLISH, body: runs });
      expect(checkOperation(viewOf(frame), 0, BYTES)).toBeNull();
      expect(size).toBeLessThanOrEqual(Math.ceil((to - from) / 4096 + 1) * 4096 * STAGED_PER_MAP_BYTE);
      const here = new MapBytes(new Uint8Array(map));
      expect(here.publish(viewOf(frame), HEADER_SIZE, frame.length)).toBe(differ);
      expect(Buffer.compare(here.bytes, expected)).toBe(0);
      expect(Buffer.compare(after, expected)).toBe(0);
      const record = viewOf(Buffer.concat([frame, saved]));
      expect(savedSize(viewOf(frame))).toBe(savedBytes);
      const undone = new Uint8Array(after);
      eachSaved(record, frame.length, (offset, old, length) =>
        undone.set(new Uint8Array(record.buffer, record.byteOffset + old, length), offset),
      );
      expect(Buffer.compare(undone, map)).toBe(0);
      const done = new MapBytes(new Uint8Array(map));
      redoFrame(viewOf(frame), { view: done.view, redo: (...store) => done.store(...store) });
      expect(Buffer.compare(done.bytes, expected)).toBe(0);
      for (let run = HEADER_SIZE; run < frame.length; run += runSize(viewOf(frame), run)) {
        if (!runIsMasked(viewOf(frame), run)) plain += 1;
        else if (runIsDense(viewOf(frame), run)) dense += 1;
        else masked += 1;
      }
    }
    expect(cases).toBe(600);
    expect(Math.min(masked, plain, dense)).toBeGreaterThan(100);
  });
}

const hasVbmi2 = /^flags\b.*\bavx512_vbmi2\b/m.test(await Bun.file("/proc/cpuinfo").text());

for (const [way, vbmi2] of [
  ["any processor", false],
  ["AVX-512 VBMI2", true],
] as const) {
  test.skipIf(vbmi2 && !hasVbmi2)(`a reader of a word that is being changed sees it whole: ${way}`, async () => {
    const program = join(folder, `tearing-${vbmi2}`);
    const files = [...sources, "test/native/runs_tearing.c", "-pthread", "-o", program];
    await command([compiler(), ...flags, "-O2", ...files]);
    const child = Bun.spawn([program, "500000", vbmi2 ? "1" : "0"], { cwd: root, stdout: "pipe", stderr: "pipe" });
    const [seen, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
    expect({ stderr, code }).toEqual({ stderr: "", code: 0 });
    expect(Number(seen)).toBeGreaterThanOrEqual(1000);
  });
}

test("a reader of a run that is being applied sees its words change in their sequence", async () => {
  const program = join(folder, "order");
  await command([compiler(), ...flags, "-O2", ...sources, "test/native/runs_order.c", "-pthread", "-o", program]);
  const child = Bun.spawn([program, "100000"], { cwd: root, stdout: "pipe", stderr: "pipe" });
  const [seen, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  expect({ stderr, code }).toEqual({ stderr: "", code: 0 });
  expect(Number(seen)).toBeGreaterThanOrEqual(1000);
});

/** At any place and of any length, as other ways than runs.c make them. */
function randomRun(random: Random): Uint8Array {
  if (random.oneIn(2)) {
    const length = random.between(1, random.pick([3, 9, 40, 700]));
    return encodeRuns([[random.below(BYTES - length + 1), random.bytes(length)]]);
  }
  const masks = random.bytes(random.between(1, random.pick([2, 20, 512])));
  if (random.oneIn(3)) masks.fill(0xff);
  for (let some = random.below(4); some > 0; some -= 1) masks[random.below(masks.length)] = random.below(256);
  if (random.oneIn(2))
    masks.fill(random.pick([0xff, 0x7f, 0x07, 0xe0, 0x18, 0x01, 0x80, 0x55]), random.below(masks.length));
  if (countMasked(masks) === 0) masks[0] = 1;
  const offset = 8 * random.below(BYTES / 8 - masks.length + 1);
  return encodeRuns([[offset, random.bytes(countMasked(masks)), masks, random.oneIn(2)]]);
}

test("arbiter and server apply runs of every form as the core does", () => {
  if (applyRuns === null) throw new Error("libdsm-runs.so cannot be loaded");
  for (let seed = 0; seed < 400; seed += 1) {
    const random = new Random(seed);
    const map = random.bytes(BYTES);
    const parts: Uint8Array[] = [];
    for (let run = random.between(1, 40); run > 0; run -= 1) parts.push(randomRun(random));
    const frame = encode({ kind: Kind.PUBLISH, body: Buffer.concat(parts) });
    expect(checkOperation(viewOf(frame), 0, BYTES)).toBeNull();
    const [here, there] = [new MapBytes(new Uint8Array(map)), new Uint8Array(map)];
    here.publish(viewOf(frame), HEADER_SIZE, frame.length);
    applyRuns(there, viewOf(frame), HEADER_SIZE, frame.length);
    expect(Buffer.compare(here.bytes, there)).toBe(0);
  }
});
