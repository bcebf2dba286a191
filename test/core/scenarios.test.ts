/** Plays test/core/scenarios/*.txt. DSM_RECORD=1 writes what happens into the files instead: read the difference. */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import type { Order } from "../../src/core/base/consistency.ts";
import { PAGE_SIZE } from "../../src/core/base/limits.ts";
import type { OnLoss } from "../../src/core/base/loss-policy.ts";
import { Stage } from "../support/core-stage.ts";

const folder = `${import.meta.dir}/scenarios`;

/** The conversation with the effects that really come. */
function play(text: string): string {
  const lines: string[] = [];
  let stage: Stage | undefined;
  for (const line of text.split("\n")) {
    if (line.startsWith(">")) continue;
    lines.push(line);
    const [verb, processes, pages, order, onLoss, elastic] = line.trim().split(/\s+/);
    if (line.trim() === "" || line.startsWith("#")) continue;
    if (verb === "session") {
      const more = [order as Order | undefined, onLoss as OnLoss | undefined, elastic === "elastic"] as const;
      stage = new Stage(Number(processes), Number(pages ?? 1) * PAGE_SIZE, ...more);
    } else {
      if (stage === undefined) throw new Error("a scenario begins with a session");
      lines.push(...stage.play(line).map((effect) => `> ${effect}`));
    }
  }
  return lines.join("\n");
}

for (const file of readdirSync(folder).filter((name) => name.endsWith(".txt") && name !== "README.txt")) {
  test(file, () => {
    const text = readFileSync(`${folder}/${file}`, "utf8");
    const played = play(text);
    if (process.env.DSM_RECORD === "1") writeFileSync(`${folder}/${file}`, played);
    else expect(played).toBe(text);
    expect(played).toContain("\n> ");
  });
}
