/**
 * Parses WELCOME, the server's answer to a node's handshake. No part of it is used before all of it has been checked.
 */
import { ProtocolError } from "../wire/frame.ts";
import { type NodeHello, type ResumeReply, ResumeReplySchema, type Welcome, WelcomeSchema } from "./node-handshake.ts";
import { parseMessage } from "./schema.ts";

/** Parses the body of a WELCOME that answers `hello`. Throws ProtocolError. */
export function parseWelcome(text: string, hello: NodeHello): Welcome {
  const welcome = parseMessage(WelcomeSchema, text, "its welcome");
  if (welcome.snapshot.config.name !== hello.session) {
    throw new ProtocolError("its welcome is damaged: snapshot.config.name is another session's");
  }
  return welcome;
}

/** Parses the body of a WELCOME to an arbiter that has come back. Throws ProtocolError. */
export function parseResumed(text: string): ResumeReply {
  return parseMessage(ResumeReplySchema, text, "its welcome");
}
