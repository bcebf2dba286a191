/** Messages of `dsm run` as they can be compared. */

/** withoutPids returns the text with N for the pid of each process that a message of `dsm run` names. */
export const withoutPids = (text: string): string => text.replace(/\((node \S+, )?pid \d+\)/g, "($1pid N)");
