/** What a process says whose arbiter was killed. */

export const arbiterGone = (session: string): string =>
  `the arbiter of session "${session}" is gone (it was killed, or it crashed); start the session's processes again`;

/** The line on stderr with which a store ends the process. */
export const storeLost = (session: string): string =>
  `dsm: a store cannot be shared any more: ${arbiterGone(session)}\n`;
