/** What a process that dsm starts gets of the environment of the process that starts it. */

import { SETTINGS, type Setting } from "../base/settings.ts";

const settings: Setting[] = Object.values(SETTINGS);

/** A user's, not a session's. */
const USER_VARIABLES: readonly string[] = settings.filter(({ of }) => of === "user").map(({ variable }) => variable);

/** A process of one session starts the daemon, and the daemon servers of others: no DSM_ variable of it may come through. */
export function inheritedEnvironment(environment: Record<string, string | undefined>): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment)) {
    const session = name.startsWith("DSM_") && !USER_VARIABLES.includes(name);
    if (value !== undefined && !session && name !== "BUN_BE_BUN") kept[name] = value;
  }
  return kept;
}

/** They mean this machine, or are handed over in another way. */
const STAYING: readonly string[] = [
  ...settings.filter(({ of }) => of === "host" || of === "process").map(({ variable }) => variable),
  ...[SETTINGS.token.variable, SETTINGS.tokenFile.variable],
];

/** The variables of dsm that go along to processes on other hosts. */
export function travellingEnvironment(environment: Record<string, string | undefined>): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment)) {
    if (value !== undefined && name.startsWith("DSM_") && !STAYING.includes(name)) kept[name] = value;
  }
  return kept;
}
