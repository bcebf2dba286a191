import { randomBytes } from "node:crypto";

/**
 * A name beside `path` that nobody else uses, for a file that is then renamed to it. A process id would not do: containers
 * that share a folder often run the same program under the same id, and a killed one would be in its successor's way.
 */
export const besideName = (path: string, ending: string): string =>
  `${path}.${randomBytes(4).toString("hex")}.${ending}`;
