/** Tests with a tool that a user need not have: CI must have it, elsewhere the test is skipped. */
import { test } from "bun:test";

/** `test`, or what says what to install: fails in CI, is skipped elsewhere. */
export function testWith(tool: string, debianPackage: string, name: string, run: () => Promise<void> | void): void {
  if (Bun.which(tool) !== null) {
    test(name, run);
  } else if (process.env.CI) {
    test(name, () => {
      throw new Error(`${tool} is not installed: apt-get install ${debianPackage}`);
    });
  } else {
    test.skip(`${name} (${tool} is not installed: apt-get install ${debianPackage})`, run);
  }
}
