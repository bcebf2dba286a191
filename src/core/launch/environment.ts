/** The environment that a process started by dsm gets from the process that starts it. */

import { SETTINGS, type Setting } from "../base/settings.ts";

const settings: Setting[] = Object.values(SETTINGS);

/** Variables that belong to a user, not to a session. */
const USER_VARIABLES: readonly string[] = settings.filter(({ of }) => of === "user").map(({ variable }) => variable);

/**
 * Only the user's DSM_ variables are inherited: a process of one session starts the daemon, and the daemon the servers
 * of others.
 */
export function inheritedEnvironment(environment: Record<string, string | undefined>): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment)) {
    const session = name.startsWith("DSM_") && !USER_VARIABLES.includes(name);
    if (value !== undefined && !session && name !== "BUN_BE_BUN") kept[name] = value;
  }
  return kept;
}

/** Variables that are not passed on to other hosts: they describe this machine, or are passed on in another way. */
const STAYING: readonly string[] = [
  ...settings.filter(({ of }) => of === "host" || of === "process").map(({ variable }) => variable),
  ...[SETTINGS.token.variable, SETTINGS.tokenFile.variable],
];

/** The DSM_ variables that dsm passes on to processes on other hosts. */
export function travellingEnvironment(environment: Record<string, string | undefined>): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment)) {
    if (value !== undefined && name.startsWith("DSM_") && !STAYING.includes(name)) kept[name] = value;
  }
  return kept;
}
