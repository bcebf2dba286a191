/** Bodies of a process's HELLO to its arbiter and of the reply to it. [offset, bytes] */
/** Body of a process's HELLO. */
export const PROCESS_HELLO = {
  pid: [0, 4],
  processes: [4, 4], // 0: whatever the session has
  size: [8, 8], // 0: whatever the session has
  wishedRank: [16, 4], // rank + 1, or 0
  order: [20, 1], // number of the order, 0: whatever the session has
  elastic: [21, 1], // 1: the session is to be elastic
  noDirect: [22, 1], // 1: this process does not want direct mode, 2: it could not be told of its end
  onLoss: [23, 1], // number of the choice, 0: whatever the session has
  session: [24, 64], // zero-padded
} as const;
export const PROCESS_HELLO_SIZE = 88;

/** Body of the reply to a process's HELLO, sent when the session starts. aux: rank. */
export const JOINED = {
  base: [0, 8],
  size: [8, 8],
  token: [16, 8],
  processes: [24, 4],
  node: [28, 4],
  nodeName: [32, 64],
  mapPath: [96, 160],
  order: [256, 4],
  /** 1: all processes are on one node, and this one maps the memory read-write. */
  direct: [260, 4],
  onLoss: [264, 4],
  elastic: [268, 4],
} as const;
export const JOINED_SIZE = 272;
