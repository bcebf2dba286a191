/** Connects to a session's server: by its Unix socket if it is on this host and of the same user, else by TCP. */
import type { Socket } from "bun";
import type { Security } from "../core/access/tls.ts";
import { serverSocketName } from "../core/base/names.ts";
import { greetServer, type LinkEnd, type LinkHandlers } from "../transport/greet-server.ts";
import { isContained } from "../transport/own-process.ts";
import { isOutside, isOwnPeer, tellsPeers } from "../transport/peer-user.ts";

/** One server of a session. */
export interface ServerAddress {
  host: string;
  port: number;
  epoch: number;
}

/** The route by which the server was reached. */
export interface Route {
  /** By its Unix socket. */
  isLocal: boolean;
  /** The server is in the arbiter's container, and ends with it. */
  isInside: boolean;
}

export interface DialHandlers extends Omit<LinkHandlers, "open"> {
  /** Called when the connection is open. Returns the function that sends bytes; null: the connection is closed. */
  open(socket: Socket, route: Route): ((bytes: Uint8Array) => void) | null;
}

/** Sends the handshake once the server has proven itself. `instance`: which run of the session's name. */
export function dialServer(
  { instance, host, port, epoch }: ServerAddress & { instance: string },
  security: Security,
  handshake: Uint8Array,
  handlers: DialHandlers,
): void {
  const overTcp = (): void =>
    greetServer({ host, port }, security, handshake, {
      ...handlers,
      open: (socket) => {
        socket.setNoDelay(true);
        return handlers.open(socket, { isLocal: false, isInside: false });
      },
    });
  if (!tellsPeers) {
    overTcp();
    return;
  }
  let isOwn = false;
  let hasTriedTcp = false;
  greetServer({ host, port, unix: serverSocketName(instance, epoch, port) }, security, handshake, {
    ...handlers,
    open: (socket) => {
      isOwn = isOwnPeer(socket);
      if (!isOwn) return null;
      return handlers.open(socket, { isLocal: true, isInside: isContained && !isOutside(socket) });
    },
    over: (end: LinkEnd) => {
      if (isOwn) handlers.over(end);
      else if (!hasTriedTcp) {
        hasTriedTcp = true;
        overTcp();
      }
    },
  });
}
