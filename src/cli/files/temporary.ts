import { randomBytes } from "node:crypto";

/**
 * A name beside `path` that no other process uses, for a file that is then renamed to it. A process id is not enough:
 * containers that share a folder often run a program under the same id, and a killed process leaves its file behind.
 */
export const besideName = (path: string, ending: string): string =>
  `${path}.${randomBytes(4).toString("hex")}.${ending}`;
