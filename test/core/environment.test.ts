/** What a daemon or server that is started by a process of a session gets of its environment. */
import { expect, test } from "bun:test";
import { inheritedEnvironment } from "../../src/core/launch/environment.ts";

test("nothing of the session comes through, and what is the user's does", () => {
  const users = { PATH: "/bin", HOME: "/root", DSM_TOKEN: "t", DSM_TOKEN_FILE: "f", DSM_TLS_CA: "ca", XDSM_SIZE: "1" };
  const sessions = { DSM_SESSION: "s", DSM_RANK: "0", DSM_SIZE: "1MiB", DSM_DAEMON: "h:1", BUN_BE_BUN: "1" };
  expect(inheritedEnvironment({ ...sessions, ...users, EMPTY: "", GONE: undefined })).toEqual({ ...users, EMPTY: "" });
});
