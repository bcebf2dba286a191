/** One number for a request, by the node that made it and the tag that its reply carries. */
export const requestKey = (node: number, tag: number): number => node * 2 ** 32 + tag;
