/**
 * Parses WELCOME, the server's answer to a node's handshake. No part of it is used before all of it has been checked.
 */
import { ProtocolError } from "../wire/frame.ts";
import { activityFault } from "./activity-state.ts";
import { type NodeHello, type ResumeReply, ResumeReplySchema, type Welcome, WelcomeSchema } from "./node-handshake.ts";
import { parseMessage } from "./schema.ts";

/** Parses the body of a WELCOME that answers `hello`. Throws ProtocolError. */
export function parseWelcome(text: string, hello: NodeHello): Welcome {
  const welcome = parseMessage(WelcomeSchema, text, "its welcome");
  if (welcome.snapshot.config.name !== hello.session) {
    throw new ProtocolError("its welcome is damaged: snapshot.config.name is another session's");
  }
  const fault = welcome.activity === undefined ? null : activityFault(welcome.activity, welcome.snapshot);
  if (fault !== null) throw new ProtocolError(`its welcome is damaged: ${fault}`);
  return welcome;
}

/** Parses the body of a WELCOME to an arbiter that has come back. Throws ProtocolError. */
export function parseResumed(text: string): ResumeReply {
  return parseMessage(ResumeReplySchema, text, "its welcome");
}
