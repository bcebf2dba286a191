/** Promise: a node is refused, and a server fails to take over, only when something is lost that cannot be replaced. */
import type { Node } from "./node.ts";
import type { Link, World } from "./world.ts";

const isLost = (state: Node["state"]): boolean => state === "dead" || state === "refused" || state === "severed";

/** Without losses and stops no node is ever refused; a server that was replaced may refuse any. */
export function mayRefuse(world: World, node: Node, link: Link): boolean {
  // One that had not come all the way has nothing that would be lost.
  if (node.replica === null || !node.replica.position.whole) return true;
  // Its welcome to a session that began and ended while it was under way.
  if (node.replica.session.config.instance !== world.config.instance) return true;
  // An old server that no node should ask says no more than that it has not waited for ever.
  return link.server.failed || link.server !== world.server || world.nodes.some(({ state }) => isLost(state));
}

export function mayFail(world: World, certain: boolean): boolean {
  // A node that is only coming has nothing to go on with.
  if (world.alive.every(({ replica }) => replica?.position.whole !== true)) return true;
  // The other nodes of the previous server are not known.
  if (!certain && world.alive.some(({ replica }) => replica?.position.joining === true)) return true;
  const lost = world.nodes.filter(({ state }) => isLost(state));
  return lost.length > 0 && (!certain || lost.length === world.nodes.length);
}
