/** What a process that dsm starts gets of the environment of the process that starts it. */

/** A user's, not a session's. */
const SECURITY_VARIABLES = ["DSM_TOKEN", "DSM_TOKEN_FILE", "DSM_TLS_CERT", "DSM_TLS_KEY", "DSM_TLS_CA", "DSM_TLS_OFF"];

/** A process of one session starts the daemon, and the daemon servers of others: no DSM_ variable of it may come through. */
export function inheritedEnvironment(environment: Record<string, string | undefined>): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment)) {
    const session = name.startsWith("DSM_") && !SECURITY_VARIABLES.includes(name);
    if (value !== undefined && !session && name !== "BUN_BE_BUN") kept[name] = value;
  }
  return kept;
}
